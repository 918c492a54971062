//! Attaches each program to its cgroup: through the link that is pinned, or a new one.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError, SockOps};

use crate::Error;
use crate::cgroup::{self, Slice};
use crate::pin::Pins;

/// Address programs of the agents' cgroup, in the order in which they are attached: connections
/// are redirected last, when all that must carry their records is there.
pub(crate) const ADDRESS: [&str; 4] = ["getpeername4", "getpeername6", "connect4", "connect6"];
/// Socket programs.
pub(crate) const AGENTS: &str = "sockops_agents";
pub(crate) const PROXY: &str = "sockops_proxy";

/// Loads and attaches all programs.
pub(crate) fn attach(object: &mut Ebpf, slice: &Slice, pins: &Pins) -> Result<(), Error> {
    load(object)?;
    let [a, b, c, d] = ADDRESS;
    pins.take_over(&[PROXY, AGENTS, a, b, c, d])?;
    for (name, directory) in [(PROXY, &slice.proxy), (AGENTS, &slice.agents)] {
        let program = socket_program(object, name)?;
        let cgroup = id(directory)?;
        let fd = program.fd().map_err(failed(name))?;
        if pins.adopt_link(name, cgroup, fd.as_fd())? {
            continue;
        }
        let file = File::open(directory).map_err(Error::file("opening", directory))?;
        let link = program.attach(file, CgroupAttachMode::Single).map_err(failed(name))?;
        let link = program.take_link(link).map_err(failed(name))?;
        pin(pins, name, link.try_into().map_err(|_| Error::Missing("bpf_link"))?)?;
    }
    for name in ADDRESS {
        let program = address_program(object, name)?;
        let cgroup = id(&slice.agents)?;
        let fd = program.fd().map_err(failed(name))?;
        if pins.adopt_link(name, cgroup, fd.as_fd())? {
            continue;
        }
        let file = File::open(&slice.agents).map_err(Error::file("opening", &slice.agents))?;
        let link = program.attach(file, CgroupAttachMode::Single).map_err(failed(name))?;
        let link = program.take_link(link).map_err(failed(name))?;
        pin(pins, name, link.try_into().map_err(|_| Error::Missing("bpf_link"))?)?;
    }
    Ok(())
}

/// Loads all programs to be attached; the verifier's refusal of any is an error.
pub(crate) fn load(object: &mut Ebpf) -> Result<(), Error> {
    for name in [PROXY, AGENTS] {
        socket_program(object, name)?.load().map_err(failed(name))?;
    }
    for name in ADDRESS {
        address_program(object, name)?.load().map_err(failed(name))?;
    }
    Ok(())
}

fn pin(pins: &Pins, name: &'static str, link: FdLink) -> Result<(), Error> {
    let failed = |error| Error::Program {
        name,
        source: ProgramError::IOError(std::io::Error::other(error)),
    };
    link.pin(pins.path(name)).map(drop).map_err(failed)
}

fn id(directory: &Path) -> Result<u64, Error> {
    cgroup::id(directory).map(|id| id.0).map_err(Error::file("examining", directory))
}

fn socket_program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SockOps, Error> {
    let program = object.program_mut(name).ok_or(Error::Missing(name))?;
    program.try_into().map_err(failed(name))
}

fn address_program<'a>(
    object: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, Error> {
    let program = object.program_mut(name).ok_or(Error::Missing(name))?;
    program.try_into().map_err(failed(name))
}

fn failed(name: &'static str) -> impl Fn(ProgramError) -> Error {
    move |source| Error::Program { name, source }
}
