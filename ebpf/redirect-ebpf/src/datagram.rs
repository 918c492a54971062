//! UDP of agents: DNS goes to the daemon's forwarder, and comes back as from the server asked;
//! what the daemon allows goes out as it is; all else is refused.

use aya_ebpf::bindings::{BPF_ANY, bpf_sock};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use redirect_common::{
    AF_INET, AllowedKey, ConnectRecord, DatagramKey, IPPROTO_UDP, MODE_ENFORCE, Senders,
};

use crate::address::{
    End, LOOPBACK4, as6, canonical, is_loopback, loopback6, read4, read6, write4, write6,
};
use crate::connect::{self, Way};
use crate::maps::{
    DATAGRAMS, DATAGRAMS_ALLOWED, ENROLLED, listener, make_senders, senders, stored,
};
use crate::refuse::{ALLOW, ECONNREFUSED, Refused, protocol, refuse};

/// DNS over UDP.
const DOMAIN: u16 = 53;

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let to = read4(ctx.sock_addr);
    match send(&ctx, &to) {
        Ok(Way::To(port)) => write4(ctx.sock_addr, LOOPBACK4, port),
        Ok(Way::Unchanged) => {}
        Err(reason) => return refuse(&ctx, reason, &to, protocol(&ctx), ECONNREFUSED),
    }
    ALLOW
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let to = read6(ctx.sock_addr);
    match send(&ctx, &to) {
        Ok(Way::To(port)) => write6(ctx.sock_addr, loopback6(&to), port),
        Ok(Way::Unchanged) => {}
        Err(reason) => return refuse(&ctx, reason, &to, protocol(&ctx), ECONNREFUSED),
    }
    ALLOW
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    if let Some(record) = of_forwarder(&ctx, &read4(ctx.sock_addr))
        && record.family == AF_INET
    {
        write4(ctx.sock_addr, record.address[0], record.port);
    }
    ALLOW
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    if let Some(record) = of_forwarder(&ctx, &read6(ctx.sock_addr)) {
        write6(ctx.sock_addr, as6(record.family, &record.address), record.port);
    }
    ALLOW
}

/// The way of a datagram of an enrolled cgroup: DNS to the forwarder.
#[inline(always)]
pub fn way(enrolled: u64, netns_cookie: u64, to: &End) -> Result<Way, Refused> {
    let ours = listener(netns_cookie).ok_or(Refused::NoListener)?;
    if to.port == DOMAIN {
        return if ours.dns == 0 { Err(Refused::NoForwarder) } else { Ok(Way::To(ours.dns)) };
    }
    if allowed(enrolled, to) { Ok(Way::Unchanged) } else { Err(Refused::Datagram) }
}

/// Where a datagram goes that names its destination. Where the connect program has decided already,
/// the kernel asks again for one with control data, naming nothing (port 0), and for one of an IPv6
/// socket that is connected in IPv4, naming the forwarder.
#[inline(always)]
fn send(ctx: &SockAddrContext, to: &End) -> Result<Way, Refused> {
    if to.port == 0 {
        let record = stored(connect::socket(ctx)).ok_or(Refused::Datagram)?;
        let ours = record.protocol == IPPROTO_UDP;
        return if ours { Ok(Way::Unchanged) } else { Err(Refused::Datagram) };
    }
    if of_forwarder(ctx, to).is_some() {
        return Ok(Way::Unchanged);
    }
    connect::decide(ctx, to)
}

/// The record of a socket that has asked the forwarder, if `from` is the forwarder.
#[inline(always)]
fn of_forwarder(ctx: &SockAddrContext, from: &End) -> Option<&'static mut ConnectRecord> {
    let record = stored(connect::socket(ctx))?;
    let ours = listener(record.netns_cookie)?;
    let forwarder = is_loopback(from) && ours.dns != 0 && from.port == ours.dns;
    if forwarder && record.port == DOMAIN { Some(record) } else { None }
}

/// Whether a packet of UDP may go on, by its socket's record; one to the forwarder is noted for
/// it first. `loopback` is whether it stays there.
#[inline(always)]
pub fn packet(socket: *mut bpf_sock, from: &End, to: &End, loopback: bool) -> Result<(), Refused> {
    let record = stored(socket).ok_or(Refused::Datagram)?;
    if record.protocol != IPPROTO_UDP {
        return Err(Refused::Datagram);
    }
    // SAFETY: the value is one word, written whole by the daemon.
    match unsafe { ENROLLED.get(record.enrolled) } {
        Some(&MODE_ENFORCE) => {}
        _ => return Err(Refused::NotEnrolled),
    }
    if loopback
        && let Some(ours) = listener(record.netns_cookie)
        && ours.dns != 0
        && to.port == ours.dns
    {
        return note(socket, record, from);
    }
    if allowed(record.enrolled, to) {
        return Ok(());
    }
    Err(if loopback { Refused::Datagram } else { Refused::Leaves })
}

/// Leaves the socket's record where the forwarder finds it by the datagram's source.
#[inline(always)]
fn note(
    socket: *mut bpf_sock,
    record: &'static mut ConnectRecord,
    from: &End,
) -> Result<(), Refused> {
    let key = DatagramKey {
        netns_cookie: record.netns_cookie,
        address: from.address,
        port: from.port,
        pad: [0; 3],
    };
    let senders = make_senders(socket).ok_or(Refused::NoRoom)?;
    // SAFETY: a helper without arguments.
    record.at_ns = unsafe { bpf_ktime_get_boot_ns() };
    DATAGRAMS.insert(key, &*record, BPF_ANY.into()).map_err(|_| Refused::NoRoom)?;
    // A socket has one entry a family, so that closing it leaves none.
    let last = if from.family == AF_INET { &mut senders.v4 } else { &mut senders.v6 };
    let before = *last;
    *last = key;
    if before.netns_cookie != 0 && before != key {
        let _gone = DATAGRAMS.remove(before);
    }
    Ok(())
}

/// Takes out what [`note`] left of a socket.
#[inline(always)]
pub fn forget(socket: *mut bpf_sock) {
    let Some(Senders { v4, v6 }) = senders(socket) else { return };
    for key in [v4, v6] {
        if key.netns_cookie != 0 {
            let _gone = DATAGRAMS.remove(&*key);
        }
    }
}

#[inline(always)]
fn allowed(enrolled: u64, to: &End) -> bool {
    let (family, address) = canonical(to);
    let key = AllowedKey { enrolled, address, family, port: to.port, pad: 0 };
    DATAGRAMS_ALLOWED.get_ptr(key).is_some()
}
