//! Cgroups that others made: a systemd unit's, a container's. They get links of their own.
//!
//! What stands enrolled is written in the pin directory: `cgroup-ID_INSTANCE_AGENT/` has the links,
//! so that the next daemon, and the next version, know whose they are. (bpffs takes no dots in
//! names: an agent's are colons there.)

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use types::id::{AgentName, CgroupId};

use crate::enrol::{Enrolled, check_instance};
use crate::late::{Taken, end_held, thaw, until_frozen};
use crate::{Error, Kernel, attach, cgroup, descriptors, pin, sys};

const PREFIX: &str = "cgroup-";

/// Cgroups looked at: 16,384 × about 100 B = 2 MiB, some 50 ms.
const CGROUPS_MAX: usize = 16_384;

impl Kernel {
    /// Enrols a cgroup that another made, with all that is below it, as a new instance of an agent:
    /// attaches the hooks to it unless they are attached above. Open TCP and UDP sockets of its
    /// processes are ended. Unix, netlink and other sockets that they hold stay; they are in the
    /// answer.
    ///
    /// An error for a cgroup that holds the door, one of ours, one below an agent's outside of the
    /// slice, and one above an agent's.
    pub fn enroll_existing(
        &self,
        agent: &AgentName,
        instance: &str,
        path: &Path,
    ) -> Result<Taken, Error> {
        check_instance(instance)?;
        let id = cgroup::id(path).map_err(Error::file("examining", path))?;
        let has_hooks = path.starts_with(&self.slice.agents) && path != self.slice.agents;
        let overlaps = |other: &Enrolled| {
            path.starts_with(&other.path) || (other.path.starts_with(path) && other.path != path)
        };
        let is_ours = self.slice.root().starts_with(path)
            || path == self.slice.agents
            || path.starts_with(&self.slice.proxy);
        if is_ours || self.maps.knows(id)? || (!has_hooks && self.existing()?.iter().any(overlaps))
        {
            return Err(Error::NotACgroupToEnrol(path.to_owned()));
        }
        let links = self.pins.path(&name(id, instance, agent));
        fs::create_dir(&links).map_err(Error::file("making", &links))?;
        let done = self
            .maps
            .enroll(id)
            .and_then(|()| if has_hooks { Ok(()) } else { self.attach_existing(path, &links) });
        let (agent, instance) = (agent.clone(), instance.to_owned());
        let enrolled =
            Enrolled { path: path.to_owned(), cgroup: id, agent, instance, parent: None };
        match done.and_then(|()| Self::clear(&enrolled)) {
            Ok(taken) => Ok(taken),
            Err(error) => {
                self.maps.forget(id)?;
                remove(&links)?;
                Err(error)
            }
        }
    }

    /// All cgroups, parents before children, but the mount's own, the door's and the one of all
    /// agents; [`CGROUPS_MAX`] at most.
    pub fn cgroups(&self) -> Result<Vec<(PathBuf, CgroupId)>, Error> {
        let mut found = Vec::new();
        let mut waiting = vec![self.slice.cgroup_root().to_owned()];
        while let Some(directory) = waiting.pop() {
            for path in cgroup::children(&directory).unwrap_or_default() {
                if path == self.slice.proxy {
                    continue;
                }
                let is_ours = path == self.slice.root() || path == self.slice.agents;
                if let Ok(id) = cgroup::id(&path)
                    && !is_ours
                {
                    found.push((path.clone(), id));
                }
                waiting.push(path);
            }
            if found.len() >= CGROUPS_MAX {
                break;
            }
        }
        Ok(found)
    }

    /// A cgroup's path below the mount, beginning with a slash.
    pub fn below_mount(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix(self.slice.cgroup_root()).unwrap_or(path);
        Path::new("/").join(below)
    }

    /// Gives the links of all cgroups that others made this version's programs; forgets those whose
    /// cgroup is gone.
    pub(crate) fn adopt_existing(&self) -> Result<(), Error> {
        for (links, id, ..) in self.markers()? {
            match self.existing_path(id)? {
                Some(path) if path.starts_with(&self.slice.agents) => {}
                Some(path) => self.attach_existing(&path, &links)?,
                None => remove(&links)?,
            }
        }
        Ok(())
    }

    /// Enrolled cgroups that others made and that are there.
    pub(crate) fn existing(&self) -> Result<Vec<Enrolled>, Error> {
        let there = |(_, cgroup, instance, agent)| {
            let path = self.existing_path(cgroup).transpose()?;
            Some(path.map(|path| Enrolled { path, cgroup, agent, instance, parent: None }))
        };
        self.markers()?.into_iter().filter_map(there).collect()
    }

    /// Ends the enrolment of a cgroup that another made; false if it is none.
    pub(crate) fn withdraw_existing(&self, cgroup: CgroupId) -> Result<bool, Error> {
        let marker = self.markers()?.into_iter().find(|(_, id, ..)| *id == cgroup);
        let Some((links, ..)) = marker else { return Ok(false) };
        remove(&links)?;
        self.maps.forget(cgroup)?;
        Ok(true)
    }

    /// Cgroups that others made, enrolled, and gone.
    pub(crate) fn existing_gone(&self) -> Result<Vec<CgroupId>, Error> {
        let mut gone = Vec::new();
        for (_, id, ..) in self.markers()? {
            if self.existing_path(id)?.is_none() {
                gone.push(id);
            }
        }
        Ok(gone)
    }

    fn attach_existing(&self, path: &Path, links: &Path) -> Result<(), Error> {
        self.hold_at(path)?;
        let mut object = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        self.unix.attach_to(path, links)?;
        attach::attach_to(&mut object, attach::AGENTS, path, links)
    }

    /// Ends what its processes hold open, while they are frozen if they can be.
    fn clear(enrolled: &Enrolled) -> Result<Taken, Error> {
        let Enrolled { path, .. } = enrolled;
        let freeze = path.join("cgroup.freeze");
        let mut sockets_ended = 0;
        let mut left = Vec::new();
        let frozen = fs::write(&freeze, "1").is_ok() && until_frozen(path, 0).is_ok();
        let processes = cgroup::processes(path).map_err(Error::file("reading", path));
        let done = processes.and_then(|processes| {
            // Sockets that were made elsewhere, as by socket activation.
            let own: BTreeSet<CgroupId> = cgroup::ids(path)?;
            let found = descriptors::look(&processes)?;
            left = found.foreign.iter().map(ToString::to_string).collect();
            sockets_ended = end_held(found.held, &own)? + Self::end_sockets(path)?;
            Ok(processes)
        });
        if frozen {
            thaw(path)?;
        }
        Ok(Taken { enrolled: enrolled.clone(), processes: done?, sockets_ended, left })
    }

    /// Where a cgroup is; none if it is gone. Any other failure is an error: to take it for an end would take
    /// the hooks off a cgroup that is there.
    fn existing_path(&self, id: CgroupId) -> Result<Option<PathBuf>, Error> {
        let is_gone = |error: &io::Error| {
            matches!(error.raw_os_error(), Some(libc::ESTALE | libc::ENOENT | libc::ENODEV))
        };
        let root = self.slice.cgroup_root();
        match sys::cgroup_path(root, id.0).and_then(|path| Ok((cgroup::id(&path)?, path))) {
            Ok((found, path)) => Ok((found == id).then_some(path)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(Error::file("finding a cgroup by its id below", root)(error)),
        }
    }

    /// Directories of links, and what their names say.
    fn markers(&self) -> Result<Vec<(PathBuf, CgroupId, String, AgentName)>, Error> {
        let directory = self.pins.directory();
        let pins = cgroup::children(directory).map_err(Error::file("reading", directory))?;
        Ok(pins
            .into_iter()
            .filter_map(|links| {
                let (id, instance, agent) = take_apart(links.file_name()?.to_str()?)?;
                Some((links, id, instance, agent))
            })
            .collect())
    }
}

fn name(id: CgroupId, instance: &str, agent: &AgentName) -> String {
    format!("{PREFIX}{}_{instance}_{}", id.0, agent.as_str().replace('.', ":"))
}

/// An instance has no underscore; an agent's name may.
fn take_apart(name: &str) -> Option<(CgroupId, String, AgentName)> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '_');
    let id = parts.next()?.parse().ok().map(CgroupId)?;
    let instance = parts.next()?.to_owned();
    let agent = parts.next()?.replace(':', ".").parse().ok()?;
    Some((id, instance, agent))
}

/// Removes a directory of links: the hooks go with them.
fn remove(links: &Path) -> Result<(), Error> {
    for pin in fs::read_dir(links).map_err(Error::file("reading", links))? {
        let pin = pin.map_err(Error::file("reading", links))?.path();
        pin::remove_pin(&pin)?;
    }
    match fs::remove_dir(links) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::file("removing", links)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_the_links_are() {
        let agent: AgentName = "claims.agent_1".parse().unwrap();
        let name = name(CgroupId(47), "0a-1", &agent);
        assert!(!name.contains('.'));
        assert_eq!(take_apart(&name), Some((CgroupId(47), "0a-1".to_owned(), agent)));
        for other in ["connect4", "cgroup-x_1_a", "cgroup-1_a", "cgroup-1_a_B"] {
            assert_eq!(take_apart(other), None);
        }
    }
}
