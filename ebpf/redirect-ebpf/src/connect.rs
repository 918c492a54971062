//! `connect()` of agents: note where to and by whom, then go to the proxy or the DNS forwarder; or
//! refuse.

use core::ptr::read_volatile;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_setsockopt};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use redirect_common::{FLOW_ASKED, FLOW_REFUSED, IPPROTO_TCP, IPPROTO_UDP};

use crate::address::{End, LOOPBACK4, loopback6, read4, read6, write4, write6};
use crate::datagram;
use crate::maps::{count, listener, make_stored};
use crate::process;
use crate::refuse::{ALLOW, ECONNREFUSED, Refused, netns_cookie, protocol, refuse};

const SOL_SOCKET: i32 = 1;
const SO_BINDTOIFINDEX: i32 = 62;

/// Where a call may go.
#[derive(Clone, Copy)]
pub enum Way {
    /// To this port on loopback, host order.
    To(u16),
    /// To where it asked.
    Unchanged,
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    let to = read4(ctx.sock_addr);
    let outcome = decide(&ctx, &to);
    #[cfg(feature = "log")]
    crate::log::connect4(&ctx, &to, outcome);
    match outcome {
        Ok(Way::To(port)) => write4(ctx.sock_addr, LOOPBACK4, port),
        Ok(Way::Unchanged) => {}
        Err(reason) => return refuse_counted(&ctx, reason, &to),
    }
    ALLOW
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    let to = read6(ctx.sock_addr);
    let outcome = decide(&ctx, &to);
    #[cfg(feature = "log")]
    crate::log::connect6(&ctx, &to, outcome);
    match outcome {
        Ok(Way::To(port)) => write6(ctx.sock_addr, loopback6(&to), port),
        Ok(Way::Unchanged) => {}
        Err(reason) => return refuse_counted(&ctx, reason, &to),
    }
    ALLOW
}

/// Refuses, and counts that of a connection over TCP.
#[inline(always)]
fn refuse_counted(ctx: &SockAddrContext, reason: Refused, to: &End) -> i32 {
    let protocol = protocol(ctx);
    if protocol == IPPROTO_TCP {
        count(FLOW_ASKED);
        count(FLOW_REFUSED);
    }
    refuse(ctx, reason, to, protocol, ECONNREFUSED)
}

/// Where a connection or datagram goes; its record is stored with the socket.
#[inline(always)]
pub fn decide(ctx: &SockAddrContext, to: &End) -> Result<Way, Refused> {
    let enrolled = process::enrolled().ok_or(Refused::NotEnrolled)?;
    let netns_cookie = netns_cookie(ctx);
    let protocol = protocol(ctx);
    let way = match protocol {
        IPPROTO_TCP => Way::To(listener(netns_cookie).ok_or(Refused::NoListener)?.tcp),
        IPPROTO_UDP => datagram::way(enrolled, netns_cookie, to)?,
        _ => return Err(Refused::Protocol),
    };
    let socket = socket(ctx);
    if let Way::To(_) = way {
        unbind(ctx, socket)?;
    }
    let record = make_stored(socket).ok_or(Refused::NoRoom)?;
    // SAFETY: helpers with the context or without arguments.
    unsafe {
        record.socket_cookie = bpf_get_socket_cookie(ctx.as_ptr());
        record.at_ns = bpf_ktime_get_boot_ns();
    }
    record.netns_cookie = netns_cookie;
    record.enrolled = enrolled;
    record.address = to.address;
    record.family = to.family;
    record.port = to.port;
    record.protocol = protocol;
    process::describe(&mut record.process).map_err(|_| Refused::Process)?;
    Ok(way)
}

/// Frees the socket from a device it is bound to: the daemon is on loopback.
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

/// The context's socket, which whoever uses it checks for null.
#[inline(always)]
pub fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    // SAFETY: the context's field, as the verifier allows it.
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}
