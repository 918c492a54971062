//! What the forwarder did since it started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts; relaxed, for people and metrics, never for decisions.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions decided.
    pub queries: Count,
    /// Questions that policy refused.
    pub refused: Count,
    /// Questions over an agent's rate, or beyond what may be under way.
    pub limited: Count,
    /// Datagrams and messages that are no question.
    pub malformed: Count,
    /// Datagrams that the kernel has no record of.
    pub strangers: Count,
    /// Questions that the servers did not answer.
    pub failed: Count,
}

/// One count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
