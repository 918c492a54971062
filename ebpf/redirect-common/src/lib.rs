//! What the kernel programs and the daemon share: record layouts, map names, limits.
//!
//! Layout is the contract: every type is `repr(C)`, pads explicitly and has its size asserted. It
//! does not hold logic. [`ABI`] changes with any of it, and names the pin directory, so that a
//! daemon never reads maps of another layout.
#![no_std]
#![cfg_attr(feature = "user", expect(unsafe_code, reason = "aya's Pod is an unsafe marker trait"))]

pub mod guard;
pub mod tap;
pub mod unix;

/// `AF_INET`, as in `ConnectRecord::family`.
pub const AF_INET: u32 = 2;
/// `AF_INET6`, as in `ConnectRecord::family`.
pub const AF_INET6: u32 = 10;
/// `IPPROTO_TCP`, as in `ConnectRecord::protocol`.
pub const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_UDP`, as in `ConnectRecord::protocol`.
pub const IPPROTO_UDP: u16 = 17;

/// What one `connect()`, or a datagram sent without one, was: where to, and by whom. Addresses are four 32-bit words in network
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
    /// Protocol of the socket: [`IPPROTO_TCP`] or [`IPPROTO_UDP`].
    pub protocol: u16,
    /// Who called.
    pub process: ProcessRecord,
}

/// A process for all time on one boot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessId {
    /// `group_leader->start_boottime`, nanoseconds.
    pub start_ns: u64,
    /// Thread group id in the initial pid namespace; 0 stands for no process.
    pub tgid: u32,
    /// Zero.
    pub pad: u32,
}

/// Ancestors kept of a process (`types::principal::ANCESTORS_MAX`).
pub const MAX_ANCESTORS: usize = 8;

/// A process as the kernel sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// The cgroup v2 it is in.
    pub cgroup: u64,
    /// `group_leader->start_boottime`, nanoseconds.
    pub start_ns: u64,
    /// Inode number of the executable; 0 if it has none.
    pub exe_ino: u64,
    /// When the exec was that gave it its program, `CLOCK_BOOTTIME`; 0 if none was seen.
    pub image_ns: u64,
    /// The calling task's effective capabilities.
    pub cap_effective: u64,
    /// Ancestors, nearest first: as they were at each fork with [`LINEAGE_SEEN`], else as they are.
    pub ancestors: [ProcessId; MAX_ANCESTORS],
    /// `s_dev` of the executable's file system, major << 20 | minor.
    pub exe_dev: u32,
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Who called that exec.
    pub image_tgid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Real group id, likewise.
    pub gid: u32,
    /// The calling task's effective user id, likewise.
    pub euid: u32,
    /// The audit system's login user id; valid with [`PROCESS_LOGIN`].
    pub loginuid: u32,
    /// The audit system's session id; valid with [`PROCESS_LOGIN`].
    pub sessionid: u32,
    /// The calling task's `seccomp.mode` (seccomp(2)): 0 on kernels without.
    pub seccomp: u32,
    /// [`LINEAGE_SEEN`], [`LINEAGE_WHOLE`], [`PROCESS_NO_NEW_PRIVS`], [`PROCESS_LOGIN`].
    pub flags: u32,
    /// The group leader's name, ended by NUL; chosen by the process.
    pub comm: [u8; 16],
}

/// Its fork, or the exec by which it came into an agent's cgroup, was seen.
pub const LINEAGE_SEEN: u32 = 1;
/// So were those of all its ancestors since the agent was started.
pub const LINEAGE_WHOLE: u32 = 2;
/// The calling task has no_new_privs set (prctl(2)).
pub const PROCESS_NO_NEW_PRIVS: u32 = 4;
/// This kernel keeps logins.
pub const PROCESS_LOGIN: u32 = 8;

/// What is kept of a process from its fork, or its exec into an agent's cgroup, to its end.
///
/// It holds all it needs of its ancestors: theirs end with them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Ancestors, nearest first, each as it was at the fork.
    pub ancestors: [ProcessId; MAX_ANCESTORS],
    /// The nearest enrolled cgroup at its exec, or its parent's at the fork.
    pub enrolled: u64,
    /// When it was forked, or came into an agent's cgroup; `CLOCK_BOOTTIME`.
    pub at_ns: u64,
    /// As in [`ProcessRecord`].
    pub image_ns: u64,
    /// As in [`ProcessRecord`].
    pub exe_ino: u64,
    /// As in [`ProcessRecord`].
    pub exe_dev: u32,
    /// As in [`ProcessRecord`].
    pub image_tgid: u32,
    /// Real user id at that time.
    pub uid: u32,
    /// [`LINEAGE_WHOLE`] or 0.
    pub flags: u32,
    /// Forks since the agent was started; whole ancestors are no more than [`MAX_ANCESTORS`].
    pub depth: u32,
    /// Zero.
    pub pad: u32,
}

/// Bytes of a path given to execve(2) that an [`ExecEvent`] takes, NUL included.
pub const EXEC_PATH_BYTES: usize = 256;
/// Bytes of arguments that an [`ExecEvent`] takes: a page.
pub const EXEC_ARGUMENT_BYTES: usize = 4096;

/// An exec in an enrolled cgroup; in the ring without what `arguments` does not use.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecEvent {
    /// Who.
    pub process: ProcessId,
    /// When, `CLOCK_BOOTTIME`; with the thread group id it names the image.
    pub at_ns: u64,
    /// The nearest enrolled cgroup; 0 for a descendant that left.
    pub enrolled: u64,
    /// As in [`ProcessRecord`].
    pub exe_ino: u64,
    /// As in [`ProcessRecord`].
    pub exe_dev: u32,
    /// Real user id.
    pub uid: u32,
    /// Bytes of all arguments, each ended by NUL; more than `arguments` has room for are cut.
    pub argument_bytes: u32,
    /// Bytes in `arguments`; 0 too where they could not be read.
    pub arguments_kept: u32,
    /// The path as given to execve(2), ended by NUL.
    pub path: [u8; EXEC_PATH_BYTES],
    /// Arguments, each ended by NUL.
    pub arguments: [u8; EXEC_ARGUMENT_BYTES],
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

/// Where agents of an enrolled cgroup may send datagrams, past the daemon. Address as in
/// [`ConnectRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllowedKey {
    /// The enrolled cgroup.
    pub enrolled: u64,
    /// The address.
    pub address: [u32; 4],
    /// Address family of `address`.
    pub family: u32,
    /// The port, host order.
    pub port: u16,
    /// Zero.
    pub pad: u16,
}

/// The entries of [`map::DATAGRAMS`] that a socket has made, one a family; zeros for none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// By datagrams of IPv4.
    pub v4: DatagramKey,
    /// By datagrams of IPv6.
    pub v6: DatagramKey,
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
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `cred.euid`
    pub cred_euid: u32,
    /// `cred.cap_effective`
    pub cred_cap_effective: u32,
    /// `task_struct.atomic_flags`
    pub task_atomic_flags: u32,
    /// `task_struct.seccomp.mode`, or [`NO_MEMBER`]
    pub task_seccomp_mode: u32,
    /// `task_struct.loginuid`, or [`NO_MEMBER`]
    pub task_loginuid: u32,
    /// `task_struct.sessionid`, or [`NO_MEMBER`]
    pub task_sessionid: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `signal_struct.live`
    pub signal_live: u32,
    /// `mm_struct.arg_start`
    pub mm_arg_start: u32,
    /// `mm_struct.arg_end`
    pub mm_arg_end: u32,
    /// `linux_binprm.filename`
    pub binprm_filename: u32,
    /// Zero.
    pub pad: u32,
}

/// In [`Offsets`]: this kernel is built without.
pub const NO_MEMBER: u32 = u32::MAX;

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
    /// Socket storage of [`Senders`](crate::Senders).
    pub const SENDERS: &str = "SENDERS";
    /// Hash, [`AllowedKey`](crate::AllowedKey) to 1 (u32).
    pub const ALLOWED: &str = "DATAGRAMS_ALLOWED";
    /// Ring of [`KernelEvent`](crate::KernelEvent)s; pinned, so that what happens while no daemon
    /// runs is told to the next one.
    pub const EVENTS: &str = "EVENTS";
    /// Per-CPU array of one u64: events that found the ring full.
    pub const DROPPED: &str = "DROPPED";
    /// Hash, [`ProcessId`](crate::ProcessId) to [`Lineage`](crate::Lineage).
    pub const PROCESSES: &str = "PROCESSES";
    /// Ring buffer of [`ExecEvent`](crate::ExecEvent).
    pub const EXECS: &str = "EXECS";
    /// Per-CPU array of counts (u64), by [`LOST_PROCESS`](crate::LOST_PROCESS) and what follows it.
    pub const COUNTS: &str = "COUNTS";
    /// Array of one u32: 1 once a process of an agent was not followed.
    pub const MISSED: &str = "MISSED";
    /// Array of one [`ProcessRecord`](crate::ProcessRecord): the offsets' self-test; never pinned.
    pub const SELF: &str = "SELF";
}

/// Enrolled cgroups at most: 4,096 agents a host, 12 bytes each and the hash's 64: 0.3 MiB.
pub const MAX_ENROLLED: u32 = 4096;
/// Network namespaces with a listener at most.
pub const MAX_LISTENERS: u32 = 1024;
/// Connections between SYN and the listener's side being established at most. An entry lives for
/// one loopback handshake, so even 10,000 connects a second of 1 ms each hold ten; what fills the
/// map is a listener whose backlog is full. (48 + 280 + 64 bytes) x 16,384 = 6 MiB. Full: no
/// entry, hence no record at the proxy, which drops the connection.
pub const MAX_FLOWS: u32 = 16_384;
/// Client ports that DNS datagrams come from at most; one lives as long as its socket. (32 + 280 +
/// 64 bytes) x 16,384 = 6 MiB. Full: the datagram is refused.
pub const MAX_DATAGRAMS: u32 = 16_384;
/// Destinations of datagrams that are allowed at most, over all agents: (32 + 4 + 64 bytes) x
/// 4,096 = 0.4 MiB.
pub const MAX_ALLOWED: u32 = 4096;
/// Bytes of the ring of events: 96 each with the ring's header, so 10,922 of them between two looks;
/// 232 for a refusal of AF_UNIX.
pub const EVENT_BYTES: u32 = 1 << 20;
/// Processes of agents at most: four times Linux's default `pid_max` of small machines, a tenth of
/// that of large ones. (16 + 184 + 64 bytes) x 65,536 = 17 MiB. Full: a new process has no entry;
/// its connections are recorded with the parents as they stand, marked as not whole, and
/// [`LOST_PROCESS`] counts. They are not refused, because whose agent it is comes from its cgroup and is
/// not in doubt, and one agent's forks must not cost the others their connections.
pub const MAX_PROCESSES: u32 = 65_536;
/// Bytes of the ring of execs: it is looked at every 50 ms, and 2,000 execs a second with a whole
/// page of arguments each fill 0.45 MiB in that time. Full: the exec has no command line in the
/// records, and [`LOST_EXEC`] counts.
pub const EXECS_BYTES: u32 = 4 << 20;
/// Index in [`map::COUNTS`]: processes that found [`map::PROCESSES`] full.
pub const LOST_PROCESS: u32 = 0;
/// Index in [`map::COUNTS`]: execs that found [`map::EXECS`] full.
pub const LOST_EXEC: u32 = 1;
/// Index in [`map::COUNTS`]: connections over TCP that agents asked for. Each is one of the following, or on its way.
pub const FLOW_ASKED: u32 = 2;
/// Index in [`map::COUNTS`]: of those, refused at once.
pub const FLOW_REFUSED: u32 = 3;
/// Index in [`map::COUNTS`]: of those, accepted by the proxy with a record of who asked.
pub const FLOW_CARRIED: u32 = 4;
/// Index in [`map::COUNTS`]: of those, ended before the proxy accepted them, or refused there for want of a record.
pub const FLOW_FAILED: u32 = 5;
/// Index in [`map::COUNTS`]: of those, begun without being sent to the proxy.
pub const FLOW_PAST: u32 = 6;
/// Entries of [`map::COUNTS`].
pub const COUNT_KINDS: u32 = 7;
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
    size_of::<Lineage>() as u64,
    size_of::<ExecEvent>() as u64,
    MAX_PROCESSES as u64,
    EXECS_BYTES as u64,
    size_of::<FlowKey>() as u64,
    size_of::<Listener>() as u64,
    size_of::<DatagramKey>() as u64,
    size_of::<KernelEvent>() as u64,
    size_of::<unix::UnixRefusal>() as u64,
    size_of::<AllowedKey>() as u64,
    size_of::<Senders>() as u64,
    MAX_ALLOWED as u64,
    MAX_DATAGRAMS as u64,
    EVENT_BYTES as u64,
    MAX_ENROLLED as u64,
    MAX_LISTENERS as u64,
    MAX_FLOWS as u64,
    guard::LAYOUT,
    REVISION,
]);

/// Raised by hand when the meaning of a field changes and its place does not.
const REVISION: u64 = 4;

const _: () = assert!(size_of::<ProcessId>() == 16);
const _: () = assert!(size_of::<ProcessRecord>() == 224);
const _: () = assert!(size_of::<Lineage>() == 184);
const _: () = assert!(size_of::<ExecEvent>() == 56 + EXEC_PATH_BYTES + EXEC_ARGUMENT_BYTES);
const _: () = assert!(size_of::<ConnectRecord>() == 280);
const _: () = assert!(size_of::<FlowKey>() == 48);
const _: () = assert!(size_of::<Listener>() == 4);
const _: () = assert!(size_of::<DatagramKey>() == 32);
const _: () = assert!(size_of::<AllowedKey>() == 32);
const _: () = assert!(size_of::<Senders>() == 64);
const _: () = assert!(size_of::<KernelEvent>() == 88);
const _: () = assert!(size_of::<Offsets>() == 96);

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
        AllowedKey, ConnectRecord, DatagramKey, FlowKey, KernelEvent, Lineage, Listener, Offsets,
        ProcessId, ProcessRecord, Senders,
    };

    // SAFETY: integers only, no implicit padding (the sizes asserted are the sums of the fields).
    unsafe impl aya::Pod for ConnectRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProcessRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ProcessId {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Lineage {}
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
    // SAFETY: as above.
    unsafe impl aya::Pod for AllowedKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Senders {}
}
