//! Has the rules of `[[enroll]]` followed: once a second all cgroups, and all processes if a rule
//! is about processes, are held against them.
//!
//! What starts is so free for a second at most, and what it opened until then is ended. Where not
//! even that may be, start it behind the door: `vestibule run`, a unit's `Slice=` or a container's
//! cgroup parent below the agents' (there, nothing connects before it is enrolled).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, TryLockError};

use anyhow::Result;
use redirect::Kernel;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tracing::warn;
use types::id::AgentName;

use crate::agents::Agents;
use crate::keeper::Keeper;
use crate::rules::{Engines, EnrollRule, OnRefusal};

/// Times that an engine is asked about a container it does not know yet: a minute's.
const ASKED_MAX: u32 = 60;

/// Looks that a unit which systemd is still setting up is left for: ten seconds.
const SET_UP_MAX: u32 = 10;

/// What was seen before and need not be looked at again.
#[derive(Debug, Default)]
struct Seen {
    /// Cgroups by id: how often only systemd was in there.
    set_up: HashMap<u64, u32>,
    /// Cgroups by id: how often an engine was asked.
    asked: HashMap<u64, u32>,
    /// What was refused, by cgroup id or process and start: to be said once.
    refused: HashSet<(u64, u64)>,
}

/// The rules and what they were held against.
#[derive(Debug)]
pub(crate) struct Enroller {
    rules: Vec<EnrollRule>,
    engines: Engines,
    seen: Mutex<Seen>,
}

impl Enroller {
    /// Nothing is seen yet.
    pub(crate) fn new(rules: Vec<EnrollRule>, engines: Engines) -> Self {
        Self { rules, engines, seen: Mutex::default() }
    }

    /// Enrols what the rules name and is no agent yet. Returns at once while another call is at it.
    pub(crate) fn look(&self, agents: &Agents, keeper: &Keeper) {
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.rules.iter().any(EnrollRule::is_of_cgroups) {
            self.look_at_cgroups((agents, keeper), &mut seen);
        }
        if self.rules.iter().any(|rule| !rule.is_of_cgroups()) {
            self.look_at_processes((agents, keeper), &mut seen);
        }
    }

    fn look_at_cgroups(&self, (agents, keeper): (&Agents, &Keeper), seen: &mut Seen) {
        let all = match agents.kernel.cgroups() {
            Ok(all) => all,
            Err(error) => return warn!(%error, "cgroups can't be listed"),
        };
        let mut there = HashSet::new();
        let mut enrolled: Vec<(PathBuf, AgentName)> = Vec::new();
        for (path, id) in all {
            there.insert(id.0);
            if let Some(known) = agents.enrollments.get(id) {
                enrolled.push((path, known.agent));
                continue;
            }
            let Some(rule) = self.rule_of_cgroup(&agents.kernel, &path, id.0, seen) else {
                continue;
            };
            let Some(agent) = rule.agent() else { continue };
            // What is below one that is the same agent's came with it.
            if enrolled.iter().any(|(above, its)| path.starts_with(above) && *its == agent) {
                continue;
            }
            // The guard would hold systemd back from setting it up.
            if agents.kernel.guard_armed() && is_being_set_up(&path) {
                let looks = seen.set_up.entry(id.0).or_default();
                *looks += 1;
                if *looks <= SET_UP_MAX {
                    continue;
                }
            }
            let binding = rule.binding();
            match agents.enroll_cgroup(&agent, &path, binding.not_yet()) {
                Ok(enrollment) => {
                    keeper.bind_by_rule(&enrollment, binding);
                    enrolled.push((path, agent));
                }
                Err(error) if seen.refused.insert((id.0, 0)) => {
                    refuse(agents, &agent, &serde_json::json!({ "cgroup": path }), &error);
                }
                Err(_) => {}
            }
        }
        seen.asked.retain(|id, _| there.contains(id));
        seen.set_up.retain(|id, _| there.contains(id));
        seen.refused.retain(|(id, start)| *start != 0 || there.contains(id));
    }

    /// The first rule that names a cgroup.
    fn rule_of_cgroup(
        &self,
        kernel: &Kernel,
        path: &Path,
        id: u64,
        seen: &mut Seen,
    ) -> Option<&EnrollRule> {
        let relative = kernel.below_mount(path);
        let mut container = None;
        let of_containers = self.rules.iter().any(|rule| rule.container.is_some());
        if of_containers && Engines::knows(path) {
            let asked = seen.asked.entry(id).or_default();
            if *asked < ASKED_MAX {
                *asked += 1;
                container = self.engines.describe(path);
            }
            if container.is_some() {
                // It stays what it is.
                *asked = ASKED_MAX;
            }
        }
        self.rules.iter().find(|rule| rule.names_cgroup(&relative, container.as_ref()))
    }

    fn look_at_processes(&self, (agents, keeper): (&Agents, &Keeper), seen: &mut Seen) {
        let Ok(entries) = fs::read_dir("/proc") else { return };
        let mut there = HashSet::new();
        for entry in entries.flatten() {
            let Some(tgid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Kernel threads have no executable.
            let (Ok(exe), Ok(owner)) = (executable(tgid), fs::metadata(entry.path())) else {
                continue;
            };
            let named = |rule: &&EnrollRule| rule.names_process(owner.uid(), &exe);
            let Some(rule) = self.rules.iter().find(named) else { continue };
            let Some(key) = start(tgid).map(|start| (u64::from(tgid), start)) else { continue };
            there.insert(key);
            if seen.refused.contains(&key) || is_agents(agents, tgid) {
                continue;
            }
            let Some(agent) = rule.agent() else { continue };
            let binding = rule.binding();
            match agents.enroll_process(&agent, tgid, None, binding.not_yet()) {
                Ok((_, enrollment)) => keeper.bind_by_rule(&enrollment, binding),
                Err(error) => {
                    seen.refused.insert(key);
                    let what = serde_json::json!({ "tgid": tgid, "exe": exe, "uid": owner.uid() });
                    refuse(agents, &agent, &what, &error);
                    if rule.on_refusal == OnRefusal::Kill {
                        kill(tgid, key.1);
                    }
                }
            }
        }
        seen.refused.retain(|key| key.1 == 0 || there.contains(key));
    }
}

/// Whether the only processes in a cgroup are systemd's own, about to become the unit's: they run
/// its program, and have the unit's name in parentheses until they do (systemd 252: `exec_child`;
/// since 255 `systemd-executor`).
fn is_being_set_up(cgroup: &Path) -> bool {
    let Ok(processes) = fs::read_to_string(cgroup.join("cgroup.procs")) else { return false };
    let mut processes = processes.lines().peekable();
    processes.peek().is_some()
        && processes.all(|tgid| {
            let name = fs::read_to_string(format!("/proc/{tgid}/comm")).unwrap_or_default();
            let exe = fs::read_link(format!("/proc/{tgid}/exe")).unwrap_or_default();
            let program = exe.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with('(')
                && exe.starts_with("/usr/lib/systemd")
                && matches!(program, "systemd" | "systemd-executor")
        })
}

fn is_agents(agents: &Agents, tgid: u32) -> bool {
    agents.kernel.nearest_enrolled(tgid).is_ok_and(|nearest| nearest.is_some())
}

/// The path of the executable, also of one that was replaced since.
fn executable(tgid: u32) -> Result<PathBuf> {
    let link = fs::read_link(format!("/proc/{tgid}/exe"))?;
    let text = link.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| link.clone(), PathBuf::from))
}

/// Field 22 of proc_pid_stat(5); never 0 but for the first process.
fn start(tgid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    let start: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    Some(start.max(1))
}

fn refuse(agents: &Agents, agent: &AgentName, what: &serde_json::Value, error: &anyhow::Error) {
    let reason = format!("{error:#}");
    warn!(agent = %agent, %what, reason, "not enrolled");
    let detail = serde_json::json!({ "agent": agent.as_str(), "what": what, "reason": reason });
    if let Err(error) = agents.recorder.control("enrollment.refused", &detail.to_string()) {
        warn!(%error, "a refused enrolment could not be recorded");
    }
}

/// Ends a process unless its number is another's by now.
fn kill(tgid: u32, started: u64) {
    let Some(pid) = i32::try_from(tgid).ok().and_then(Pid::from_raw) else { return };
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if start(tgid) == Some(started)
        && let Err(error) = pidfd_send_signal(&process, Signal::KILL)
    {
        warn!(tgid, %error, "a refused process could not be ended");
    }
}
