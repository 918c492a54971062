//! `connect()` of agents: note where to and by whom, then go to the proxy; or refuse.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_set_retval,
    bpf_setsockopt,
};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use redirect_common::{AF_INET, AF_INET6, KernelEvent, event};

use crate::maps::{LISTENERS, make_stored};
use crate::{events, process};

const ALLOW: i32 = 1;
const DENY: i32 = 0;
const ECONNREFUSED: i32 = 111;
const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const SOL_SOCKET: i32 = 1;
const SO_BINDTOIFINDEX: i32 = 62;

/// 127.0.0.1 and the third word of an IPv4-mapped IPv6 address, network order.
const LOOPBACK: u32 = u32::from_be_bytes([127, 0, 0, 1]).to_be();
const MAPPED: u32 = 0xffff_u32.to_be();

/// Why a connection may not be made; the number is what the log says (`ebpf/README.md`).
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Refused {
    /// Not a TCP stream.
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
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    // SAFETY: the context's fields, as the verifier allows them.
    let to = unsafe { read_volatile(&raw const (*ctx.sock_addr).user_ip4) };
    let port = port(&ctx);
    let outcome = redirect4(&ctx, to, port);
    tell(&ctx, AF_INET, [to, 0, 0, 0], port, outcome);
    #[cfg(feature = "log")]
    crate::log::connect4(&ctx, to, port, outcome);
    verdict(outcome)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let to = address6(ctx.sock_addr);
    let port = port(&ctx);
    let outcome = redirect6(&ctx, to, port);
    tell(&ctx, AF_INET6, to, port, outcome);
    #[cfg(feature = "log")]
    crate::log::connect6(&ctx, to, port, outcome);
    verdict(outcome)
}

#[inline(always)]
fn redirect4(ctx: &SockAddrContext, to: u32, port: u16) -> Result<(), Refused> {
    let address = ctx.sock_addr;
    let port = note(ctx, AF_INET, [to, 0, 0, 0], port)?;
    // SAFETY: the context's fields, as the verifier allows them.
    unsafe {
        write_volatile(&raw mut (*address).user_ip4, LOOPBACK);
        write_volatile(&raw mut (*address).user_port, port);
    }
    Ok(())
}

#[inline(always)]
fn redirect6(ctx: &SockAddrContext, to: [u32; 4], port: u16) -> Result<(), Refused> {
    let address = ctx.sock_addr;
    let port = note(ctx, AF_INET6, to, port)?;
    // A socket bound to an IPv4-mapped address must stay in IPv4.
    let mapped = to[0] == 0 && to[1] == 0 && to[2] == MAPPED;
    let (third, fourth) = if mapped { (MAPPED, LOOPBACK) } else { (0, 1_u32.to_be()) };
    // SAFETY: the context's fields, one word each at a constant place.
    unsafe {
        write_volatile(&raw mut (*address).user_ip6[0], 0);
        write_volatile(&raw mut (*address).user_ip6[1], 0);
        write_volatile(&raw mut (*address).user_ip6[2], third);
        write_volatile(&raw mut (*address).user_ip6[3], fourth);
        write_volatile(&raw mut (*address).user_port, port);
    }
    Ok(())
}

/// Tells the daemon of a refusal.
#[inline(always)]
fn tell(ctx: &SockAddrContext, family: u32, to: [u32; 4], port: u16, outcome: Result<(), Refused>) {
    let Err(reason) = outcome else { return };
    let kind = match reason {
        Refused::NoListener => event::UNKNOWN_NETNS,
        _ => event::REFUSED,
    };
    // SAFETY: the context's field; the helpers take the context.
    let (protocol, netns_cookie, socket_cookie) = unsafe {
        (
            read_volatile(&raw const (*ctx.sock_addr).protocol),
            bpf_get_netns_cookie(ctx.as_ptr()),
            bpf_get_socket_cookie(ctx.as_ptr()),
        )
    };
    events::tell(KernelEvent {
        kind,
        reason: reason as u32,
        cgroup: process::enrolled_or_own(),
        netns_cookie,
        socket_cookie,
        address: to,
        family,
        tgid: process::tgid(),
        port,
        protocol: protocol as u16,
        ..KernelEvent::default()
    });
}

/// Stores the record with the socket; answers the proxy's port in network order.
#[inline(always)]
fn note(ctx: &SockAddrContext, family: u32, to: [u32; 4], to_port: u16) -> Result<u32, Refused> {
    let address = ctx.sock_addr;
    // SAFETY: the context's fields; the helpers take it.
    let (kind, protocol, socket, netns_cookie, socket_cookie, now) = unsafe {
        (
            read_volatile(&raw const (*address).type_),
            read_volatile(&raw const (*address).protocol),
            (*address).__bindgen_anon_1.sk,
            bpf_get_netns_cookie(ctx.as_ptr()),
            bpf_get_socket_cookie(ctx.as_ptr()),
            bpf_ktime_get_boot_ns(),
        )
    };
    if kind != SOCK_STREAM || protocol != IPPROTO_TCP {
        return Err(Refused::Protocol);
    }
    let enrolled = process::enrolled().ok_or(Refused::NotEnrolled)?;
    // SAFETY: the value is one word, written whole by the daemon.
    let listener = *unsafe { LISTENERS.get(netns_cookie) }.ok_or(Refused::NoListener)?;
    unbind(ctx, socket)?;
    let record = make_stored(socket).ok_or(Refused::NoRoom)?;
    record.socket_cookie = socket_cookie;
    record.netns_cookie = netns_cookie;
    record.enrolled = enrolled;
    record.at_ns = now;
    record.address = to;
    record.family = family;
    record.port = to_port;
    record.pad = 0;
    process::describe(&mut record.process).map_err(|_| Refused::Process)?;
    Ok(u32::from(listener.tcp.to_be()))
}

/// Frees the socket from a device it is bound to: the proxy is on loopback.
#[inline(always)]
fn unbind(ctx: &SockAddrContext, socket: *mut bpf_sock) -> Result<(), Refused> {
    if socket.is_null() {
        return Err(Refused::Device);
    }
    // SAFETY: the context's socket, a word of it at a constant place.
    if unsafe { read_volatile(&raw const (*socket).bound_dev_if) } == 0 {
        return Ok(());
    }
    let mut none = 0_i32;
    // SAFETY: the helper reads the four bytes said from the stack.
    let answer = unsafe {
        bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_BINDTOIFINDEX, (&raw mut none).cast(), 4)
    };
    if answer == 0 { Ok(()) } else { Err(Refused::Device) }
}

/// The port asked for, host order.
#[inline(always)]
fn port(ctx: &SockAddrContext) -> u16 {
    // SAFETY: the context's field, as the verifier allows it.
    u16::from_be(unsafe { read_volatile(&raw const (*ctx.sock_addr).user_port) } as u16)
}

#[inline(always)]
fn address6(address: *const bpf_sock_addr) -> [u32; 4] {
    // SAFETY: as the verifier allows them: one word each at a constant place.
    unsafe {
        [
            read_volatile(&raw const (*address).user_ip6[0]),
            read_volatile(&raw const (*address).user_ip6[1]),
            read_volatile(&raw const (*address).user_ip6[2]),
            read_volatile(&raw const (*address).user_ip6[3]),
        ]
    }
}

/// What the program returns; a refusal looks like a closed port, which clients handle well.
#[inline(always)]
fn verdict(outcome: Result<(), Refused>) -> i32 {
    match outcome {
        Ok(()) => ALLOW,
        Err(_) => {
            // SAFETY: the helper takes any errno; if it fails the caller sees EPERM instead.
            unsafe { bpf_set_retval(-ECONNREFUSED) };
            DENY
        }
    }
}
