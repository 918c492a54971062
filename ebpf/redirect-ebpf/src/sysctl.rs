//! Kernel parameters: agents read them and write none, whatever user they are.

use core::ptr::read_volatile;

use aya_ebpf::macros::cgroup_sysctl;
use aya_ebpf::programs::SysctlContext;

const ALLOW: i32 = 1;
/// The writer sees EPERM.
const DENY: i32 = 0;

#[cgroup_sysctl]
pub fn sysctl(ctx: SysctlContext) -> i32 {
    // SAFETY: the context's field, as the verifier allows it.
    if unsafe { read_volatile(&raw const (*ctx.sysctl).write) } == 0 { ALLOW } else { DENY }
}
