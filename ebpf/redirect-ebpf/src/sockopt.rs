//! `setsockopt()` of agents: no joining of multicast groups. The kernel itself reports a group that
//! is joined to the network, in a packet that is no socket's: fourteen octets of the agent's
//! choosing in each, past every other hook.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;
use redirect_common::{KernelEvent, event};

use crate::refuse::{ALLOW, DENY, Refused};
use crate::{events, process};

const SOL_IP: i32 = 0;
const SOL_IPV6: i32 = 41;
/// `IP_ADD_MEMBERSHIP`, `IP_ADD_SOURCE_MEMBERSHIP`, `IP_MSFILTER`.
const JOIN4: [i32; 3] = [35, 39, 41];
/// `IPV6_ADD_MEMBERSHIP`, `IPV6_JOIN_ANYCAST`.
const JOIN6: [i32; 2] = [20, 27];
/// `MCAST_JOIN_GROUP`, `MCAST_JOIN_SOURCE_GROUP`, `MCAST_MSFILTER`, at both levels.
const JOIN: [i32; 3] = [42, 46, 48];
/// Of longer values the kernel shows a program this much, and takes none from it (`EFAULT` before
/// Linux 6.4) unless told by a length of 0 to take the caller's.
const PAGE: i32 = 4096;

#[cgroup_sockopt(setsockopt)]
pub fn setsockopt(ctx: SockoptContext) -> i32 {
    let option = ctx.sockopt;
    // SAFETY: the context's fields, as the verifier allows them.
    let (level, name, length) = unsafe {
        (
            read_volatile(&raw const (*option).level),
            read_volatile(&raw const (*option).optname),
            read_volatile(&raw const (*option).optlen),
        )
    };
    let joins = match level {
        SOL_IP => JOIN4.contains(&name) || JOIN.contains(&name),
        SOL_IPV6 => JOIN6.contains(&name) || JOIN.contains(&name),
        _ => false,
    };
    if joins {
        return refuse(&ctx);
    }
    if length > PAGE {
        // SAFETY: as above.
        unsafe { write_volatile(&raw mut (*option).optlen, 0) };
    }
    ALLOW
}

/// The caller sees EPERM.
#[inline(always)]
fn refuse(ctx: &SockoptContext) -> i32 {
    events::tell(KernelEvent {
        kind: event::REFUSED,
        reason: Refused::Multicast as u32,
        cgroup: process::enrolled_or_own(),
        // SAFETY: the helper takes the context.
        netns_cookie: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        tgid: process::tgid(),
        ..KernelEvent::default()
    });
    DENY
}
