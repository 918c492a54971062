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
    /// Connections given to services of this host: they become no session.
    pub connections_local: Count,
    /// Flows that carried what no session saw.
    pub flows_differing: Count,
    /// Calls that the kernel programs refused.
    pub kernel_refusals: Count,
    /// What the kernel programs had to tell and found no room for, since they were first armed.
    pub events_lost: Count,
}

/// One of a bounded number.
#[derive(Debug)]
pub(crate) struct Place<'c>(&'c Count);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.down();
    }
}

/// One count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One more, until the answer is dropped; none if there are `most` already.
    pub(crate) fn place(&self, most: u64) -> Option<Place<'_>> {
        let one_more = |count: u64| (count < most).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(self))
    }

    /// One less.
    pub fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// So many, by somebody else's count.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let count = Count::default();
        let first = count.place(2).expect("there is room");
        let second = count.place(2).expect("there is room");
        assert!(count.place(2).is_none());
        drop(first);
        assert!(count.place(2).is_some());
        drop(second);
        assert_eq!(count.get(), 0);
    }
}
