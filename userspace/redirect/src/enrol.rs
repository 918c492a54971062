//! Enrolment: one cgroup per instance of an agent, `AGENT.INSTANCE`, below its parent's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use types::id::{AgentName, CgroupId};

use crate::{Error, Kernel, cgroup};

/// Nested agents at most; the kernel programs look at 24 levels of cgroups.
const MAX_DEPTH: u32 = 16;

/// An enrolled instance of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Its directory, to be joined through `cgroup.procs`.
    pub path: PathBuf,
    /// Its id.
    pub cgroup: CgroupId,
    /// The agent.
    pub agent: AgentName,
    /// Which start of it.
    pub instance: String,
    /// The nearest enrolled cgroup above.
    pub parent: Option<CgroupId>,
}

impl Kernel {
    /// Makes and enrols the cgroup of a new instance, below `parent`'s if given. `instance` is
    /// letters, digits and dashes; an instance that exists already is an error.
    pub fn enroll(
        &self,
        agent: &AgentName,
        instance: &str,
        parent: Option<CgroupId>,
    ) -> Result<Enrolled, Error> {
        check_instance(instance)?;
        let above = match parent {
            Some(parent) => self.find(parent)?.path,
            None => self.slice.agents.clone(),
        };
        let path = above.join(format!("{agent}.{instance}"));
        fs::create_dir(&path).map_err(Error::file("making", &path))?;
        let cgroup = cgroup::id(&path).map_err(Error::file("examining", &path))?;
        // From here on the cgroup above can't be removed: what is found now stays true.
        if let Err(error) = self.check_attached().and_then(|()| self.maps.enroll(cgroup)) {
            drop(fs::remove_dir(&path));
            return Err(error);
        }
        Ok(Enrolled { path, cgroup, agent: agent.clone(), instance: instance.to_owned(), parent })
    }

    /// Moves a process, with all its threads, into the cgroup of an enrolled agent. Sockets that it has opened stay
    /// those of the cgroup that it was in.
    pub fn join(&self, enrolled: &Path, tgid: u32) -> Result<(), Error> {
        let procs = enrolled.join("cgroup.procs");
        fs::write(&procs, tgid.to_string()).map_err(Error::file("joining", procs))
    }

    /// Ends an enrolment and removes its cgroup; an error while a process or another agent is in
    /// it, and then it stays enrolled.
    pub fn withdraw(&self, cgroup: CgroupId) -> Result<(), Error> {
        if self.withdraw_existing(cgroup)? {
            return Ok(());
        }
        let Enrolled { path, .. } = self.find(cgroup)?;
        fs::remove_dir(&path).map_err(Error::file("removing", &path))?;
        self.empty().remove(&cgroup);
        if let crate::guard::State::Armed(armed) = &self.guard {
            armed.forget(cgroup)?;
        }
        self.maps.forget(cgroup)
    }

    /// Refuses new connections of an enrolled cgroup and of agents below it from now on, and ends
    /// their open sockets. Answers how many were ended.
    pub fn revoke(&self, cgroup: CgroupId) -> Result<usize, Error> {
        let Enrolled { path, .. } = self.find(cgroup)?;
        for below in self.enrolled()?.iter().filter(|below| below.path.starts_with(&path)) {
            self.maps.revoke(below.cgroup)?;
        }
        Self::end_sockets(&path)
    }

    /// All enrolled instances, parents before children.
    pub fn enrolled(&self) -> Result<Vec<Enrolled>, Error> {
        let mut found = Vec::new();
        // Agents may start others in cgroups that others made, too.
        for outer in self.existing()? {
            let (path, cgroup) = (outer.path.clone(), outer.cgroup);
            found.push(outer);
            if !path.starts_with(&self.slice.agents) {
                self.walk(&path, Some(cgroup), MAX_DEPTH, &mut found)?;
            }
        }
        self.walk(&self.slice.agents, None, MAX_DEPTH, &mut found)?;
        Ok(found)
    }

    /// Enrolled cgroups that had no process at this and the previous call, children before
    /// parents: twice, so that one just made has time to be joined.
    pub fn ended(&self) -> Result<Vec<CgroupId>, Error> {
        self.forget_old_datagrams()?;
        let mut now = self.existing_gone()?;
        let others = self.existing()?;
        for Enrolled { path, cgroup, .. } in self.enrolled()?.into_iter().rev() {
            // Whoever made it ends it.
            if others.iter().any(|other| other.cgroup == cgroup) {
                continue;
            }
            if !cgroup::populated(&path).map_err(Error::file("examining", &path))? {
                now.push(cgroup);
            }
        }
        let mut before = self.empty();
        let ended = now.iter().copied().filter(|cgroup| before.contains(cgroup)).collect();
        *before = now.into_iter().collect();
        Ok(ended)
    }

    /// The nearest enrolled cgroup at or above a process's own; none for a process that is not an
    /// agent's.
    pub fn nearest_enrolled(&self, tgid: u32) -> Result<Option<CgroupId>, Error> {
        let Some(mut at) = self.cgroup_of(tgid)? else { return Ok(None) };
        while at.starts_with(self.slice.cgroup_root()) && at != self.slice.cgroup_root() {
            // One that is gone has no agent; those above may be.
            if let Ok(id) = cgroup::id(&at)
                && self.maps.knows(id)?
            {
                return Ok(Some(id));
            }
            at.pop();
        }
        Ok(None)
    }

    /// The cgroup a process is in; none if it has ended.
    pub(crate) fn cgroup_of(&self, tgid: u32) -> Result<Option<PathBuf>, Error> {
        let file = format!("/proc/{tgid}/cgroup");
        let cgroups = match fs::read_to_string(&file) {
            Ok(cgroups) => cgroups,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(source) => return Err(Error::file("reading", file)(source)),
        };
        let within = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
        Ok(Some(self.slice.cgroup_root().join(within.ok_or(Error::NoCgroup2)?)))
    }

    /// Forgets enrolled cgroups whose directories are gone.
    pub(crate) fn prune(&self) -> Result<(), Error> {
        let there = self.enrolled()?;
        for cgroup in self.maps.all()? {
            if !there.iter().any(|enrolled| enrolled.cgroup == cgroup) {
                self.maps.forget(cgroup)?;
            }
        }
        Ok(())
    }

    fn find(&self, cgroup: CgroupId) -> Result<Enrolled, Error> {
        let found = self.enrolled()?.into_iter().find(|enrolled| enrolled.cgroup == cgroup);
        found.ok_or(Error::NotEnrolled(cgroup))
    }

    fn walk(
        &self,
        directory: &Path,
        parent: Option<CgroupId>,
        depth: u32,
        found: &mut Vec<Enrolled>,
    ) -> Result<(), Error> {
        let Some(depth) = depth.checked_sub(1) else { return Ok(()) };
        let children = match cgroup::children(directory) {
            // It has ended in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            children => children.map_err(Error::file("reading", directory))?,
        };
        for path in children {
            let Ok(cgroup) = cgroup::id(&path) else { continue };
            let mut nearest = parent;
            if found.iter().any(|known| known.cgroup == cgroup) {
                // One that another made, under a name of that one's.
                nearest = Some(cgroup);
            } else if self.maps.knows(cgroup)?
                && let Some((agent, instance)) = take_apart(&path)
            {
                nearest = Some(cgroup);
                found.push(Enrolled { path: path.clone(), cgroup, agent, instance, parent });
            }
            self.walk(&path, nearest, depth, found)?;
        }
        Ok(())
    }
}

/// Letters, digits and dashes, 64 at most.
pub(crate) fn check_instance(instance: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if instance.is_empty() || instance.len() > 64 || !instance.bytes().all(plain) {
        return Err(Error::Name(instance.to_owned()));
    }
    Ok(())
}

/// An agent's name may have dots, an instance's has none.
fn take_apart(path: &Path) -> Option<(AgentName, String)> {
    let (agent, instance) = path.file_name()?.to_str()?.rsplit_once('.')?;
    Some((agent.parse().ok()?, instance.to_owned()))
}
