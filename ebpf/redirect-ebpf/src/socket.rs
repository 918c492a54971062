//! The kinds of Internet sockets that agents may have, and what is forgotten when one closes.
//!
//! The hook sees `AF_INET` and `AF_INET6` alone, with the protocol that the kernel chose for a 0.

use core::ptr::read_volatile;

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use redirect_common::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};

use crate::address::End;
use crate::datagram;
use crate::refuse::{ALLOW, EPERM, EPROTONOSUPPORT, Refused, refuse};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_RAW: u32 = 3;
const IPPROTO_ICMP: u16 = 1;
const IPPROTO_ICMPV6: u16 = 58;

/// TCP, UDP, and ping where the kernel's own policy has it; all else has no hook on its way out
/// (UDP-Lite, SCTP, raw) or hides its peers (MPTCP).
#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    let socket: *const bpf_sock = ctx.sock;
    // SAFETY: the context's fields, as the verifier allows them; a protocol's number has 16 bits.
    let (family, kind, protocol) = unsafe {
        (
            read_volatile(&raw const (*socket).family),
            read_volatile(&raw const (*socket).type_),
            read_volatile(&raw const (*socket).protocol) as u16,
        )
    };
    let known = match (kind, protocol) {
        (SOCK_STREAM, IPPROTO_TCP) | (SOCK_DGRAM, IPPROTO_UDP) => {
            family == AF_INET || family == AF_INET6
        }
        (SOCK_DGRAM, IPPROTO_ICMP) => family == AF_INET,
        (SOCK_DGRAM, IPPROTO_ICMPV6) => family == AF_INET6,
        _ => false,
    };
    if known {
        return ALLOW;
    }
    let nowhere = End { family, address: [0; 4], port: 0 };
    // What clients with a second choice expect: no permission for raw, else an unknown protocol.
    let errno = if kind == SOCK_RAW { EPERM } else { EPROTONOSUPPORT };
    refuse(&ctx, Refused::Socket, &nowhere, protocol, errno)
}

/// The return value counts for nothing here.
#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    datagram::forget(ctx.sock);
    ALLOW
}
