//! Packets of agents' sockets, after netfilter has seen them: only loopback, and what the daemon
//! allows. Addresses are the packet's, for only it shows what a rule of netfilter made of it.
//!
//! It sees packets that belong to a full socket. The kernel's own resets and those of TIME_WAIT
//! have none and carry no data. Packets that come in are not looked at: whoever connects to an
//! agent from elsewhere than loopback gets no answer.

use core::mem::MaybeUninit;
use core::ptr::read_volatile;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{__sk_buff, BPF_TCP_LISTEN, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_cgroup_id, bpf_skb_load_bytes};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use redirect_common::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, KernelEvent, event};

use crate::address::{End, is_loopback};
use crate::datagram;
use crate::events;
use crate::maps::stored;
use crate::refuse::{ALLOW, DENY, Refused};

/// `lo` has this index in every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
const IPPROTO_HOPOPTS: u8 = 0;
const IPPROTO_ICMP: u8 = 1;
const IPPROTO_ICMPV6: u8 = 58;

/// What of a packet the decision needs.
struct Packet {
    protocol: u8,
    from: End,
    to: End,
}

#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let nowhere = End { family: 0, address: [0; 4], port: 0 };
    let Some(packet) = parse(skb) else {
        return dropped(&ctx, Refused::Form, &nowhere, 0);
    };
    match judge(skb, &packet) {
        Ok(()) => ALLOW,
        Err(reason) => dropped(&ctx, reason, &packet.to, packet.protocol.into()),
    }
}

#[inline(always)]
fn judge(skb: *const __sk_buff, packet: &Packet) -> Result<(), Refused> {
    // SAFETY: the context's fields, as the verifier allows them.
    let (device, socket) =
        unsafe { (read_volatile(&raw const (*skb).ifindex), (*skb).__bindgen_anon_2.sk) };
    // The device counts as well: what is sent to 127.0.0.1 by another one leaves the host.
    let stays = device == LOOPBACK && is_loopback(&packet.to);
    match u16::from(packet.protocol) {
        IPPROTO_UDP => datagram::packet(socket, &packet.from, &packet.to, stays),
        _ if !stays => Err(Refused::Leaves),
        IPPROTO_TCP if is_altered(socket, &packet.to) => Err(Refused::Altered),
        _ => Ok(()),
    }
}

/// Whether a segment goes elsewhere than its socket is connected to: a rule of netfilter that
/// sends the proxy's port to another on loopback. A listening socket answers whom it hears from.
#[inline(always)]
fn is_altered(socket: *const bpf_sock, to: &End) -> bool {
    if socket.is_null() {
        return false;
    }
    // SAFETY: the context's socket, one word (or half) each at a constant place.
    unsafe {
        if read_volatile(&raw const (*socket).state) == BPF_TCP_LISTEN {
            return false;
        }
        if u16::from_be(read_volatile(&raw const (*socket).dst_port)) != to.port {
            return true;
        }
        if to.family == AF_INET {
            return read_volatile(&raw const (*socket).dst_ip4) != to.address[0];
        }
        read_volatile(&raw const (*socket).dst_ip6[0]) != to.address[0]
            || read_volatile(&raw const (*socket).dst_ip6[1]) != to.address[1]
            || read_volatile(&raw const (*socket).dst_ip6[2]) != to.address[2]
            || read_volatile(&raw const (*socket).dst_ip6[3]) != to.address[3]
    }
}

/// RFC 791 §3.1, RFC 8200 §3. None for what holds options (a source route among them), a part of
/// a fragment, or a protocol that agents have no sockets for.
#[inline(always)]
fn parse(skb: *const __sk_buff) -> Option<Packet> {
    let first: u8 = load(skb, 0)?;
    match first >> 4 {
        4 => parse4(skb, first),
        6 => parse6(skb),
        _ => None,
    }
}

#[inline(always)]
fn parse4(skb: *const __sk_buff, first: u8) -> Option<Packet> {
    let fragment: u16 = load(skb, 6)?;
    if first & 0xf != 5 || u16::from_be(fragment) & 0x3fff != 0 {
        return None;
    }
    let protocol: u8 = load(skb, 9)?;
    let [from, to]: [u32; 2] = load(skb, 12)?;
    let (from_port, to_port) = ports(skb, protocol, IPPROTO_ICMP, 20)?;
    Some(Packet {
        protocol,
        from: End { family: AF_INET, address: [from, 0, 0, 0], port: from_port },
        to: End { family: AF_INET, address: [to, 0, 0, 0], port: to_port },
    })
}

/// Of extension headers only eight bytes of hop-by-hop options are known: RFC 2675's jumbo
/// length, which the kernel puts into large segments.
#[inline(always)]
fn parse6(skb: *const __sk_buff) -> Option<Packet> {
    let next: u8 = load(skb, 6)?;
    let from: [u32; 4] = load(skb, 8)?;
    let to: [u32; 4] = load(skb, 24)?;
    let (protocol, ports) = if next == IPPROTO_HOPOPTS {
        let [next, length]: [u8; 2] = load(skb, 40)?;
        if length != 0 {
            return None;
        }
        (next, ports(skb, next, IPPROTO_ICMPV6, 48)?)
    } else {
        (next, ports(skb, next, IPPROTO_ICMPV6, 40)?)
    };
    Some(Packet {
        protocol,
        from: End { family: AF_INET6, address: from, port: ports.0 },
        to: End { family: AF_INET6, address: to, port: ports.1 },
    })
}

/// Source and destination port, host order; zeros for a ping.
#[inline(always)]
fn ports(skb: *const __sk_buff, protocol: u8, ping: u8, at: u32) -> Option<(u16, u16)> {
    match u16::from(protocol) {
        IPPROTO_TCP | IPPROTO_UDP => {
            let [from, to]: [u16; 2] = load(skb, at)?;
            Some((u16::from_be(from), u16::from_be(to)))
        }
        other if other == u16::from(ping) => Some((0, 0)),
        _ => None,
    }
}

/// Bytes of the packet; the network header is at 0.
#[inline(always)]
fn load<T: Copy>(skb: *const __sk_buff, at: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper fills the bytes said, or zeroes them and says that it failed; `T` is
    // integers.
    unsafe {
        let to = value.as_mut_ptr().cast();
        let answer = bpf_skb_load_bytes(skb.cast(), at, to, size_of::<T>() as u32);
        if answer == 0 { Some(value.assume_init()) } else { None }
    }
}

/// Reports a packet that does not go on. No process is current; the socket's record names the one
/// that it is of.
#[inline(always)]
fn dropped(ctx: &SkBuffContext, reason: Refused, to: &End, protocol: u16) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: helpers that take the context, whose socket is a full one here, and its field.
    let (cgroup, socket_cookie, socket) = unsafe {
        (bpf_skb_cgroup_id(skb), bpf_get_socket_cookie(ctx.as_ptr()), (*skb).__bindgen_anon_2.sk)
    };
    let (netns_cookie, tgid) = match stored(socket) {
        Some(record) => (record.netns_cookie, record.process.tgid),
        None => (0, 0),
    };
    events::tell(KernelEvent {
        kind: event::REFUSED,
        reason: reason as u32,
        cgroup,
        netns_cookie,
        socket_cookie,
        address: to.address,
        family: to.family,
        tgid,
        port: to.port,
        protocol,
        ..KernelEvent::default()
    });
    DENY
}
