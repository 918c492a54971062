//! A Parquet file's bytes to rows, whoever wrote them, by column names.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use journal::row::{Column, Kind, Masked, Micros, OwnedValue, Row, Table};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Rows decoded at once.
const BATCH_ROWS: usize = 4096;

/// Why a file gives no rows.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is no Parquet file, or damaged.
    #[error("not readable as Parquet: {0}")]
    Parquet(String),
    /// A column is missing, or of another type, or holds what it must not.
    #[error("column {0} is missing or not as it must be")]
    Column(&'static str),
    /// It is damaged such that the decoder gave up.
    #[error("not readable as Parquet: the decoder gave up")]
    GaveUp,
    /// It is damaged, and this build cannot survive a decoder that gives up.
    #[error("changed, so it is not decoded")]
    NotTried,
}

/// Calls `each` with the rows of a file that is as it was written.
pub fn rows(table: Table, file: Vec<u8>, each: &mut dyn FnMut(Row)) -> Result<(), DecodeError> {
    let fail = |e: &dyn std::fmt::Display| DecodeError::Parquet(e.to_string());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes(file))
        .map_err(|e| fail(&e))?
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|e| fail(&e))?;
    for batch in reader {
        batch_rows(table, &batch.map_err(|e| fail(&e))?, each)?;
    }
    Ok(())
}

/// As [`rows`], of a file that is not as it was written: whatever is in it, this returns. Where a
/// panic ends the program (`panic = "abort"`), it is not decoded at all.
pub fn changed_rows(
    table: Table,
    file: Vec<u8>,
    each: &mut dyn FnMut(Row),
) -> Result<(), DecodeError> {
    if cfg!(panic = "abort") {
        return Err(DecodeError::NotTried);
    }
    catch_unwind(AssertUnwindSafe(|| rows(table, file, each))).unwrap_or(Err(DecodeError::GaveUp))
}

/// The first column of a damaged file that can't be read, and the row in the file from which on;
/// `None` where it is no column's fault. May panic: call it where that does no harm.
pub fn damage(table: Table, file: &[u8]) -> Option<(&'static str, usize)> {
    let file = bytes::Bytes::copy_from_slice(file);
    for column in table.columns() {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).ok()?;
        let only = ProjectionMask::columns(builder.parquet_schema(), [column.name]);
        let reader = builder.with_projection(only).with_batch_size(1).build().ok()?;
        for (row, batch) in reader.enumerate() {
            if batch.is_err() {
                return Some((column.name, row));
            }
        }
    }
    None
}

fn bytes(file: Vec<u8>) -> impl parquet::file::reader::ChunkReader + 'static {
    bytes::Bytes::from(file)
}

pub(crate) fn batch_rows(
    table: Table,
    batch: &RecordBatch,
    each: &mut dyn FnMut(Row),
) -> Result<(), DecodeError> {
    let columns = table
        .columns()
        .iter()
        .enumerate()
        .map(|(at, column)| match batch.column_by_name(column.name) {
            // A file of before the column was added.
            None if at < table.first_columns() => Err(DecodeError::Column(column.name)),
            array => Ok((column, array)),
        })
        .collect::<Result<Vec<_>, _>>()?;
    for at in 0..batch.num_rows() {
        let values = columns
            .iter()
            .map(|(column, array)| {
                let Some(array) = array else { return Ok(OwnedValue::Null) };
                value(column, array, at).ok_or(DecodeError::Column(column.name))
            })
            .collect::<Result<Vec<_>, _>>()?;
        each(Row::from_values(table, values.into_iter()).ok_or(DecodeError::Column("seq"))?);
    }
    Ok(())
}

fn value(column: &Column, array: &ArrayRef, at: usize) -> Option<OwnedValue> {
    if array.is_null(at) {
        return column.nullable.then_some(OwnedValue::Null);
    }
    Some(match column.kind {
        Kind::Bool => OwnedValue::Bool(array.as_boolean_opt()?.value(at)),
        Kind::I32 => OwnedValue::I32(array.as_primitive_opt::<Int32Type>()?.value(at)),
        Kind::I64 => OwnedValue::I64(array.as_primitive_opt::<Int64Type>()?.value(at)),
        Kind::Ts => {
            OwnedValue::Ts(Micros(array.as_primitive_opt::<TimestampMicrosecondType>()?.value(at)))
        }
        Kind::Str => OwnedValue::Str(array.as_string_opt::<i32>()?.value(at).to_owned()),
        Kind::Bytes => OwnedValue::Bytes(array.as_binary_opt::<i32>()?.value(at).to_owned()),
        Kind::StrList => {
            let items = array.as_list_opt::<i32>()?.value(at);
            let items = items.as_string_opt::<i32>()?;
            OwnedValue::StrList(items.iter().map(|i| i.map(str::to_owned)).collect::<Option<_>>()?)
        }
        Kind::MaskList => {
            let items = array.as_list_opt::<i32>()?.value(at);
            let items = items.as_struct_opt()?;
            let entities = items.column_by_name("entity")?.as_string_opt::<i32>()?;
            let counts = items.column_by_name("count")?.as_primitive_opt::<Int64Type>()?;
            let items = entities
                .iter()
                .zip(counts.iter())
                .map(|(entity, count)| Some(Masked { entity: entity?.to_owned(), count: count? }));
            OwnedValue::MaskList(items.collect::<Option<_>>()?)
        }
    })
}
