//! What may be the agent's standard input, output and error.
//!
//! A socket there would be a way past the door: it belongs to the cgroup it was made in.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, fstat, fstatfs, major, minor};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, Shutdown, SocketType, shutdown};
use types::control::Permission;

/// File systems through which cgroups, hooks or other processes are changed: `CGROUP2_SUPER_MAGIC`,
/// `CGROUP_SUPER_MAGIC`, `BPF_FS_MAGIC`, `PROC_SUPER_MAGIC`, `SYSFS_MAGIC` (linux/magic.h).
const CONTROL_FILES: [u64; 5] = [0x6367_7270, 0x0027_e0eb, 0xcafe_4a11, 0x9fa0, 0x6265_6572];

/// Devices of `mem` (major 1) without a view of memory: null, zero, full, random, urandom.
const HARMLESS_MINORS: [u32; 5] = [3, 5, 7, 8, 9];

/// Refuses to go on unless the three are pipes, terminals, files or harmless devices.
///
/// A Unix socket may be output (a supervisor's journal); it is shut for reading, so that no
/// descriptor comes in by it.
pub(super) fn check(allow: &[Permission]) -> Result<()> {
    let any = allow.contains(&Permission::StdioSockets) || allow.contains(&Permission::AnySocket);
    for (name, fd, is_input) in [
        ("standard input", std::io::stdin().as_fd(), true),
        ("standard output", std::io::stdout().as_fd(), false),
        ("standard error", std::io::stderr().as_fd(), false),
    ] {
        let said = || format!("{name} can't go to the agent");
        let stat = match fstat(fd) {
            Ok(stat) => stat,
            Err(Errno::BADF) => continue,
            Err(error) => return Err(error).with_context(said),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo => {}
            FileType::RegularFile => regular(fd).with_context(said)?,
            FileType::CharacterDevice => device(fd, stat.st_rdev).with_context(said)?,
            FileType::Socket if any => {}
            FileType::Socket => socket(fd, is_input).with_context(said)?,
            _ => bail!("{name} can't go to the agent: it is no pipe, terminal or file"),
        }
    }
    Ok(())
}

fn regular(fd: BorrowedFd<'_>) -> Result<()> {
    let kind = u64::try_from(fstatfs(fd)?.f_type).unwrap_or(u64::MAX);
    if CONTROL_FILES.contains(&kind) {
        bail!("it is a file of the kernel's, not a plain one");
    }
    Ok(())
}

fn device(fd: BorrowedFd<'_>, device: u64) -> Result<()> {
    let is_harmless = major(device) == 1 && HARMLESS_MINORS.contains(&minor(device));
    if is_harmless || std::io::IsTerminal::is_terminal(&fd) {
        return Ok(());
    }
    bail!("it is device {}:{}, not a terminal", major(device), minor(device))
}

fn socket(fd: BorrowedFd<'_>, is_input: bool) -> Result<()> {
    if is_input {
        bail!("it is a socket, which was made outside of the door: use a pipe");
    }
    if socket_domain(fd)? != AddressFamily::UNIX || socket_type(fd)? != SocketType::STREAM {
        bail!("it is a network socket, which was made outside of the door: use a pipe");
    }
    shutdown(fd, Shutdown::Read).context("it can't be shut for reading")
}
