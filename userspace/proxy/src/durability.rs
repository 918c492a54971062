//! Waiting for the journal: one wake per worker and commit, however many sessions wait.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use journal::record::Lsn;
use journal::recorder::{Durable, Health};
use tokio::sync::Notify;

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
}

impl Waiters {
    /// The waiters of worker number `worker`.
    pub(crate) fn new(shared: Arc<Durability>, worker: usize) -> Self {
        Self { shared, worker, waiting: RefCell::default() }
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
