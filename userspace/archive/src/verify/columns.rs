//! A file's leaves straight from its columns, without a row being made: the canonical form of
//! `journal::row::canon`, column by column.

mod open;
mod plan;
mod strings;
mod values;

use arrow_array::RecordBatch;
use journal::imported;
use journal::row::{LEAF_PREFIX, Table};
use journal::start::Start;
use sha2::{Digest, Sha256};

use super::facts::{self, Facts};
use crate::compacted::KIND;
use crate::decode::DecodeError;
use crate::key::Rotation;
use crate::merkle::Hash;
use crate::retention::DISPOSED;

pub(crate) use open::{group_reader, reader};
use plan::Plan;
pub(crate) use strings::Strings;
use values::Values;

/// Rows decoded at once: what a batch of 90 columns takes stays in a processor's cache.
const BATCH_ROWS: usize = 4096;

/// The place of `seq` in every table (`journal::row::Table::columns`).
const SEQ: usize = 2;

/// What is taken from a file.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Sequence numbers and leaves.
    pub(crate) rows: Vec<(u64, Hash)>,
    /// Records by which one key follows another, and by which files went: sequence number and detail.
    pub(crate) rotations: Vec<(u64, String)>,
    /// Records of days that were put together: detail.
    pub(crate) compactions: Vec<String>,
    /// Records that are marked as imported; absent where that was not looked at.
    pub(super) marked: Option<usize>,
    /// What else they say; `None` where that is not asked for.
    pub(super) facts: Option<Facts>,
}

/// The leaves of a file that is as it was written.
pub(super) fn leaves(table: Table, file: Vec<u8>, with_facts: bool) -> Result<Taken, DecodeError> {
    let fail = |e: &dyn std::fmt::Display| DecodeError::Parquet(e.to_string());
    let reader = reader(bytes::Bytes::from(file), BATCH_ROWS).map_err(|e| fail(&e))?;
    let mut found = Taken { facts: with_facts.then(Facts::default), ..Taken::default() };
    let mut buffer = Vec::with_capacity(64 * 1024);
    for batch in reader {
        batch_leaves(table, &batch.map_err(|e| fail(&e))?, &mut buffer, &mut found)?;
    }
    Ok(found)
}

/// Adds the leaves of a batch; `buffer` is reused.
pub(crate) fn batch_leaves(
    table: Table,
    batch: &RecordBatch,
    buffer: &mut Vec<u8>,
    found: &mut Taken,
) -> Result<(), DecodeError> {
    let columns = table.columns();
    let mut typed = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        typed.push(match batch.column_by_name(column.name) {
            // A file of before the column was added.
            None if at >= table.first_columns() => Values::Absent,
            array => array
                .and_then(|array| Values::of(column, array))
                .ok_or(DecodeError::Column(column.name))?,
        });
    }
    let Some(Values::I64(seqs)) = typed.get(SEQ) else { return Err(DecodeError::Column("seq")) };
    let mut head = vec![0];
    head.extend_from_slice(LEAF_PREFIX);
    head.push(table.tag());
    let plan = Plan::of(&typed, table.first_columns(), head, batch.num_rows());
    found.rows.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        plan.put(row, buffer);
        let seq = u64::try_from(seqs.value(row)).map_err(|_| DecodeError::Column("seq"))?;
        found.rows.push((seq, Sha256::digest(&buffer).into()));
    }
    if table == Table::Control {
        rotations(batch, found);
    }
    let name = imported::column(table);
    let column = batch.column_by_name(name).and_then(Strings::of);
    let column = column.ok_or(DecodeError::Column(name))?;
    let marked = column.count(|value| imported::is_mark(table, value));
    *found.marked.get_or_insert(0) += marked;
    if let Some(facts) = &mut found.facts {
        facts::gather(table, batch, facts);
    }
    Ok(())
}

/// The kinds of records that say what became of the log itself: its keys, its files, its journal.
pub(super) const OF_THE_LOG: [&str; 3] = [Rotation::KIND, DISPOSED, Start::RECORD];

fn rotations(batch: &RecordBatch, found: &mut Taken) {
    let text = |name| batch.column_by_name(name).and_then(Strings::of);
    let (Some(kinds), Some(details)) = (text("kind"), text("detail")) else { return };
    let first = found.rows.len() - batch.num_rows();
    for row in 0..batch.num_rows() {
        let (kind, detail) = (kinds.get(row), || details.get(row).unwrap_or_default().to_owned());
        if kind == Some(KIND) {
            found.compactions.push(detail());
        }
        if kind.is_some_and(|kind| OF_THE_LOG.contains(&kind))
            && let Some((seq, _)) = found.rows.get(first + row)
        {
            found.rotations.push((*seq, detail()));
        }
    }
}
