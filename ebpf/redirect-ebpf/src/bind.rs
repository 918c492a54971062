//! `bind()` of agents: never to the ports of the proxy or of the DNS forwarder, at no address and
//! in no protocol, lest an agent receive what others send while the daemon is down.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use crate::address::{End, read4, read6};
use crate::maps::listener;
use crate::refuse::{ALLOW, EADDRINUSE, Refused, netns_cookie, protocol, refuse};

#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    bind(&ctx, &read4(ctx.sock_addr))
}

#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    bind(&ctx, &read6(ctx.sock_addr))
}

/// Port 0 lets the kernel choose among the ephemeral ports that are free; the daemon's own ports
/// are to be outside of that range.
#[inline(always)]
fn bind(ctx: &SockAddrContext, to: &End) -> i32 {
    match listener(netns_cookie(ctx)) {
        Some(ours) if to.port != 0 && (to.port == ours.tcp || to.port == ours.dns) => {
            refuse(ctx, Refused::Bind, to, protocol(ctx), EADDRINUSE)
        }
        _ => ALLOW,
    }
}
