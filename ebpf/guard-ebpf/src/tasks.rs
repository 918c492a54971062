//! What is done to other tasks. An agent has power over its own, and those of agents it started.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use redirect_common::guard::Hook;

use crate::caller::{held, owns_task};
use crate::verdict::{ALLOW, unless};

/// Signals; also those sent by a pidfd, and the test with signal 0.
#[lsm(hook = "task_kill")]
pub fn task_kill(ctx: LsmContext) -> i32 {
    own_task_only(&ctx, Hook::TaskKill)
}

/// Debuggers, and all that asks the same way: `/proc/PID/mem`, `pidfd_getfd`,
/// `process_vm_writev`, `/proc/PID/fd`.
#[lsm(hook = "ptrace_access_check")]
pub fn ptrace_access_check(ctx: LsmContext) -> i32 {
    own_task_only(&ctx, Hook::PtraceAccessCheck)
}

/// The user id suffices otherwise.
#[lsm(hook = "task_setnice")]
pub fn task_setnice(ctx: LsmContext) -> i32 {
    own_task_only(&ctx, Hook::TaskSetnice)
}

/// As above.
#[lsm(hook = "task_setioprio")]
pub fn task_setioprio(ctx: LsmContext) -> i32 {
    own_task_only(&ctx, Hook::TaskSetioprio)
}

/// As above; processor affinity too.
#[lsm(hook = "task_setscheduler")]
pub fn task_setscheduler(ctx: LsmContext) -> i32 {
    own_task_only(&ctx, Hook::TaskSetscheduler)
}

/// `prlimit`: a limit of no files or no time ends the daemon as well as a signal.
#[lsm(hook = "task_setrlimit")]
pub fn task_setrlimit(ctx: LsmContext) -> i32 {
    own_task_only(&ctx, Hook::TaskSetrlimit)
}

/// `migrate_pages`, `move_pages`.
#[lsm(hook = "task_movememory")]
pub fn task_movememory(ctx: LsmContext) -> i32 {
    own_task_only(&ctx, Hook::TaskMovememory)
}

/// The task is the first argument of all of these.
#[inline(always)]
fn own_task_only(ctx: &LsmContext, hook: Hook) -> i32 {
    if !held() {
        return ALLOW;
    }
    unless(owns_task(ctx.arg::<*const u8>(0) as u64), hook)
}
