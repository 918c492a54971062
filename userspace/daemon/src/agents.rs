//! Enrolling agents: the kernel's cgroups and the daemon's table, kept in step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use identity::{Enrollment, Enrollments};
use journal::recorder::Recorder;
use redirect::{Enrolled, Kernel, Taken};
use tracing::{error, info, warn};
use types::control::Profile;
use types::hex::hex;
use types::id::{AgentName, CgroupId};

use crate::asker::Asker;
use crate::namespaces::Namespaces;
use crate::profile::{self, ProfileRule};

/// The agents of this host.
pub(crate) struct Agents {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) namespaces: Arc<Namespaces>,
    pub(crate) enrollments: Arc<Enrollments>,
    pub(crate) recorder: Recorder,
    pub(crate) profiles: Vec<ProfileRule>,
    /// The authorities that agents are to trust, where one is our own.
    pub(crate) trust: Option<PathBuf>,
}

impl Agents {
    /// Enrolls a new instance of an agent for the caller `tgid`; nested below the caller's own
    /// agent, if it runs in one. Answers the cgroup directory to join.
    pub(crate) fn enroll(&self, agent: &AgentName, tgid: u32) -> Result<(PathBuf, Enrollment)> {
        let parent =
            self.kernel.nearest_enrolled(tgid).context("the caller's cgroup is unknown")?;
        let (path, enrollment) = self.enroll_below(agent, parent)?;
        self.namespaces.listen_at(tgid, enrollment.cgroup);
        Ok((path, enrollment))
    }

    /// Enrolls a new instance of an agent below another, or below none. Answers the cgroup directory to join; nobody
    /// listens for it yet in a network namespace that has no other agent.
    pub(crate) fn enroll_below(
        &self,
        agent: &AgentName,
        parent: Option<CgroupId>,
    ) -> Result<(PathBuf, Enrollment)> {
        let instance = instance()?;
        let enrolled = self.kernel.enroll(agent, &instance, parent)?;
        let added =
            self.enrollments.add(enrolled.cgroup, agent.clone(), instance.as_str().into(), parent);
        let enrollment = match added {
            Ok(enrollment) => enrollment,
            Err(full) => {
                self.kernel.withdraw(enrolled.cgroup)?;
                return Err(full.into());
            }
        };
        self.record("agent.enrolled", &enrollment)?;
        info!(agent = %agent, instance, cgroup = enrolled.cgroup.0, "agent enrolled");
        Ok((enrolled.path, enrollment))
    }

    /// Enrols a process that runs, with its children. `asker` is who asked, if not a rule; it acts for nobody
    /// where `ended` says why.
    pub(crate) fn enroll_process(
        &self,
        agent: &AgentName,
        tgid: u32,
        asker: Option<&Asker>,
        ended: Option<&'static str>,
    ) -> Result<(Taken, Enrollment)> {
        let taken = self.kernel.enroll_running(agent, &instance()?, tgid)?;
        let enrollment = self.add(&taken, asker, ended)?;
        Ok((taken, enrollment))
    }

    /// Enrols a cgroup that another made; it acts for nobody where `ended` says why.
    pub(crate) fn enroll_cgroup(
        &self,
        agent: &AgentName,
        path: &Path,
        ended: Option<&'static str>,
    ) -> Result<Enrollment> {
        let taken = self.kernel.enroll_existing(agent, &instance()?, path)?;
        self.add(&taken, None, ended)
    }

    /// The table's entry for what the kernel holds enrolled; if there is no room, its processes are
    /// refused as unattributed.
    fn add(
        &self,
        taken: &Taken,
        asker: Option<&Asker>,
        ended: Option<&'static str>,
    ) -> Result<Enrollment> {
        let Taken { enrolled, processes, sockets_ended, left } = taken;
        let Enrolled { path, cgroup, agent, instance, parent } = enrolled;
        let start = instance.as_str().into();
        let enrollment = match ended {
            Some(why) => self.enrollments.add_ended(*cgroup, agent.clone(), start, *parent, why),
            None => self.enrollments.add(*cgroup, agent.clone(), start, *parent),
        }?;
        if let Some(process) = processes.first() {
            self.namespaces.listen_at(*process, *cgroup);
        }
        let detail = serde_json::json!({
            "agent": agent.as_str(), "instance": instance, "chain": [agent.as_str()],
            "cgroup": cgroup.0, "path": path, "processes": processes,
            "sockets_ended": sockets_ended, "left": left, "asker": asker,
        });
        let lsn = self.recorder.control("agent.enrolled", &detail.to_string())?;
        self.recorder.wait(lsn)?;
        info!(agent = %agent, instance, cgroup = cgroup.0, sockets_ended, "running agent enrolled");
        if !left.is_empty() {
            warn!(agent = %agent, instance, ?left, "what it holds elsewhere stays");
        }
        Ok(enrollment)
    }

    /// How an agent is to be started.
    pub(crate) fn profile(&self, agent: &AgentName) -> Profile {
        profile::of(&self.profiles, agent)
    }

    /// Takes up the agents that an earlier daemon enrolled.
    pub(crate) fn adopt(&self) -> Result<usize> {
        let found = self.kernel.enrolled().context("enrolled cgroups can't be listed")?;
        let count = found.len();
        for agent in found {
            self.enrollments.add(
                agent.cgroup,
                agent.agent,
                agent.instance.as_str().into(),
                agent.parent,
            )?;
        }
        Ok(count)
    }

    /// Forgets agents whose last process has ended.
    pub(crate) fn sweep(&self) {
        let ended = match self.kernel.ended() {
            Ok(ended) => ended,
            Err(error) => return warn!(%error, "ended agents can't be listed"),
        };
        for cgroup in ended {
            self.forget(cgroup);
        }
        self.namespaces.sweep();
    }

    /// Whether a cgroup was removed that had the hooks: recorded, and then the daemon must be
    /// started again, which arms them.
    pub(crate) fn is_severed(&self) -> bool {
        let Err(error) = self.kernel.check_attached() else { return false };
        error!(%error, "the hooks are gone from a cgroup");
        let detail = serde_json::json!({ "error": error.to_string() });
        if let Err(error) = self.recorder.control("ebpf.severed", &detail.to_string()) {
            warn!(%error, "not recorded");
        }
        true
    }

    fn forget(&self, cgroup: CgroupId) {
        let Some(enrollment) = self.enrollments.get(cgroup) else { return };
        match self.kernel.withdraw(cgroup) {
            Ok(()) => {
                self.enrollments.remove(cgroup);
                if let Err(error) = self.record("agent.ended", &enrollment) {
                    warn!(%error, "the end of an agent could not be recorded");
                }
            }
            // It may have been joined in this instant; the next sweep tries again.
            Err(error) => warn!(%error, agent = %enrollment.agent, "not withdrawn"),
        }
    }

    fn record(&self, kind: &'static str, enrollment: &Enrollment) -> Result<()> {
        let Enrollment { cgroup, agent, instance, chain, standing: _ } = enrollment;
        let chain: Vec<_> = chain.iter().map(AgentName::as_str).collect();
        let detail = serde_json::json!({
            "agent": agent.as_str(), "instance": instance, "chain": chain, "cgroup": cgroup.0,
        });
        let lsn = self.recorder.control(kind, &detail.to_string())?;
        self.recorder.wait(lsn)?;
        Ok(())
    }
}

/// A name for one start of an agent.
fn instance() -> Result<String> {
    let mut random = [0; 6];
    getrandom::fill(&mut random).context("no random numbers")?;
    Ok(hex(&random))
}
