//! `getpeername()` of agents: what they connected to, as they said it. Cosmetic: it never fails.

use core::ptr::write_volatile;

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use redirect_common::{AF_INET, AF_INET6};

use crate::maps::stored;

/// The only return value the kernel takes here.
const DONE: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    let address = ctx.sock_addr;
    // SAFETY: the context's socket, checked for null by `stored`.
    let socket = unsafe { (*address).__bindgen_anon_1.sk };
    if let Some(record) = stored(socket)
        && record.family == AF_INET
    {
        // SAFETY: the context's fields, as the verifier allows them.
        unsafe {
            write_volatile(&raw mut (*address).user_ip4, record.address[0]);
            write_volatile(&raw mut (*address).user_port, u32::from(record.port.to_be()));
        }
    }
    DONE
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    let address = ctx.sock_addr;
    // SAFETY: the context's socket, checked for null by `stored`.
    let socket = unsafe { (*address).__bindgen_anon_1.sk };
    if let Some(record) = stored(socket)
        && record.family == AF_INET6
    {
        // SAFETY: the context's fields, one word each at a constant place.
        unsafe {
            write_volatile(&raw mut (*address).user_ip6[0], record.address[0]);
            write_volatile(&raw mut (*address).user_ip6[1], record.address[1]);
            write_volatile(&raw mut (*address).user_ip6[2], record.address[2]);
            write_volatile(&raw mut (*address).user_ip6[3], record.address[3]);
            write_volatile(&raw mut (*address).user_port, u32::from(record.port.to_be()));
        }
    }
    DONE
}
