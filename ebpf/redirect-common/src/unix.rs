//! What the programs for AF_UNIX and the daemon share. Their maps are not pinned: each daemon's
//! programs come with its own, and the pinned links go from one to the other at once.

use crate::KernelEvent;

/// Room for a socket's name: `sun_path` (unix(7)) has 108 bytes, and a NUL may follow. A power of
/// two, for the verifier.
pub const NAME_BYTES: usize = 128;

/// A name, with zeros behind it: the key of [`map::PATHS`].
pub type Name = [u8; NAME_BYTES];

/// A refusal of AF_UNIX, as the ring of events holds it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixRefusal {
    /// What all refusals have.
    pub event: KernelEvent,
    /// Bytes of `name`, as the caller said them.
    pub length: u32,
    /// Zero.
    pub pad: u32,
    /// Where to. An abstract name begins with NUL.
    pub name: Name,
}

/// How agents are held; also what the daemon's own view of the file system is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnixRules {
    /// Address of the daemon's root directory (a `struct dentry`).
    pub root: u64,
    /// Address of the user namespace that owns its mount namespace.
    pub user_ns: u64,
    /// [`LISTED`] or [`ANY`].
    pub mode: u32,
    /// The user namespace's number, as procfs shows it: for the offsets' self-test.
    pub user_ns_number: u32,
}

/// In [`UnixRules`]: agents connect and send to what is listed. The default, 0, is the same with
/// nothing listed.
pub const LISTED: u32 = 1;
/// In [`UnixRules`]: the programs refuse nothing.
pub const ANY: u32 = 2;

/// Byte offsets of kernel structure members, as in [`Offsets`](crate::Offsets).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnixOffsets {
    /// `bpf_sock_addr_kern.uaddr`
    pub context_address: u32,
    /// `bpf_sock_addr_kern.uaddrlen`
    pub context_length: u32,
    /// `task_struct.fs`
    pub task_fs: u32,
    /// `fs_struct.root.dentry`
    pub fs_root: u32,
    /// `task_struct.nsproxy`
    pub task_nsproxy: u32,
    /// `nsproxy.mnt_ns`
    pub nsproxy_mnt_ns: u32,
    /// `mnt_namespace.user_ns`
    pub mnt_ns_user_ns: u32,
    /// `user_namespace.ns.inum`
    pub user_ns_number: u32,
}

/// Names of maps, as in the object file.
pub mod map {
    /// Hash, [`Name`](super::Name) of a socket that agents may connect to, to 1.
    pub const PATHS: &str = "UNIX_PATHS";
    /// Array of one [`UnixRules`](super::UnixRules).
    pub const RULES: &str = "UNIX_RULES";
}

/// Sockets listed at most: (128 + 4 + 64 bytes) x 256 = 50 KiB.
pub const MAX_PATHS: u32 = 256;

const _: () = assert!(size_of::<UnixRefusal>() == size_of::<KernelEvent>() + 8 + NAME_BYTES);
const _: () = assert!(size_of::<UnixRules>() == 24);
const _: () = assert!(size_of::<UnixOffsets>() == 32);

#[cfg(feature = "user")]
mod user {
    use super::{UnixOffsets, UnixRules};

    // SAFETY: integers only, no implicit padding (the sizes asserted are the sums of the fields).
    unsafe impl aya::Pod for UnixRules {}
    // SAFETY: as above.
    unsafe impl aya::Pod for UnixOffsets {}
}
