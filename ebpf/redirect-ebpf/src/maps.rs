//! The maps, and socket storage by socket pointer.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use redirect_common::unix::{MAX_PATHS, Name, UnixRules};
use redirect_common::{
    AllowedKey, COUNT_KINDS, ConnectRecord, DatagramKey, EVENT_BYTES, EXECS_BYTES, ExecEvent,
    FlowKey, Lineage, Listener, MAX_ALLOWED, MAX_DATAGRAMS, MAX_ENROLLED, MAX_FLOWS, MAX_LISTENERS,
    MAX_PROCESSES, ProcessId, ProcessRecord, Senders,
};

/// cgroup id to mode.
#[map]
pub static ENROLLED: HashMap<u64, u32> = HashMap::with_max_entries(MAX_ENROLLED, 0);

/// Network namespace cookie to the daemon's ports.
#[map]
pub static LISTENERS: HashMap<u64, Listener> = HashMap::with_max_entries(MAX_LISTENERS, 0);

/// Records on their way from the agent's socket to the accepted one.
#[map]
pub static FLOWS: HashMap<FlowKey, ConnectRecord> = HashMap::with_max_entries(MAX_FLOWS, 0);

/// The record of the agent's socket, and of the accepted one.
#[btf_map]
pub static CONNECTS: SkStorage<ConnectRecord> = SkStorage::new();

/// Who sends DNS datagrams from where.
#[map]
pub static DATAGRAMS: HashMap<DatagramKey, ConnectRecord> =
    HashMap::with_max_entries(MAX_DATAGRAMS, 0);

/// What a socket has put there.
#[btf_map]
pub static SENDERS: SkStorage<Senders> = SkStorage::new();

/// Datagrams that the daemon lets out.
#[map]
pub static DATAGRAMS_ALLOWED: HashMap<AllowedKey, u32> = HashMap::with_max_entries(MAX_ALLOWED, 0);

/// What the daemon is told.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);

/// What found no room there.
#[map]
pub static DROPPED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// Processes of agents.
#[map]
pub static PROCESSES: HashMap<ProcessId, Lineage> = HashMap::with_max_entries(MAX_PROCESSES, 0);

/// Their execs.
#[map]
pub static EXECS: RingBuf = RingBuf::with_byte_size(EXECS_BYTES, 0);

/// How many found no room in those two, and what became of connections.
#[map]
pub static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNT_KINDS, 0);

/// Whether any process of an agent was missed.
#[map]
pub static MISSED: Array<u32> = Array::with_max_entries(1, 0);

/// Where an exec's event is put together: it is larger than the stack. Only one run of one program
/// at a time uses a CPU's.
#[map]
pub static EXEC_DRAFT: PerCpuArray<ExecEvent> = PerCpuArray::with_max_entries(1, 0);

/// Where the self-test leaves its answer.
#[map]
pub static SELF: Array<ProcessRecord> = Array::with_max_entries(1, 0);

/// Sockets of AF_UNIX that agents may connect to.
#[map]
pub static UNIX_PATHS: HashMap<Name, u32> = HashMap::with_max_entries(MAX_PATHS, 0);

/// How agents are held there.
#[map]
pub static UNIX_RULES: Array<UnixRules> = Array::with_max_entries(1, 0);

/// Counts one more of a kind.
#[inline(always)]
pub fn count(kind: u32) {
    if let Some(count) = COUNTS.get_ptr_mut(kind) {
        // SAFETY: this CPU's own value.
        unsafe { *count += 1 };
    }
}

/// The daemon's ports in a network namespace.
#[inline(always)]
pub fn listener(netns_cookie: u64) -> Option<Listener> {
    // SAFETY: the value is one word, written whole by the daemon.
    unsafe { LISTENERS.get(netns_cookie) }.copied()
}

/// The record stored with a socket.
#[inline(always)]
pub fn stored(socket: *mut bpf_sock) -> Option<&'static mut ConnectRecord> {
    storage(&raw const CONNECTS, socket, ptr::null(), 0)
}

/// The record stored with a socket, made first (zeroed) if there is none.
#[inline(always)]
pub fn make_stored(socket: *mut bpf_sock) -> Option<&'static mut ConnectRecord> {
    storage(&raw const CONNECTS, socket, ptr::null(), BPF_SK_STORAGE_GET_F_CREATE.into())
}

/// Stores a copy of `record` with a socket that has none.
#[inline(always)]
pub fn store(socket: *mut bpf_sock, record: *const ConnectRecord) -> bool {
    storage(&raw const CONNECTS, socket, record, BPF_SK_STORAGE_GET_F_CREATE.into()).is_some()
}

/// What a socket has put into `DATAGRAMS`.
#[inline(always)]
pub fn senders(socket: *mut bpf_sock) -> Option<&'static mut Senders> {
    storage(&raw const SENDERS, socket, ptr::null(), 0)
}

/// The same, made first (zeroed) if there is nothing.
#[inline(always)]
pub fn make_senders(socket: *mut bpf_sock) -> Option<&'static mut Senders> {
    storage(&raw const SENDERS, socket, ptr::null(), BPF_SK_STORAGE_GET_F_CREATE.into())
}

#[inline(always)]
fn storage<T>(
    map: *const SkStorage<T>,
    socket: *mut bpf_sock,
    initial: *const T,
    flags: u64,
) -> Option<&'static mut T> {
    if socket.is_null() {
        return None;
    }
    let map = map.cast_mut().cast::<c_void>();
    let initial = initial.cast_mut().cast();
    // SAFETY: the verifier knows `socket` as a socket of the context and `initial` as null or a
    // map's value; the storage lives as long as the socket, which outlives the program's run.
    unsafe { bpf_sk_storage_get(map, socket.cast(), initial, flags).cast::<T>().as_mut() }
}
