//! Waiting for the journal: one wake per worker and commit, however many sessions wait.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use journal::record::Lsn;
use journal::recorder::{Durable, Health, Recorder};
use tokio::sync::Notify;
use types::limits::READ_BYTES;

/// How far the journal is durable, told by its committer to every worker.
#[derive(Debug)]
pub struct Durability {
    durable: AtomicU64,
    /// The disk refuses, for now or for good.
    failed: AtomicBool,
    bells: Vec<Bell>,
}

#[derive(Debug, Default)]
struct Bell {
    notify: Notify,
    awaited: AtomicBool,
}

impl Durability {
    /// For `workers` workers; nothing is durable yet.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            durable: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            bells: (0..workers).map(|_| Bell::default()).collect(),
        })
    }

    /// Takes the committer's word and wakes the workers that wait for it.
    pub fn publish(&self, durable: &Durable) {
        let Durable { lsn, rows: _, health } = durable;
        self.durable.fetch_max(lsn.0, Ordering::SeqCst);
        let is_refused = matches!(health, Health::Failing(_) | Health::Failed(_));
        self.failed.store(is_refused, Ordering::SeqCst);
        for bell in &self.bells {
            if bell.awaited.swap(false, Ordering::SeqCst) {
                bell.notify.notify_one();
            }
        }
    }

    fn look(&self, lsn: Lsn) -> Poll<Result<(), JournalFailed>> {
        if self.durable.load(Ordering::SeqCst) >= lsn.0 {
            Poll::Ready(Ok(()))
        } else if self.failed.load(Ordering::SeqCst) {
            Poll::Ready(Err(JournalFailed))
        } else {
            Poll::Pending
        }
    }
}

/// The journal can't be written, for now or for good: nothing may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal can't be written")]
pub struct JournalFailed;

/// One worker's sessions that wait. Each has a place for as long as it is open, about 40 B.
#[derive(Debug)]
pub(crate) struct Waiters {
    shared: Arc<Durability>,
    worker: usize,
    places: RefCell<Places>,
    /// Rung when a session gathered a record.
    gathering: Notify,
    /// Records gathered so far.
    records: Cell<u64>,
    /// Bytes read from sockets since the last commit.
    relayed: Cell<usize>,
}

/// A session's place among those of its worker, for as long as it has this.
#[derive(Debug)]
pub(crate) struct Seat {
    waiters: Rc<Waiters>,
    slot: Slot,
}

impl Seat {
    /// Ready once everything up to `lsn` is durable.
    pub(crate) fn poll(&self, lsn: Lsn, cx: &mut Context<'_>) -> Poll<Result<(), JournalFailed>> {
        self.waiters.poll(self.slot, lsn, cx)
    }

    /// Notes that a record of the session waits for its commit.
    pub(crate) fn gathered(&self) {
        self.waiters.gathered();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.waiters.leave(self.slot);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot(usize);

/// The places, those that nobody has, and those whose sessions wait.
#[derive(Debug, Default)]
struct Places {
    all: Vec<Place>,
    free: Vec<Slot>,
    waiting: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Place {
    lsn: Lsn,
    /// Of the session's last wait: mostly it is the next one's as well.
    waker: Option<Waker>,
    is_waiting: bool,
}

impl Places {
    /// Has a session wait.
    fn wait(&mut self, slot: Slot, lsn: Lsn, cx: &Context<'_>) {
        let Some(place) = self.all.get_mut(slot.0) else { return };
        place.lsn = lsn;
        if !place.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            place.waker = Some(cx.waker().clone());
        }
        if !std::mem::replace(&mut place.is_waiting, true) {
            self.waiting.push(slot);
        }
    }

    /// Wakes the sessions whose records are durable, or never will be.
    fn wake(&mut self, shared: &Durability) {
        let Self { all, waiting, .. } = self;
        waiting.retain(|slot| {
            let Some(place) = all.get_mut(slot.0) else { return false };
            place.is_waiting = shared.look(place.lsn).is_pending();
            if !place.is_waiting
                && let Some(waker) = &place.waker
            {
                waker.wake_by_ref();
            }
            place.is_waiting
        });
    }

    fn is_any_ready(&self, shared: &Durability) -> bool {
        let lsn = |slot: &Slot| self.all.get(slot.0).map_or(Lsn(0), |place| place.lsn);
        self.waiting.iter().any(|slot| shared.look(lsn(slot)).is_ready())
    }
}

/// How often the sockets are looked at for more to commit with what was gathered. A look takes a
/// few microseconds for each session it finds ready; a commit takes a hundred.
const LOOKS_MAX: usize = 8;

/// What many sessions relay between two commits while each runs small commands: 64 of them 1 KiB
/// each. More means that a large result is on its way.
const RELAYED_BYTES_FEW: usize = READ_BYTES;

impl Waiters {
    /// The waiters of worker number `worker`.
    pub(crate) fn new(shared: Arc<Durability>, worker: usize) -> Self {
        Self {
            shared,
            worker,
            places: RefCell::default(),
            gathering: Notify::new(),
            records: Cell::new(0),
            relayed: Cell::new(0),
        }
    }

    /// A place for a session that opens.
    pub(crate) fn enter(self: &Rc<Self>) -> Seat {
        let mut places = self.places.borrow_mut();
        let slot = places.free.pop().unwrap_or_else(|| {
            places.all.push(Place::default());
            Slot(places.all.len() - 1)
        });
        Seat { waiters: Rc::clone(self), slot }
    }

    /// Takes back the place of a session that ended.
    fn leave(&self, slot: Slot) {
        let mut places = self.places.borrow_mut();
        let Places { all, free, waiting } = &mut *places;
        let Some(place) = all.get_mut(slot.0) else { return };
        if std::mem::take(place).is_waiting {
            waiting.retain(|other| *other != slot);
        }
        free.push(slot);
    }

    fn poll(&self, slot: Slot, lsn: Lsn, cx: &mut Context<'_>) -> Poll<Result<(), JournalFailed>> {
        if let Poll::Ready(done) = self.shared.look(lsn) {
            return Poll::Ready(done);
        }
        self.places.borrow_mut().wait(slot, lsn, cx);
        if let Some(bell) = self.shared.bells.get(self.worker) {
            bell.awaited.store(true, Ordering::SeqCst);
        }
        // The committer may have published between the look and the flag.
        self.shared.look(lsn)
    }

    fn gathered(&self) {
        self.records.set(self.records.get().wrapping_add(1));
        self.gathering.notify_one();
    }

    /// Notes that bytes were read, which are relayed.
    pub(crate) fn relayed(&self, bytes: usize) {
        self.relayed.set(self.relayed.get().saturating_add(bytes));
    }

    /// Has gathered records committed: those of many sessions share one trip to the disk. Runs as long as the
    /// worker.
    ///
    /// The worker makes the trip itself: it would only wait, and be woken for the answer. Where a
    /// session relays much, which is not to wait for others' records, the journal's thread makes it.
    pub(crate) async fn commit(&self, recorder: &Recorder) {
        let mut committed = 0;
        loop {
            self.gathering.notified().await;
            if self.records.get() == committed {
                continue;
            }
            self.look_for_more().await;
            committed = self.records.get();
            if self.relayed.take() > RELAYED_BYTES_FEW {
                recorder.commit();
            } else {
                recorder.commit_here();
            }
        }
    }

    /// Comes back after the sockets were looked at and whoever is ready there has run; once more as
    /// long as that brings records. Nobody waits for those who have sent nothing: while the servers are at work the
    /// disk is.
    async fn look_for_more(&self) {
        for _ in 0..LOOKS_MAX {
            let before = self.records.get();
            tokio::task::yield_now().await;
            if self.records.get() == before {
                break;
            }
        }
    }

    /// Wakes sessions as their records become durable; runs as long as the worker.
    pub(crate) async fn run(&self) {
        let Some(bell) = self.shared.bells.get(self.worker) else { return };
        loop {
            bell.notify.notified().await;
            let mut places = self.places.borrow_mut();
            places.wake(&self.shared);
            if !places.waiting.is_empty() {
                bell.awaited.store(true, Ordering::SeqCst);
                // As in `poll`: a commit between the look and the flag rings for itself.
                if places.is_any_ready(&self.shared) {
                    bell.notify.notify_one();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    fn durable(lsn: u64, health: Health) -> Durable {
        Durable { lsn: Lsn(lsn), rows: 0, health }
    }

    /// Waits for `lsn` on a worker whose committer publishes from another thread.
    fn wait(
        lsn: u64,
        publish: impl FnOnce(&Durability) + Send + 'static,
    ) -> Result<(), JournalFailed> {
        let shared = Durability::new(1);
        let waiters = Rc::new(Waiters::new(Arc::clone(&shared), 0));
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let running = Rc::clone(&waiters);
            spawn_local(async move { running.run().await });
            let committer = std::thread::spawn(move || publish(&shared));
            let seat = waiters.enter();
            let waited = poll_fn(|cx| seat.poll(Lsn(lsn), cx));
            let done = tokio::time::timeout(Duration::from_secs(10), waited).await.expect("woken");
            committer.join().unwrap();
            done
        })
    }

    #[test]
    fn wakes_when_the_record_is_durable() {
        let publish = |shared: &Durability| {
            for lsn in 1..=1_000 {
                shared.publish(&durable(lsn, Health::Open));
            }
        };
        assert_eq!(wait(1_000, publish), Ok(()));
    }

    #[test]
    fn a_failed_journal_lets_only_what_is_durable_go() {
        let publish = |shared: &Durability| {
            shared.publish(&durable(5, Health::Failed("disk".into())));
        };
        assert_eq!(wait(5, publish), Ok(()));
        assert_eq!(wait(6, publish), Err(JournalFailed));
    }

    #[test]
    fn when_the_disk_works_again_what_comes_then_goes_on() {
        let shared = Durability::new(1);
        shared.publish(&durable(5, Health::Failing("disk".into())));
        assert_eq!(shared.look(Lsn(6)), Poll::Ready(Err(JournalFailed)));
        shared.publish(&durable(5, Health::Open));
        assert_eq!(shared.look(Lsn(6)), Poll::Pending);
        shared.publish(&durable(7, Health::Open));
        assert_eq!(shared.look(Lsn(6)), Poll::Ready(Ok(())));
    }

    #[test]
    fn an_ended_session_is_forgotten_and_its_place_is_another_ones() {
        let waiters = Rc::new(Waiters::new(Durability::new(1), 0));
        let mut cx = Context::from_waker(Waker::noop());
        let (ended, other) = (waiters.enter(), waiters.enter());
        for seat in [&ended, &other] {
            assert!(seat.poll(Lsn(1), &mut cx).is_pending());
        }
        drop(ended);
        assert_eq!(waiters.places.borrow().waiting, [other.slot]);
        let later = [waiters.enter(), waiters.enter()];
        assert_eq!(later.each_ref().map(|seat| seat.slot), [Slot(0), Slot(2)]);
        assert_eq!(waiters.places.borrow().waiting, [other.slot]);
    }

    #[test]
    fn what_comes_while_one_looks_shares_the_trip() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let waiters = Rc::new(Waiters::new(Durability::new(1), 0));
            for late in 0..LOOKS_MAX - 1 {
                let seat = waiters.enter();
                spawn_local(async move {
                    for _ in 0..late {
                        tokio::task::yield_now().await;
                    }
                    seat.gathered();
                });
            }
            waiters.look_for_more().await;
            assert_eq!(waiters.records.get(), LOOKS_MAX as u64 - 1);
            // Nothing more comes: it does not go on looking.
            let seat = waiters.enter();
            spawn_local(async move {
                for _ in 0..2 {
                    tokio::task::yield_now().await;
                }
                seat.gathered();
            });
            waiters.look_for_more().await;
            assert_eq!(waiters.records.get(), LOOKS_MAX as u64 - 1);
        });
    }
}
