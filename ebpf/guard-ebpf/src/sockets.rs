//! Sockets: which an agent makes, which it may use, and whom it speaks to by AF_UNIX.

use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use redirect_common::guard::Hook;
use redirect_common::{AF_INET, AF_INET6};

use crate::caller::{held, owns_sock};
use crate::maps::UNIX_ALLOWED;
use crate::protected::key;
use crate::read::{offset, read};
use crate::verdict::{ALLOW, unless};

const AF_UNIX: u32 = 1;
const AF_NETLINK: u32 = 16;
const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;
const IPPROTO_ICMP: i32 = 1;
const IPPROTO_TCP: i32 = 6;
const IPPROTO_UDP: i32 = 17;
const IPPROTO_ICMPV6: i32 = 58;
const NETLINK_ROUTE: i32 = 0;

/// TCP, UDP, ping, AF_UNIX and the routing table: the families and protocols that the other hooks
/// know.
#[lsm(hook = "socket_create")]
pub fn socket_create(ctx: LsmContext) -> i32 {
    // The kernel's own sockets are for the kernel.
    if ctx.arg::<i32>(3) != 0 || !held() {
        return ALLOW;
    }
    let (family, kind, protocol) = (ctx.arg::<i32>(0) as u32, ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    let known = match family {
        AF_UNIX => true,
        AF_INET | AF_INET6 => match kind {
            SOCK_STREAM => matches!(protocol, 0 | IPPROTO_TCP),
            SOCK_DGRAM => matches!(protocol, 0 | IPPROTO_UDP | IPPROTO_ICMP | IPPROTO_ICMPV6),
            _ => false,
        },
        AF_NETLINK => protocol == NETLINK_ROUTE,
        _ => false,
    };
    unless(Ok(known), Hook::SocketCreate)
}

/// A port taken through a socket made elsewhere.
#[lsm(hook = "socket_bind")]
pub fn socket_bind(ctx: LsmContext) -> i32 {
    own_socket_only(&ctx, Hook::SocketBind)
}

/// A socket made elsewhere has no connect hook.
#[lsm(hook = "socket_connect")]
pub fn socket_connect(ctx: LsmContext) -> i32 {
    own_socket_only(&ctx, Hook::SocketConnect)
}

/// Data sent through an inherited connection; also `MSG_FASTOPEN`.
#[lsm(hook = "socket_sendmsg")]
pub fn socket_sendmsg(ctx: LsmContext) -> i32 {
    own_socket_only(&ctx, Hook::SocketSendmsg)
}

/// Data received by one.
#[lsm(hook = "socket_recvmsg")]
pub fn socket_recvmsg(ctx: LsmContext) -> i32 {
    own_socket_only(&ctx, Hook::SocketRecvmsg)
}

/// `connect()` to a listening AF_UNIX socket, which is the second argument.
#[lsm(hook = "unix_stream_connect")]
pub fn unix_stream_connect(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    unless(may_speak_to(ctx.arg::<*const u8>(1) as u64), Hook::UnixStreamConnect)
}

/// A datagram to an AF_UNIX socket, and `connect()` to it.
#[lsm(hook = "unix_may_send")]
pub fn unix_may_send(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    let peer = read(ctx.arg::<*const u8>(1) as u64, offset!(socket_sk));
    unless(peer.and_then(may_speak_to), Hook::UnixMaySend)
}

/// The same agent's socket, or one bound to an inode that is allowed. Names are not looked at.
#[inline(always)]
fn may_speak_to(peer: u64) -> Result<bool, i32> {
    if owns_sock(peer)? {
        return Ok(true);
    }
    let entry: u64 = read(peer, offset!(unix_sock_dentry))?;
    if entry == 0 {
        // Abstract, or without a name.
        return Ok(false);
    }
    let key = key(read(entry, offset!(dentry_d_inode))?)?;
    // SAFETY: only whether there is a value.
    Ok(unsafe { UNIX_ALLOWED.get(key) }.is_some())
}

/// The socket is the first argument of all of these.
#[inline(always)]
fn own_socket_only(ctx: &LsmContext, hook: Hook) -> i32 {
    if !held() {
        return ALLOW;
    }
    unless(may_use(ctx.arg::<*const u8>(0) as u64), hook)
}

/// Whether a `struct socket` is the agent's. AF_UNIX sockets are: what they are connected to was
/// decided at the connection, and a launcher may hand one on as standard input or output.
#[inline(always)]
pub fn may_use(socket: u64) -> Result<bool, i32> {
    let sock: u64 = read(socket, offset!(socket_sk))?;
    let family: u16 = read(sock, offset!(sock_family))?;
    if u32::from(family) == AF_UNIX {
        return Ok(true);
    }
    owns_sock(sock)
}
