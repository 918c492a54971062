//! Enrolment of what runs already, and the end of what runs no longer as an agent.
//!
//! A running process goes into its new cgroup frozen, with its children; then what it holds is
//! looked at. Its TCP and UDP sockets belong to the cgroup they were made in, past the hooks: they
//! are ended for good. If it holds anything else that leads elsewhere, it goes back as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use types::id::{AgentName, CgroupId};

use crate::descriptors::{self, Found, Held, all_processes, within};
use crate::diag::{Diag, Listed};
use crate::enrol::Enrolled;
use crate::netns::Namespace;
use crate::{Error, Kernel, cgroup, sys};

/// How long processes may take to freeze (one that waits for a disk is not frozen until it has it).
const FREEZE_POLL: Duration = Duration::from_millis(5);
const FREEZE_POLLS: u32 = 1_000;
/// Rounds of looking for children born while their parents were moved.
const ROUNDS_MAX: u32 = 64;
/// Processes taken in at once.
const PROCESSES_MAX: usize = 4_096;

/// A process that ran already and is an agent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its enrolment.
    pub enrolled: Enrolled,
    /// It and its children, by process id.
    pub processes: Vec<u32>,
    /// Sockets that were ended.
    pub sockets_ended: usize,
    /// What they hold that could not be ended; always none of a process that was moved.
    pub left: Vec<String>,
}

impl Kernel {
    /// Enrols a running process and its children as a new instance of an agent. Their TCP and UDP
    /// sockets are ended: who waits on one sees ECONNABORTED. So are Unix sockets of datagrams, and
    /// those not connected yet, where hooks hold AF_UNIX (EPIPE).
    ///
    /// [`Error::Foreign`] if one holds anything else that leads elsewhere: a Unix socket connected
    /// to another process (journals' excepted), netlink, packet and other sockets, io_uring, BPF.
    /// Then all is as it was. What it holds by other means (memory shared with others, descriptors
    /// under way in a Unix socket) is not seen.
    pub fn enroll_running(
        &self,
        agent: &AgentName,
        instance: &str,
        tgid: u32,
    ) -> Result<Taken, Error> {
        let refuse = |why| Err(Error::NotTaken { tgid, why });
        if tgid <= 1 || tgid == std::process::id() {
            return refuse("it holds the host or the door");
        }
        if self.nearest_enrolled(tgid)?.is_some() {
            return refuse("it is an agent already");
        }
        let enrolled = self.enroll(agent, instance, None)?;
        let mut homes = BTreeMap::new();
        match self.take(&enrolled.path, tgid, &mut homes) {
            Ok(sockets_ended) => {
                thaw(&enrolled.path)?;
                let processes = homes.into_keys().collect();
                Ok(Taken { enrolled, processes, sockets_ended, left: Vec::new() })
            }
            Err(error) => {
                give_back(&homes);
                drop(thaw(&enrolled.path));
                self.withdraw(enrolled.cgroup)?;
                Err(error)
            }
        }
    }

    /// Ends the TCP and UDP sockets that were made in a cgroup or below, in the network namespaces
    /// of the processes there and in this one. Answers how many.
    pub(crate) fn end_sockets(directory: &Path) -> Result<usize, Error> {
        let cgroups = cgroup::ids(directory)?;
        let processes = cgroup::processes(directory).map_err(Error::file("reading", directory))?;
        let mut ended = end_in_this_netns(&cgroups)?;
        let mut seen = BTreeSet::from([netns_inode("self")?]);
        for tgid in processes {
            let Ok(inode) = netns_inode(&tgid.to_string()) else { continue };
            if seen.insert(inode)
                && let Ok(netns) = fs::File::open(format!("/proc/{tgid}/ns/net"))
                && let Ok(netns) = Namespace::open(netns)
            {
                ended += within(&netns, || end_in_this_netns(&cgroups))?;
            }
        }
        Ok(ended)
    }

    /// Moves the process and its children, frozen; answers how many sockets were ended.
    fn take(
        &self,
        directory: &Path,
        tgid: u32,
        homes: &mut BTreeMap<u32, PathBuf>,
    ) -> Result<usize, Error> {
        let freeze = directory.join("cgroup.freeze");
        fs::write(&freeze, "1").map_err(Error::file("freezing", &freeze))?;
        for _ in 0..ROUNDS_MAX {
            let mut family = descendants(tgid)?;
            family.retain(|member| !homes.contains_key(member));
            if family.is_empty() {
                break;
            }
            for member in family {
                if homes.len() >= PROCESSES_MAX {
                    return Err(Error::NotTaken { tgid, why: "it has too many children" });
                }
                self.move_one(directory, member, homes)?;
            }
        }
        if !homes.contains_key(&tgid) {
            return Err(Error::NotTaken { tgid, why: "it has ended" });
        }
        until_frozen(directory, tgid)?;
        let processes = cgroup::processes(directory).map_err(Error::file("reading", directory))?;
        let Found { held, unix, foreign } = descriptors::look(&processes)?;
        if let Some(foreign) = foreign.into_iter().next() {
            return Err(foreign);
        }
        let mut ended = end_held(held, &BTreeSet::new())?;
        // The hooks on AF_UNIX are those of the cgroup that a socket was made in.
        if self.unix.decides() {
            for socket in &unix {
                shutdown(socket, Shutdown::Both).map_err(|error| Error::Call {
                    call: "shutting a Unix socket down",
                    source: error.into(),
                })?;
            }
            ended += unix.len();
        }
        Ok(ended)
    }

    fn move_one(
        &self,
        directory: &Path,
        tgid: u32,
        homes: &mut BTreeMap<u32, PathBuf>,
    ) -> Result<(), Error> {
        let Some(home) = self.cgroup_of(tgid)? else { return Ok(()) };
        if home == directory {
            // Born there.
            homes.insert(tgid, directory.parent().unwrap_or(directory).to_owned());
            return Ok(());
        }
        let procs = directory.join("cgroup.procs");
        match fs::write(&procs, tgid.to_string()) {
            Ok(()) => drop(homes.insert(tgid, home)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(source) => return Err(Error::file("joining", procs)(source)),
        }
        Ok(())
    }
}

/// The process and all that descend from it and are not orphaned.
fn descendants(tgid: u32) -> Result<Vec<u32>, Error> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for process in all_processes()? {
        if let Some(parent) = parent(process) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![tgid];
    while let Some(process) = next.pop() {
        found.push(process);
        next.extend(children.remove(&process).unwrap_or_default());
    }
    Ok(found)
}

/// proc_pid_stat(5): after the name in parentheses, the state and the parent.
fn parent(tgid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

pub(crate) fn until_frozen(directory: &Path, tgid: u32) -> Result<(), Error> {
    let events = directory.join("cgroup.events");
    for _ in 0..FREEZE_POLLS {
        let text = fs::read_to_string(&events).map_err(Error::file("reading", &events))?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        sleep(FREEZE_POLL);
    }
    Err(Error::NotTaken { tgid, why: "it does not stop: it waits for a device" })
}

pub(crate) fn thaw(directory: &Path) -> Result<(), Error> {
    let freeze = directory.join("cgroup.freeze");
    fs::write(&freeze, "0").map_err(Error::file("thawing", freeze))
}

/// Puts processes back to where they came from; one that has ended needs nothing.
fn give_back(homes: &BTreeMap<u32, PathBuf>) {
    for (tgid, home) in homes {
        drop(fs::write(home.join("cgroup.procs"), tgid.to_string()));
    }
}

/// Ends sockets, each in its own network namespace, and makes them useless, but those that were
/// made in one of the cgroups, which the hooks see. Answers how many.
pub(crate) fn end_held(held: Vec<Held>, own: &BTreeSet<CgroupId>) -> Result<usize, Error> {
    let mut ended = 0;
    let mut by_netns: BTreeMap<u64, Vec<Held>> = BTreeMap::new();
    for held in held {
        by_netns.entry(held.netns_cookie).or_default().push(held);
    }
    for mut group in by_netns.into_values() {
        let Some(first) = group.first() else { continue };
        let netns = Namespace::of_socket(first.socket.as_fd())
            .map_err(|source| Error::Call { call: "SIOCGSKNS", source })?;
        let listed = within(&netns, || Diag::open()?.sockets())?;
        let made_here = |held: &Held| {
            let of = listed.iter().find(|listed| listed.cookie == held.cookie);
            of.and_then(|listed| listed.cgroup).is_some_and(|cgroup| own.contains(&cgroup))
        };
        group.retain(|held| !made_here(held));
        let cookies: BTreeSet<u64> = group.iter().map(|held| held.cookie).collect();
        within(&netns, || end_in_this_netns_where(|listed| cookies.contains(&listed.cookie)))?;
        for Held { socket, .. } in &group {
            sys::cut_off(socket.as_fd())
                .map_err(|source| Error::Call { call: "cutting a socket off", source })?;
        }
        ended += group.len();
    }
    Ok(ended)
}

fn end_in_this_netns(cgroups: &BTreeSet<CgroupId>) -> Result<usize, Error> {
    end_in_this_netns_where(|listed| listed.cgroup.is_some_and(|cgroup| cgroups.contains(&cgroup)))
}

fn end_in_this_netns_where(wanted: impl Fn(&Listed) -> bool) -> Result<usize, Error> {
    let diag = Diag::open()?;
    let mut ended = 0;
    for listed in diag.sockets()?.iter().filter(|listed| wanted(listed)) {
        ended += usize::from(diag.destroy(listed)?);
    }
    Ok(ended)
}

fn netns_inode(process: &str) -> Result<u64, Error> {
    use std::os::unix::fs::MetadataExt;
    let path = format!("/proc/{process}/ns/net");
    fs::metadata(&path).map(|metadata| metadata.ino()).map_err(Error::file("examining", path))
}
