//! What one session may take for granted of its database's catalog, and since when no longer.
//!
//! A session goes by a catalog that held when it last was at rest: what it sent since, the server may
//! have run after a change. From the moment that a change begins, here or in another session, until the
//! session is at rest and has the next catalog, everything is masked as widely as can be.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use types::clock::{Clock, Timestamp};
use types::command::Statement;

use crate::cancels::Way;
use crate::catalog_reader::{self, Asked};
use crate::catalogs::{CatalogKey, Change, Database, Known, Outlook, Reading};
use crate::door::Door;
use crate::ledger::Ledger;
use crate::targets::TargetRule;

/// How long a session waits for a catalog before it goes on with the widest masks.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an agent says when it leaves (PostgreSQL documentation, "Message Formats": Terminate).
const TERMINATE: u8 = b'X';

/// One session's knowledge.
pub(crate) struct Knowledge<'d> {
    door: &'d Arc<Door>,
    rule: Arc<TargetRule>,
    way: Way,
    database: Option<Arc<Database>>,
    /// What masks go by; without it they are the widest.
    known: Option<Known>,
    /// Something this session sent may change a definition.
    change: Option<Change>,
    /// Or did, in a transaction that is open.
    uncommitted: bool,
    /// A reading on the agent's own connection.
    reading: Option<Reading>,
    waiting: Option<Waiting>,
    /// As of which count of changes waiting was in vain.
    in_vain: Option<u64>,
}

type Waiting = Pin<Box<dyn Future<Output = ()>>>;

/// How a session comes by a catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has one, or goes on without.
    Done,
    /// By waiting.
    Wait,
    /// By a query of its own.
    Probe,
}

impl<'d> Knowledge<'d> {
    /// Of a session at the target of `rule`, whose server is reached by `way`.
    pub(crate) fn new(door: &'d Arc<Door>, rule: Arc<TargetRule>, way: Way) -> Self {
        Self {
            door,
            rule,
            way,
            database: None,
            known: None,
            change: None,
            uncommitted: false,
            reading: None,
            waiting: None,
            in_vain: None,
        }
    }

    /// The catalog that masks go by.
    pub(crate) fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// Whether the session goes by a catalog that may not hold any more; then it has none from here on.
    pub(crate) fn is_lost(&mut self) -> bool {
        let (Some(database), Some(known)) = (&self.database, &self.known) else { return false };
        let is_lost = database.changes() != known.changes;
        if is_lost {
            self.known = None;
        }
        is_lost
    }

    /// Whether the agent's next bytes had better wait for a catalog; asked where the session is at rest.
    pub(crate) fn is_behind(&mut self, bytes: &[u8], now: Timestamp) -> bool {
        let Some(database) = &self.database else { return false };
        if self.uncommitted || bytes.first() == Some(&TERMINATE) {
            return false;
        }
        if self.known.as_ref().is_some_and(|known| database.holds(known, now)) {
            return false;
        }
        self.known = None;
        match database.outlook(now) {
            Outlook::Known | Outlook::Unread => true,
            Outlook::Soon => self.in_vain != Some(database.changes()),
            Outlook::Lost => false,
        }
    }

    /// Whether this statement, which is about to go up, may change a definition for others; then nobody
    /// has a catalog until it is answered.
    pub(crate) fn begins(&mut self, statement: &Statement) -> bool {
        let Some(database) = &self.database else { return false };
        // In a transaction block nothing else ends it.
        let commits =
            self.uncommitted && matches!(statement.verb, "COMMIT" | "PREPARE TRANSACTION");
        if !commits && !statement.may_define() {
            return false;
        }
        self.known = None;
        self.change.get_or_insert_with(|| database.begin_change());
        true
    }

    /// Notes that the session is at rest, in this transaction status: what it changed is done, unless it
    /// is in a transaction block still.
    pub(crate) fn rests(&mut self, status: u8) {
        if self.change.take().is_some() || self.uncommitted {
            self.uncommitted = status != b'I';
        }
    }

    /// Whether something that it sent may change a definition.
    pub(crate) fn is_changing(&self) -> bool {
        self.change.is_some() || self.uncommitted
    }

    /// Looks for a catalog; the session waits meanwhile. `may_probe`: it can ask itself.
    pub(crate) fn seek(&mut self, ledger: &Ledger<'_>, now: Timestamp, may_probe: bool) -> Step {
        let Some(database) = self.database(ledger) else { return Step::Done };
        self.known = database.known(now);
        if self.known.is_some() {
            self.in_vain = None;
            return Step::Done;
        }
        if let Some(reading) = database.begin_reading(now) {
            if self.door.credentials.has_catalog_role(&self.rule.name) {
                let asked = self.asked(ledger);
                let read = catalog_reader::read(Arc::clone(self.door), asked, reading);
                drop(tokio::task::spawn_local(read));
            } else if may_probe {
                self.reading = Some(reading);
                return Step::Probe;
            }
        }
        if database.outlook(now) != Outlook::Soon || self.in_vain == Some(database.changes()) {
            return Step::Done;
        }
        let clock: Arc<dyn Clock> = Arc::clone(&self.door.clock);
        self.waiting = Some(Box::pin(async move {
            let settled = database.settled(&*clock);
            drop(tokio::time::timeout(PATIENCE, settled).await);
        }));
        Step::Wait
    }

    /// Whether it waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Ready when waiting ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        let Poll::Ready(()) = waiting.as_mut().poll(cx) else { return Poll::Pending };
        self.waiting = None;
        let changes = self.database.as_ref().map(|database| database.changes());
        // Another wait is worth it once something moved.
        self.in_vain = changes;
        Poll::Ready(())
    }

    /// What was read before, for the query.
    pub(crate) fn kept(&self) -> Vec<u32> {
        self.reading.as_ref().map(|reading| reading.previous().classified()).unwrap_or_default()
    }

    /// Takes what the session's own query brought.
    pub(crate) fn read(
        &mut self,
        ledger: &Ledger<'_>,
        rows: Result<&catalog_reader::Rows, catalog_reader::Why>,
        now: Timestamp,
    ) {
        let Some(reading) = self.reading.take() else { return };
        let door = self.door;
        let read = rows.and_then(|rows| catalog_reader::interpret(door, rows, reading.previous()));
        let database = ledger.target().database.as_deref().unwrap_or_default();
        // Why the query failed may be this session's own doing.
        catalog_reader::finish(door, (&self.rule.name, database), reading, read, false);
        self.known = self.database.as_ref().and_then(|database| database.known(now));
    }

    /// Ends it with its session: nobody sees the end of what it changes.
    pub(crate) fn close(&mut self, now: Timestamp) {
        if let Some(change) = self.change.take() {
            change.abandon(now);
        }
        self.database = None;
    }

    fn database(&mut self, ledger: &Ledger<'_>) -> Option<Arc<Database>> {
        if self.database.is_none() {
            let target = ledger.target();
            let key = CatalogKey {
                netns_cookie: ledger.accepted().netns_cookie,
                addr: target.addr,
                database: target.database.clone(),
            };
            self.database = self.door.catalogs.of(key, self.rule.catalog_interval);
        }
        self.database.clone()
    }

    fn asked(&self, ledger: &Ledger<'_>) -> Asked {
        Asked {
            accepted: ledger.accepted().clone(),
            way: self.way.clone(),
            target: Arc::clone(&self.rule.name),
            database: ledger.target().database.clone().unwrap_or_default(),
        }
    }
}
