//! Before a session: who connects, where to, and is there a way.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use identity::Attributed;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use types::accepted::Accepted;
use types::addr::OrigDst;
use types::id::AgentName;
use types::inside::DOOR;
use types::principal::Principal;
use types::target::Target;

use crate::door::{Door, LocalService};
use crate::follower::Follower;
use crate::targets::TargetRule;

/// How long a target may take to accept: three SYN retransmissions (RFC 6298: 1 + 2 + 4 s) and some.
const DIAL_PATIENCE: Duration = Duration::from_secs(10);

/// DNS (RFC 1035 §4.2, RFC 7766): no target, it is answered on this host.
const DNS_PORT: u16 = 53;

/// DNS over TLS (RFC 7858): its questions could not be seen.
const DNS_OVER_TLS_PORT: u16 = 853;

/// What a connection may become.
pub(crate) enum Admitted {
    /// A session at a target.
    Session {
        accepted: Accepted,
        principal: Principal,
        follower: Follower,
        target: Box<Target>,
        rule: Arc<TargetRule>,
        /// What the agent calls the destination.
        names: Vec<Arc<str>>,
    },
    /// What is answered on this host: questions to a DNS server, starts of agents inside the agent.
    Local(Arc<dyn LocalService>, Accepted, Principal),
}

/// Attributes a connection and finds its target. A refusal comes with the agent's socket, if known.
pub(crate) async fn admit(
    door: &Arc<Door>,
    downstream: &TcpStream,
    source: SocketAddr,
) -> Result<Admitted, (Refused, Option<u64>)> {
    let record = door.kernel.original_destination(downstream.as_fd(), source);
    let accepted = record.map_err(|_| (Refused::NoRecord { peer: source }, None))?;
    let cookie = accepted.socket_cookie;
    examine(door, downstream, accepted).await.map_err(|refused| (refused, Some(cookie)))
}

/// Whether a connection that the kernel has a record of may become a session.
async fn examine(
    door: &Arc<Door>,
    downstream: &TcpStream,
    accepted: Accepted,
) -> Result<Admitted, Refused> {
    // Not worth an attribution; who gets the last places is decided after that.
    if door.counters.sessions_open.get() >= door.sessions_max {
        return Err(Refused::too_many(door, &accepted));
    }
    // The agent connected to the proxy itself: relaying would loop.
    if downstream.local_addr().is_ok_and(|own| own == accepted.orig_dst.0) {
        return Err(Refused::Loop);
    }
    let Attributed { principal, standing, seen, ended } = attribute(door, &accepted).await?;
    if let Some(why) = ended {
        return Err(Refused::IdentityEnded { why, principal: Box::new(principal) });
    }
    let follower = Follower::new(standing, accepted.socket_cookie, seen, &principal.identity);
    let destination = accepted.orig_dst;
    if let Some(service) = local(door, destination.0) {
        return Ok(Admitted::Local(service, accepted, principal));
    }
    if destination.0.port() == DNS_OVER_TLS_PORT {
        let principal = Box::new(principal);
        return Err(Refused::EncryptedDns { addr: destination, principal });
    }
    let now_ns = door.clock.now().mono_ns;
    let names = door.names.of(accepted.enrolled, destination.0.ip(), now_ns);
    let Some((target, rule)) = door.targets.find(destination, &names) else {
        let principal = Box::new(principal);
        return Err(Refused::UnknownTarget { addr: destination, principal });
    };
    Ok(Admitted::Session { accepted, principal, follower, target: Box::new(target), rule, names })
}

/// Who answers connections to a destination on this host, where anyone does.
fn local(door: &Door, destination: SocketAddr) -> Option<Arc<dyn LocalService>> {
    if destination == SocketAddr::V4(DOOR) {
        return Some(Arc::clone(&door.inside));
    }
    door.name_service.clone().filter(|_| destination.port() == DNS_PORT)
}

/// Digesting an executable the first time takes up to a second: not on a worker's thread.
async fn attribute(door: &Arc<Door>, accepted: &Accepted) -> Result<Attributed, Refused> {
    let too_many = Refused::too_many(door, accepted);
    let (door, accepted) = (Arc::clone(door), accepted.clone());
    let work =
        move || identity::attribute(&accepted, &door.enrollments, &door.processes, door.guarded);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(attributed)) => Ok(attributed),
        Ok(Err(unattributed)) => Err(Refused::Unattributed { tgid: unattributed.tgid }),
        Err(_) => Err(too_many),
    }
}

/// Connects to the target from the agent's network namespace.
pub(crate) async fn dial(door: &Arc<Door>, accepted: &Accepted) -> io::Result<TcpStream> {
    dial_from(door, Some(accepted.netns_cookie), accepted.orig_dst.0).await
}

/// Connects from a network namespace; the daemon's own where there is no cookie.
pub(crate) async fn dial_from(
    door: &Arc<Door>,
    netns_cookie: Option<u64>,
    addr: SocketAddr,
) -> io::Result<TcpStream> {
    let socket = socket(door, netns_cookie, addr).await?;
    let stream = tokio::time::timeout(DIAL_PATIENCE, socket.connect(addr)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A socket belongs to the namespace it is made in, from wherever it is connected.
async fn socket(
    door: &Arc<Door>,
    netns_cookie: Option<u64>,
    addr: SocketAddr,
) -> io::Result<TcpSocket> {
    let make = move || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(std::net::TcpStream::from(socket))
    };
    let Some(netns_cookie) = netns_cookie.filter(|cookie| !door.netns.is_own(*cookie)) else {
        return make().map(TcpSocket::from_std_stream);
    };
    let door = Arc::clone(door);
    let work = move || {
        let mut made = None;
        door.netns.within(netns_cookie, &mut || make().map(|socket| made = Some(socket)))?;
        made.ok_or_else(|| io::Error::other("no socket was made"))
    };
    tokio::task::spawn_blocking(work).await?.map(TcpSocket::from_std_stream)
}

/// Why a connection becomes no session. None of it comes from the agent's bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The kernel has no record: nobody enrolled made this connection.
    #[error("no kernel record of the connection")]
    NoRecord { peer: SocketAddr },
    /// There are as many sessions as there may be.
    #[error("as many sessions are open as there may be")]
    TooMany { agent: Option<AgentName>, tgid: u32 },
    /// It is a connection to the proxy itself.
    #[error("the connection's destination is the proxy itself")]
    Loop,
    /// The cgroup is no agent's.
    #[error("process {tgid} is no enrolled agent's")]
    Unattributed { tgid: u32 },
    /// The agent acts for nobody any more.
    #[error("the identity that the agent acted for has ended: {why}")]
    IdentityEnded { why: &'static str, principal: Box<Principal> },
    /// The destination speaks DNS over TLS.
    #[error("{addr} is for DNS over TLS, which would not be seen")]
    EncryptedDns { addr: OrigDst, principal: Box<Principal> },
    /// The destination is no target.
    #[error("{addr} is no configured target")]
    UnknownTarget { addr: OrigDst, principal: Box<Principal> },
}

impl Refused {
    /// There is no room for this connection. It closes without having been read.
    pub(crate) fn too_many(door: &Door, accepted: &Accepted) -> Self {
        let agent = door.enrollments.get(accepted.enrolled).map(|enrollment| enrollment.agent);
        Self::TooMany { agent, tgid: accepted.process.key.tgid }
    }

    /// The words in records.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NoRecord { .. } => "no_record",
            Self::TooMany { .. } => "too_many_sessions",
            Self::Loop => "loop",
            Self::Unattributed { .. } => "unattributed",
            Self::IdentityEnded { .. } => "identity_ended",
            Self::EncryptedDns { .. } => "encrypted_dns",
            Self::UnknownTarget { .. } => "unknown_target",
        }
    }
}
