//! Telling the daemon what happened. Nothing is decided by it: a full ring loses the event, counts
//! it, and changes nothing else.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use redirect_common::KernelEvent;

use crate::maps::{DROPPED, EVENTS};

/// Puts an event, with the time, into the ring.
#[inline(always)]
pub fn tell(mut event: KernelEvent) {
    // SAFETY: a helper without arguments.
    event.at_ns = unsafe { bpf_ktime_get_boot_ns() };
    put(&event);
}

/// Puts what begins with an event that has its time into the ring.
#[inline(always)]
pub fn put<T>(event: &T) {
    if EVENTS.output::<T>(event, 0).is_err()
        && let Some(dropped) = DROPPED.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own value.
        unsafe { *dropped += 1 };
    }
}
