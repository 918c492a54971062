//! What a program returns, and the count of refusals.

use aya_ebpf::bindings::BPF_NOEXIST;
use redirect_common::guard::{Hook, RefusalKey};

use crate::caller;
use crate::maps::REFUSALS;

pub const ALLOW: i32 = 0;
const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// The errno of a hook's refusals: what programs expect where a socket or file is forbidden.
#[inline(always)]
fn errno(hook: Hook) -> i32 {
    match hook {
        Hook::UnixStreamConnect | Hook::UnixMaySend | Hook::FileOpen | Hook::InodePermission => {
            -EACCES
        }
        _ => -EPERM,
    }
}

/// Refuses, and counts it.
#[inline(always)]
pub fn refuse(hook: Hook) -> i32 {
    count(hook);
    errno(hook)
}

/// Lets pass only what is known to be allowed.
#[inline(always)]
pub fn unless(allowed: Result<bool, i32>, hook: Hook) -> i32 {
    if allowed == Ok(true) { ALLOW } else { refuse(hook) }
}

/// Without room the refusal stands, uncounted.
#[inline(always)]
pub fn count(hook: Hook) {
    let agent = caller::agent().map_or(0, |agent| agent.id);
    let key = RefusalKey { agent, hook: hook as u32, pad: 0 };
    match REFUSALS.get_ptr_mut(key) {
        // SAFETY: a map's value; processors that count at once may lose one, never the entry.
        Some(times) => unsafe { *times += 1 },
        None => drop(REFUSALS.insert(key, 1, BPF_NOEXIST.into())),
    }
}
