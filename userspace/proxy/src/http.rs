//! HTTP/1.1 between an agent and a target: each request is a command.
//!
//! Both sides' messages are the library's to take apart and to write; nothing is passed on as it came. One connection
//! to the server belongs to one of the agent's, and one request is under way at a time. Other protocols on it, HTTP/2
//! among them, are refused.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Sleep, sleep};
use tracing::debug;
use types::addr::{OrigDst, Side};
use types::event::Violation;
use types::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, READ_BYTES};

use self::intake::Called;
use self::io::Io;
use self::shared::Shared;
use self::talk::Talk;
use self::taped::Taped;
use crate::durability::Seat;
use crate::follower::Follower;
use crate::ledger::Ledger;
use crate::preface::Opened;
use crate::serve::{DISMISS_PATIENCE, Worker};

mod answer;
mod body;
mod intake;
mod io;
mod kept;
mod problem;
mod shared;
mod talk;
mod taped;

pub(crate) use self::problem::raw;

/// How long an agent may take for a request's head, and for its next request: what common servers give (nginx
/// `keepalive_timeout`).
const HEAD_PATIENCE: Duration = Duration::from_secs(75);

/// How long a request under way may be without a byte on either side, at least; at most twice as long.
const STALLED: Duration = Duration::from_mins(5);

/// How a session ends.
enum End {
    /// By either side, or by what it says.
    Closed,
    /// The agent's request could not be read.
    Violation(&'static str),
    /// One side's connection failed.
    Lost(Side),
    /// Nothing moved for too long.
    Idle,
    /// The agent acts for nobody any more, or the journal failed.
    Gone(&'static str),
}

/// Serves requests until either side closes.
pub(crate) async fn serve(
    (worker, seat): (&Worker, Seat),
    names: Vec<Arc<str>>,
    opened: Opened,
    (mut ledger, follower): (Ledger<'_>, Follower),
) {
    let Opened { agent, server, tls, host, .. } = opened;
    let OrigDst(address) = ledger.target().addr;
    let is_tls = agent.is_tls();
    let called =
        Called { ip: address.ip(), port: address.port(), names, server_name: host.clone(), is_tls };
    ledger.reach(tls, host);
    let shared = Rc::new(Shared::new(Arc::clone(&worker.door.clock)));
    let taped = Taped::of(&ledger, &worker.door);
    let (agent, server) = (Io::agent(agent, &shared, taped), Io::server(server, &shared));
    let mut client = client::conn::http1::Builder::new();
    client.max_buf_size(2 * HTTP_HEAD_BYTES_MAX).max_headers(HTTP_HEADERS_MAX);
    let Ok((sender, mut upstream)) = client.handshake(TokioIo::new(server)).await else {
        // It says nothing of its own before a request.
        let carried = crate::flows::Bytes::unread(usize::MAX);
        return ledger.close("target_lost", carried, worker.door.clock.now());
    };
    let talk = Talk::new((worker, seat), called, (&shared, &agent), sender, (ledger, follower));
    let serving = server_of(&agent, &talk);
    let end = {
        let mut serving = pin!(serving);
        let (mut stalled, mut dismissed) = (Box::pin(sleep(STALLED)), None);
        let (mut movement, mut is_open) = (0, true);
        poll_fn(|cx| {
            talk.follow(Some(cx));
            if is_open && let Poll::Ready(ended) = Pin::new(&mut upstream).poll(cx) {
                debug!(?ended, "the target's connection ended");
                is_open = false;
                serving.as_mut().graceful_shutdown();
            }
            let polled = serving.as_mut().poll(cx);
            talk.settle();
            if let Poll::Ready(ended) = polled {
                return Poll::Ready(shared.gone().map_or_else(|| end_of(ended, &agent), End::Gone));
            }
            if let Some(why) = shared.gone() {
                let deadline = dismissed.get_or_insert_with(|| {
                    serving.as_mut().graceful_shutdown();
                    // What is idle ends with the next look.
                    cx.waker().wake_by_ref();
                    Box::pin(sleep(DISMISS_PATIENCE))
                });
                return deadline.as_mut().poll(cx).map(|()| End::Gone(why));
            }
            poll_stalled(&mut stalled, &mut movement, shared.movement(), cx)
        })
        .await
    };
    finish(&talk, (&agent, &shared), end).await;
}

type Serving<S> = server::conn::http1::Connection<TokioIo<Io>, S>;

/// The agent's connection.
fn server_of<'t, 'w>(
    agent: &Io,
    talk: &'t Talk<'w>,
) -> Serving<
    impl hyper::service::HttpService<hyper::body::Incoming, ResBody = body::Down, Error = body::Broken>
    + use<'t, 'w>,
> {
    let mut builder = server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .half_close(false)
        .max_buf_size(2 * HTTP_HEAD_BYTES_MAX)
        .max_headers(HTTP_HEADERS_MAX);
    let service = service_fn(move |request| Box::pin(talk.handle(request)));
    builder.serve_connection(TokioIo::new(agent.clone()), service)
}

/// Ready where nothing moved in a whole span of time.
fn poll_stalled(
    stalled: &mut Pin<Box<Sleep>>,
    before: &mut u64,
    now: u64,
    cx: &mut Context<'_>,
) -> Poll<End> {
    while stalled.as_mut().poll(cx).is_ready() {
        if std::mem::replace(before, now) == now {
            return Poll::Ready(End::Idle);
        }
        *stalled = Box::pin(sleep(STALLED));
    }
    Poll::Pending
}

/// What the end of the agent's connection was.
fn end_of(ended: hyper::Result<()>, agent: &Io) -> End {
    let Err(error) = ended else { return End::Closed };
    debug!(%error, "the agent's connection ended");
    if agent.begins_with(b"PRI * HTTP/2") {
        return End::Violation(HTTP2);
    }
    match () {
        () if error.is_parse_too_large() => End::Violation("a head larger than is taken"),
        () if error.is_parse() => End::Violation("a head that is not HTTP/1.1"),
        () if error.is_timeout() => End::Idle,
        // A body of the server's broke off.
        () if error.is_user() => End::Lost(Side::Upstream),
        () => End::Lost(Side::Downstream),
    }
}

/// Ends the session's records; tells an agent that speaks HTTP/2 what is spoken here.
async fn finish(talk: &Talk<'_>, (agent, shared): (&Io, &Shared), end: End) {
    let reason = match end {
        End::Closed => "closed",
        End::Violation(what) => {
            let violation = Violation { side: Side::Downstream, what };
            talk.with_ledger(|ledger| {
                let now = ledger.now();
                ledger.violation(violation, now);
            });
            shared.linger();
            "protocol_violation"
        }
        End::Lost(Side::Downstream) => "agent_lost",
        End::Lost(Side::Upstream) => "target_lost",
        End::Idle => "idle",
        End::Gone("journal_failed") => "journal_failed",
        End::Gone(_) => "identity_ended",
    };
    if shared.lingers() && shared.gone().is_none() {
        let told = match end {
            End::Violation(HTTP2) => raw(505, "HTTP/2 is not spoken here, HTTP/1.1 is"),
            _ => Vec::new(),
        };
        let lingered = tokio::time::timeout(LINGERING, linger(agent, &told)).await;
        debug!(?lingered, "the agent was told");
    }
    talk.close(reason);
}

/// What an agent's first words are that speaks HTTP/2 without having asked.
const HTTP2: &str = "HTTP/2";

/// How long an agent may go on sending after the last answer: with bytes unread, the socket's end would be a reset, which
/// overtakes what it was told (RFC 9112 §9.6).
const LINGERING: Duration = Duration::from_secs(2);

/// And how much, at most.
const LINGERING_BYTES_MAX: usize = 4 << 20;

async fn linger(agent: &Io, told: &[u8]) -> std::io::Result<()> {
    let mut agent = agent.clone();
    agent.write_all(told).await?;
    agent.shutdown().await?;
    let mut buffer = vec![0; READ_BYTES];
    let mut dropped = 0;
    while dropped < LINGERING_BYTES_MAX {
        match agent.read(&mut buffer).await? {
            0 => break,
            count => dropped += count,
        }
    }
    Ok(())
}
