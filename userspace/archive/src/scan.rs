//! Rows of an archive in a stream, those that are sought: by days, and as they lie in each file. Memory stays flat,
//! however many there are.
//!
//! It verifies nothing: `vestibule verify` does.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, BooleanArray, RecordBatch};
use journal::row::{ControlRow, Row, Table};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ParquetRecordBatchReaderBuilder as Builder, RowFilter,
};
use parquet::file::statistics::Statistics;

use crate::decode::{DecodeError, batch_rows};
use crate::{files, layout};

/// Rows decoded at once: of recordings of 64 KiB each, 64 MiB.
const BATCH_ROWS: usize = 1024;

/// What is sought; what is absent is not gone by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// At or after, microseconds since 1970 UTC.
    pub from_us: Option<i64>,
    /// Before.
    pub until_us: Option<i64>,
    /// Of one of these sessions; of any where there is none.
    pub sessions: Vec<String>,
    /// Of this agent.
    pub agent: Option<String>,
    /// Decided so, in the archive's word; commands alone are.
    pub decision: Option<String>,
}

/// Why rows can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not as it was written.
    #[error("{} can't be read: verify the archive", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: DecodeError,
    },
}

/// Calls `each` with the rows of `table` that are sought, until it fails.
///
/// # Errors
/// If a file can't be read, or `each` fails.
pub fn scan<E: From<ScanError>>(
    archive: &Path,
    table: Table,
    filter: &Filter,
    each: &mut dyn FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    let Filter { from_us, until_us, sessions, agent, decision } = filter;
    let within = Within {
        column: "ts",
        from: from_us.unwrap_or(i64::MIN),
        until: until_us.unwrap_or(i64::MAX),
    };
    let has = |name: &str| table.columns().iter().any(|column| column.name == name);
    // What has no such column is none that is sought.
    let named = [
        (!sessions.is_empty(), "session_id"),
        (agent.is_some(), "agent_id"),
        (decision.is_some(), "decision"),
    ];
    if named.iter().any(|(is_sought, name)| *is_sought && !has(name)) {
        return Ok(());
    }
    let mut columns = vec!["ts"];
    columns.extend(named.iter().filter(|(is_sought, _)| *is_sought).map(|(_, name)| *name));
    for path in files_of(archive, table)? {
        let filter = filter.clone();
        let keep = move |batch: &RecordBatch, row: usize| {
            let is = |name: &str, wanted: &dyn Fn(&str) -> bool| {
                let column = batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
                column.is_some_and(|column| !column.is_null(row) && wanted(column.value(row)))
            };
            let Filter { from_us: _, until_us: _, sessions, agent, decision } = &filter;
            (sessions.is_empty() || is("session_id", &|one| sessions.iter().any(|s| s == one)))
                && agent.as_deref().is_none_or(|wanted| is("agent_id", &|one| one == wanted))
                && decision.as_deref().is_none_or(|wanted| is("decision", &|one| one == wanted))
        };
        file(table, &path, &within, &columns, keep, each)?;
    }
    Ok(())
}

/// Calls `each` with the control records of these kinds, as they lie in each file, until it fails; no others are decoded.
///
/// # Errors
/// If a file can't be read, or `each` fails.
pub fn control<E: From<ScanError>>(
    archive: &Path,
    kinds: &'static [&'static str],
    each: &mut dyn FnMut(ControlRow) -> Result<(), E>,
) -> Result<(), E> {
    let within = Within { column: "ts", from: i64::MIN, until: i64::MAX };
    let keep = move |batch: &RecordBatch, row: usize| {
        let kind = batch.column_by_name("kind").and_then(|column| column.as_string_opt::<i32>());
        kind.is_some_and(|kind| !kind.is_null(row) && kinds.contains(&kind.value(row)))
    };
    for path in files_of(archive, Table::Control)? {
        file(Table::Control, &path, &within, &["ts", "kind"], keep, &mut |row| match row {
            Row::Control(row) => each(*row),
            Row::Event(_) | Row::Session(_) | Row::Recording(_) => Ok(()),
        })?;
    }
    Ok(())
}

/// Calls `each` with some text columns of a file's rows, in the order of `columns`, until it breaks off; no others are
/// read.
///
/// # Errors
/// If it can't be read, or lacks one of the columns.
pub(crate) fn texts(
    path: &Path,
    columns: &[&'static str],
    each: &mut dyn FnMut(&[Option<&str>]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ScanError> {
    let of = |source| ScanError::File { path: path.to_owned(), source };
    let parquet = |error: &dyn std::fmt::Display| of(DecodeError::Parquet(error.to_string()));
    let file =
        File::open(path).map_err(|source| ScanError::Io { path: path.to_owned(), source })?;
    let builder = Builder::try_new(file).map_err(|error| parquet(&error))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| parquet(&error))?;
    for batch in reader {
        let batch = batch.map_err(|error| parquet(&error))?;
        let mut arrays = Vec::with_capacity(columns.len());
        for name in columns {
            let array = batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
            arrays.push(array.ok_or_else(|| of(DecodeError::Column(name)))?);
        }
        for row in 0..batch.num_rows() {
            let values: Vec<Option<&str>> =
                arrays.iter().map(|a| (!a.is_null(row)).then(|| a.value(row))).collect();
            if each(&values).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A range of a column of integers or times: `from` and up, below `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Within {
    pub(crate) column: &'static str,
    pub(crate) from: i64,
    pub(crate) until: i64,
}

/// Calls `each` with a file's rows that are within the range and that `keep` keeps by some `columns`; only those are
/// decoded whole.
pub(crate) fn file<E: From<ScanError>>(
    table: Table,
    path: &Path,
    within: &Within,
    columns: &[&str],
    mut keep: impl FnMut(&RecordBatch, usize) -> bool + Send + 'static,
    each: &mut dyn FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    let of = |source| ScanError::File { path: path.to_owned(), source };
    let parquet = |error: &dyn std::fmt::Display| of(DecodeError::Parquet(error.to_string()));
    let file =
        File::open(path).map_err(|source| ScanError::Io { path: path.to_owned(), source })?;
    let builder = Builder::try_new(file).map_err(|error| parquet(&error))?;
    let groups = groups(&builder, within);
    let names = columns.iter().copied().chain([within.column]);
    let mask = ProjectionMask::columns(builder.parquet_schema(), names);
    let within = *within;
    let predicate = ArrowPredicateFn::new(mask, move |batch: RecordBatch| {
        let is = (0..batch.num_rows()).map(|row| within.has(&batch, row) && keep(&batch, row));
        Ok(BooleanArray::from(is.collect::<Vec<bool>>()))
    });
    let reader = builder
        .with_row_groups(groups)
        .with_row_filter(RowFilter::new(vec![Box::new(predicate)]))
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| parquet(&error))?;
    for batch in reader {
        let batch = batch.map_err(|error| parquet(&error))?;
        let mut done = Ok(());
        batch_rows(table, &batch, &mut |row| {
            if done.is_ok() {
                done = each(row);
            }
        })
        .map_err(of)?;
        done?;
    }
    Ok(())
}

impl Within {
    fn has(&self, batch: &RecordBatch, row: usize) -> bool {
        let Some(column) = batch.column_by_name(self.column) else { return false };
        let numbers = column.as_primitive_opt::<Int64Type>().map(|column| column.value(row));
        let times = || column.as_primitive_opt::<TimestampMicrosecondType>().map(|c| c.value(row));
        let value = numbers.or_else(times);
        value.is_some_and(|value| (self.from..self.until).contains(&value))
    }
}

/// The row groups that may hold something of the range.
fn groups(builder: &Builder<File>, within: &Within) -> Vec<usize> {
    let metadata = builder.metadata();
    let is_it = |at: &usize| builder.parquet_schema().column(*at).name() == within.column;
    let column = (0..builder.parquet_schema().num_columns()).find(is_it);
    let may = |group: &usize| {
        let chunk = column.map(|at| metadata.row_group(*group).column(at));
        let Some(Statistics::Int64(known)) = chunk.and_then(|chunk| chunk.statistics()) else {
            return true;
        };
        let is_above = known.min_opt().is_some_and(|min| *min >= within.until);
        let is_below = known.max_opt().is_some_and(|max| *max < within.from);
        !is_above && !is_below
    };
    (0..metadata.num_row_groups()).filter(may).collect()
}

/// A table's files, the oldest day's first.
pub(crate) fn files_of(archive: &Path, table: Table) -> Result<Vec<PathBuf>, ScanError> {
    // An evidence kit has one file of each.
    let of_kit = archive.join("rows").join(format!("{}.parquet", table.as_str()));
    if of_kit.is_file() {
        return Ok(vec![of_kit]);
    }
    let dir = layout::table_dir(archive, table);
    let mut found = files::walk(&dir).map_err(|source| ScanError::Io { path: dir, source })?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    Ok(found)
}
