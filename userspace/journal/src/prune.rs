//! Which segments a journal can do without, and how they go.
//!
//! First it is durable where the journal begins from then on ([`Start`]), then the segments before that go: what a crash
//! leaves of them is passed over by every reader, and goes the next time.

use std::io;
use std::path::Path;
use std::time::Duration;

use types::clock::Timestamp;

use crate::disk::Disk;
use crate::reader::{Fault, ReadError, SegmentReader, age};
use crate::record::Lsn;
use crate::segment::{self, Segment};
use crate::start::Start;

/// Segments that stay in any case: the one that is written, and the one that a start reads whole beside it.
const STAY_MIN: usize = 2;

/// What may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows before this one are safe elsewhere.
    pub rows: u64,
    /// Now.
    pub now: Timestamp,
    /// How long segments stay behind their last frame.
    pub keep: Duration,
}

/// What a journal can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Where it begins then.
    pub start: Start,
    /// How many segments go.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a journal takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The sequence number of its first row.
    pub first_seq: u64,
    /// Its segments.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The segments of the journal in `dir` that can go, from the first one on; `None` where none can.
///
/// # Errors
/// If it can't be listed, or the head of a segment can't be read.
pub fn due(dir: &Path, limits: &Limits) -> Result<Option<Due>, ReadError> {
    let list = |error: io::Error| ReadError {
        segment: dir.to_owned(),
        offset: 0,
        lsn: Lsn(0),
        fault: Fault::Io(error),
    };
    let segments = segment::list(dir).map_err(list)?;
    let Some(newest) = segments.last() else { return Ok(None) };
    let own = SegmentReader::open(newest)?.header().boot_id;
    let mut due = None;
    let (mut count, mut bytes) = (0, 0);
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        if segments.len() - usize::try_from(count).unwrap_or(usize::MAX) <= STAY_MIN {
            break;
        }
        // A segment ends where the next one begins, with its rows and in time.
        let reader = SegmentReader::open(next)?;
        let header = reader.header();
        let is_old = age(limits.now, own, header.at, header.boot_id) > limits.keep;
        if !is_old || header.first_seq > limits.rows {
            break;
        }
        count += 1;
        bytes += length(segment).map_err(list)?;
        due = Some(Due { start: Start::of(header), segments: count, bytes });
    }
    Ok(due)
}

/// Lets go of what is before `start`, which [`due`] answered and a durable record says, and of what an earlier time left.
///
/// # Errors
/// If the system refuses; the journal begins where it did, or at `start`, with or without what is before that.
pub fn let_go(disk: &dyn Disk, dir: &Path, start: &Start) -> io::Result<()> {
    start.keep(disk, dir)?;
    remove_passed_over(disk, dir, start)
}

/// Removes what a crash left of segments that were let go, as far as their rows are before `rows`.
///
/// # Errors
/// If the system refuses.
pub fn finish(disk: &dyn Disk, dir: &Path, rows: u64) -> io::Result<()> {
    match Start::read(dir)? {
        Some(start) if start.seq <= rows => remove_passed_over(disk, dir, &start),
        _ => Ok(()),
    }
}

/// What the journal in `dir` takes.
///
/// # Errors
/// If it can't be listed.
pub fn extent(dir: &Path) -> io::Result<Extent> {
    let mut extent =
        Extent { first_seq: Start::read(dir)?.map_or(0, |start| start.seq), ..Extent::default() };
    for segment in segment::list(dir)? {
        extent.segments += 1;
        extent.bytes += length(&segment)?;
    }
    Ok(extent)
}

fn remove_passed_over(disk: &dyn Disk, dir: &Path, start: &Start) -> io::Result<()> {
    let all = segment::list_all(dir)?;
    // Nothing goes for a start that is not there.
    if !all.iter().any(|segment| segment.first_lsn == start.lsn) {
        return Ok(());
    }
    let passed_over = || all.iter().filter(|segment| segment.first_lsn < start.lsn);
    for segment in passed_over() {
        disk.remove(&segment.path)?;
    }
    if passed_over().next().is_some() { disk.sync_dir(dir) } else { Ok(()) }
}

fn length(segment: &Segment) -> io::Result<u64> {
    Ok(std::fs::metadata(&segment.path)?.len())
}
