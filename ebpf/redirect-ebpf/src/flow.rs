//! What a flow of an agent carried, as the kernel counted it: reported when the socket closes.
//!
//! Both counts are payload, without SYN and FIN, which the kernel counts as one octet each
//! (`tcp_sock.bytes_acked` and `bytes_received`, RFC 4898). *Sent* is what the listener's side
//! acknowledged: what was written and not acknowledged before a reset is not in it. *Received* is
//! what arrived in order, read by the agent or not. Both are 0 for a connection that was never
//! established.

use core::ptr::read_volatile;

use aya_ebpf::bindings::{BPF_TCP_CLOSING, BPF_TCP_FIN_WAIT2, BPF_TCP_LAST_ACK};
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use aya_ebpf::programs::SockOpsContext;
use redirect_common::{ConnectRecord, KernelEvent, event};

use crate::events;
use crate::refuse::Refused;
use crate::sockops::socket;

/// Byte offset of `sock_common.skc_flags`; set by the daemon before it loads the programs.
#[unsafe(no_mangle)]
static SOCK_FLAGS: u32 = 0;

/// `SOCK_DONE` of `enum sock_flags`: the peer's FIN has been taken in (`tcp_fin`).
const SOCK_DONE: u64 = 1 << 1;

/// Reports a flow that is about to close; the state before is the callback's first argument.
#[inline(always)]
pub fn report(ctx: &SockOpsContext, record: &ConnectRecord) {
    let ops = ctx.ops;
    // SAFETY: the context's fields, as the verifier allows them.
    let (acked, received, una, next) = unsafe {
        (
            read_volatile(&raw const (*ops).bytes_acked),
            read_volatile(&raw const (*ops).bytes_received),
            read_volatile(&raw const (*ops).snd_una),
            read_volatile(&raw const (*ops).snd_nxt),
        )
    };
    let fin_acked = match ctx.arg(0) {
        BPF_TCP_FIN_WAIT2 => true,
        BPF_TCP_LAST_ACK | BPF_TCP_CLOSING => una == next,
        _ => false,
    };
    let fin_received = fin_received(ctx);
    events::tell(KernelEvent {
        kind: event::FLOW_END,
        cgroup: record.enrolled,
        netns_cookie: record.netns_cookie,
        socket_cookie: record.socket_cookie,
        bytes_sent: acked.saturating_sub(1 + u64::from(fin_acked)),
        bytes_received: received.saturating_sub(u64::from(fin_received)),
        address: record.address,
        family: record.family,
        tgid: record.process.tgid,
        port: record.port,
        protocol: record.protocol,
        ..KernelEvent::default()
    });
}

/// Reports a connection that will be dropped: there was no room to carry its record.
#[inline(always)]
pub fn report_no_room(record: &ConnectRecord) {
    events::tell(KernelEvent {
        kind: event::REFUSED,
        reason: Refused::NoRoom as u32,
        cgroup: record.enrolled,
        netns_cookie: record.netns_cookie,
        socket_cookie: record.socket_cookie,
        address: record.address,
        family: record.family,
        tgid: record.process.tgid,
        port: record.port,
        protocol: record.protocol,
        ..KernelEvent::default()
    });
}

#[inline(always)]
fn fin_received(ctx: &SockOpsContext) -> bool {
    let socket = socket(ctx);
    if socket.is_null() {
        return false;
    }
    // SAFETY: a read_volatile of a static, so that the compiler does not fold in the zero; the
    // helpers check socket and address.
    let flags = unsafe {
        let offset = read_volatile(&raw const SOCK_FLAGS);
        let tcp = bpf_skc_to_tcp_sock(socket.cast());
        if tcp.is_null() {
            return false;
        }
        bpf_probe_read_kernel(tcp.cast::<u8>().add(offset as usize).cast::<u64>())
    };
    flags.is_ok_and(|flags| flags & SOCK_DONE != 0)
}
