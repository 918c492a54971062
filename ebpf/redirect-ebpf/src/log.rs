//! Log records of what became of agents' `connect()` calls: debug builds only (feature `log`).
//!
//! A record names process, cgroup and destination, never data. A full ring loses records and
//! changes nothing else: the logging block ends where it can't reserve room.

use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_get_current_pid_tgid};
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::{debug, warn};

use crate::address::End;
use crate::connect::Way;
use crate::refuse::Refused;

/// What became of a call for IPv4.
#[inline(always)]
pub fn connect4(ctx: &SockAddrContext, to: &End, outcome: Result<Way, Refused>) {
    let (tgid, cgroup) = caller();
    let (to, port) = (u32::from_be(to.address[0]), to.port);
    match outcome {
        Ok(Way::Unchanged) => {}
        Ok(Way::To(_)) => {
            debug!(ctx, "redirected {:i}:{} tgid={} cgroup={}", to, port, tgid, cgroup)
        }
        Err(reason) => warn!(
            ctx,
            "refused {:i}:{} tgid={} cgroup={} reason={}", to, port, tgid, cgroup, reason as u32
        ),
    }
}

/// The same for IPv6.
#[inline(always)]
pub fn connect6(ctx: &SockAddrContext, to: &End, outcome: Result<Way, Refused>) {
    let (tgid, cgroup) = caller();
    let port = to.port;
    // SAFETY: four words in network order are sixteen bytes.
    let to = unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(to.address) };
    match outcome {
        Ok(Way::Unchanged) => {}
        Ok(Way::To(_)) => {
            debug!(ctx, "redirected [{:i}]:{} tgid={} cgroup={}", to, port, tgid, cgroup)
        }
        Err(reason) => warn!(
            ctx,
            "refused [{:i}]:{} tgid={} cgroup={} reason={}", to, port, tgid, cgroup, reason as u32
        ),
    }
}

/// Process and cgroup of the caller.
#[inline(always)]
fn caller() -> (u32, u64) {
    // SAFETY: helpers without arguments.
    unsafe { ((bpf_get_current_pid_tgid() >> 32) as u32, bpf_get_current_cgroup_id()) }
}
