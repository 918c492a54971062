//! What goes over the daemon's control socket: one JSON object a line, a request and its answer.

use serde::{Deserialize, Serialize};

use crate::id::{AgentName, CgroupId};

/// What a root client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the daemon is.
    Status,
    /// Make a cgroup for a new instance of an agent, enrolled, to be joined by the caller.
    Enroll {
        /// Under which name.
        agent: AgentName,
    },
    /// Convert what the journal holds into the archive now and sign a checkpoint.
    Seal,
    /// What this host can do.
    Doctor,
    /// Let enrolled agents go free, and end.
    Disarm {
        /// Why: recorded, and not empty.
        reason: String,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Enroll`].
    Enrolled {
        /// The cgroup directory to join.
        cgroup_path: String,
        /// Its id.
        cgroup: CgroupId,
        /// Which start of the agent this is.
        instance: String,
    },
    /// To [`Request::Seal`].
    Sealed {
        /// Rows the log holds.
        tree_size: u64,
        /// The Merkle root over them, base64.
        root: String,
        /// Files written, relative to the archive.
        files: Vec<String>,
    },
    /// To [`Request::Doctor`].
    Doctor {
        /// One line each.
        checks: Vec<Check>,
    },
    /// To [`Request::Disarm`]: recorded, the hooks are gone, and the daemon ends.
    Disarmed,
    /// The request could not be met.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The node's name in records.
    pub node: String,
    /// Sessions open now.
    pub sessions_open: u64,
    /// Sessions since the start.
    pub sessions_total: u64,
    /// Commands since the start.
    pub commands_total: u64,
    /// Commands refused since the start.
    pub commands_denied: u64,
    /// Connections refused before a session (no kernel record, unknown target, …).
    pub connections_refused: u64,
    /// Calls that the kernel programs refused.
    pub kernel_refusals: u64,
    /// Flows in which the kernel counted bytes that no session saw: look at once.
    pub flows_differing: u64,
    /// Agents enrolled now: name and instance.
    pub agents: Vec<String>,
    /// Journal frames durable.
    pub journal_durable_lsn: u64,
    /// Rows the log holds.
    pub rows: u64,
    /// Policy set digest, hexadecimal.
    pub policy_digest: String,
    /// Where the hooks are pinned.
    pub pin_dir: String,
}

/// One thing `vestibule doctor` looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was seen, and what to do about it.
    pub detail: String,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with less.
    Warn,
    /// Does not work.
    Fail,
}
