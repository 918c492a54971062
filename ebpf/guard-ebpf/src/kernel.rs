//! What no agent does to the kernel: capabilities, programs in it, mounts, modules, the clock.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use redirect_common::guard::Hook;

use crate::caller::held;
use crate::verdict::{ALLOW, refuse};

/// Capabilities that a root agent keeps (capabilities(7)): those over files and ids, whose use the
/// other hooks bound, and low ports. `CAP_DAC_READ_SEARCH` is not among them: it opens files by
/// handle, past every path.
const KEPT: u64 = bit(0) // CHOWN
    | bit(1) // DAC_OVERRIDE
    | bit(3) // FOWNER
    | bit(4) // FSETID
    | bit(5) // KILL
    | bit(6) // SETGID
    | bit(7) // SETUID
    | bit(8) // SETPCAP
    | bit(10) // NET_BIND_SERVICE
    | bit(18) // SYS_CHROOT
    | bit(31); // SETFCAP

const fn bit(capability: u32) -> u64 {
    1 << capability
}

/// The use of any capability, whatever user namespace it is for.
#[lsm(hook = "capable")]
pub fn capable(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    let capability: i32 = ctx.arg(2);
    let kept = (0..64).contains(&capability) && (KEPT >> (capability as u32 & 63)) & 1 == 1;
    if kept { ALLOW } else { refuse(Hook::Capable) }
}

/// Programs that refuse whatever an agent asks.
macro_rules! never {
    ($($name:ident $hook:tt $as:ident)*) => {
        $(
            #[lsm(hook = $hook)]
            pub fn $name(_: LsmContext) -> i32 {
                if held() { refuse(Hook::$as) } else { ALLOW }
            }
        )*
    };
}

never! {
    bpf "bpf" Bpf
    perf_event_open "perf_event_open" PerfEventOpen
    sb_mount "sb_mount" SbMount
    sb_umount "sb_umount" SbUmount
    sb_remount "sb_remount" SbRemount
    sb_pivotroot "sb_pivotroot" SbPivotroot
    move_mount "move_mount" MoveMount
    userns_create "userns_create" UsernsCreate
    uring_sqpoll "uring_sqpoll" UringSqpoll
    tun_dev_create "tun_dev_create" TunDevCreate
    kernel_read_file "kernel_read_file" KernelReadFile
    kernel_load_data "kernel_load_data" KernelLoadData
    kernel_module_request "kernel_module_request" KernelModuleRequest
    settime "settime" Settime
    quotactl "quotactl" Quotactl
    quota_on "quota_on" QuotaOn
}
