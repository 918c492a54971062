//! How many events on which nodes and days, and what room they take.

use std::path::Path;

/// 2026-11-01, counted from 1970-01-01.
pub(crate) const FIRST_DAY: i64 = 20_758;

/// Events of a busy node's day.
const DAY_EVENTS: u64 = 1_000_000;

/// Events that are written with a JSON column, too: queries on it take minutes.
const BLOB_EVENTS: u64 = 10_000_000;

/// Bytes that an event takes in the archive, about.
const EVENT_BYTES: u64 = 85;

/// Bytes that an event takes where it has a JSON column, about.
const BLOB_BYTES: u64 = 140;

/// Bytes that an event takes in the journal until it is sealed, about.
const JOURNAL_BYTES: u64 = 800;

/// What is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Nodes.
    pub(crate) nodes: u32,
    /// Days.
    pub(crate) days: u32,
    /// Events of each node on each day.
    pub(crate) events: u64,
    /// So many of the first days are written with a JSON column, too.
    pub(crate) blob_days: u32,
}

impl Plan {
    /// At least `events` events.
    pub(crate) fn new(events: u64) -> Self {
        let nodes: u32 = if events >= 4 * DAY_EVENTS { 4 } else { 2 };
        let days = events.div_ceil(u64::from(nodes) * DAY_EVENTS).max(2);
        let each = events.div_ceil(u64::from(nodes) * days);
        let days = u32::try_from(days).expect("fewer days than there are numbers");
        let blob_days = BLOB_EVENTS.div_ceil(u64::from(nodes) * each);
        let blob_days = u32::try_from(blob_days).unwrap_or(days).min(days);
        Self { nodes, days, events: each, blob_days }
    }

    /// Fails where the file system has no room for all.
    pub(crate) fn check_room(&self, out: &Path) {
        let nodes_days = u64::from(self.nodes) * u64::from(self.days);
        let blob = u64::from(self.nodes) * u64::from(self.blob_days) * self.events * BLOB_BYTES;
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        // A day is put together beside its old files, of which there are sorted runs as large.
        let together = 2 * u64::from(self.nodes) * self.events * EVENT_BYTES;
        let journals = workers.min(u64::from(self.nodes)) * self.events * JOURNAL_BYTES;
        let needed = nodes_days * self.events * EVENT_BYTES + blob + together.max(journals);
        let space = rustix::fs::statvfs(out).expect("the folder is there");
        let free = space.f_bavail * space.f_frsize;
        let gb = |bytes: u64| format!("{}.{}", bytes / 1_000_000_000, bytes / 100_000_000 % 10);
        let Self { nodes, days, events, blob_days } = self;
        eprintln!(
            "{nodes} nodes, {days} days, {events} events each; the first {blob_days} with a JSON column, too; needs about \
             {} GB in {}, of which {} GB are free",
            gb(needed),
            out.display(),
            gb(free)
        );
        assert!(free > needed + needed / 10, "not enough room: name fewer events");
    }
}
