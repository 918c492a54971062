//! Puts the files of a day together, of all nodes that are in this archive: large files, sorted by session, that queries
//! read faster and that take less room. What is proven stays proven, as it is about rows (`compacted`).
//!
//! A day of a table is made anew beside the tables, durable and read back, and then takes the old one's place in one step
//! (`swap`): at any instant, and whatever ends it, either all of the old files are there or all of the new ones.
//!
//! Memory is bounded: rows are sorted in runs of 256 MiB, which go to disk where there are several, and at most 16 runs are
//! merged at once, each with a batch of 2 MiB and a row group of four; beside that one row group is written. That is
//! 256 MiB (sorting) or 16 × (2 + 8) MiB + 32 MiB (merging), never both. On disk there are, while a day is put together, the
//! old files, the runs (about as large) and the new ones.

mod plan;
mod sort;
mod swap;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use journal::row::Table;
use sha2::{Digest, Sha256};
use types::hex::hex;

use crate::compacted::Compacted;
use crate::decode::DecodeError;
use crate::files;
use crate::writer::WriteError;

pub use plan::{Due, Why};

/// Bytes of the files of a day for one new file: a new one is about three quarters of that, 128 to 512 MiB.
const SOURCE_BYTES: u64 = 384 * 1024 * 1024;

/// Bytes of rows that are sorted at once.
const RUN_BYTES: usize = 256 * 1024 * 1024;

/// New files are written once and read for years.
const ZSTD_LEVEL: i32 = 9;

/// What is put together.
#[derive(Clone, Debug)]
pub struct Options {
    /// The archive's folder.
    pub archive: PathBuf,
    /// The first day, counted from 1970-01-01, that stays as it is.
    pub before: i64,
    /// Of logs whose files are shipped: the rows that are. Files with others stay.
    pub upto: BTreeMap<String, u64>,
    /// Bytes of old files for one new one.
    pub source_bytes: u64,
    /// Bytes of rows that are sorted at once.
    pub run_bytes: usize,
    /// The level of zstd.
    pub zstd_level: i32,
}

impl Options {
    /// All days before `before`, counted from 1970-01-01.
    pub fn new(archive: impl Into<PathBuf>, before: i64) -> Self {
        let (archive, upto) = (archive.into(), BTreeMap::new());
        let (source_bytes, run_bytes) = (SOURCE_BYTES, RUN_BYTES);
        Self { archive, before, upto, source_bytes, run_bytes, zstd_level: ZSTD_LEVEL }
    }
}

/// How far a day is; told so that it can be said, and cut short in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An old file was read.
    Read,
    /// A sorted run is on disk.
    Run,
    /// The new files are written and durable.
    Written,
    /// They were read back and hold the same rows.
    Proven,
    /// They are in place.
    InPlace,
    /// An old file is gone.
    Removed,
}

/// A day that was put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// What holds what.
    pub list: Compacted,
    /// SHA-256 of the list, hex.
    pub sha256: String,
    /// Files that there were.
    pub files_before: u64,
    /// Their bytes.
    pub bytes_before: u64,
}

/// Why a day stays as it is. Nothing is lost then.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not as it was sealed or put together.
    #[error("{0} is not as it was sealed: verify the archive")]
    Changed(String),
    /// A file can't be read.
    #[error("{path} can't be read: verify the archive")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: DecodeError,
    },
    /// A new file can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What was written does not hold the same rows.
    #[error("{table} of {day}: what was written does not hold the same rows; the old files stay")]
    NotTheSame {
        /// The table.
        table: &'static str,
        /// The day.
        day: String,
    },
    /// Files came to the day or went from it meanwhile.
    #[error("{table} of {day}: files came or went meanwhile; the old ones stay, try again")]
    Moved {
        /// The table.
        table: &'static str,
        /// The day.
        day: String,
    },
    /// Something of unknown origin lies where days are put together.
    #[error("{0} holds files that nothing accounts for: look at them, then remove them")]
    Foreign(String),
    /// Another compaction is under way.
    #[error("another compaction of this archive is under way")]
    Busy,
    /// Whoever was asked to record it did not.
    #[error("not recorded")]
    Recorder(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Who is told of a compaction.
pub trait Watch {
    /// A day is proven and about to take its place; where this fails it does not.
    ///
    /// # Errors
    /// If it can't be recorded.
    fn record(&mut self, done: &Done) -> Result<(), CompactError>;

    /// A step was made.
    fn step(&mut self, step: Step);
}

/// Nobody is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn record(&mut self, _: &Done) -> Result<(), CompactError> {
        Ok(())
    }

    fn step(&mut self, _: Step) {}
}

/// The days that would be put together, and those that stay, with the reason.
///
/// # Errors
/// If the archive can't be read.
pub fn plan(options: &Options) -> Result<Vec<Due>, CompactError> {
    plan::plan(options)
}

/// Puts days together, the oldest first; answers what was done. A day that fails is told to `failed` and stays as it is.
///
/// # Errors
/// If another compaction is under way, or the archive can't be read.
pub fn compact(
    options: &Options,
    watch: &mut dyn Watch,
    failed: &mut dyn FnMut(&Due, CompactError),
) -> Result<Vec<Done>, CompactError> {
    let _busy = swap::alone(&options.archive)?;
    swap::clean(&options.archive, watch)?;
    let mut done = Vec::new();
    for due in plan(options)? {
        if due.why.is_some() {
            continue;
        }
        match day(options, &due, watch) {
            Ok(one) => done.push(one),
            Err(error) => failed(&due, error),
        }
    }
    swap::clean(&options.archive, watch)?;
    Ok(done)
}

/// Puts one day of a table together.
fn day(options: &Options, due: &Due, watch: &mut dyn Watch) -> Result<Done, CompactError> {
    let mut sources = sort::Sources::new(&options.archive, due);
    let staging = swap::stage(&options.archive, due)?;
    let sorted = sort::sort(options, &mut sources, &staging, watch)?;
    let parts = write::Shape {
        rows: due.rows(),
        parts: due.parts(options.source_bytes),
        level: options.zstd_level,
    };
    let (files, is_same) = write::write(&options.archive, due, parts, sorted, watch)?;
    if !is_same {
        return Err(CompactError::NotTheSame { table: due.table.as_str(), day: due.day.clone() });
    }
    watch.step(Step::Proven);
    let mut replaces = due.replaces.clone();
    replaces.sort();
    let (table, day) = (due.table.as_str().to_owned(), due.day.clone());
    let list = Compacted { version: 1, table, day, files, replaces };
    let bytes = list.bytes().map_err(io_error(&staging))?;
    let done = Done {
        sha256: hex(&Sha256::digest(&bytes)),
        list,
        files_before: u64::try_from(due.sources.len()).unwrap_or(u64::MAX),
        bytes_before: due.bytes(),
    };
    files::write(&staging.join(crate::compacted::NAME), &bytes, 0o644)
        .map_err(io_error(&staging))?;
    watch.record(&done)?;
    swap::exchange(&options.archive, due)?;
    watch.step(Step::InPlace);
    swap::clean_day(&options.archive, due.table, &due.day, watch)?;
    Ok(done)
}

/// Removes a day that was put together and disposed of, in one step of the file system where nothing else is in its folder.
/// The archive is locked by who calls it.
///
/// # Errors
/// If a compaction is under way, or the system refuses.
pub(crate) fn remove(archive: &Path, list: &Compacted) -> Result<(), CompactError> {
    let _busy = swap::alone(archive)?;
    let Some(table) = list.table() else { return Ok(()) };
    swap::clean_day(archive, table, &list.day, &mut Unwatched)?;
    swap::take_away(archive, table, list)
}

/// The table and day in words.
fn name(table: Table, day: &str) -> String {
    format!("{} of {day}", table.as_str())
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CompactError {
    let path = path.to_owned();
    move |source| CompactError::Io { path, source }
}
