//! What the kernel programs and the daemon share: record layouts, map names, limits.
//!
//! Layout is the contract: every type is `repr(C)`, pads explicitly and has its size asserted. It
//! does not hold logic. [`ABI`] changes with any of it, and names the pin directory, so that a
//! daemon never reads maps of another layout.
#![no_std]
#![cfg_attr(feature = "user", expect(unsafe_code, reason = "aya's Pod is an unsafe marker trait"))]

pub mod tap;

/// `AF_INET`, as in `ConnectRecord::family`.
pub const AF_INET: u32 = 2;
/// `AF_INET6`, as in `ConnectRecord::family`.
pub const AF_INET6: u32 = 10;

/// What one `connect()` was: where to, and by whom. Addresses are four 32-bit words in network
/// byte order, an IPv4 address in the first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectRecord {
    /// The agent-side socket's cookie.
    pub socket_cookie: u64,
    /// Its network namespace's cookie.
    pub netns_cookie: u64,
    /// Nearest enrolled cgroup at or above `process.cgroup`.
    pub enrolled: u64,
    /// `CLOCK_BOOTTIME` of the call, nanoseconds.
    pub at_ns: u64,
    /// Where to, as the caller said.
    pub address: [u32; 4],
    /// Address family of `address`.
    pub family: u32,
    /// Port, host order.
    pub port: u16,
    /// Zero.
    pub pad: u16,
    /// Who called.
    pub process: ProcessRecord,
}

/// A process as the kernel sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// The cgroup v2 it is in.
    pub cgroup: u64,
    /// `group_leader->start_boottime`, nanoseconds.
    pub start_ns: u64,
    /// The same of its parent; 0 if unknown.
    pub parent_start_ns: u64,
    /// Inode number of the executable; 0 if it has none.
    pub exe_ino: u64,
    /// `s_dev` of the executable's file system, major << 20 | minor.
    pub exe_dev: u32,
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// The parent's; 0 if unknown.
    pub parent_tgid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Real group id, likewise.
    pub gid: u32,
    /// Zero.
    pub pad: u32,
    /// The group leader's name, ended by NUL; chosen by the process.
    pub comm: [u8; 16],
}

/// A connection between agent and listener, as both ends' sockets name it. Addresses as in
/// [`ConnectRecord`]; IPv4-mapped IPv6 addresses appear as IPv4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// Network namespace.
    pub netns_cookie: u64,
    /// The agent's address.
    pub client: [u32; 4],
    /// The listener's address.
    pub server: [u32; 4],
    /// The agent's port, host order.
    pub client_port: u16,
    /// The listener's port, host order.
    pub server_port: u16,
    /// Zero.
    pub pad: u32,
}

/// The daemon's ports on loopback of one network namespace, host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Where TCP connections go.
    pub tcp: u16,
    /// Where DNS datagrams go; 0: nowhere, they are refused.
    pub dns: u16,
}

/// Who sends datagrams to the daemon: a client's address in a network namespace. Address as in
/// [`ConnectRecord`]; IPv4-mapped IPv6 addresses appear as IPv4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramKey {
    /// Network namespace.
    pub netns_cookie: u64,
    /// The client's address.
    pub address: [u32; 4],
    /// The client's port, host order.
    pub port: u16,
    /// Zero.
    pub pad: [u16; 3],
}

/// Something that the programs want known. What it says is no input to any decision of theirs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelEvent {
    /// One of [`event`].
    pub kind: u32,
    /// For a refusal: why (`ebpf/README.md`).
    pub reason: u32,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub at_ns: u64,
    /// Nearest enrolled cgroup, or the caller's own where none is; 0 if unknown.
    pub cgroup: u64,
    /// Network namespace of the socket.
    pub netns_cookie: u64,
    /// The agent-side socket's cookie.
    pub socket_cookie: u64,
    /// Bytes of payload that the peer acknowledged, at a flow's end.
    pub bytes_sent: u64,
    /// Bytes of payload received, at a flow's end.
    pub bytes_received: u64,
    /// Where to, as the caller said, as in [`ConnectRecord`].
    pub address: [u32; 4],
    /// Address family of `address`; 0 if there is no address.
    pub family: u32,
    /// Thread group id of the caller; 0 if unknown.
    pub tgid: u32,
    /// Port, host order.
    pub port: u16,
    /// IP protocol.
    pub protocol: u16,
    /// Zero.
    pub pad: u32,
}

/// Kinds of [`KernelEvent`].
pub mod event {
    /// A call was refused.
    pub const REFUSED: u32 = 1;
    /// A connect was refused because the daemon does not listen in its network namespace.
    pub const UNKNOWN_NETNS: u32 = 2;
    /// An agent's socket that had been redirected was closed.
    pub const FLOW_END: u32 = 3;
}

/// Byte offsets of kernel structure members, found in the running kernel's BTF and put into the
/// programs' `.rodata` before they load.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.real_parent`
    pub task_real_parent: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `mm_struct.exe_file`
    pub mm_exe_file: u32,
    /// `file.f_inode`
    pub file_f_inode: u32,
    /// `inode.i_ino`
    pub inode_i_ino: u32,
    /// `inode.i_sb`
    pub inode_i_sb: u32,
    /// `super_block.s_dev`
    pub super_block_s_dev: u32,
    /// Zero.
    pub pad: u32,
}

/// Value in [`map::ENROLLED`]: connections go to the proxy.
pub const MODE_ENFORCE: u32 = 1;
/// Value in [`map::ENROLLED`]: connections are refused.
pub const MODE_REVOKED: u32 = 2;

/// Names of maps, as in the object file and the pin directory.
pub mod map {
    /// Hash, cgroup id (u64) to mode (u32).
    pub const ENROLLED: &str = "ENROLLED";
    /// Hash, network namespace cookie (u64) to [`Listener`](crate::Listener).
    pub const LISTENERS: &str = "LISTENERS";
    /// Hash, [`FlowKey`](crate::FlowKey) to [`ConnectRecord`](crate::ConnectRecord).
    pub const FLOWS: &str = "FLOWS";
    /// Socket storage of a [`ConnectRecord`](crate::ConnectRecord).
    pub const CONNECTS: &str = "CONNECTS";
    /// Hash, [`DatagramKey`](crate::DatagramKey) to [`ConnectRecord`](crate::ConnectRecord).
    pub const DATAGRAMS: &str = "DATAGRAMS";
    /// Ring of [`KernelEvent`](crate::KernelEvent)s; pinned, so that what happens while no daemon
    /// runs is told to the next one.
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU array of one u64: events that found the ring full.
    pub const DROPPED: &str = "DROPPED";
    /// Array of one [`ProcessRecord`](crate::ProcessRecord): the offsets' self-test; never pinned.
    pub const SELF: &str = "SELF";
}

/// Enrolled cgroups at most: 4,096 agents a host, 12 bytes each and the hash's 64: 0.3 MiB.
pub const MAX_ENROLLED: u32 = 4096;
/// Network namespaces with a listener at most.
pub const MAX_LISTENERS: u32 = 1024;
/// Connections between SYN and the listener's side being established at most. An entry lives for
/// one loopback handshake, so even 10,000 connects a second of 1 ms each hold ten; what fills the
/// map is a listener whose backlog is full. (48 + 136 + 64 bytes) x 16,384 = 4 MiB. Full: no
/// entry, hence no record at the proxy, which drops the connection.
pub const MAX_FLOWS: u32 = 16_384;
/// Client ports that DNS datagrams come from at most; one lives as long as its socket. (32 + 136 +
/// 64 bytes) x 16,384 = 3.6 MiB. Full: the datagram is refused.
pub const MAX_DATAGRAMS: u32 = 16_384;
/// Bytes of the ring of events: 96 each with the ring's header, so 10,922 of them between two looks.
pub const EVENT_BYTES: u32 = 1 << 20;
/// cgroup levels looked at. A process deeper than this is refused, lest depth hide the nearest
/// enrolled ancestor.
pub const MAX_CGROUP_LEVEL: i32 = 24;

/// Hash of the layouts above and the meaning given to them.
pub const ABI: u64 = fnv1a(&[
    size_of::<ConnectRecord>() as u64,
    core::mem::offset_of!(ConnectRecord, address) as u64,
    core::mem::offset_of!(ConnectRecord, family) as u64,
    core::mem::offset_of!(ConnectRecord, port) as u64,
    core::mem::offset_of!(ConnectRecord, process) as u64,
    core::mem::offset_of!(ProcessRecord, exe_dev) as u64,
    core::mem::offset_of!(ProcessRecord, comm) as u64,
    size_of::<FlowKey>() as u64,
    size_of::<Listener>() as u64,
    size_of::<DatagramKey>() as u64,
    size_of::<KernelEvent>() as u64,
    MAX_DATAGRAMS as u64,
    EVENT_BYTES as u64,
    MAX_ENROLLED as u64,
    MAX_LISTENERS as u64,
    MAX_FLOWS as u64,
    REVISION,
]);

/// Raised by hand when the meaning of a field changes and its place does not.
const REVISION: u64 = 2;

const _: () = assert!(size_of::<ProcessRecord>() == 72);
const _: () = assert!(size_of::<ConnectRecord>() == 128);
const _: () = assert!(size_of::<FlowKey>() == 48);
const _: () = assert!(size_of::<Listener>() == 4);
const _: () = assert!(size_of::<DatagramKey>() == 32);
const _: () = assert!(size_of::<KernelEvent>() == 88);
const _: () = assert!(size_of::<Offsets>() == 48);

/// FNV-1a, 64 bits, over little-endian words.
const fn fnv1a(words: &[u64]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < words.len() {
        let bytes = words[at].to_le_bytes();
        let mut byte = 0;
        while byte < bytes.len() {
            hash = (hash ^ bytes[byte] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            byte += 1;
        }
        at += 1;
    }
    hash
}

#[cfg(feature = "user")]
mod user {
    use super::{
        ConnectRecord, DatagramKey, FlowKey, KernelEvent, Listener, Offsets, ProcessRecord,
    };

    // SAFETY: integers only, no implicit padding (the sizes asserted are the sums of the fields).
    unsafe impl aya::Pod for ConnectRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProcessRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Listener {}
    // SAFETY: as above.
    unsafe impl aya::Pod for DatagramKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for KernelEvent {}
}
