//! Refusals: the reason, the event that tells of it, and the errno that the caller sees.

use core::ptr::read_volatile;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_set_retval,
};
use aya_ebpf::programs::SockAddrContext;
use redirect_common::{KernelEvent, event};

use crate::address::End;
use crate::{events, process};

/// What a program returns to let the call or packet through.
pub const ALLOW: i32 = 1;
/// What a program returns to refuse it.
pub const DENY: i32 = 0;

pub const EPERM: i32 = 1;
pub const EPROTONOSUPPORT: i32 = 93;
pub const EADDRINUSE: i32 = 98;
pub const ECONNREFUSED: i32 = 111;

/// Why; the number is what the event and the log say (`ebpf/README.md`).
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Refused {
    /// A connection or datagram of another protocol than TCP and UDP.
    Protocol = 1,
    /// No enrolled cgroup above, a revoked one, or too many levels.
    NotEnrolled = 2,
    /// No listener in this network namespace.
    NoListener = 3,
    /// Bound to a device, and can't be freed from it.
    Device = 4,
    /// No room for the record.
    NoRoom = 5,
    /// The process can't be described.
    Process = 6,
    /// A datagram to where none is allowed.
    Datagram = 7,
    /// A DNS query where the daemon has no forwarder.
    NoForwarder = 8,
    /// A port of the daemon's.
    Bind = 9,
    /// A kind of socket that agents may not have.
    Socket = 10,
    /// A packet that would leave loopback.
    Leaves = 11,
    /// A packet whose destination is not its socket's any more.
    Altered = 12,
    /// A packet with options, of a fragment, or of a protocol that is not looked into.
    Form = 13,
    /// Joining a multicast group.
    Multicast = 14,
    /// A socket of AF_UNIX that is not listed.
    Unix = 15,
}

/// Refuses a call of the current process with `errno`, and tells of it; answers the return value.
#[inline(always)]
pub fn refuse<C: EbpfContext>(
    ctx: &C,
    reason: Refused,
    to: &End,
    protocol: u16,
    errno: i32,
) -> i32 {
    events::put(&event(ctx, reason, to, protocol));
    answer(errno)
}

/// The event that tells of a refusal, of now.
#[inline(always)]
pub fn event<C: EbpfContext>(ctx: &C, reason: Refused, to: &End, protocol: u16) -> KernelEvent {
    let kind = match reason {
        Refused::NoListener => event::UNKNOWN_NETNS,
        _ => event::REFUSED,
    };
    // SAFETY: helpers with the context alone, or without arguments.
    let (netns_cookie, socket_cookie, at_ns) = unsafe {
        (
            bpf_get_netns_cookie(ctx.as_ptr()),
            bpf_get_socket_cookie(ctx.as_ptr()),
            bpf_ktime_get_boot_ns(),
        )
    };
    KernelEvent {
        kind,
        reason: reason as u32,
        at_ns,
        cgroup: process::enrolled_or_own(),
        netns_cookie,
        socket_cookie,
        address: to.address,
        family: to.family,
        tgid: process::tgid(),
        port: to.port,
        protocol,
        ..KernelEvent::default()
    }
}

/// Has the caller see `errno`; answers the return value.
#[inline(always)]
pub fn answer(errno: i32) -> i32 {
    // SAFETY: the helper takes any errno; if it fails the caller sees EPERM instead.
    unsafe { bpf_set_retval(-errno) };
    DENY
}

/// The socket's network namespace.
#[inline(always)]
pub fn netns_cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the context.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

/// The socket's protocol.
#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the context's field, as the verifier allows it; a protocol's number has 16 bits.
    unsafe { read_volatile(&raw const (*ctx.sock_addr).protocol) as u16 }
}
