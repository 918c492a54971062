//! One connection from accept to close. A new reader starts here.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proto::postgres::PostgresSession;
use proto::session::Session;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info, warn};
use types::accepted::Accepted;
use types::addr::Side;
use types::limits::READ_BYTES;
use types::principal::Principal;

use crate::admit::{Admitted, Refused, admit, dial};
use crate::bearer::Bearer;
use crate::door::{Door, LocalService};
use crate::durability::Waiters;
use crate::flows::Bytes;
use crate::follower::Follower;
use crate::http;
use crate::knowledge::Knowledge;
use crate::ledger::{Ledger, record_refusal};
use crate::leg::Leg;
use crate::limiter::Limiter;
use crate::login::Login;
use crate::parting::part;
use crate::preface::{self, Opened};
use crate::relay::{End, Relay};
use crate::taping;
use crate::targets::{Protocol, TargetRule};

/// What stands before a session's id in what its server is told.
const MARK: &str = "vestibule/";

/// How long a session that has ended may take to flush what it still has to say.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// What the sessions of one worker share.
pub(crate) struct Worker {
    pub(crate) door: Arc<Door>,
    pub(crate) waiters: Rc<Waiters>,
    /// One read buffer for all: a session takes what was read before the next one reads.
    pub(crate) scratch: RefCell<Vec<u8>>,
}

impl Worker {
    pub(crate) fn new(door: Arc<Door>, waiters: Rc<Waiters>) -> Self {
        Self { door, waiters, scratch: RefCell::new(vec![0; READ_BYTES]) }
    }
}

/// How long one may whose agent acts for nobody any more: from the call that says so to the last byte it is to be
/// under a second.
pub(crate) const DISMISS_PATIENCE: Duration = Duration::from_millis(500);

/// Serves one accepted connection: attribute, dial, relay until it ends. Whatever happens to it
/// is in the journal before anyone can see it.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    downstream: TcpStream,
    source: SocketAddr,
    entering: OwnedSemaphorePermit,
) {
    let door = &worker.door;
    let admitted = match admit(door, &downstream, source).await {
        Ok(admitted) => admitted,
        Err((refused, cookie)) => return refuse(door, &refused, cookie, Some(&downstream)),
    };
    let (accepted, principal, follower, target, rule, names) = match admitted {
        Admitted::Session { accepted, principal, follower, target, rule, names } => {
            (accepted, principal, follower, *target, rule, names)
        }
        Admitted::Local(service, accepted, principal) => {
            return hand_over(door, &*service, downstream, (accepted, principal));
        }
    };
    // Counted before it dials: those on their way are as bounded as those open.
    let Some(_place) = door.counters.sessions_open.place(door.sessions_max) else {
        let too_many = Refused::too_many(door, &accepted);
        return refuse(door, &too_many, Some(accepted.socket_cookie), Some(&downstream));
    };
    drop(entering);
    let mut ledger = Ledger::new(door, accepted, principal, target);
    let (dialled, candidates, taping) = tokio::join!(
        dial(door, ledger.accepted()),
        door.credentials.candidates(ledger.principal(), ledger.target()),
        taping::open(door, ledger.session(), rule.protocol),
    );
    match taping {
        Ok(taping) => ledger.tape(taping),
        Err(error) => return ledger.unsealed(rule.protocol, downstream, &error).await,
    }
    let upstream = match dialled {
        Ok(upstream) => upstream,
        Err(error) => return ledger.unreachable(rule.protocol, downstream, &error).await,
    };
    if let Err(error) = downstream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    door.counters.sessions_total.up();
    if rule.protocol == Protocol::Http {
        let work = serve_http((&worker, &rule), names, (downstream, upstream), (ledger, follower));
        return Box::pin(work).await;
    }
    let who = (ledger.principal(), ledger.target());
    let opened = match preface::open(door, who, (&*rule, &names), downstream, upstream).await {
        Ok(opened) => opened,
        Err(not_opened) => return preface::refuse(door, rule.protocol, ledger, not_opened).await,
    };
    let Opened { agent, server, transport, way, first, tls, host } = opened;
    ledger.reach(tls, host);
    let mut session = PostgresSession::new(Arc::clone(&door.analyzer), transport);
    if rule.marks_sessions {
        session.mark(format!("{MARK}{}", ledger.session()).into());
    }
    let (limiter, seat) = (Limiter::new(door, way.clone()), (worker.waiters.enter(), rule.ack));
    let knowledge = Knowledge::new(door, rule, way.clone());
    let login = Login::new(candidates, way);
    if ledger.is_sealed() {
        session.record_wire();
    }
    if door.policy.asks_people() {
        session.keep_wholes();
    }
    let bearer = Bearer::new(door, &mut session, &login);
    if !first.is_empty() {
        session.handle_input(Side::Downstream, &first, door.clock.now());
    }
    let legs = (Leg::new(agent), Leg::new(server));
    let parts = (session, (login, bearer), limiter, follower);
    relay_to_end(Relay::new(&worker, seat, parts, knowledge, ledger, legs)).await;
}

/// Relays until the session ends, and sends what of it is still to be sent.
async fn relay_to_end(mut relay: Relay<'_>) {
    let end = poll_fn(|cx| relay.poll(cx)).await;
    let patience = match &end {
        End::Session => FLUSH_PATIENCE,
        End::Dismissed | End::Operator | End::Journal => DISMISS_PATIENCE,
        End::Socket(..) => Duration::ZERO,
    };
    if !patience.is_zero() {
        let flushed = tokio::time::timeout(patience, poll_fn(|cx| relay.poll_flush(cx))).await;
        debug!(flushed = flushed.is_ok(), "session ended");
    }
    relay.close(&end);
}

/// Serves a connection to a target that speaks HTTP.
async fn serve_http(
    (worker, rule): (&Worker, &TargetRule),
    names: Vec<Arc<str>>,
    (downstream, upstream): (TcpStream, TcpStream),
    (ledger, follower): (Ledger<'_>, Follower),
) {
    let who = (ledger.principal(), ledger.target());
    let opened = preface::open_http(&worker.door, who, (rule, &names), downstream, upstream).await;
    match opened {
        Ok(opened) => {
            http::serve((worker, worker.waiters.enter()), names, opened, (ledger, follower)).await;
        }
        Err(not_opened) => {
            preface::refuse(&worker.door, Protocol::Http, ledger, not_opened).await;
        }
    }
}

/// Gives a connection to who answers it on this host.
fn hand_over(
    door: &Door,
    service: &dyn LocalService,
    downstream: TcpStream,
    (accepted, principal): (Accepted, Principal),
) {
    let too_many = Refused::too_many(door, &accepted);
    let cookie = accepted.socket_cookie;
    let stream = downstream.into_std();
    let taken = stream.is_ok_and(|stream| service.serve(stream, accepted, principal));
    if taken {
        door.counters.connections_local.up();
    } else {
        refuse(door, &too_many, Some(cookie), None);
    }
}

/// Records it; then the agent may see it. Without a socket, that is closed already.
fn refuse(
    door: &Door,
    refused: &Refused,
    socket_cookie: Option<u64>,
    downstream: Option<&TcpStream>,
) {
    door.counters.connections_refused.up();
    if let Err(error) = record_refusal(door, refused) {
        warn!(%error, "a refused connection could not be recorded");
    }
    if let Some(cookie) = socket_cookie {
        // What the kernel counts of a refused flow went nowhere; it can't differ.
        door.flows.session_ended(cookie, Bytes::unread(0), door.clock.now());
    }
    if let Some(downstream) = downstream {
        part(downstream);
    }
    info!(reason = refused.kind(), "connection refused");
}
