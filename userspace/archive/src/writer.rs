//! Rows of one table to a Parquet file, in a stream.

mod batch;
mod part;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use journal::row::{Column, Kind, Row, Table};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{
    EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion,
};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use crate::files;

use batch::Batch;
pub(crate) use part::PartFile;

/// Rows turned into columns at once.
const BATCH_ROWS: usize = 4096;

/// Bytes of texts turned into columns at once: recordings of 64 KiB each must not fill memory.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Encoded bytes at which a row group ends before it has [`ROW_GROUP_ROWS`]; with four tables open,
/// 4 × 32 MiB.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// Rows of a row group: of 1 M, point look-ups are six times slower.
pub const ROW_GROUP_ROWS: usize = 131_072;

/// The arrow schema of a table.
pub fn schema(table: Table) -> Arc<Schema> {
    Arc::new(Schema::new(table.columns().iter().map(field).collect::<Vec<_>>()))
}

/// A Parquet file being written under a name that says so; holds one batch of rows and one row
/// group's encoded pages.
pub struct TableFile {
    unfinished: PathBuf,
    writer: ArrowWriter<Hashing>,
    batch: Batch,
    /// As of the last batch: to ask all columns at each row would take as long as to write them.
    bytes: usize,
    rows: u64,
    seqs: (u64, u64),
}

/// A file as it was written, without its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// Its least and greatest sequence number.
    pub seqs: (u64, u64),
}

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The encoder refused.
    #[error("cannot write rows as Parquet")]
    Parquet(#[from] ParquetError),
}

impl TableFile {
    /// Begins a file for rows of `table`; `unfinished` is its name until it is whole.
    pub fn create(table: Table, unfinished: PathBuf, origin: &str) -> Result<Self, WriteError> {
        let io = |source| WriteError::Io { path: unfinished.clone(), source };
        if let Some(parent) = unfinished.parent() {
            files::make_dir(parent).map_err(io)?;
        }
        let file =
            Hashing { file: File::create(&unfinished).map_err(io)?, hash: Sha256::new(), bytes: 0 };
        let metadata = vec![schema_version(), key_value("origin", origin.into())];
        let properties = properties(table, 3, metadata)?.set_sorting_columns(Some(sorted_by(&[2])));
        let writer = ArrowWriter::try_new(file, schema(table), Some(properties.build()))?;
        let batch = Batch::new(table);
        Ok(Self { unfinished, writer, batch, bytes: 0, rows: 0, seqs: (u64::MAX, 0) })
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) -> Result<(), WriteError> {
        let seq = row.seq().0;
        self.seqs = (self.seqs.0.min(seq), self.seqs.1.max(seq));
        self.rows += 1;
        self.batch.push(row);
        if self.batch.rows() >= BATCH_ROWS || self.batch.bytes() >= BATCH_BYTES {
            self.write_batch()?;
        }
        Ok(())
    }

    /// Bytes written and waiting, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Ends the file, makes it durable and gives it the name that `name` makes of its sequence
    /// numbers.
    pub fn finish(
        mut self,
        name: impl FnOnce((u64, u64)) -> PathBuf,
    ) -> Result<Written, WriteError> {
        self.write_batch()?;
        for (key, seq) in [("first_seq", self.seqs.0), ("last_seq", self.seqs.1)] {
            self.writer.append_key_value_metadata(key_value(key, seq.to_string()));
        }
        let Hashing { file, hash, bytes } = self.writer.into_inner()?;
        let path = name(self.seqs);
        let io = |source| WriteError::Io { path: path.clone(), source };
        file.sync_all().map_err(io)?;
        std::fs::rename(&self.unfinished, &path).map_err(io)?;
        path.parent().map_or(Ok(()), files::sync_dir).map_err(io)?;
        Ok(Written { sha256: hash.finalize().into(), bytes, rows: self.rows, seqs: self.seqs })
    }

    fn write_batch(&mut self) -> Result<(), WriteError> {
        let batch = self.batch.take().map_err(ParquetError::from)?;
        self.writer.write(&batch)?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush()?;
        }
        self.bytes = self.writer.bytes_written() + self.writer.in_progress_size();
        Ok(())
    }
}

/// A file and the digest of what went into it.
struct Hashing {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.bytes += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
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

/// The version of the schema (`crate::schema`).
fn schema_version() -> KeyValue {
    key_value("schema", crate::schema::VERSION.to_string())
}

/// How a node writes a table's columns.
pub(crate) fn properties_of(table: Table) -> Result<WriterProperties, ParquetError> {
    Ok(properties(table, 3, Vec::new())?.build())
}

fn key_value(key: &str, value: String) -> KeyValue {
    KeyValue::new(format!("vestibule.{key}"), value)
}

/// That rows ascend by these columns.
fn sorted_by(columns: &[i32]) -> Vec<SortingColumn> {
    let one = |at: &i32| SortingColumn { column_idx: *at, descending: false, nulls_first: false };
    columns.iter().map(one).collect()
}

/// How a table's columns are written, with zstd at `level`.
fn properties(
    table: Table,
    level: i32,
    metadata: Vec<KeyValue>,
) -> Result<WriterPropertiesBuilder, ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(20_000)
        .set_write_batch_size(4096)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_created_by(concat!("vestibule ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(metadata));
    for column in table.columns() {
        let path = ColumnPath::from(column.name);
        if column.name == "sealed" {
            // Ciphertext: nothing in it comes twice, and nothing makes it shorter.
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
                .set_column_statistics_enabled(path, EnabledStatistics::None);
        } else if is_dense(column) {
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        } else if matches!(column.name, "session_id" | "approval_id") {
            properties = properties.set_column_bloom_filter_enabled(path, true);
        } else if is_free_text(column.name) {
            properties = properties.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    Ok(properties)
}

/// Whether a value is mostly near the one before it; a hash and what is the session's come again instead.
fn is_dense(column: &Column) -> bool {
    let comes_again = ["statement_fp", "cgroup_id", "uid_os", "masked_count"];
    match column.kind {
        Kind::Ts => true,
        Kind::I64 => !comes_again.contains(&column.name),
        _ => matches!(column.name, "session_seq" | "statement_len"),
    }
}

fn is_free_text(name: &str) -> bool {
    matches!(
        name,
        "statement"
            | "statement_norm"
            | "parameters"
            | "response_sample"
            | "detail"
            | "decision_reason"
            | "command_line"
    )
}
