//! Attaches each program to its cgroup: through the link that is pinned, or a new one.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError};

use crate::Error;
use crate::cgroup::{self, Slice};
use crate::lineage;
use crate::pin::{self, Pins};
use crate::{sys, unix};

/// Programs of an agents' cgroup, in the order in which they are attached: connections are
/// redirected last, when all that must carry their records is there.
pub(crate) const AGENTS: &[&str] = &[
    "sysctl",
    "egress",
    "sock_create",
    "sock_release",
    "setsockopt",
    "bind4",
    "bind6",
    "sockops_agents",
    "getpeername4",
    "getpeername6",
    "recvmsg4",
    "recvmsg6",
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];
/// Programs of the daemon's cgroup.
pub(crate) const PROXY: &[&str] = &["sockops_proxy"];

/// Loads all programs and attaches them to the slice, those for AF_UNIX as well.
pub(crate) fn attach(
    object: &mut Ebpf,
    unix: &unix::State,
    slice: &Slice,
    pins: &Pins,
) -> Result<(), Error> {
    load(object)?;
    pins.take_over()?;
    // Before the connections that tell of what they follow.
    lineage::attach(object, pins)?;
    attach_to(object, PROXY, &slice.proxy, pins.directory())?;
    unix.attach_to(&slice.agents, pins.directory())?;
    attach_to(object, AGENTS, &slice.agents, pins.directory())
}

/// Attaches loaded programs to one cgroup, its links being pinned in `links`, a directory that is
/// there: links pinned already are given the programs.
pub(crate) fn attach_to(
    object: &mut Ebpf,
    names: &[&'static str],
    cgroup: &Path,
    links: &Path,
) -> Result<(), Error> {
    let id = cgroup::id(cgroup).map_err(Error::file("examining", cgroup))?.0;
    for &name in names {
        let program = object.program_mut(name).ok_or(Error::Missing(name))?;
        let at = links.join(name);
        if pin::adopt_link(&at, id, fd(name, program)?)? {
            continue;
        }
        let file = File::open(cgroup).map_err(Error::file("opening", cgroup))?;
        // aya 0.14 does not give away links of these kinds.
        let raw = match program {
            Program::CgroupSysctl(_) => Some(sys::BPF_CGROUP_SYSCTL),
            Program::CgroupSockopt(_) => Some(sys::BPF_CGROUP_SETSOCKOPT),
            _ => None,
        };
        if let Some(kind) = raw {
            sys::attach_pinned(fd(name, program)?, file.as_fd(), kind, &at)
                .map_err(Error::file("pinning", &at))?;
            continue;
        }
        let link = attach_one(name, program, &file)?;
        let failed = |error| Error::Program {
            name,
            source: ProgramError::IOError(std::io::Error::other(error)),
        };
        link.pin(&at).map_err(failed)?;
    }
    Ok(())
}

/// Loads all programs to be attached; the verifier's refusal of any is an error.
pub(crate) fn load(object: &mut Ebpf) -> Result<(), Error> {
    for &name in PROXY.iter().chain(AGENTS) {
        let loaded = match object.program_mut(name).ok_or(Error::Missing(name))? {
            Program::SockOps(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            Program::CgroupSkb(program) => program.load(),
            Program::CgroupSockopt(program) => program.load(),
            Program::CgroupSysctl(program) => program.load(),
            _ => return Err(Error::Missing(name)),
        };
        loaded.map_err(failed(name))?;
    }
    lineage::load(object)
}

fn fd<'a>(name: &'static str, program: &'a Program) -> Result<BorrowedFd<'a>, Error> {
    let fd = match program {
        Program::SockOps(program) => program.fd(),
        Program::CgroupSockAddr(program) => program.fd(),
        Program::CgroupSock(program) => program.fd(),
        Program::CgroupSkb(program) => program.fd(),
        Program::CgroupSockopt(program) => program.fd(),
        Program::CgroupSysctl(program) => program.fd(),
        _ => return Err(Error::Missing(name)),
    };
    fd.map(AsFd::as_fd).map_err(failed(name))
}

/// A new link of a loaded program; packets are looked at on their way out.
fn attach_one(name: &'static str, program: &mut Program, cgroup: &File) -> Result<FdLink, Error> {
    let mode = CgroupAttachMode::Single;
    let missing = |_| Error::Missing("bpf_link");
    match program {
        Program::SockOps(program) => {
            let link = program.attach(cgroup, mode).and_then(|id| program.take_link(id));
            link.map_err(failed(name))?.try_into().map_err(missing)
        }
        Program::CgroupSockAddr(program) => {
            let link = program.attach(cgroup, mode).and_then(|id| program.take_link(id));
            link.map_err(failed(name))?.try_into().map_err(missing)
        }
        Program::CgroupSock(program) => {
            let link = program.attach(cgroup, mode).and_then(|id| program.take_link(id));
            link.map_err(failed(name))?.try_into().map_err(missing)
        }
        Program::CgroupSkb(program) => {
            let link = program.attach(cgroup, CgroupSkbAttachType::Egress, mode);
            let link = link.and_then(|id| program.take_link(id));
            link.map_err(failed(name))?.try_into().map_err(missing)
        }
        _ => Err(Error::Missing(name)),
    }
}

fn failed(name: &'static str) -> impl Fn(ProgramError) -> Error {
    move |source| Error::Program { name, source }
}
