//! What the node did since it started.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts; relaxed, for people and metrics, never for decisions.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sessions open now.
    pub sessions_open: Count,
    /// Sessions since the start.
    pub sessions_total: Count,
    /// Commands since the start.
    pub commands_total: Count,
    /// Commands refused.
    pub commands_denied: Count,
    /// Connections refused before a session.
    pub connections_refused: Count,
    /// Flows that carried what no session saw.
    pub flows_differing: Count,
    /// Calls that the kernel programs refused.
    pub kernel_refusals: Count,
}

/// One count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
