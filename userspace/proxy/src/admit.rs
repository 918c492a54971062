//! Before a session: who connects, where to, and is there a way.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use types::accepted::Accepted;
use types::addr::OrigDst;
use types::limits::SESSIONS_MAX;
use types::principal::Principal;
use types::target::Target;

use crate::door::Door;
use crate::flows::Bytes;
use crate::targets::Protocol;

/// How long a target may take to accept: three SYN retransmissions (RFC 6298: 1 + 2 + 4 s) and some.
const DIAL_PATIENCE: Duration = Duration::from_secs(10);

/// A connection that may become a session.
pub(crate) struct Admitted {
    pub(crate) accepted: Accepted,
    pub(crate) principal: Principal,
    pub(crate) target: Target,
    pub(crate) protocol: Protocol,
}

/// Attributes a connection and finds its target.
pub(crate) async fn admit(
    door: &Arc<Door>,
    downstream: &TcpStream,
    source: SocketAddr,
) -> Result<Admitted, Refused> {
    let record = door.kernel.original_destination(downstream.as_fd(), source);
    let accepted = record.map_err(|_| Refused::NoRecord { peer: source })?;
    let cookie = accepted.socket_cookie;
    let admitted = examine(door, downstream, accepted).await;
    if admitted.is_err() {
        // What the kernel counts of a refused flow went nowhere; it can't differ.
        door.flows.session_ended(cookie, Bytes::unread(0), door.clock.now());
    }
    admitted
}

/// Whether a connection that the kernel has a record of may become a session.
async fn examine(
    door: &Arc<Door>,
    downstream: &TcpStream,
    accepted: Accepted,
) -> Result<Admitted, Refused> {
    let Ok(open) = usize::try_from(door.counters.sessions_open.get()) else {
        return Err(Refused::TooMany);
    };
    if open >= SESSIONS_MAX {
        return Err(Refused::TooMany);
    }
    // The agent connected to the proxy itself: relaying would loop.
    if downstream.local_addr().is_ok_and(|own| own == accepted.orig_dst.0) {
        return Err(Refused::Loop);
    }
    let principal = attribute(door, &accepted).await?;
    let Some((target, protocol)) = door.targets.find(accepted.orig_dst) else {
        let principal = Box::new(principal);
        return Err(Refused::UnknownTarget { addr: accepted.orig_dst, principal });
    };
    Ok(Admitted { accepted, principal, target, protocol })
}

/// Digesting an executable the first time takes up to a second: not on a worker's thread.
async fn attribute(door: &Arc<Door>, accepted: &Accepted) -> Result<Principal, Refused> {
    let (door, accepted) = (Arc::clone(door), accepted.clone());
    let work = move || identity::attribute(&accepted, &door.enrollments, &door.executables);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(principal)) => Ok(principal),
        Ok(Err(unattributed)) => Err(Refused::Unattributed { tgid: unattributed.tgid }),
        Err(_) => Err(Refused::TooMany),
    }
}

/// Connects to the target.
pub(crate) async fn dial(addr: OrigDst) -> std::io::Result<TcpStream> {
    let connect = TcpStream::connect(addr.0);
    let stream = tokio::time::timeout(DIAL_PATIENCE, connect).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Why a connection becomes no session. None of it comes from the agent's bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The kernel has no record: nobody enrolled made this connection.
    #[error("no kernel record of the connection")]
    NoRecord { peer: SocketAddr },
    /// There are as many sessions as there may be.
    #[error("{SESSIONS_MAX} sessions are open already")]
    TooMany,
    /// It is a connection to the proxy itself.
    #[error("the connection's destination is the proxy itself")]
    Loop,
    /// The cgroup is no agent's.
    #[error("process {tgid} is no enrolled agent's")]
    Unattributed { tgid: u32 },
    /// The destination is no target.
    #[error("{addr} is no configured target")]
    UnknownTarget { addr: OrigDst, principal: Box<Principal> },
}

impl Refused {
    /// The words in records.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NoRecord { .. } => "no_record",
            Self::TooMany => "too_many_sessions",
            Self::Loop => "loop",
            Self::Unattributed { .. } => "unattributed",
            Self::UnknownTarget { .. } => "unknown_target",
        }
    }
}
