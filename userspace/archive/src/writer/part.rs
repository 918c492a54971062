//! A file of a day that was put together: rows of several nodes, sorted by session.

use std::fs::File;
use std::path::PathBuf;

use arrow_array::RecordBatch;
use journal::row::Table;
use parquet::arrow::ArrowWriter;
use sha2::{Digest, Sha256};

use super::{
    Hashing, ROW_GROUP_BYTES, WriteError, Written, key_value, properties, schema, schema_version,
    sorted_by,
};
use crate::files;

/// A file being written where nobody reads it yet.
pub(crate) struct PartFile {
    path: PathBuf,
    writer: ArrowWriter<Hashing>,
    rows: u64,
}

impl PartFile {
    /// Begins a file, with zstd at `level`; what was there is written over.
    pub(crate) fn create(table: Table, path: PathBuf, level: i32) -> Result<Self, WriteError> {
        let io = |source| WriteError::Io { path: path.clone(), source };
        path.parent().map_or(Ok(()), files::make_dir).map_err(io)?;
        let file = File::create(&path).map_err(io)?;
        let file = Hashing { file, hash: Sha256::new(), bytes: 0 };
        let metadata = vec![schema_version(), key_value("compacted", "1".into())];
        let at = |name| table.columns().iter().position(|column| column.name == name);
        let by: Vec<i32> = ["session_id", "node_id", "log_epoch", "seq"]
            .into_iter()
            .filter_map(|name| i32::try_from(at(name)?).ok())
            .collect();
        let properties =
            properties(table, level, metadata)?.set_sorting_columns(Some(sorted_by(&by)));
        let writer = ArrowWriter::try_new(file, schema(table), Some(properties.build()))?;
        Ok(Self { path, writer, rows: 0 })
    }

    /// Adds rows.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.writer.write(batch)?;
        self.rows += u64::try_from(batch.num_rows()).unwrap_or(0);
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush()?;
        }
        Ok(())
    }

    /// Rows in it.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes written and waiting, about.
    pub(crate) fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Ends the file and makes it durable.
    pub(crate) fn finish(self) -> Result<Written, WriteError> {
        let Hashing { file, hash, bytes } = self.writer.into_inner()?;
        file.sync_all().map_err(|source| WriteError::Io { path: self.path, source })?;
        Ok(Written { sha256: hash.finalize().into(), bytes, rows: self.rows, seqs: (0, 0) })
    }
}
