//! Carries a record from the agent's socket to the one the proxy accepts, by way of `FLOWS`.
//!
//! SYN: the agent's program puts it in. Established at the listener: the proxy's program moves it
//! to the accepted socket. Agent's socket closed before that: the agent's program takes it out.

use core::ptr::read_volatile;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_ANY, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, bpf_sock,
};
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use redirect_common::{AF_INET, FLOW_ASKED, FLOW_CARRIED, FLOW_FAILED, FLOW_PAST, FlowKey};

use crate::flow;
use crate::maps::{FLOWS, count, store, stored};

/// The return value; the kernel ignores it for these events.
const DONE: u32 = 1;
/// Third word of an IPv4-mapped IPv6 address, network order.
const MAPPED: u32 = 0xffff_u32.to_be();

#[sock_ops]
pub fn sockops_agents(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => put(&ctx),
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == BPF_TCP_CLOSE && ctx.arg(0) != BPF_TCP_CLOSE => {
            end(&ctx);
        }
        _ => {}
    }
    DONE
}

#[sock_ops]
pub fn sockops_proxy(ctx: SockOpsContext) -> u32 {
    if ctx.op() == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        move_to_accepted(&ctx);
    }
    DONE
}

/// Without room there is no entry, hence no record at the proxy, which drops the connection. No
/// entry is made that its socket's end would not take out again.
#[inline(always)]
fn put(ctx: &SockOpsContext) {
    count(FLOW_ASKED);
    let Some(record) = stored(socket(ctx)) else { return count(FLOW_PAST) };
    let (local, remote) = ends(ctx);
    let is_carried = ctx.set_cb_flags(BPF_SOCK_OPS_STATE_CB_FLAG as i32).is_ok()
        && FLOWS.insert(key(record.netns_cookie, local, remote), &*record, BPF_ANY.into()).is_ok();
    if !is_carried {
        count(FLOW_FAILED);
        flow::report_no_room(record);
    }
}

/// The agent's side is closed: what did not get to the proxy goes, and the flow is reported.
#[inline(always)]
fn end(ctx: &SockOpsContext) {
    let Some(record) = stored(socket(ctx)) else { return };
    let (local, remote) = ends(ctx);
    let key = key(record.netns_cookie, local, remote);
    // SAFETY: the cookie is read from an entry that only this socket's tuple names.
    if let Some(flow) = unsafe { FLOWS.get(key) }
        && flow.socket_cookie == record.socket_cookie
    {
        let _gone = FLOWS.remove(key);
        count(FLOW_FAILED);
    }
    flow::report(ctx, record);
}

#[inline(always)]
fn move_to_accepted(ctx: &SockOpsContext) {
    // SAFETY: the helper takes the context.
    let netns_cookie = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    let (local, remote) = ends(ctx);
    let key = key(netns_cookie, remote, local);
    let Some(flow) = FLOWS.get_ptr(key) else { return };
    count(if store(socket(ctx), flow) { FLOW_CARRIED } else { FLOW_FAILED });
    let _gone = FLOWS.remove(key);
}

/// An end of a connection: address words in network order, port in host order.
type End = ([u32; 4], u16);

/// This socket's ends, local first; IPv4-mapped IPv6 as IPv4.
#[inline(always)]
fn ends(ctx: &SockOpsContext) -> (End, End) {
    let ops = ctx.ops;
    // SAFETY: the context's fields, one word each at a constant place.
    unsafe {
        // The kernel keeps a remote port in network order in the upper half, a local one plain.
        let local_port = read_volatile(&raw const (*ops).local_port) as u16;
        let remote_port = u32::from_be(read_volatile(&raw const (*ops).remote_port)) as u16;
        let remote = [
            read_volatile(&raw const (*ops).remote_ip6[0]),
            read_volatile(&raw const (*ops).remote_ip6[1]),
            read_volatile(&raw const (*ops).remote_ip6[2]),
            read_volatile(&raw const (*ops).remote_ip6[3]),
        ];
        let mapped = remote[0] == 0 && remote[1] == 0 && remote[2] == MAPPED;
        if mapped || ctx.family() == AF_INET {
            let local = read_volatile(&raw const (*ops).local_ip4);
            let remote = read_volatile(&raw const (*ops).remote_ip4);
            return (([local, 0, 0, 0], local_port), ([remote, 0, 0, 0], remote_port));
        }
        let local = [
            read_volatile(&raw const (*ops).local_ip6[0]),
            read_volatile(&raw const (*ops).local_ip6[1]),
            read_volatile(&raw const (*ops).local_ip6[2]),
            read_volatile(&raw const (*ops).local_ip6[3]),
        ];
        ((local, local_port), (remote, remote_port))
    }
}

#[inline(always)]
fn key(netns_cookie: u64, client: End, server: End) -> FlowKey {
    FlowKey {
        netns_cookie,
        client: client.0,
        server: server.0,
        client_port: client.1,
        server_port: server.1,
        pad: 0,
    }
}

#[inline(always)]
pub fn socket(ctx: &SockOpsContext) -> *mut bpf_sock {
    // SAFETY: the context's field; null for a request socket, which its users check.
    unsafe { (*ctx.ops).__bindgen_anon_2.sk }
}
