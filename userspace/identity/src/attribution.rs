//! From the kernel's record of a connection to the principal it belongs to.

use types::accepted::Accepted;
use types::principal::{Assurance, Principal};

use crate::enrollment::Enrollments;
use crate::process::Executables;

/// The principal of a redirected connection.
///
/// Agent and process are the kernel's own word. The executable's path and digest are read from
/// user space and left out where the process has gone or is not the one the kernel recorded.
/// Reads an executable the first time it is seen: call it where that may take a while.
pub fn attribute(
    accepted: &Accepted,
    enrollments: &Enrollments,
    executables: &Executables,
) -> Result<Principal, Unattributed> {
    let Some(enrollment) = enrollments.get(accepted.enrolled) else {
        return Err(Unattributed { cgroup: accepted.enrolled.0, tgid: accepted.process.key.tgid });
    };
    let mut process = accepted.process.clone();
    if let Some(executable) = executables.of(&process) {
        process.exe_path = Some(executable.path);
        process.exe_sha256 = Some(executable.sha256);
    }
    Ok(Principal {
        agent: enrollment.agent,
        instance: enrollment.instance,
        chain: enrollment.chain,
        subject: None,
        process,
        assurance: Assurance::A0,
    })
}

/// A connection came from a cgroup that the kernel holds enrolled and the daemon does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("process {tgid} is in cgroup {cgroup}, which is no enrolled agent's")]
pub struct Unattributed {
    /// The cgroup's id.
    pub cgroup: u64,
    /// The process.
    pub tgid: u32,
}
