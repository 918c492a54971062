//! The maps.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use redirect_common::MAX_ENROLLED;
use redirect_common::guard::{
    InodeKey, Learned, MAX_PROTECTED, MAX_REFUSALS, MAX_UNIX_ALLOWED, RefusalKey,
};

/// Cgroup id to mode; shared with the redirection.
#[map]
pub static ENROLLED: HashMap<u64, u32> = HashMap::with_max_entries(MAX_ENROLLED, 0);

/// What agents may not touch.
#[map]
pub static PROTECTED: HashMap<InodeKey, u32> = HashMap::with_max_entries(MAX_PROTECTED, 0);

/// Sockets that agents may connect to.
#[map]
pub static UNIX_ALLOWED: HashMap<InodeKey, u32> = HashMap::with_max_entries(MAX_UNIX_ALLOWED, 0);

/// At which depths cgroups outside the slice are enrolled.
#[map]
pub static LEVELS: Array<u32> = Array::with_max_entries(1, 0);

/// What the daemon opens while it learns inodes.
#[map]
pub static LEARNED: Array<Learned> = Array::with_max_entries(1, 0);

/// How often what was refused to whom.
#[map]
pub static REFUSALS: HashMap<RefusalKey, u64> = HashMap::with_max_entries(MAX_REFUSALS, 0);
