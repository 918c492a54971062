//! From the kernel's record of a connection to the principal it belongs to.

use std::sync::Arc;

use types::accepted::Accepted;
use types::principal::{Assurance, Confinement, Principal};

use crate::enrollment::Enrollments;
use crate::processes::Processes;
use crate::standing::{Held, Standing};

/// Who made a redirected connection.
#[derive(Clone, Debug)]
pub struct Attributed {
    /// The principal, by what held at this moment.
    pub principal: Principal,
    /// Whom its agent acts for, from here on.
    pub standing: Arc<Standing>,
    /// Its count of changes when the principal was made.
    pub seen: u64,
    /// Why the agent acts for nobody any more, where it does not.
    pub ended: Option<&'static str>,
}

/// The principal of a redirected connection.
///
/// Agent and process are the kernel's own word. The executable's path and digest are read from
/// user space and left out where they are not those of the inode the kernel recorded.
/// Reads an executable the first time it is seen: call it where that may take a while. `guarded`
/// says that BPF LSM programs hold the agents of this host.
pub fn attribute(
    accepted: &Accepted,
    enrollments: &Enrollments,
    processes: &Processes,
    guarded: bool,
) -> Result<Attributed, Unattributed> {
    let Some(enrollment) = enrollments.get(accepted.enrolled) else {
        return Err(Unattributed { cgroup: accepted.enrolled.0, tgid: accepted.process.key.tgid });
    };
    let mut process = accepted.process.clone();
    processes.complete(&mut process);
    let standing = enrollment.standing;
    let seen = standing.changes();
    let (identity, ended) = match standing.held() {
        Held::For(identity) => (identity, None),
        Held::Ended(why) => (Arc::default(), Some(why)),
    };
    let principal = Principal {
        agent: enrollment.agent,
        instance: enrollment.instance,
        chain: enrollment.chain,
        identity,
        process,
        assurance: assurance(accepted, guarded),
    };
    Ok(Attributed { principal, standing, seen, ended })
}

/// How well the connecting process is held. By the guard, whatever the process is; without it by
/// what the kernel saw when it connected: no user id of root, no capability, no way to gain one,
/// and a filter on its system calls.
fn assurance(accepted: &Accepted, guarded: bool) -> Assurance {
    if guarded {
        return Assurance::A2;
    }
    let Some(confinement) = accepted.confinement else { return Assurance::A0 };
    let Confinement { euid, effective_capabilities, no_new_privs, seccomp_filter } = confinement;
    let no_root = accepted.process.uid != 0 && euid != 0;
    if no_root && effective_capabilities == 0 && no_new_privs && seccomp_filter {
        Assurance::A1
    } else {
        Assurance::A0
    }
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use types::addr::OrigDst;
    use types::id::CgroupId;
    use types::principal::{Process, ProcessKey, Provenance};

    use super::*;

    const HELD: Confinement = Confinement {
        euid: 1000,
        effective_capabilities: 0,
        no_new_privs: true,
        seccomp_filter: true,
    };

    fn of(uid: u32, confinement: Option<Confinement>, guarded: bool) -> Assurance {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let process = Process {
            key: ProcessKey { tgid: 1, start_ns: 1 },
            provenance: Provenance::default(),
            uid,
            gid: 1000,
            cgroup: CgroupId(1),
            exe: None,
            exe_path: None,
            exe_sha256: None,
            comm: "".into(),
        };
        let accepted = Accepted {
            orig_dst: OrigDst(nowhere),
            source: nowhere,
            process,
            confinement,
            enrolled: CgroupId(1),
            netns_cookie: 1,
            socket_cookie: 1,
        };
        assurance(&accepted, guarded)
    }

    #[test]
    fn a_process_without_any_way_up_is_a1() {
        assert_eq!(of(1000, Some(HELD), false), Assurance::A1);
    }

    #[test]
    fn one_fact_that_lacks_makes_it_a0() {
        for lacking in [
            Confinement { euid: 0, ..HELD },
            Confinement { effective_capabilities: 1 << 21, ..HELD },
            Confinement { no_new_privs: false, ..HELD },
            Confinement { seccomp_filter: false, ..HELD },
        ] {
            assert_eq!(of(1000, Some(lacking), false), Assurance::A0, "{lacking:?}");
        }
        assert_eq!(of(0, Some(HELD), false), Assurance::A0);
        assert_eq!(of(1000, None, false), Assurance::A0);
    }

    #[test]
    fn the_guard_holds_root_too() {
        assert_eq!(of(0, None, true), Assurance::A2);
    }
}
