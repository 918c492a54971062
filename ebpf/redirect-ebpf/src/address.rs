//! Addresses as the programs' contexts hold them: words in network byte order, and ports. One
//! word each at a constant place: the verifier (6.1) takes nothing else of a context.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::bpf_sock_addr;
use redirect_common::{AF_INET, AF_INET6};

/// 127.0.0.1, network order.
pub const LOOPBACK4: u32 = u32::from_be_bytes([127, 0, 0, 1]).to_be();
/// The third word of an IPv4-mapped IPv6 address, network order.
pub const MAPPED: u32 = 0xffff_u32.to_be();
/// The last word of ::1, network order.
const ONE: u32 = 1_u32.to_be();

/// An end of a flow: address words in network order (an IPv4 address in the first), port in host
/// order.
#[derive(Clone, Copy)]
pub struct End {
    /// `AF_INET` or `AF_INET6`, by the call or packet and not by the socket.
    pub family: u32,
    /// The address.
    pub address: [u32; 4],
    /// The port.
    pub port: u16,
}

/// The address of a call for IPv4.
#[inline(always)]
pub fn read4(address: *const bpf_sock_addr) -> End {
    // SAFETY: the context's fields, as the verifier allows them.
    let (ip, port) = unsafe {
        (
            read_volatile(&raw const (*address).user_ip4),
            read_volatile(&raw const (*address).user_port),
        )
    };
    End { family: AF_INET, address: [ip, 0, 0, 0], port: u16::from_be(port as u16) }
}

/// The address of a call for IPv6.
#[inline(always)]
pub fn read6(address: *const bpf_sock_addr) -> End {
    // SAFETY: the context's fields, one word each at a constant place.
    let (ip, port) = unsafe {
        (
            [
                read_volatile(&raw const (*address).user_ip6[0]),
                read_volatile(&raw const (*address).user_ip6[1]),
                read_volatile(&raw const (*address).user_ip6[2]),
                read_volatile(&raw const (*address).user_ip6[3]),
            ],
            read_volatile(&raw const (*address).user_port),
        )
    };
    End { family: AF_INET6, address: ip, port: u16::from_be(port as u16) }
}

/// Puts an address of IPv4 into a call's place.
#[inline(always)]
pub fn write4(address: *mut bpf_sock_addr, ip: u32, port: u16) {
    // SAFETY: the context's fields, as the verifier allows them.
    unsafe {
        write_volatile(&raw mut (*address).user_ip4, ip);
        write_volatile(&raw mut (*address).user_port, u32::from(port.to_be()));
    }
}

/// Puts an address of IPv6 into a call's place.
#[inline(always)]
pub fn write6(address: *mut bpf_sock_addr, ip: [u32; 4], port: u16) {
    // SAFETY: the context's fields, one word each at a constant place.
    unsafe {
        write_volatile(&raw mut (*address).user_ip6[0], ip[0]);
        write_volatile(&raw mut (*address).user_ip6[1], ip[1]);
        write_volatile(&raw mut (*address).user_ip6[2], ip[2]);
        write_volatile(&raw mut (*address).user_ip6[3], ip[3]);
        write_volatile(&raw mut (*address).user_port, u32::from(port.to_be()));
    }
}

/// Loopback as a call for IPv6 to `to` has to name it: a socket bound to an IPv4-mapped address
/// must stay in IPv4.
#[inline(always)]
pub fn loopback6(to: &End) -> [u32; 4] {
    if is_mapped(&to.address) { [0, 0, MAPPED, LOOPBACK4] } else { [0, 0, 0, ONE] }
}

/// An address as a socket of IPv6 shows it.
#[inline(always)]
pub fn as6(family: u32, address: &[u32; 4]) -> [u32; 4] {
    if family == AF_INET { [0, 0, MAPPED, address[0]] } else { *address }
}

/// Family and address, with an IPv4-mapped IPv6 address as IPv4.
#[inline(always)]
pub fn canonical(end: &End) -> (u32, [u32; 4]) {
    if end.family == AF_INET6 && is_mapped(&end.address) {
        (AF_INET, [end.address[3], 0, 0, 0])
    } else {
        (end.family, end.address)
    }
}

/// Whether an address is loopback, in its family.
#[inline(always)]
pub fn is_loopback(end: &End) -> bool {
    if end.family == AF_INET {
        return u32::from_be(end.address[0]) >> 24 == 127;
    }
    if is_mapped(&end.address) {
        return u32::from_be(end.address[3]) >> 24 == 127;
    }
    end.address[0] == 0 && end.address[1] == 0 && end.address[2] == 0 && end.address[3] == ONE
}

#[inline(always)]
fn is_mapped(address: &[u32; 4]) -> bool {
    address[0] == 0 && address[1] == 0 && address[2] == MAPPED
}
