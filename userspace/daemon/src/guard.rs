//! What the guard is and does, for the records.

use std::collections::BTreeMap;

use anyhow::Result;
use journal::recorder::Recorder;
use redirect::Kernel;
use redirect::guard::Refusals;
use serde_json::json;
use tracing::{info, warn};
use types::id::CgroupId;

use crate::agents::Agents;
use crate::app::record;

/// Writes that the hooks are armed, and whether agents that run as root are held.
pub(crate) fn record_state(recorder: &Recorder, kernel: &Kernel) -> Result<()> {
    let unguarded = kernel.unguarded();
    match unguarded {
        None => info!("agents that run as root are held"),
        Some(reason) => warn!(reason, "agents that run as root are not held"),
    }
    let detail = json!({
        "pin_dir": kernel.pin_dir(),
        "guard": unguarded.is_none(),
        "unguarded": unguarded,
        "unix_unheld": kernel.unix_unheld(),
    });
    record(recorder, "ebpf.armed", &detail)
}

/// Writes what was refused since the last time: one row for each agent, however often it tried.
pub(crate) fn record_refusals(agents: &Agents) {
    let refusals = match agents.kernel.take_refusals() {
        Ok(refusals) => refusals,
        Err(error) => return warn!(%error, "the guard's refusals can't be counted"),
    };
    let mut by_agent: BTreeMap<CgroupId, BTreeMap<&str, u64>> = BTreeMap::new();
    for Refusals { agent, hook, times } in refusals {
        by_agent.entry(agent.unwrap_or(CgroupId(0))).or_default().insert(hook, times);
    }
    for (cgroup, refused) in by_agent {
        let agent = agents.enrollments.get(cgroup);
        let detail = json!({
            "agent": agent.as_ref().map(|agent| agent.agent.as_str()),
            "instance": agent.as_ref().map(|agent| &*agent.instance),
            "cgroup": cgroup.0,
            "refused": refused,
        });
        info!(%detail, "refused by the guard");
        if let Err(error) = agents.recorder.control("guard.refused", &detail.to_string()) {
            warn!(%error, "not recorded");
        }
    }
}
