//! Reads a catalog on a connection of the daemon's own, with a role of its own: what agents may see,
//! where their paths lead and what they shadow has no part in it.
//!
//! The connection goes as the session's does that wants the catalog (same address, TLS and
//! verification), and is closed when it is read: a database has one for a moment in each interval, and
//! none to hold a place of the server's.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mask::{Catalog, catalog_query};
use proto::postgres::{PostgresSession, Transport, startup_packet};
use proto::session::{Session, Verdict};
use proto::sql::Reading as TextReading;
use tracing::{info, warn};
use types::accepted::Accepted;
use types::addr::Side;
use types::event::{Event, Status};
use types::limits::READ_BYTES;

use crate::cancels::Way;
use crate::catalogs::Reading;
use crate::credentials::Loaded;
use crate::door::Door;
use crate::leg::Leg;
use crate::preface;

/// How long all of it may take: connecting (10 s at most), and the query's own timeout.
const PATIENCE: Duration = Duration::from_secs(25);

/// What the server itself gives the query, and it for locks: `pg_get_viewdef` waits for whoever holds
/// an exclusive one.
const SETTINGS: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '10s'; \
     SET LOCAL lock_timeout = '2s'; SET LOCAL search_path = pg_catalog; ";

/// How `pg_get_viewdef` writes text.
const STANDARD: TextReading = TextReading { standard_conforming_strings: true };

/// Rows of text values.
pub(crate) type Rows = [Vec<Option<String>>];

/// Whose catalog is read, and how its server is reached.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) accepted: Accepted,
    pub(crate) way: Way,
    pub(crate) target: Arc<str>,
    pub(crate) database: Arc<str>,
}

/// Why a catalog can't be read; none of it holds anything secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Why {
    /// Its secret.
    #[error("the role's secret can't be used: {0}")]
    Secret(std::io::Error),
    /// No random numbers.
    #[error("no random numbers for a login")]
    Random,
    /// No way to the server.
    #[error(transparent)]
    Reach(preface::Why),
    /// A socket failed.
    #[error("the connection failed: {0}")]
    Socket(std::io::Error),
    /// The server broke the protocol, or refused the secret.
    #[error("{0}")]
    Protocol(&'static str),
    /// The server let nobody in.
    #[error("the server refused the connection with SQLSTATE {}", String::from_utf8_lossy(.0))]
    Refused([u8; 5]),
    /// The server closed.
    #[error("the server closed the connection")]
    Closed,
    /// The query.
    #[error("{0}")]
    Probe(proto::postgres::ProbeFailure),
    /// The rows.
    #[error(transparent)]
    Rows(#[from] mask::CatalogError),
    /// It took too long.
    #[error("it took longer than {} s", PATIENCE.as_secs())]
    Late,
}

/// Reads a catalog with the daemon's own role and says what became of it, once for each change of that.
pub(crate) async fn read(door: Arc<Door>, asked: Asked, reading: Reading) {
    let work = async {
        let rows = ask(&door, &asked, &reading).await?;
        interpret(&door, &rows, reading.previous())
    };
    let read = tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(Why::Late));
    finish(&door, (&asked.target, &asked.database), reading, read, true);
}

/// Takes what a reading brought; where that is news it is told and recorded.
pub(crate) fn finish(
    door: &Door,
    (target, database): (&str, &str),
    reading: Reading,
    read: Result<Catalog, Why>,
    for_all: bool,
) {
    let (kind, why) = match read {
        Ok(catalog) => {
            let (before, renamed) = (reading.previous().renamed(), catalog.renamed());
            for column in renamed.iter().filter(|column| !before.contains(column)) {
                warn!(
                    target_name = target,
                    database, column, "masked by its former name; classify it"
                );
            }
            if !reading.done(catalog) {
                return;
            }
            info!(target_name = target, database, "the catalog is read again");
            ("catalog.read", String::new())
        }
        Err(why) => {
            let why = why.to_string();
            if !reading.failed(for_all, door.clock.now()) {
                return;
            }
            warn!(
                target_name = target,
                database, why, "the catalog can't be read: the widest masks apply"
            );
            ("catalog.lost", why)
        }
    };
    let plain = |text: &str| text.replace(|c: char| c.is_control() || matches!(c, '"' | '\\'), "?");
    let (target, database, why) = (plain(target), plain(database), plain(&why));
    let detail = format!(r#"{{"target":"{target}","database":"{database}","reason":"{why}"}}"#);
    if let Err(error) = door.recorder.control(kind, &detail) {
        warn!(%error, "the catalog's state could not be recorded");
    }
}

/// What the rows of a catalog say.
pub(crate) fn interpret(door: &Door, rows: &Rows, previous: &Catalog) -> Result<Catalog, Why> {
    let classification = door.policy.classification();
    let mut catalog = Catalog::from_rows(classification, rows, previous)?;
    catalog.resolve_views(classification, |definition| {
        match &*door.analyzer.analyze(definition.as_bytes(), STANDARD) {
            [view] => view.outputs.clone(),
            _ => None,
        }
    });
    Ok(catalog)
}

/// Logs in, asks, and answers the rows.
async fn ask(
    door: &Arc<Door>,
    asked: &Asked,
    reading: &Reading,
) -> Result<Vec<Vec<Option<String>>>, Why> {
    let role = door.credentials.catalog_role(&asked.target).await.map_err(Why::Secret)?;
    let kept = reading.previous().classified();
    let wanted = catalog_query(door.policy.classification(), &kept);
    let reached = Reached {
        netns_cookie: Some(asked.accepted.netns_cookie),
        addr: asked.accepted.orig_dst.0,
        way: &asked.way,
        database: &asked.database,
    };
    query(door, reached, role, &format!("{SETTINGS}{wanted}; COMMIT")).await
}

/// A database, and how its server is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached<'r> {
    /// The network namespace that its address is of; the daemon's own where absent.
    pub(crate) netns_cookie: Option<u64>,
    pub(crate) addr: SocketAddr,
    pub(crate) way: &'r Way,
    pub(crate) database: &'r str,
}

/// Logs in with a role of the daemon's, says one thing, and answers the rows of all of it.
pub(crate) async fn query(
    door: &Arc<Door>,
    reached: Reached<'_>,
    role: Arc<Loaded>,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, Why> {
    let Reached { netns_cookie, addr, way, database } = reached;
    let (server, upstream) =
        preface::reach(door, (netns_cookie, addr), way).await.map_err(Why::Reach)?;
    let transport = Transport { upstream, ..Transport::default() };
    let mut session = PostgresSession::new(Arc::clone(&door.analyzer), transport);
    session.inject(role.injection().map_err(|_| Why::Random)?);
    let mut client = Client { door, role, session, leg: Leg::new(server), sql };
    client.run(database).await
}

/// An agent's part in a session, played by the daemon.
struct Client<'d> {
    door: &'d Arc<Door>,
    role: Arc<Loaded>,
    session: PostgresSession,
    leg: Leg,
    sql: &'d str,
}

impl Client<'_> {
    async fn run(&mut self, database: &str) -> Result<Vec<Vec<Option<String>>>, Why> {
        let startup = startup_packet(self.role.account(), database);
        self.session.handle_input(Side::Downstream, &startup, self.door.clock.now());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(rows) = self.settle()? {
                self.leave().await;
                return Ok(rows);
            }
            if let Some(wanted) = self.session.keys_wanted()
                && let Some(keys) = self.door.credentials.keys(Arc::clone(&self.role), wanted).await
            {
                self.session.set_keys(&keys);
            }
            self.write().await?;
            if self.session.is_ended() {
                return Err(Why::Closed);
            }
            let leg = &mut self.leg;
            let read = poll_fn(|cx| leg.poll_read(cx, &mut buffer).map_ok(<[u8]>::len)).await;
            let read = read.map_err(Why::Socket)?;
            let now = self.door.clock.now();
            match buffer.get(..read) {
                Some(bytes @ [_, ..]) => self.session.handle_input(Side::Upstream, bytes, now),
                _ => self.session.handle_eof(Side::Upstream, now),
            }
        }
    }

    /// Takes what the session has to say; the rows, when they are here.
    fn settle(&mut self) -> Result<Option<Vec<Vec<Option<String>>>>, Why> {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Command(command) => self.session.handle_decision(command.id, Verdict::Allow),
                Event::ProbeWanted => self.session.probe(self.sql),
                Event::Probed(Some(rows)) => return Ok(Some(rows)),
                Event::Probed(None) => {
                    let failure = self.session.probe_failure().copied();
                    return Err(failure.map_or(Why::Closed, Why::Probe));
                }
                Event::Violation(violation) => return Err(Why::Protocol(violation.what)),
                Event::Outcome(outcome) if outcome.status == Status::Error => {
                    // A secret that is refused is a violation, which comes behind.
                    if let Some(code) = outcome.error_code.filter(|code| !code.starts_with(b"28")) {
                        return Err(Why::Refused(code));
                    }
                }
                Event::Outcome(_) | Event::Authenticated(_) | Event::Notified(_) => {}
            }
        }
        // What an agent would be told.
        let told = self.session.transmit(Side::Downstream);
        told.consume(told.len());
        Ok(None)
    }

    async fn write(&mut self) -> Result<(), Why> {
        while !self.session.transmit(Side::Upstream).is_empty() {
            let (leg, session) = (&mut self.leg, &mut self.session);
            let written = poll_fn(|cx| leg.poll_write(cx, session.transmit(Side::Upstream))).await;
            written.map_err(Why::Socket)?;
        }
        let leg = &mut self.leg;
        poll_fn(|cx| leg.poll_flush(cx)).await.map_err(Why::Socket)
    }

    /// Says goodbye; whether the server hears it does not matter.
    async fn leave(&mut self) {
        const TERMINATE: &[u8] = b"X\0\0\0\x04";
        self.session.handle_input(Side::Downstream, TERMINATE, self.door.clock.now());
        if self.write().await.is_ok() {
            let leg = &mut self.leg;
            drop(poll_fn(|cx| leg.poll_shutdown(cx)).await);
        }
    }
}
