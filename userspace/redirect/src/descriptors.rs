//! What a frozen process holds: sockets made before it was an agent, and what else could lead past
//! the hooks.
//!
//! Each socket is looked at by itself, through a duplicate (pidfd_getfd(2)), not by what procfs
//! lists of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::net::sockopt::{
    socket_acceptconn, socket_cookie, socket_domain, socket_protocol, socket_type,
};
use rustix::net::{AddressFamily, SocketAddrAny, SocketType, ipproto};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::Error;
use crate::diag::Diag;
use crate::netns::{Namespace, cookie_of};

/// Descriptors of all processes taken in at once: 65,536 × about 100 B = 6 MiB.
const DESCRIPTORS_MAX: usize = 65_536;

/// Anonymous inodes that lead nowhere; any other is refused (io_uring, BPF, perf, …).
const HARMLESS: [&str; 8] = [
    "anon_inode:[eventfd]",
    "anon_inode:[eventpoll]",
    "anon_inode:[timerfd]",
    "anon_inode:[signalfd]",
    "anon_inode:[pidfd]",
    "anon_inode:[fanotify]",
    "anon_inode:inotify",
    "anon_inode:[inotify]",
];

/// Devices and files that are other ways out.
const WAYS_OUT: [&str; 5] = ["/dev/net/tun", "/dev/vhost", "/dev/vsock", "/dev/mem", "/dev/kmem"];

/// Sockets that take logs and answer nothing.
const LOGS: [&str; 5] = [
    "/run/systemd/journal/stdout",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/syslog",
    "/dev/log",
];

/// An IPv4 or IPv6 socket of a process, to be ended.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) socket: OwnedFd,
    pub(crate) cookie: u64,
    pub(crate) netns_cookie: u64,
}

/// What processes hold.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// To be ended.
    pub(crate) held: Vec<Held>,
    /// Unix sockets that may yet be connected or send anywhere: of datagrams, and those that are
    /// not connected.
    pub(crate) unix: Vec<OwnedFd>,
    /// What can't be ended and leads elsewhere, each as [`Error::Foreign`].
    pub(crate) foreign: Vec<Error>,
}

/// A Unix socket connected to another.
struct Connected {
    tgid: u32,
    fd: i32,
    peer: u32,
}

/// The IPv4 and IPv6 sockets that the processes hold, and what they hold that can't be ended and
/// leads elsewhere. They should not run meanwhile.
pub(crate) fn look(processes: &[u32]) -> Result<Found, Error> {
    let mut found = Found::default();
    let mut connected = Vec::new();
    let mut own = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for &tgid in processes {
        let (pidfd, descriptors) = match open(tgid) {
            // It has ended.
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        for (fd, link) in descriptors {
            let foreign = |what: &str| Error::Foreign { tgid, fd, what: what.to_owned() };
            let Some(inode) = socket_inode(&link) else {
                if leads_out(&link) {
                    found.foreign.push(foreign(&link));
                }
                continue;
            };
            own.insert(inode);
            if !seen.insert(inode) {
                continue;
            }
            if seen.len() > DESCRIPTORS_MAX {
                return Err(Error::NotTaken { tgid, why: "it has too many descriptors" });
            }
            let socket = pidfd_getfd(&pidfd, fd, PidfdGetfdFlags::empty())
                .map_err(|error| Error::Call { call: "pidfd_getfd", source: error.into() })?;
            match look_at(&socket, inode) {
                Ok(Kind::Internet { cookie, netns_cookie }) => {
                    found.held.push(Held { socket, cookie, netns_cookie });
                }
                Ok(Kind::Unix { peer, is_bound_to_it }) => {
                    connected.extend(peer.map(|peer| Connected { tgid, fd, peer }));
                    found.unix.extend((!is_bound_to_it).then_some(socket));
                }
                Err(what) => found.foreign.push(foreign(&what)),
            }
        }
    }
    found.foreign.extend(foreign_peers(processes, &own, connected)?);
    Ok(found)
}

enum Kind {
    Internet {
        cookie: u64,
        netns_cookie: u64,
    },
    /// Whom it is connected to, and whether it can't go elsewhere: what listens can't either.
    Unix {
        peer: Option<u32>,
        is_bound_to_it: bool,
    },
}

/// What a socket is; what it must not be, as an error.
fn look_at(socket: &OwnedFd, inode: u32) -> Result<Kind, String> {
    let unreadable = |error: rustix::io::Errno| format!("a socket that can't be examined: {error}");
    let domain = socket_domain(socket).map_err(unreadable)?;
    match domain {
        AddressFamily::INET | AddressFamily::INET6 => {
            let protocol = socket_protocol(socket).map_err(unreadable)?;
            let kind = socket_type(socket).map_err(unreadable)?;
            if kind == SocketType::RAW
                || ![Some(ipproto::TCP), Some(ipproto::UDP)].contains(&protocol)
            {
                return Err("a network socket that is neither TCP nor UDP".to_owned());
            }
            let cookie = socket_cookie(socket).map_err(unreadable)?;
            let netns_cookie = cookie_of(socket.as_fd());
            let netns_cookie = netns_cookie.map_err(|error| error.to_string())?;
            Ok(Kind::Internet { cookie, netns_cookie })
        }
        AddressFamily::UNIX => {
            let is_stream = socket_type(socket).map_err(unreadable)? != SocketType::DGRAM;
            if takes_logs(socket) {
                return Ok(Kind::Unix { peer: None, is_bound_to_it: is_stream });
            }
            let netns = Namespace::of_socket(socket.as_fd()).map_err(|error| error.to_string())?;
            let peer = within(&netns, || Diag::open()?.unix_peer(inode));
            let peer = peer.map_err(|error| error.to_string())?;
            let listens = socket_acceptconn(socket).map_err(unreadable)?;
            let is_bound_to_it = is_stream && (peer.is_some() || listens);
            Ok(Kind::Unix { peer, is_bound_to_it })
        }
        AddressFamily::NETLINK => Err("a netlink socket".to_owned()),
        AddressFamily::PACKET => Err("a packet socket".to_owned()),
        other => Err(format!("a socket of family {}", other.as_raw())),
    }
}

/// Those whose peer is not held by the processes themselves, or by others as well.
fn foreign_peers(
    processes: &[u32],
    own: &BTreeSet<u32>,
    connected: Vec<Connected>,
) -> Result<Vec<Error>, Error> {
    if connected.is_empty() {
        return Ok(Vec::new());
    }
    let others = sockets_of_others(processes)?;
    let is_foreign = |c: &Connected| !own.contains(&c.peer) || others.contains(&c.peer);
    let foreign = |Connected { tgid, fd, .. }| {
        let what = "a Unix socket connected to another process".to_owned();
        Error::Foreign { tgid, fd, what }
    };
    Ok(connected.into_iter().filter(is_foreign).map(foreign).collect())
}

fn sockets_of_others(processes: &[u32]) -> Result<BTreeSet<u32>, Error> {
    let mut found = BTreeSet::new();
    for tgid in all_processes()? {
        // What this process holds is the duplicates.
        if processes.contains(&tgid) || tgid == std::process::id() {
            continue;
        }
        let Ok(entries) = fs::read_dir(format!("/proc/{tgid}/fd")) else { continue };
        for entry in entries.flatten() {
            found.extend(
                fs::read_link(entry.path())
                    .ok()
                    .and_then(|link| socket_inode(&link.to_string_lossy())),
            );
        }
    }
    Ok(found)
}

/// Every process of this pid namespace.
pub(crate) fn all_processes() -> Result<Vec<u32>, Error> {
    let entries = fs::read_dir("/proc").map_err(Error::file("reading", "/proc"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// A handle of the process and its descriptors. A thread with descriptors of its own, which the
/// handle does not reach, is an error.
fn open(tgid: u32) -> Result<(OwnedFd, BTreeMap<i32, String>), Error> {
    let pid = i32::try_from(tgid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(Error::NotTaken { tgid, why: "there is no such process" })?;
    let own = list(Path::new(&format!("/proc/{tgid}/fd")))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|error| Error::file("opening", format!("/proc/{tgid}"))(error.into()))?;
    let tasks = format!("/proc/{tgid}/task");
    for task in fs::read_dir(&tasks).map_err(Error::file("reading", &tasks))?.flatten() {
        if list(&task.path().join("fd"))? != own {
            return Err(Error::NotTaken { tgid, why: "a thread has descriptors of its own" });
        }
    }
    Ok((pidfd, own))
}

fn list(directory: &Path) -> Result<BTreeMap<i32, String>, Error> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(Error::file("reading", directory))? {
        let entry = entry.map_err(Error::file("reading", directory))?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(number), Ok(link)) = (number, fs::read_link(entry.path())) {
            found.insert(number, link.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// proc_pid_fd(5): `socket:[INODE]`.
fn socket_inode(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn leads_out(link: &str) -> bool {
    let is_anonymous = link.starts_with("anon_inode:");
    (is_anonymous && !HARMLESS.contains(&link))
        || WAYS_OUT.iter().any(|way| link.starts_with(way))
        || ["/cgroup.procs", "/cgroup.threads"].iter().any(|file| link.ends_with(file))
}

fn takes_logs(socket: &OwnedFd) -> bool {
    let peer = rustix::net::getpeername(socket).ok().flatten();
    let path =
        peer.and_then(|peer: SocketAddrAny| rustix::net::SocketAddrUnix::try_from(peer).ok());
    let path = path.and_then(|address| address.path()?.to_str().map(str::to_owned).ok());
    path.is_some_and(|path| LOGS.contains(&path.as_str()))
}

/// Runs `work` in a network namespace, on a thread of its own.
pub(crate) fn within<T: Send>(
    netns: &Namespace,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let done = netns.within(|| Ok(work()));
    done.map_err(|source| Error::Call { call: "entering a network namespace", source })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_is_known() {
        for link in
            ["anon_inode:[io_uring]", "anon_inode:bpf-map", "/dev/net/tun", "/x/cgroup.procs"]
        {
            assert!(leads_out(link), "{link}");
        }
        for link in ["anon_inode:[eventpoll]", "/dev/null", "pipe:[3]", "/memfd:x (deleted)"] {
            assert!(!leads_out(link), "{link}");
        }
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        assert_eq!(socket_inode("pipe:[4711]"), None);
    }
}
