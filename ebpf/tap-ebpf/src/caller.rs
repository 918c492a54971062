//! Who calls libssl, and where its stack stands.

use core::ptr::read_volatile;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_task};
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use redirect_common::{MAX_CGROUP_LEVEL, MAX_ENROLLED};

/// cgroup id to mode: the pinned map of the redirection, read only.
#[map]
static ENROLLED: HashMap<u64, u32> = HashMap::with_max_entries(MAX_ENROLLED, 0);

/// `task_struct.group_leader`; set by the daemon before it loads the programs.
#[unsafe(no_mangle)]
static TASK_GROUP_LEADER: u32 = 0;
/// `task_struct.start_boottime`; likewise.
#[unsafe(no_mangle)]
static TASK_START_BOOTTIME: u32 = 0;

/// The nearest enrolled cgroup at or above the caller's, revoked or not; 0 for who is no agent's. A
/// process too deep to be attributed is refused its connections elsewhere, and not seen here.
#[inline(always)]
pub fn enrolled() -> u64 {
    let (mut nearest, mut level) = (0, 0);
    // From the root down, so that who is no agent is soon done.
    while level < MAX_CGROUP_LEVEL {
        // SAFETY: any level may be asked for; 0 answers a level below the caller's own.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            return nearest;
        }
        // SAFETY: the value is not looked at.
        if unsafe { ENROLLED.get(id) }.is_some() {
            nearest = id;
        }
        level += 1;
    }
    nearest
}

/// When the caller's process began: its group leader's start, in nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn start_ns() -> Option<u64> {
    // SAFETY: volatile reads of statics, so that the compiler does not fold in the zeros; the
    // helpers check the addresses.
    unsafe {
        let leader_at = u64::from(read_volatile(&raw const TASK_GROUP_LEADER));
        let start_at = u64::from(read_volatile(&raw const TASK_START_BOOTTIME));
        let task = bpf_get_current_task();
        let leader = bpf_probe_read_kernel((task + leader_at) as *const u64).ok()?;
        bpf_probe_read_kernel((leader + start_at) as *const u64).ok()
    }
}

/// The stack pointer that the function will leave behind when it returns.
#[inline(always)]
pub fn stack_at_entry(ctx: &ProbeContext) -> u64 {
    // SAFETY: the context's registers; on x86-64 the return address is still on the stack.
    #[cfg(bpf_target_arch = "x86_64")]
    return unsafe { (*ctx.regs).rsp } + 8;
    // SAFETY: the context's registers.
    #[cfg(bpf_target_arch = "aarch64")]
    return unsafe { (*ctx.regs).sp };
}

/// The stack pointer after the return.
#[inline(always)]
pub fn stack_at_return(ctx: &RetProbeContext) -> u64 {
    // SAFETY: the context's registers.
    #[cfg(bpf_target_arch = "x86_64")]
    return unsafe { (*ctx.regs).rsp };
    // SAFETY: the context's registers.
    #[cfg(bpf_target_arch = "aarch64")]
    return unsafe { (*ctx.regs).sp };
}
