//! `getpeername()` of agents: what they connected to, as they said it. Cosmetic: it never fails.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use redirect_common::AF_INET;

use crate::address::{as6, write4, write6};
use crate::connect::socket;
use crate::maps::stored;

/// The only return value the kernel takes here.
const DONE: i32 = 1;

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(record) = stored(socket(&ctx))
        && record.family == AF_INET
    {
        write4(ctx.sock_addr, record.address[0], record.port);
    }
    DONE
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    if let Some(record) = stored(socket(&ctx)) {
        write6(ctx.sock_addr, as6(record.family, &record.address), record.port);
    }
    DONE
}
