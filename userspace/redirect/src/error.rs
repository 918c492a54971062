//! Why the kernel side could not do as asked.

use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use aya::programs::ProgramError;
use types::id::CgroupId;

/// What failed, and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of cgroupfs, bpffs, procfs or sysfs.
    #[error("{action} {} failed", path.display())]
    File {
        /// What was done to it.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A system call without a path.
    #[error("{call} failed")]
    Call {
        /// Which.
        call: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// No cgroup v2 file system is mounted.
    #[error("no cgroup2 file system is mounted")]
    NoCgroup2,
    /// The name would leave its directory, or can't be taken apart again.
    #[error("{0:?} can't name a cgroup")]
    Name(String),
    /// Another process holds the pin directory.
    #[error("{} is in use by another daemon", .0.display())]
    InUse(PathBuf),
    /// A link pinned here is attached to another slice.
    #[error("the link {} belongs to another slice: disarm it first", .0.display())]
    OtherSlice(PathBuf),
    /// A cgroup with hooks was removed and made anew, without them.
    #[error("{} was removed and made anew, without hooks: they must be armed again", .0.display())]
    Severed(PathBuf),
    /// A pinned map is not the one this version makes.
    #[error("the pinned map {name} has another layout: disarm, then start again")]
    OtherMap {
        /// Which.
        name: &'static str,
    },
    /// The running kernel's BTF can't be read.
    #[error("the kernel's BTF is malformed at byte {0}")]
    Btf(usize),
    /// The running kernel's BTF has no such member.
    #[error("the kernel's BTF has no {0}")]
    NoMember(&'static str),
    /// The programs read something else from the kernel than procfs says.
    #[error("the kernel's {0} is read wrong: its structures are not as its BTF says")]
    SelfTest(&'static str),
    /// The object file.
    #[error("the kernel programs can't be loaded")]
    Object(#[from] Box<aya::EbpfError>),
    /// The object file lacks something: a fault of the build.
    #[error("the object has no {0}")]
    Missing(&'static str),
    /// The object file's code and maps don't fit: a fault of the build.
    #[error("the object's programs can't be put together: {0}")]
    Relocation(String),
    /// A program that aya can't load.
    #[error("program {name}: {log}")]
    Refused {
        /// Which.
        name: &'static str,
        /// The verifier's words.
        log: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A socket of AF_UNIX can't be allowed by its path.
    #[error("agents can't be allowed the socket {}: {why}", path.display())]
    UnixPath {
        /// Which.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// One program.
    #[error("program {name}")]
    Program {
        /// Which.
        name: &'static str,
        /// Why: the verifier's words, for a refused program.
        #[source]
        source: ProgramError,
    },
    /// One map.
    #[error("map {name}")]
    Map {
        /// Which.
        name: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// The kernel lacks an LSM hook that the guard needs.
    #[error("the kernel has no LSM hook {0}: agents that run as root need Linux 6.1 or newer")]
    NoHook(&'static str),
    /// The kernel has it with arguments that are not known.
    #[error("the kernel's LSM hook {0} has arguments that this version does not know")]
    OtherHook(&'static str),
    /// LSM programs load, and are not run.
    #[error("the kernel loads BPF LSM programs and runs none: add bpf to its lsm= parameter")]
    LsmIdle,
    /// The guard is required and can't be.
    #[error("kernel.guard is required, and this kernel refuses BPF LSM programs")]
    GuardRequired(#[source] Box<Error>),
    /// A file is more inodes than the guard knows file systems to stack.
    #[error("{} is more than {most} inodes", path.display())]
    Stacked {
        /// Which.
        path: PathBuf,
        /// How many there may be.
        most: usize,
    },
    /// The cgroup mount is not the whole hierarchy.
    #[error("{} is not the root of the cgroup hierarchy: run outside of containers", .0.display())]
    CgroupRoot(PathBuf),
    /// The ring of what the programs log.
    #[cfg(kernel_log)]
    #[error("the kernel programs' log can't be read")]
    Log(#[source] Box<aya_log::Error>),
    /// The accepted socket has no record: whoever connected is not an agent, or came past the
    /// hooks. The connection must be dropped.
    #[error("the connection has no record in the kernel")]
    NoRecord,
    /// The accepted socket's record makes no sense.
    #[error("the connection's record has address family {0}")]
    Family(u32),
    /// A file can't be tapped as libssl.
    #[error("not tapped: {0}")]
    Library(&'static str),
    /// A running process can't be taken in: it holds what would lead past the hooks.
    #[error("process {tgid} holds {what} (descriptor {fd}), which stays as it is: start it anew")]
    Foreign {
        /// Which process.
        tgid: u32,
        /// Which of its descriptors.
        fd: i32,
        /// What it is.
        what: String,
    },
    /// A running process can't be taken in.
    #[error("process {tgid} can't be enrolled: {why}")]
    NotTaken {
        /// Which.
        tgid: u32,
        /// Why.
        why: &'static str,
    },
    /// A cgroup that another made can't be an agent's.
    #[error("{} holds the door, an agent or a part of one", .0.display())]
    NotACgroupToEnrol(PathBuf),
    /// Not, or no longer, enrolled.
    #[error("cgroup {} is not enrolled", .0.0)]
    NotEnrolled(CgroupId),
}

impl Error {
    /// For `map_err` on an operation on a path.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}
