//! TLS taps: copies what enrolled agents give to and take from libssl, as plaintext, for the record.
//!
//! Observes only: nothing here can refuse, delay or alter a call. Probes stand on libssl's public
//! functions; what does its TLS without them (static libraries, Go, rustls) is not seen. A call of a
//! process that is not an agent's ends at the first look at its cgroup.
#![no_std]
#![no_main]

mod caller;

use core::mem::MaybeUninit;
use core::ptr::addr_of_mut;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::{
    bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns,
    bpf_probe_read_user as read_user_bytes,
};
use aya_ebpf::macros::{map, uprobe, uretprobe};
use aya_ebpf::maps::{HashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use redirect_common::tap::{
    COUNT_POINTER, Call, CallKey, DATA_MAX, EVENTS_BYTES, Head, LOST_CALLS, LOST_RING, MAX_CALLS,
    SMALL_MAX,
};

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

#[map]
static CALLS: HashMap<CallKey, Call> = HashMap::with_max_entries(MAX_CALLS, 0);

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// A place in the ring.
#[repr(C)]
struct Event<const N: usize> {
    head: Head,
    data: [u8; N],
}

/// `(SSL *, void *buffer, size, size_t *count)`: notes where the plaintext is. At the return it is
/// certain how much of it was moved.
#[uprobe]
pub fn tap_enter(ctx: ProbeContext) -> u32 {
    let enrolled = caller::enrolled();
    if enrolled == 0 {
        return 0;
    }
    let (Some(connection), Some(buffer)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1)) else { return 0 };
    // SAFETY: the helper takes the context.
    let cookie = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    let has_pointer = cookie & COUNT_POINTER != 0;
    let count = if has_pointer { ctx.arg::<u64>(3).unwrap_or(0) } else { 0 };
    let direction = (cookie & 0xff) as u32;
    let call = Call { enrolled, connection, buffer, count, direction, pad: 0 };
    if CALLS.insert(key(caller::stack_at_entry(&ctx)), call, BPF_ANY.into()).is_err() {
        lost(LOST_CALLS);
    }
    0
}

/// The return of a call that was noted.
#[uretprobe]
pub fn tap_return(ctx: RetProbeContext) -> u32 {
    let key = key(caller::stack_at_return(&ctx));
    // SAFETY: the entry is this thread's own: nobody else writes or removes it while it runs.
    let Some(call) = (unsafe { CALLS.get(key) }) else { return 0 };
    let call = *call;
    let _gone = CALLS.remove(key);
    let answer: i32 = ctx.ret();
    let bytes = moved(&call, answer);
    if bytes == 0 {
        return 0;
    }
    let sent = if bytes <= SMALL_MAX as u64 {
        emit::<SMALL_MAX>(&call, key.pid_tgid, bytes)
    } else {
        emit::<DATA_MAX>(&call, key.pid_tgid, bytes)
    };
    if !sent {
        lost(LOST_RING);
    }
    0
}

/// Bytes that the call moved: its answer, or what it left at the pointer (SSL_read(3), SSL_write(3)).
#[inline(always)]
fn moved(call: &Call, answer: i32) -> u64 {
    if answer <= 0 {
        return 0;
    }
    if call.count == 0 {
        return answer as u64;
    }
    // SAFETY: the helper checks the address; any bytes are an integer.
    unsafe { bpf_probe_read_user(call.count as *const u64) }.unwrap_or(0)
}

/// Writes an event with at most `N` bytes of plaintext; `N` is a power of two. False without room.
#[inline(always)]
fn emit<const N: usize>(call: &Call, pid_tgid: u64, bytes: u64) -> bool {
    let Some(mut place) = EVENTS.reserve::<Event<N>>(0) else { return false };
    let event: *mut Event<N> = MaybeUninit::as_mut_ptr(&mut place);
    // SAFETY: `data` lies in the place reserved; it is written through the pointer only.
    let data = unsafe { addr_of_mut!((*event).data) };
    let from = call.buffer as *const _;
    // The verifier knows a constant and a masked length, not a compared one (6.1).
    let (size, answer) = if bytes >= N as u64 {
        // SAFETY: the helper checks the source; `data` has `N` bytes.
        (N as u32, unsafe { read_user_bytes(data.cast(), N as u32, from) })
    } else {
        let size = (bytes & (N as u64 - 1)) as u32;
        // SAFETY: as above, and `size` is less than `N`.
        (size, unsafe { read_user_bytes(data.cast(), size, from) })
    };
    // SAFETY: a helper without arguments.
    let at_ns = unsafe { bpf_ktime_get_boot_ns() };
    let head = Head {
        at_ns,
        start_ns: caller::start_ns().unwrap_or(0),
        enrolled: call.enrolled,
        connection: call.connection,
        bytes,
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        direction: call.direction,
        copied: if answer == 0 { size } else { 0 },
    };
    // SAFETY: the head lies in the place reserved.
    unsafe { addr_of_mut!((*event).head).write(head) };
    place.submit(0);
    true
}

#[inline(always)]
fn key(stack: u64) -> CallKey {
    // SAFETY: a helper without arguments.
    CallKey { pid_tgid: unsafe { bpf_get_current_pid_tgid() }, stack }
}

/// Counts a call that is not seen. A program that is preempted by another one here may hide that
/// one's count, never its own.
#[inline(always)]
fn lost(index: u32) {
    if let Some(count) = LOST.get_ptr_mut(index) {
        // SAFETY: this processor's value of an array, aligned to eight bytes.
        unsafe { *count += 1 };
    }
}

/// The kernel lends `bpf_probe_read_kernel` only to programs that declare a GPL-compatible licence;
/// see `ebpf/README.md`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
