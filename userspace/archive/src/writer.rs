//! Rows of one table to a Parquet file's bytes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder,
    StructBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, TimeUnit};
use journal::row::{Column, Kind, Row, Table, Value};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

/// Rows of a row group: of 1 M, point look-ups are six times slower.
pub const ROW_GROUP_ROWS: usize = 131_072;

/// The arrow schema of a table.
pub fn schema(table: Table) -> Arc<Schema> {
    Arc::new(Schema::new(table.columns().iter().map(field).collect::<Vec<_>>()))
}

/// The Parquet file of `rows`, all of `table`, in the order given.
pub fn write(table: Table, rows: &[Row], origin: &str) -> Result<Vec<u8>, ParquetError> {
    let mut file = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut file, schema(table), Some(properties(table, rows, origin)?))?;
    for rows in rows.chunks(ROW_GROUP_ROWS) {
        writer.write(&batch(table, rows)?)?;
    }
    writer.close()?;
    Ok(file)
}

fn field(column: &Column) -> Field {
    let id = field_id;
    let data_type = match column.kind {
        Kind::Bool => DataType::Boolean,
        Kind::I32 => DataType::Int32,
        Kind::I64 => DataType::Int64,
        Kind::Ts => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Str => DataType::Utf8,
        Kind::Bytes => DataType::Binary,
        Kind::StrList => DataType::List(Arc::new(
            Field::new("element", DataType::Utf8, true)
                .with_metadata(id(1000 + 10 * column.field_id)),
        )),
        Kind::MaskList => DataType::List(Arc::new(
            Field::new("element", DataType::Struct(mask_fields(column)), true)
                .with_metadata(id(1000 + 10 * column.field_id)),
        )),
    };
    Field::new(column.name, data_type, column.nullable).with_metadata(id(column.field_id))
}

fn field_id(id: i32) -> HashMap<String, String> {
    HashMap::from([("PARQUET:field_id".to_owned(), id.to_string())])
}

fn mask_fields(column: &Column) -> Fields {
    let child = |name, data_type, n: i32| {
        Field::new(name, data_type, true).with_metadata(field_id(1000 + 10 * column.field_id + n))
    };
    Fields::from(vec![child("entity", DataType::Utf8, 1), child("count", DataType::Int64, 2)])
}

fn properties(table: Table, rows: &[Row], origin: &str) -> Result<WriterProperties, ParquetError> {
    let seqs = || rows.iter().map(|row| row.seq().0);
    let pair = |key: &str, value: String| KeyValue::new(format!("vestibule.{key}"), value);
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(20_000)
        .set_write_batch_size(4096)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_created_by(concat!("vestibule ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_sorting_columns(Some(vec![SortingColumn {
            column_idx: 2,
            descending: false,
            nulls_first: false,
        }]))
        .set_key_value_metadata(Some(vec![
            pair("schema", "1".into()),
            pair("origin", origin.into()),
            pair("first_seq", seqs().min().unwrap_or(0).to_string()),
            pair("last_seq", seqs().max().unwrap_or(0).to_string()),
        ]));
    for column in table.columns() {
        let path = ColumnPath::from(column.name);
        let dense = matches!(column.kind, Kind::Ts | Kind::I64)
            || matches!(column.name, "session_seq" | "statement_len");
        if dense {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        } else if matches!(column.name, "session_id" | "approval_id") {
            properties = properties.set_column_bloom_filter_enabled(path, true);
        } else if is_free_text(column.name) {
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    Ok(properties.build())
}

fn is_free_text(name: &str) -> bool {
    matches!(
        name,
        "statement"
            | "statement_norm"
            | "parameters"
            | "response_sample"
            | "detail"
            | "sealed"
            | "decision_reason"
    )
}

fn batch(table: Table, rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let mut columns: Vec<Builder> = table.columns().iter().map(Builder::new).collect();
    for row in rows {
        let mut next = columns.iter_mut();
        row.visit(&mut |value| {
            if let Some(column) = next.next() {
                column.push(value);
            }
        });
    }
    RecordBatch::try_new(schema(table), columns.into_iter().map(Builder::finish).collect())
}

/// One column being built.
enum Builder {
    Bool(BooleanBuilder),
    I32(Int32Builder),
    I64(Int64Builder),
    Ts(TimestampMicrosecondBuilder),
    Str(StringBuilder),
    Bytes(BinaryBuilder),
    StrList(ListBuilder<StringBuilder>),
    MaskList(ListBuilder<StructBuilder>),
}

impl Builder {
    fn new(column: &Column) -> Self {
        let element = || match field(column).data_type() {
            DataType::List(element) => Arc::clone(element),
            _ => Arc::new(Field::new("element", DataType::Utf8, true)),
        };
        match column.kind {
            Kind::Bool => Self::Bool(BooleanBuilder::new()),
            Kind::I32 => Self::I32(Int32Builder::new()),
            Kind::I64 => Self::I64(Int64Builder::new()),
            Kind::Ts => Self::Ts(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Kind::Str => Self::Str(StringBuilder::new()),
            Kind::Bytes => Self::Bytes(BinaryBuilder::new()),
            Kind::StrList => {
                Self::StrList(ListBuilder::new(StringBuilder::new()).with_field(element()))
            }
            Kind::MaskList => {
                let items = StructBuilder::from_fields(mask_fields(column), 0);
                Self::MaskList(ListBuilder::new(items).with_field(element()))
            }
        }
    }

    fn push(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Bool(b), Value::Bool(v)) => b.append_value(v),
            (Self::I32(b), Value::I32(v)) => b.append_value(v),
            (Self::I64(b), Value::I64(v)) => b.append_value(v),
            (Self::Ts(b), Value::Ts(v)) => b.append_value(v.0),
            (Self::Str(b), Value::Str(v)) => b.append_value(v),
            (Self::Bytes(b), Value::Bytes(v)) => b.append_value(v),
            (Self::StrList(b), Value::StrList(items)) => {
                for item in items {
                    b.values().append_value(item);
                }
                b.append(true);
            }
            (Self::MaskList(b), Value::MaskList(items)) => {
                for item in items {
                    let fields = b.values();
                    if let Some(entity) = fields.field_builder::<StringBuilder>(0) {
                        entity.append_value(&item.entity);
                    }
                    if let Some(count) = fields.field_builder::<Int64Builder>(1) {
                        count.append_value(item.count);
                    }
                    fields.append(true);
                }
                b.append(true);
            }
            (builder, _) => builder.push_null(),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Bool(b) => b.append_null(),
            Self::I32(b) => b.append_null(),
            Self::I64(b) => b.append_null(),
            Self::Ts(b) => b.append_null(),
            Self::Str(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
            Self::StrList(b) => b.append(false),
            Self::MaskList(b) => b.append(false),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Bool(mut b) => Arc::new(b.finish()),
            Self::I32(mut b) => Arc::new(b.finish()),
            Self::I64(mut b) => Arc::new(b.finish()),
            Self::Ts(mut b) => Arc::new(b.finish()),
            Self::Str(mut b) => Arc::new(b.finish()),
            Self::Bytes(mut b) => Arc::new(b.finish()),
            Self::StrList(mut b) => Arc::new(b.finish()),
            Self::MaskList(mut b) => Arc::new(b.finish()),
        }
    }
}
