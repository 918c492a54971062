//! The program that only the daemon runs, to check member offsets on itself. It is never attached.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::maps::SELF;
use crate::process;

/// Describes the process that runs it through `BPF_PROG_TEST_RUN`; -1 where that fails.
#[raw_tracepoint]
pub fn describe_self(_: RawTracePointContext) -> i32 {
    let Some(process) = SELF.get_ptr_mut(0) else { return -1 };
    // SAFETY: an array's value, which nobody else writes.
    match process::describe(unsafe { &mut *process }) {
        Ok(()) => 0,
        Err(_) => -1,
    }
}
