//! The newest rows of one file that are sought: found by a few columns, and only then read whole.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use journal::row::{Row, Table};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::file::statistics::Statistics;

use super::{SearchError, Sought, names};
use crate::decode::{DecodeError, batch_rows};

/// Rows decoded at once.
const BATCH_ROWS: usize = 8_192;

/// Calls `each` with the `most` newest rows that are sought and below `sealed`; answers how many were looked at. A file
/// that is gone meanwhile has none.
pub(super) fn newest(
    table: Table,
    path: &Path,
    sought: &Sought,
    (most, sealed): (usize, u64),
    each: &mut dyn FnMut(Row),
) -> Result<u64, SearchError> {
    let of = |why| SearchError::File { path: path.to_owned(), why };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file?,
    };
    let builder = open(file.try_clone()?).map_err(of)?;
    let groups = groups(table, &builder, sought);
    let rows: i64 =
        groups.iter().map(|group| builder.metadata().row_group(*group).num_rows()).sum();
    let rows = usize::try_from(rows).unwrap_or(0);
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns(table).iter().copied());
    let reader = builder.with_row_groups(groups.clone()).with_projection(mask);
    let reader = reader.with_batch_size(BATCH_ROWS).build().map_err(|error| of(parquet(&error)))?;
    // Files that were put together are sorted by session, not by time.
    let (mut newest, mut at) = (BinaryHeap::with_capacity(most.min(BATCH_ROWS)), 0);
    for batch in reader {
        let batch = batch.map_err(|error| of(parquet(&error)))?;
        let meets = Columns::of(table, &batch).map_err(of)?;
        for row in 0..batch.num_rows() {
            if meets.meet(sought, sealed, row) {
                let ts = meets.ts.as_primitive::<TimestampMicrosecondType>().value(row);
                newest.push(Reverse((ts, at + row)));
                if newest.len() > most {
                    newest.pop();
                }
            }
        }
        at += batch.num_rows();
    }
    let mut places: Vec<usize> = newest.into_iter().map(|Reverse((_, place))| place).collect();
    places.sort_unstable();
    if !places.is_empty() {
        let ranges = places.into_iter().map(|place| place..place + 1);
        let selection = RowSelection::from_consecutive_ranges(ranges, rows);
        let reader = open(file).map_err(of)?.with_row_groups(groups).with_row_selection(selection);
        for batch in reader.build().map_err(|error| of(parquet(&error)))? {
            let batch = batch.map_err(|error| of(parquet(&error)))?;
            batch_rows(table, &batch, each).map_err(of)?;
        }
    }
    Ok(u64::try_from(rows).unwrap_or(u64::MAX))
}

fn open(file: File) -> Result<ParquetRecordBatchReaderBuilder<File>, DecodeError> {
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| parquet(&error))
}

fn parquet(error: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Parquet(error.to_string())
}

/// The row groups that may hold something of the time that is sought.
fn groups(
    table: Table,
    builder: &ParquetRecordBatchReaderBuilder<File>,
    sought: &Sought,
) -> Vec<usize> {
    let metadata = builder.metadata();
    let is_ts = |at: &usize| builder.parquet_schema().column(*at).name() == "ts";
    let ts = (0..builder.parquet_schema().num_columns()).find(is_ts);
    let may = |group: &usize| {
        let column = ts.map(|ts| metadata.row_group(*group).column(ts));
        let Some(Statistics::Int64(within)) = column.and_then(|column| column.statistics()) else {
            return true;
        };
        let is_before = within.min_opt().is_some_and(|min| *min >= sought.until_us);
        let is_after = within.max_opt().is_some_and(|max| *max < sought.from_us);
        !is_before && !is_after
    };
    // A session's row is of when it closed, not of when its commands began.
    (0..metadata.num_row_groups()).filter(|group| table == Table::Sessions || may(group)).collect()
}

/// What a row is found by.
fn columns(table: Table) -> &'static [&'static str] {
    match table {
        Table::Events => &[
            "seq",
            "ts",
            "session_id",
            "agent_id",
            "actor_user",
            "actor_sub",
            "objects",
            "decision",
        ],
        Table::Sessions | Table::Recordings | Table::Control => &["seq", "ts", "session_id"],
    }
}

/// The same of one batch.
struct Columns<'b> {
    table: Table,
    batch: &'b RecordBatch,
    seq: &'b dyn Array,
    ts: &'b dyn Array,
}

impl<'b> Columns<'b> {
    fn of(table: Table, batch: &'b RecordBatch) -> Result<Self, DecodeError> {
        let column = |name: &'static str| {
            let column = batch.column_by_name(name).ok_or(DecodeError::Column(name))?;
            Ok::<&dyn Array, DecodeError>(column.as_ref())
        };
        let (seq, ts) = (column("seq")?, column("ts")?);
        seq.as_primitive_opt::<Int64Type>().ok_or(DecodeError::Column("seq"))?;
        ts.as_primitive_opt::<TimestampMicrosecondType>().ok_or(DecodeError::Column("ts"))?;
        for name in columns(table).iter().filter(|name| !["seq", "ts", "objects"].contains(name)) {
            column(name)?.as_string_opt::<i32>().ok_or(DecodeError::Column(name))?;
        }
        Ok(Self { table, batch, seq, ts })
    }

    fn meet(&self, sought: &Sought, sealed: u64, row: usize) -> bool {
        let Sought { from_us, until_us, agent, person, object, decision, session, most: _ } =
            sought;
        let ts = self.ts.as_primitive::<TimestampMicrosecondType>().value(row);
        let seq = self.seq.as_primitive::<Int64Type>().value(row);
        let is_sealed = u64::try_from(seq).is_ok_and(|seq| seq < sealed);
        let is_in_time = self.table == Table::Sessions || (*from_us..*until_us).contains(&ts);
        if !is_sealed || !is_in_time {
            return false;
        }
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| self.text(name, row) == Some(wanted))
        };
        let is_of = |person: &str| {
            ["actor_user", "actor_sub"].iter().any(|name| self.text(name, row) == Some(person))
        };
        is(session, "session_id")
            && is(agent, "agent_id")
            && is(decision, "decision")
            && person.as_deref().is_none_or(is_of)
            && object.as_deref().is_none_or(|wanted| self.touches(wanted, row))
    }

    fn text(&self, name: &str, row: usize) -> Option<&str> {
        let column = self.batch.column_by_name(name)?.as_string_opt::<i32>()?;
        (!column.is_null(row)).then(|| column.value(row))
    }

    fn touches(&self, wanted: &str, row: usize) -> bool {
        let lists =
            self.batch.column_by_name("objects").and_then(|column| column.as_list_opt::<i32>());
        let Some(lists) = lists.filter(|lists| !lists.is_null(row)) else { return false };
        let objects = lists.value(row);
        let Some(objects) = objects.as_string_opt::<i32>() else { return false };
        objects.iter().flatten().any(|object| names(wanted, object))
    }
}
