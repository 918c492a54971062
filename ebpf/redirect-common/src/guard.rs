//! What the BPF LSM programs and the daemon share.
//!
//! The programs hold agents that run as root: they refuse what a capability set, a user id or a
//! cgroup hook can't. They say nothing to tasks outside the agents' cgroups.

/// An inode, as the kernel names it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct InodeKey {
    /// Inode number; 0 for "any of this file system".
    pub ino: u64,
    /// `super_block.s_dev`, major << 20 | minor.
    pub dev: u32,
    /// Zero.
    pub pad: u32,
}

/// The cgroup under which agents run. `level` is its depth, the root's being 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentsRoot {
    /// Its id.
    pub id: u64,
    /// Its depth.
    pub level: u32,
    /// Zero.
    pub pad: u32,
}

/// Inodes that the kernel saw one thread open.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Whose: process id << 32 | thread id, in the initial pid namespace.
    pub thread: u64,
    /// How many, may be more than there is room for.
    pub count: u32,
    /// The depth of the thread's cgroup.
    pub level: u32,
    /// Which; a file of a stacked file system is several.
    pub inodes: [InodeKey; LEARNED_MAX],
}

/// File systems stack two deep (`FILESYSTEM_MAX_STACK_DEPTH`): three inodes, and one to spare.
pub const LEARNED_MAX: usize = 4;

/// What was refused, and to which agent: the key of a count.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RefusalKey {
    /// Nearest enrolled cgroup of who asked; 0 if there is none.
    pub agent: u64,
    /// A [`Hook`].
    pub hook: u32,
    /// Zero.
    pub pad: u32,
}

/// Value in [`map::PROTECTED`]: the entry itself may not be moved or removed. For the directories
/// above a protected one.
pub const FIXED: u32 = 1;
/// Value in [`map::PROTECTED`]: nothing may be changed in it and below.
pub const READ_ONLY: u32 = 2;
/// Value in [`map::PROTECTED`]: nothing may be opened or changed in it and below.
pub const HIDDEN: u32 = 3;

/// Names of maps, as in the object file and the pin directory.
pub mod map {
    /// Hash, [`InodeKey`](super::InodeKey) to [`FIXED`](super::FIXED),
    /// [`READ_ONLY`](super::READ_ONLY) or [`HIDDEN`](super::HIDDEN).
    pub const PROTECTED: &str = "PROTECTED";
    /// Hash, [`InodeKey`](super::InodeKey) of a socket that agents may connect to, to 1.
    pub const UNIX_ALLOWED: &str = "UNIX_ALLOWED";
    /// Array of one word: bit N is set if a cgroup of depth N outside the slice is enrolled.
    pub const LEVELS: &str = "LEVELS";
    /// Array of one [`Learned`](super::Learned); never pinned.
    pub const LEARNED: &str = "LEARNED";
    /// Hash, [`RefusalKey`](super::RefusalKey) to how often (u64).
    pub const REFUSALS: &str = "REFUSALS";
}

/// Protected inodes at most: a path of ten levels is ten entries. 24 + 64 bytes each: 0.4 MiB.
pub const MAX_PROTECTED: u32 = 4096;
/// Sockets allowed at most.
pub const MAX_UNIX_ALLOWED: u32 = 256;
/// Counts of refusals at most: 4,096 agents of four kinds each. 24 + 64 bytes each: 1.4 MiB.
/// Full: still refused, not counted.
pub const MAX_REFUSALS: u32 = 16_384;
/// Directories above a file that are looked at. What lies deeper is taken for hidden, on file
/// systems that have anything protected.
pub const MAX_DEPTH: u32 = 64;

macro_rules! hooks {
    ($($hook:ident = $name:literal,)*) => {
        /// The LSM hooks that refuse.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        #[expect(missing_docs, reason = "each is the kernel's hook of that name")]
        pub enum Hook { $($hook,)* }

        impl Hook {
            /// Names, by number.
            pub const NAMES: &[&str] = &[$($name,)*];
        }
    };
}

hooks! {
    Capable = "capable",
    Bpf = "bpf",
    PerfEventOpen = "perf_event_open",
    SbMount = "sb_mount",
    SbUmount = "sb_umount",
    SbRemount = "sb_remount",
    SbPivotroot = "sb_pivotroot",
    MoveMount = "move_mount",
    UsernsCreate = "userns_create",
    UringSqpoll = "uring_sqpoll",
    TunDevCreate = "tun_dev_create",
    KernelReadFile = "kernel_read_file",
    KernelLoadData = "kernel_load_data",
    KernelModuleRequest = "kernel_module_request",
    Settime = "settime",
    Quotactl = "quotactl",
    QuotaOn = "quota_on",
    TaskKill = "task_kill",
    TaskSetnice = "task_setnice",
    TaskSetioprio = "task_setioprio",
    TaskSetscheduler = "task_setscheduler",
    TaskSetrlimit = "task_setrlimit",
    TaskMovememory = "task_movememory",
    PtraceAccessCheck = "ptrace_access_check",
    SocketCreate = "socket_create",
    SocketBind = "socket_bind",
    SocketConnect = "socket_connect",
    SocketSendmsg = "socket_sendmsg",
    SocketRecvmsg = "socket_recvmsg",
    UnixStreamConnect = "unix_stream_connect",
    UnixMaySend = "unix_may_send",
    FileOpen = "file_open",
    FilePermission = "file_permission",
    FileReceive = "file_receive",
    FileIoctl = "file_ioctl",
    FileIoctlCompat = "file_ioctl_compat",
    FileFcntl = "file_fcntl",
    InodePermission = "inode_permission",
    InodeCreate = "inode_create",
    InodeUnlink = "inode_unlink",
    InodeLink = "inode_link",
    InodeSymlink = "inode_symlink",
    InodeMkdir = "inode_mkdir",
    InodeRmdir = "inode_rmdir",
    InodeMknod = "inode_mknod",
    InodeRename = "inode_rename",
    InodeSetattr = "inode_setattr",
    InodeSetxattr = "inode_setxattr",
    InodeRemovexattr = "inode_removexattr",
    InodeSetAcl = "inode_set_acl",
    InodeRemoveAcl = "inode_remove_acl",
    InodeFileSetattr = "inode_file_setattr",
}

/// Byte offsets of kernel structure members, as in [`Offsets`](crate::Offsets).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardOffsets {
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `task_struct.pid_links`
    pub task_pid_links: u32,
    /// `css_set.dfl_cgrp`
    pub css_set_dfl_cgrp: u32,
    /// `cgroup.level`
    pub cgroup_level: u32,
    /// `cgroup.ancestors`
    pub cgroup_ancestors: u32,
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `kernfs_node.id`
    pub kernfs_node_id: u32,
    /// `proc_inode.pid`
    pub proc_inode_pid: u32,
    /// `proc_inode.vfs_inode`
    pub proc_inode_vfs_inode: u32,
    /// `pid.tasks`
    pub pid_tasks: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `sock.__sk_common.skc_family`
    pub sock_family: u32,
    /// `sock.sk_cgrp_data.cgroup`
    pub sock_cgroup: u32,
    /// `unix_sock.path.dentry`
    pub unix_sock_dentry: u32,
    /// `dentry.d_parent`
    pub dentry_d_parent: u32,
    /// `dentry.d_inode`
    pub dentry_d_inode: u32,
    /// `dentry.d_sb`
    pub dentry_d_sb: u32,
    /// `dentry.d_name.name`
    pub dentry_name: u32,
    /// `super_block.s_root`
    pub super_block_s_root: u32,
    /// `super_block.s_magic`
    pub super_block_s_magic: u32,
    /// `super_block.s_dev`
    pub super_block_s_dev: u32,
    /// `inode.i_mode`
    pub inode_i_mode: u32,
    /// `inode.i_rdev`
    pub inode_i_rdev: u32,
    /// `inode.i_ino`
    pub inode_i_ino: u32,
    /// `inode.i_sb`
    pub inode_i_sb: u32,
    /// `file.f_mode`
    pub file_f_mode: u32,
    /// `file.f_inode`
    pub file_f_inode: u32,
    /// `file.f_path.dentry`
    pub file_dentry: u32,
    /// `file.private_data`
    pub file_private_data: u32,
    /// Zero.
    pub pad: u32,
}

/// What of this the pinned maps depend on, for [`ABI`](crate::ABI).
pub(crate) const LAYOUT: u64 = (size_of::<InodeKey>() + size_of::<RefusalKey>()) as u64
    + MAX_PROTECTED as u64
    + MAX_UNIX_ALLOWED as u64
    + MAX_REFUSALS as u64
    + Hook::NAMES.len() as u64;

const _: () = assert!(size_of::<InodeKey>() == 16);
const _: () = assert!(size_of::<AgentsRoot>() == 16);
const _: () = assert!(size_of::<Learned>() == 16 + 16 * LEARNED_MAX);
const _: () = assert!(size_of::<RefusalKey>() == 16);
const _: () = assert!(size_of::<GuardOffsets>() == 120);

#[cfg(feature = "user")]
mod user {
    use super::{AgentsRoot, GuardOffsets, InodeKey, Learned, RefusalKey};

    // SAFETY: integers only, no implicit padding (the sizes asserted are the sums of the fields).
    unsafe impl aya::Pod for InodeKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for AgentsRoot {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Learned {}
    // SAFETY: as above.
    unsafe impl aya::Pod for RefusalKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for GuardOffsets {}
}
