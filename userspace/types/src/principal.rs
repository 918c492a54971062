//! Who acts: the kernel-proven process, the enrolled agent, the person behind it.

use std::sync::Arc;

use crate::id::{AgentName, CgroupId};
use crate::identity::Identity;

/// A process for all time on one boot: a pid alone is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Thread group id, in the initial pid namespace.
    pub tgid: u32,
    /// The group leader's start, nanoseconds since boot (`task_struct.start_boottime`).
    pub start_ns: u64,
}

/// An inode as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    /// `super_block.s_dev`, the kernel's encoding: major << 20 | minor.
    pub dev: u32,
    /// Inode number.
    pub ino: u64,
}

/// The process that called `connect()`, as the kernel recorded it at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its identity.
    pub key: ProcessKey,
    /// Whom it descends from, what it was started as and what holds it back.
    pub provenance: Provenance,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The cgroup it was in.
    pub cgroup: CgroupId,
    /// Its executable, where the kernel could read it.
    pub exe: Option<Inode>,
    /// The executable's path; best effort from user space, absent where the process had gone.
    pub exe_path: Option<Arc<str>>,
    /// SHA-256 of the executable; best effort as above.
    pub exe_sha256: Option<[u8; 32]>,
    /// The task's name: up to 15 characters that the process itself chooses; never an identity.
    pub comm: Arc<str>,
}

impl Process {
    /// A process that nobody saw: of a past that is gone through again, or of a case. Only as whom it runs is said.
    pub fn unseen(uid: u32) -> Self {
        Self {
            key: ProcessKey { tgid: 0, start_ns: 0 },
            provenance: Provenance::default(),
            uid,
            gid: 0,
            cgroup: CgroupId(0),
            exe: None,
            exe_path: None,
            exe_sha256: None,
            comm: "".into(),
        }
    }

    /// The process that forked it; it may have ended since.
    pub fn parent(&self) -> Option<ProcessKey> {
        self.provenance.ancestors.first().copied()
    }
}

/// Ancestors kept of one process: launcher, shell, agent, its tool, a shell's pipe and the two
/// forks of a daemon are seven.
pub const ANCESTORS_MAX: usize = 8;

/// What the kernel knows of a process beyond its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Ancestors as they were at each fork, nearest first, at most [`ANCESTORS_MAX`]: a double
    /// fork, setsid(2) or the end of a parent changes nothing here.
    pub ancestors: Arc<[ProcessKey]>,
    /// Whether the kernel saw every fork since the agent was started and all ancestors are here.
    /// Otherwise they are the parents as they stood at the connect, and may be adopters.
    pub whole: bool,
    /// Which exec gave it its program; none if none was seen.
    pub image: Option<ImageKey>,
    /// What it was started with, secrets replaced; absent where that is not known.
    pub command_line: Option<Arc<str>>,
    /// Its container's id or name, by its cgroup's path.
    pub container: Option<Arc<str>>,
    /// What held it back.
    pub confinement: Option<Confinement>,
    /// Who logged in, as the audit system keeps it; none on kernels without.
    pub login: Option<Login>,
}

/// One exec: what a process runs until the next, and what its forks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageKey {
    /// Thread group id of the process that called it.
    pub tgid: u32,
    /// When, nanoseconds since boot.
    pub at_ns: u64,
}

/// What the audit system keeps of a login; 4294967295 stands for unset (`/proc/PID/loginuid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user id at login; it stays through setuid(2), su and sudo.
    pub uid: u32,
    /// The audit session.
    pub session: u32,
}

/// What holds a process back, as the kernel saw it when it called `connect()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Effective user id, in the initial user namespace.
    pub euid: u32,
    /// Effective capabilities, bit N for capability N (capabilities(7)).
    pub effective_capabilities: u64,
    /// Whether it can gain no privileges by exec (prctl(2) `PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// Whether a seccomp filter is on it (seccomp(2) `SECCOMP_MODE_FILTER`).
    pub seccomp_filter: bool,
}

/// How well the agent is held (KERNEL.md §0.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// Redirected by cgroup hooks only: what stands today.
    A0,
    /// Cgroup hooks, seccomp, no privileges.
    A1,
    /// A1 and the BPF LSM set.
    A2,
}

impl Assurance {
    /// The name in records and on the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A0 => "A0",
            Self::A1 => "A1",
            Self::A2 => "A2",
        }
    }
}

/// Who asks: what policy decides about and every record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The agent whose process connected.
    pub agent: AgentName,
    /// Which start of that agent: unique per `vestibule run`.
    pub instance: Arc<str>,
    /// Agents from the outermost to this one, this one included.
    pub chain: Arc<[AgentName]>,
    /// The person behind it, once a token says so, and who acts between that person and the agents.
    pub identity: Arc<Identity>,
    /// The connecting process.
    pub process: Process,
    /// How well it is held.
    pub assurance: Assurance,
}
