//! Waiting for the journal: one wake per worker and commit, however many sessions wait.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
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
        if let Health::Failed(_) = health {
            self.failed.store(true, Ordering::SeqCst);
        }
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

/// The journal can't be written: nothing may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal can't be written")]
pub struct JournalFailed;

/// One worker's sessions that wait; at most one entry a session.
#[derive(Debug)]
pub(crate) struct Waiters {
    shared: Arc<Durability>,
    worker: usize,
    waiting: RefCell<HashMap<u64, (Lsn, Waker)>>,
    /// Rung when a session gathered a record.
    gathered: Notify,
    /// Records gathered so far.
    records: Cell<u64>,
    /// Bytes relayed since the last commit.
    relayed: Cell<usize>,
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
            waiting: RefCell::default(),
            gathered: Notify::new(),
            records: Cell::new(0),
            relayed: Cell::new(0),
        }
    }

    /// Ready once everything up to `lsn` is durable; `slot` is the waiting session's own number.
    pub(crate) fn poll(
        &self,
        slot: u64,
        lsn: Lsn,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), JournalFailed>> {
        if let Poll::Ready(done) = self.shared.look(lsn) {
            return Poll::Ready(done);
        }
        self.waiting.borrow_mut().insert(slot, (lsn, cx.waker().clone()));
        if let Some(bell) = self.shared.bells.get(self.worker) {
            bell.awaited.store(true, Ordering::SeqCst);
        }
        // The committer may have published between the look and the flag.
        self.shared.look(lsn)
    }

    /// Forgets a session that ended.
    pub(crate) fn forget(&self, slot: u64) {
        self.waiting.borrow_mut().remove(&slot);
    }

    /// Notes that a record waits for its commit.
    pub(crate) fn gathered(&self) {
        self.records.set(self.records.get().wrapping_add(1));
        self.gathered.notify_one();
    }

    /// Notes that bytes were relayed.
    pub(crate) fn relayed(&self, bytes: usize) {
        self.relayed.set(self.relayed.get().saturating_add(bytes));
    }

    /// Has gathered records committed once every session that could run has run: what they all
    /// write shares one trip to the disk. Runs as long as the worker.
    ///
    /// The worker makes the trip itself: it would only wait, and be woken for the answer. Where a
    /// session relays much, which is not to wait for others' records, the journal's thread makes it.
    pub(crate) async fn commit(&self, recorder: &Recorder) {
        loop {
            self.gathered.notified().await;
            // Back after the sockets were looked at and whoever is ready there has run; once more
            // as long as that brings something.
            for _ in 0..LOOKS_MAX {
                let before = self.records.get();
                tokio::task::yield_now().await;
                if self.records.get() == before {
                    break;
                }
            }
            if self.relayed.take() > RELAYED_BYTES_FEW {
                recorder.commit();
            } else {
                recorder.commit_here();
            }
        }
    }

    /// Wakes sessions as their records become durable; runs as long as the worker.
    pub(crate) async fn run(&self) {
        let Some(bell) = self.shared.bells.get(self.worker) else { return };
        loop {
            bell.notify.notified().await;
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|_, (lsn, waker)| match self.shared.look(*lsn) {
                Poll::Pending => true,
                Poll::Ready(_) => {
                    waker.wake_by_ref();
                    false
                }
            });
            if !waiting.is_empty() {
                bell.awaited.store(true, Ordering::SeqCst);
                // As in `poll`: a commit between the look and the flag rings for itself.
                if waiting.values().any(|(lsn, _)| self.shared.look(*lsn).is_ready()) {
                    bell.notify.notify_one();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;
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
            let waited = poll_fn(|cx| waiters.poll(7, Lsn(lsn), cx));
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
    fn an_ended_session_is_forgotten() {
        let waiters = Waiters::new(Durability::new(1), 0);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiters.poll(1, Lsn(1), &mut cx).is_pending());
        waiters.forget(1);
        assert!(waiters.waiting.borrow().is_empty());
    }
}
