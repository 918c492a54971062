//! A day's new files, and whether they hold what the old ones held.

use std::path::Path;

use arrow_array::RecordBatch;
use journal::row::Table;
use types::hex::hex;

use super::sort::{BATCH_ROWS, Keys, Sorted, Sum, open};
use super::{CompactError, Due, Step, Watch};
use crate::compacted::{self, Part};
use crate::decode::DecodeError;
use crate::verify::columns;
use crate::writer::{PartFile, Written};

/// Bytes at which a new file ends in any case.
const PART_BYTES_MAX: usize = 480 * 1024 * 1024;

/// How rows are divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// All rows.
    pub(super) rows: u64,
    /// New files.
    pub(super) parts: u64,
    /// The level of zstd.
    pub(super) level: i32,
}

/// Writes rows into new files in the day's staging folder, durably, and reads them back; answers the files by the names
/// that they will have, and whether they hold the same rows.
pub(super) fn write(
    archive: &Path,
    due: &Due,
    shape: Shape,
    mut sorted: Sorted,
    watch: &mut dyn Watch,
) -> Result<(Vec<Part>, bool), CompactError> {
    let each = shape.rows.div_ceil(shape.parts.max(1)).max(1);
    let mut parts = Parts { archive, due, each, level: shape.level, open: None, done: Vec::new() };
    sorted.drain(&mut |batch| parts.push(&batch))?;
    parts.end()?;
    let (done, due_sum) = (parts.done, sorted.sum);
    let staging = compacted::staging_dir(due.table, &due.day);
    let runs = compacted::below(archive, &staging).map_err(super::io_error(archive))?;
    for run in runs.iter().filter(|run| run.rsplit('/').next().is_some_and(is_run)) {
        let path = archive.join(run);
        std::fs::remove_file(&path).map_err(super::io_error(&path))?;
    }
    watch.step(Step::Written);
    let found = read_back(archive, due, &done)?;
    Ok((done, found == Some(due_sum)))
}

fn is_run(name: &str) -> bool {
    name.starts_with("run-")
}

/// New files of a day.
struct Parts<'a> {
    archive: &'a Path,
    due: &'a Due,
    /// Rows of each.
    each: u64,
    level: i32,
    open: Option<PartFile>,
    done: Vec<Part>,
}

impl Parts<'_> {
    fn push(&mut self, batch: &RecordBatch) -> Result<(), CompactError> {
        let mut from = 0;
        while from < batch.num_rows() {
            let file = match &mut self.open {
                Some(file) => file,
                open => {
                    let path = self.archive.join(staged(self.due, self.done.len()));
                    open.insert(PartFile::create(self.due.table, path, self.level)?)
                }
            };
            let room = usize::try_from(self.each - file.rows()).unwrap_or(usize::MAX);
            let count = room.min(batch.num_rows() - from);
            file.push(&batch.slice(from, count))?;
            from += count;
            if file.rows() >= self.each || file.bytes() >= PART_BYTES_MAX {
                self.end()?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), CompactError> {
        let Some(file) = self.open.take() else { return Ok(()) };
        let Written { sha256, bytes, rows, seqs: _ } = file.finish()?;
        let path = live(self.due, self.done.len());
        self.done.push(Part { path, sha256: hex(&sha256), bytes, rows });
        Ok(())
    }
}

/// The path of a new file, below the archive's folder.
fn live(due: &Due, number: usize) -> String {
    format!("{}/{}", compacted::day_dir(due.table, &due.day), file(due, number))
}

fn staged(due: &Due, number: usize) -> String {
    format!("{}/{}", compacted::staging_dir(due.table, &due.day), file(due, number))
}

fn file(due: &Due, number: usize) -> String {
    format!("node={}/part-{number:05}.parquet", due.node())
}

/// The sum of the rows in new files; `None` where they do not ascend.
fn read_back(archive: &Path, due: &Due, parts: &[Part]) -> Result<Option<Sum>, CompactError> {
    let (mut sum, mut last) = (Sum::default(), None);
    let (mut buffer, mut found) = (Vec::new(), columns::Taken::default());
    let rows = if due.table == Table::Recordings { 64 } else { BATCH_ROWS };
    for number in 0..parts.len() {
        let path = archive.join(staged(due, number));
        let fail = |source| CompactError::Unreadable { path: path.display().to_string(), source };
        for batch in open(&path, Some(rows))? {
            let batch = batch.map_err(|e| fail(DecodeError::Parquet(e.to_string())))?;
            columns::batch_leaves(due.table, &batch, &mut buffer, &mut found).map_err(fail)?;
            found.rows.drain(..).for_each(|(_, leaf)| sum.add(&leaf));
            let keys = Keys::of(&batch).ok_or_else(|| fail(DecodeError::Column("seq")))?;
            let own = |row| {
                let (session, node, epoch, seq) = keys.at(row);
                (session.to_owned(), node.to_owned(), epoch, seq)
            };
            let ascends = (1..batch.num_rows()).all(|row| keys.at(row - 1) < keys.at(row));
            let first = (batch.num_rows() > 0).then(|| own(0));
            if !ascends || first.is_some_and(|first| last.as_ref() >= Some(&first)) {
                return Ok(None);
            }
            last = batch.num_rows().checked_sub(1).map(own).or(last);
        }
    }
    Ok(Some(sum))
}
