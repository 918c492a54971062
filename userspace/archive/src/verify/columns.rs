//! A file's leaves straight from its columns, without a row being made: the canonical form of
//! `journal::row::canon`, column by column.

use arrow_array::cast::AsArray;
use arrow_array::types::{ByteArrayType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, GenericByteArray, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use journal::imported;
use journal::row::{Column, FIELD_BYTES_MAX, Kind, LEAF_PREFIX, Table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use sha2::{Digest, Sha256};

use super::facts::{self, Facts};
use crate::compacted::KIND;
use crate::decode::DecodeError;
use crate::key::Rotation;
use crate::merkle::Hash;
use crate::retention::DISPOSED;

/// Rows decoded at once.
const BATCH_ROWS: usize = 8192;

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
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file))
        .map_err(|e| fail(&e))?
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|e| fail(&e))?;
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
    found.rows.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        buffer.clear();
        buffer.push(0);
        buffer.extend_from_slice(LEAF_PREFIX);
        buffer.push(table.tag());
        let mut end = buffer.len();
        for (at, values) in typed.iter().enumerate() {
            let is_there = values.put(row, buffer);
            if is_there || at < table.first_columns() {
                end = buffer.len();
            }
        }
        buffer.truncate(end);
        let seq = u64::try_from(seqs.value(row)).map_err(|_| DecodeError::Column("seq"))?;
        found.rows.push((seq, Sha256::digest(&buffer).into()));
    }
    if table == Table::Control {
        rotations(batch, found);
    }
    let name = imported::column(table);
    let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let column = column.ok_or(DecodeError::Column(name))?;
    let marked = column.iter().flatten().filter(|value| imported::is_mark(table, value)).count();
    *found.marked.get_or_insert(0) += marked;
    if let Some(facts) = &mut found.facts {
        facts::gather(table, batch, facts);
    }
    Ok(())
}

fn rotations(batch: &RecordBatch, found: &mut Taken) {
    let text = |name| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (Some(kinds), Some(details)) = (text("kind"), text("detail")) else { return };
    let first = found.rows.len() - batch.num_rows();
    for (row, (kind, detail)) in kinds.iter().zip(details).enumerate() {
        if kind == Some(KIND) {
            found.compactions.push(detail.unwrap_or_default().to_owned());
        }
        if kind.is_some_and(|kind| [Rotation::KIND, DISPOSED].contains(&kind))
            && let Some((seq, _)) = found.rows.get(first + row)
        {
            found.rotations.push((*seq, detail.unwrap_or_default().to_owned()));
        }
    }
}

/// The values of a column.
enum Values<'a> {
    Absent,
    Bool(&'a BooleanArray),
    I32(&'a Int32Array),
    I64(&'a Int64Array),
    Ts(&'a TimestampMicrosecondArray),
    Str(&'a StringArray),
    Bytes(&'a BinaryArray),
    StrList(&'a ListArray, &'a StringArray),
    MaskList(&'a ListArray, &'a StringArray, &'a Int64Array),
}

impl<'a> Values<'a> {
    /// `None` where the column is not as it must be.
    fn of(column: &Column, array: &'a ArrayRef) -> Option<Self> {
        if array.null_count() > 0 && !column.nullable {
            return None;
        }
        let values = match column.kind {
            Kind::Bool => Self::Bool(array.as_boolean_opt()?),
            Kind::I32 => Self::I32(array.as_primitive_opt::<Int32Type>()?),
            Kind::I64 => Self::I64(array.as_primitive_opt::<Int64Type>()?),
            Kind::Ts => Self::Ts(array.as_primitive_opt::<TimestampMicrosecondType>()?),
            Kind::Str => Self::Str(array.as_string_opt::<i32>()?),
            Kind::Bytes => Self::Bytes(array.as_binary_opt::<i32>()?),
            Kind::StrList => {
                let lists = array.as_list_opt::<i32>()?;
                let items = lists.values().as_string_opt::<i32>()?;
                (items.null_count() == 0).then_some(Self::StrList(lists, items))?
            }
            Kind::MaskList => {
                let lists = array.as_list_opt::<i32>()?;
                let items = lists.values().as_struct_opt()?;
                let entities = items.column_by_name("entity")?.as_string_opt::<i32>()?;
                let counts = items.column_by_name("count")?.as_primitive_opt::<Int64Type>()?;
                let whole = entities.null_count() + counts.null_count() + items.null_count() == 0;
                whole.then_some(Self::MaskList(lists, entities, counts))?
            }
        };
        let is_absent = array.null_count() == array.len();
        Some(if is_absent { Self::Absent } else { values })
    }

    /// Appends the canonical form of the value of `row`; false where it is absent.
    #[inline]
    fn put(&self, row: usize, out: &mut Vec<u8>) -> bool {
        if self.is_null(row) {
            out.push(0);
            return false;
        }
        match self {
            Self::Absent => {}
            Self::Bool(it) => out.extend_from_slice(&[1, u8::from(it.value(row))]),
            Self::I32(it) => put_fixed(out, it.value(row).to_be_bytes()),
            Self::I64(it) => put_fixed(out, it.value(row).to_be_bytes()),
            Self::Ts(it) => put_fixed(out, it.value(row).to_be_bytes()),
            Self::Str(it) => put_field(out, it, row),
            Self::Bytes(it) => put_field(out, it, row),
            Self::StrList(lists, items) => {
                put_list(out, lists, row, |at, out| put_bytes(out, 4, items, at));
            }
            Self::MaskList(lists, entities, counts) => put_list(out, lists, row, |at, out| {
                put_bytes(out, 4, entities, at);
                out.extend_from_slice(&counts.value(at).to_be_bytes());
            }),
        }
        true
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Absent => true,
            Self::Bool(it) => it.is_null(row),
            Self::I32(it) => it.is_null(row),
            Self::I64(it) => it.is_null(row),
            Self::Ts(it) => it.is_null(row),
            Self::Str(it) => it.is_null(row),
            Self::Bytes(it) => it.is_null(row),
            Self::StrList(it, _) | Self::MaskList(it, _, _) => it.is_null(row),
        }
    }
}

#[inline]
fn put_fixed<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    out.push(1);
    out.extend_from_slice(&value);
}

#[inline]
fn put_field<T: ByteArrayType<Offset = i32>>(
    out: &mut Vec<u8>,
    values: &GenericByteArray<T>,
    row: usize,
) {
    let start = out.len();
    put_bytes(out, 5, values, row);
    if out.len() - start - 1 > FIELD_BYTES_MAX {
        shorten(out, start);
    }
}

fn put_list(
    out: &mut Vec<u8>,
    lists: &ListArray,
    row: usize,
    mut item: impl FnMut(usize, &mut Vec<u8>),
) {
    let start = out.len();
    out.push(1);
    let bounds = lists.value_offsets().get(row..row + 2).unwrap_or_default();
    let bound = |at: usize| bounds.get(at).and_then(|n| usize::try_from(*n).ok()).unwrap_or(0);
    put_len(out, bound(1) - bound(0));
    (bound(0)..bound(1)).for_each(|at| item(at, out));
    if out.len() - start - 1 > FIELD_BYTES_MAX {
        shorten(out, start);
    }
}

/// Bytes that are copied at once, whatever a value's length: most are no longer, and to copy so many takes a fraction of
/// what a call takes that copies fewer.
const COPIED: usize = 32;

/// Appends a value's length and bytes: the last `head` (4 or 5) bytes of 1 and the length, and it.
#[inline]
fn put_bytes<T: ByteArrayType<Offset = i32>>(
    out: &mut Vec<u8>,
    head: usize,
    values: &GenericByteArray<T>,
    at: usize,
) {
    let bounds = values.value_offsets().get(at..at + 2).unwrap_or_default();
    let bound = |at: usize| bounds.get(at).and_then(|n| usize::try_from(*n).ok()).unwrap_or(0);
    let (from, to) = (bound(0), bound(1));
    let [a, b, c, d] = u32::try_from(to - from).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice([1, a, b, c, d].get(5 - head..).unwrap_or_default());
    let data = values.value_data();
    let copied = data.get(from..from + COPIED).and_then(<[u8]>::first_chunk::<COPIED>);
    match copied {
        Some(copied) if to - from <= COPIED => {
            let end = out.len() + (to - from);
            out.extend_from_slice(copied);
            out.truncate(end);
        }
        _ => out.extend_from_slice(data.get(from..to).unwrap_or_default()),
    }
}

/// Lengths in a Parquet page stay below i32.
#[inline]
fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
}

/// A field longer than [`FIELD_BYTES_MAX`] enters by its digest.
#[cold]
fn shorten(out: &mut Vec<u8>, start: usize) {
    let digest = Sha256::digest(out.get(start + 1..).unwrap_or_default());
    out.truncate(start);
    out.push(2);
    out.extend_from_slice(&digest);
}
