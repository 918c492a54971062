//! What is known of each target database's catalog, and whether it may be otherwise by now; shared by
//! its sessions.
//!
//! A catalog holds from when its reading began until anything begins that may change a definition, or
//! its interval has passed. From there on nobody goes by it: sessions wait a moment for the next one,
//! and mask as widely as can be where there is none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mask::Catalog;
use tokio::sync::Notify;
use types::addr::OrigDst;
use types::clock::{Clock, Timestamp};

/// Databases remembered: 1,024 × a catalog of up to 16 MiB of rows, in practice about 100 KiB.
const CATALOGS_MAX: usize = 1_024;

/// After a reading failed that everybody depends on, the next one is tried no earlier.
const RETRY_US: u64 = 10_000_000;

/// Catalogs by the database that they are of.
#[derive(Debug, Default)]
pub struct Catalogs {
    databases: Mutex<HashMap<CatalogKey, Arc<Database>>>,
}

/// Whose catalog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CatalogKey {
    /// The network namespace in which the target's address means what it means.
    pub(crate) netns_cookie: u64,
    /// The target.
    pub(crate) addr: OrigDst,
    /// The database.
    pub(crate) database: Option<Arc<str>>,
}

impl Catalogs {
    /// The database of this key, whose catalog is to be read again after `interval`; none where too many
    /// have sessions already, so that nothing can be remembered of it.
    pub(crate) fn of(&self, key: CatalogKey, interval: Duration) -> Option<Arc<Database>> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = databases.get(&key) {
            return Some(Arc::clone(known));
        }
        if databases.len() >= CATALOGS_MAX {
            databases.retain(|_, database| Arc::strong_count(database) > 1);
            if databases.len() >= CATALOGS_MAX {
                return None;
            }
        }
        let database = Arc::new(Database::new(interval));
        databases.insert(key, Arc::clone(&database));
        Some(database)
    }

    /// Databases whose catalog could not be read: the widest masks apply there.
    pub fn lost(&self) -> u64 {
        let databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        databases.values().filter(|database| database.state().is_lost).count() as u64
    }
}

/// One database.
#[derive(Debug)]
pub(crate) struct Database {
    interval_us: u64,
    /// Counts what began or ended that may change a definition; written with the state locked.
    changes: AtomicU64,
    state: Mutex<State>,
    told: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Changes under way.
    under_way: usize,
    /// Until when a change that nobody saw the end of may still come about.
    uncertain_until: Timestamp,
    is_reading: bool,
    known: Option<Known>,
    /// What was read last, whether it still holds or not; and how many different ones there were.
    last: Arc<Catalog>,
    version: u64,
    failed_at: Option<Timestamp>,
    is_lost: bool,
}

/// A catalog, and how long one may go by it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) catalog: Arc<Catalog>,
    /// Alike catalogs of a database have the same.
    pub(crate) version: u64,
    /// As of which count of changes.
    pub(crate) changes: u64,
    read_at: Timestamp,
}

/// What there is to expect of a database's catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// It is known.
    Known,
    /// It is being read or changed: a moment's wait may do.
    Soon,
    /// It is to be read, and nobody does.
    Unread,
    /// It can't be known for now.
    Lost,
}

impl Database {
    fn new(interval: Duration) -> Self {
        Self {
            interval_us: u64::try_from(interval.as_micros()).unwrap_or(u64::MAX),
            changes: AtomicU64::new(0),
            state: Mutex::default(),
            told: Notify::new(),
        }
    }

    /// The count of changes: what was known as of another one does not hold.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Whether what is known holds.
    pub(crate) fn holds(&self, known: &Known, now: Timestamp) -> bool {
        known.changes == self.changes() && now.us_since(known.read_at) < self.interval_us
    }

    /// The catalog, if there is one that holds.
    pub(crate) fn known(&self, now: Timestamp) -> Option<Known> {
        self.state().known.as_ref().filter(|known| self.holds(known, now)).cloned()
    }

    /// What there is to expect.
    pub(crate) fn outlook(&self, now: Timestamp) -> Outlook {
        let state = self.state();
        let is_early = |at: Timestamp| now.us_since(at) < RETRY_US;
        if state.known.as_ref().is_some_and(|known| self.holds(known, now)) {
            Outlook::Known
        } else if state.under_way > 0 || state.is_reading {
            Outlook::Soon
        } else if now.mono_ns < state.uncertain_until.mono_ns
            || state.failed_at.is_some_and(is_early)
        {
            Outlook::Lost
        } else {
            Outlook::Unread
        }
    }

    /// Begins a reading, where one is due and nobody reads already.
    pub(crate) fn begin_reading(self: &Arc<Self>, now: Timestamp) -> Option<Reading> {
        if self.outlook(now) != Outlook::Unread {
            return None;
        }
        let mut state = self.state();
        if state.is_reading || state.under_way > 0 {
            return None;
        }
        state.is_reading = true;
        let previous = Arc::clone(&state.last);
        Some(Reading { database: Arc::clone(self), previous, changes: self.changes(), at: now })
    }

    /// Notes that something begins that may change a definition, until the answer is dropped.
    pub(crate) fn begin_change(self: &Arc<Self>) -> Change {
        self.state().under_way += 1;
        self.changed();
        Change(Arc::clone(self))
    }

    /// Waits until the catalog is known, or nobody is at it any more.
    pub(crate) async fn settled(&self, clock: &dyn Clock) {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if self.outlook(clock.now()) != Outlook::Soon {
                return;
            }
            told.await;
        }
    }

    fn changed(&self) {
        let _state = self.state();
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change under way. What it made is read after its end.
#[derive(Debug)]
pub(crate) struct Change(Arc<Database>);

impl Change {
    /// Notes that its session ended before it did: whether and when the server does it is not known, so
    /// nothing is for an interval.
    pub(crate) fn abandon(self, now: Timestamp) {
        let ns = self.0.interval_us.saturating_mul(1_000);
        let until = Timestamp { mono_ns: now.mono_ns.saturating_add(ns), ..now };
        self.0.state().uncertain_until = until;
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        self.0.changed();
        self.0.told.notify_waiters();
    }
}

/// A reading under way: one at a time. Dropped without a result, another may begin.
#[derive(Debug)]
pub(crate) struct Reading {
    database: Arc<Database>,
    previous: Arc<Catalog>,
    changes: u64,
    at: Timestamp,
}

impl Reading {
    /// What was read before.
    pub(crate) fn previous(&self) -> &Catalog {
        &self.previous
    }

    /// Takes what was read; whether it had been lost before. It counts if nothing changed meanwhile.
    pub(crate) fn done(self, catalog: Catalog) -> bool {
        let mut state = self.database.state();
        if catalog != *state.last || state.version == 0 {
            state.last = Arc::new(catalog);
            state.version += 1;
        }
        state.known = Some(Known {
            catalog: Arc::clone(&state.last),
            version: state.version,
            changes: self.changes,
            read_at: self.at,
        });
        state.failed_at = None;
        std::mem::take(&mut state.is_lost)
    }

    /// Notes that nothing could be read; whether that is news. `for_all`: nobody else tries for a while.
    pub(crate) fn failed(self, for_all: bool, now: Timestamp) -> bool {
        let mut state = self.database.state();
        if for_all {
            state.failed_at = Some(now);
        }
        !std::mem::replace(&mut state.is_lost, true)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.database.state().is_reading = false;
        self.database.told.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    const INTERVAL: Duration = Duration::from_mins(5);

    fn at(seconds: u64) -> Timestamp {
        Timestamp { unix_us: 0, mono_ns: seconds * 1_000_000_000 }
    }

    fn database(catalogs: &Catalogs, name: &str) -> Arc<Database> {
        let addr = OrigDst(SocketAddr::from((Ipv4Addr::LOCALHOST, 5432)));
        let key = CatalogKey { netns_cookie: 1, addr, database: Some(name.into()) };
        catalogs.of(key, INTERVAL).unwrap()
    }

    fn read(database: &Arc<Database>, now: Timestamp) {
        database.begin_reading(now).unwrap().done(Catalog::unknown());
    }

    #[test]
    fn a_catalog_holds_for_its_interval_and_until_a_change_begins() {
        let catalogs = Catalogs::default();
        let (bank, other) = (database(&catalogs, "bank"), database(&catalogs, "other"));
        for one in [&bank, &other] {
            assert_eq!(one.outlook(at(1)), Outlook::Unread);
            read(one, at(1));
        }
        assert!(database(&catalogs, "bank").known(at(300)).is_some(), "it is the same database");
        assert!(bank.known(at(301)).is_none(), "it is read anew by then");
        let change = bank.begin_change();
        assert_eq!((bank.outlook(at(2)), other.outlook(at(2))), (Outlook::Soon, Outlook::Known));
        assert!(bank.begin_reading(at(2)).is_none(), "what it reads may be gone at once");
        drop(change);
        assert_eq!(bank.outlook(at(2)), Outlook::Unread);
        read(&bank, at(3));
        assert_eq!(bank.known(at(3)).unwrap().version, 1, "the same catalog again");
    }

    #[test]
    fn one_reads_at_a_time_and_what_changes_meanwhile_counts() {
        let catalogs = Catalogs::default();
        let bank = database(&catalogs, "bank");
        let reading = bank.begin_reading(at(1)).unwrap();
        assert!(bank.begin_reading(at(1)).is_none());
        drop(bank.begin_change());
        reading.done(Catalog::unknown());
        assert_eq!(bank.outlook(at(1)), Outlook::Unread);
        drop(bank.begin_reading(at(1)).unwrap());
        assert_eq!(bank.outlook(at(1)), Outlook::Unread, "who ends without a word fails nobody");
    }

    #[test]
    fn a_failure_is_news_once_and_tried_again_later() {
        let catalogs = Catalogs::default();
        let bank = database(&catalogs, "bank");
        assert!(bank.begin_reading(at(1)).unwrap().failed(true, at(1)));
        assert_eq!((bank.outlook(at(10)), catalogs.lost()), (Outlook::Lost, 1));
        assert!(!bank.begin_reading(at(11)).unwrap().failed(true, at(11)));
        assert!(bank.begin_reading(at(21)).unwrap().done(Catalog::unknown()));
        assert_eq!((bank.outlook(at(21)), catalogs.lost()), (Outlook::Known, 0));
    }

    #[test]
    fn a_change_that_nobody_saw_the_end_of_may_come_for_an_interval() {
        let catalogs = Catalogs::default();
        let bank = database(&catalogs, "bank");
        read(&bank, at(1));
        bank.begin_change().abandon(at(2));
        assert_eq!(bank.outlook(at(301)), Outlook::Lost);
        assert_eq!(bank.outlook(at(302)), Outlook::Unread);
    }
}
