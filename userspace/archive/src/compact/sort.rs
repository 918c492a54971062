//! A day's rows sorted, without all of them being in memory.

use std::cmp::Ordering;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave_record_batch;
use journal::row::Table;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};
use types::hex::hex;

use super::{CompactError, Due, Options, Step, Watch, io_error};
use crate::compacted::Part;
use crate::decode::DecodeError;
use crate::verify::columns;
use crate::writer::{WriteError, schema};

/// Rows of a batch at most.
pub(super) const BATCH_ROWS: usize = 4096;

/// Bytes of a batch of a run, about.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Batches of a run's row group.
const GROUP_BATCHES: usize = 4;

/// Runs that are merged at once.
const RUNS_MAX: usize = 16;

/// What makes two collections of rows the same: their number and the sum of their leaves, word by word. It finds a fault of
/// ours or of the disk; against whoever means it there are the signed trees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    rows: u64,
    words: [u64; 4],
}

impl Sum {
    pub(super) fn add(&mut self, leaf: &[u8; 32]) {
        self.rows += 1;
        for (word, bytes) in self.words.iter_mut().zip(leaf.as_chunks::<8>().0) {
            *word = word.wrapping_add(u64::from_be_bytes(*bytes));
        }
    }
}

/// The files of a day, read one after the other.
pub(super) struct Sources<'a> {
    archive: &'a Path,
    table: Table,
    files: std::vec::IntoIter<Part>,
    sum: Sum,
}

impl<'a> Sources<'a> {
    pub(super) fn new(archive: &'a Path, due: &Due) -> Self {
        let files = due.sources.clone().into_iter();
        Self { archive, table: due.table, files, sum: Sum::default() }
    }

    /// Hands the next file's rows to `each`; false where there is none. It must be as it was sealed.
    fn next(&mut self, each: &mut Each<'_>) -> Result<bool, CompactError> {
        let Some(part) = self.files.next() else { return Ok(false) };
        let path = self.archive.join(&part.path);
        let io = io_error(&path);
        let digest = digest(&path).map_err(io)?;
        if digest != part.sha256 {
            return Err(CompactError::Changed(part.path));
        }
        let fail = |source| CompactError::Unreadable { path: part.path.clone(), source };
        let parquet = |error: &dyn std::fmt::Display| DecodeError::Parquet(error.to_string());
        // Rows of recordings are of up to 1 MiB.
        let rows = if self.table == Table::Recordings { 64 } else { BATCH_ROWS };
        let reader = open(&path, Some(rows))?;
        let (mut buffer, mut found) = (Vec::new(), columns::Taken::default());
        for batch in reader {
            let batch = batch.map_err(|error| fail(parquet(&error)))?;
            columns::batch_leaves(self.table, &batch, &mut buffer, &mut found).map_err(fail)?;
            found.rows.drain(..).for_each(|(_, leaf)| self.sum.add(&leaf));
            let batch = whole(self.table, &batch).map_err(|error| fail(parquet(&error)))?;
            each(batch)?;
        }
        Ok(true)
    }
}

/// A batch with all columns of today: a file of before some were added lacks them.
fn whole(table: Table, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = schema(table);
    let column = |field: &Arc<arrow_schema::Field>| -> ArrayRef {
        let there = batch.column_by_name(field.name()).cloned();
        there.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(schema, columns)
}

/// SHA-256 of a file, hex.
fn digest(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
}

/// A file's rows in batches of so many, or of a run's own size.
pub(super) fn open(
    path: &Path,
    rows: Option<usize>,
) -> Result<ParquetRecordBatchReader, CompactError> {
    let file = File::open(path).map_err(io_error(path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| {
        let group = builder.metadata().row_groups().first().map_or(1, RowGroupMetaData::num_rows);
        let own = usize::try_from(group).unwrap_or(1).div_ceil(GROUP_BATCHES);
        builder.with_batch_size(rows.unwrap_or(own).clamp(1, BATCH_ROWS)).build()
    });
    reader.map_err(|error| CompactError::Unreadable {
        path: path.display().to_string(),
        source: DecodeError::Parquet(error.to_string()),
    })
}

/// What rows of a batch are sorted by.
pub(super) struct Keys {
    session: Option<StringArray>,
    node: StringArray,
    epoch: Int32Array,
    seq: Int64Array,
}

/// One row's.
type Key<'a> = (&'a str, &'a str, i32, i64);

impl Keys {
    /// `None` where a column is not as it must be.
    pub(super) fn of(batch: &RecordBatch) -> Option<Self> {
        let text = |name| batch.column_by_name(name)?.as_string_opt::<i32>().cloned();
        let epoch = batch.column_by_name("log_epoch")?.as_primitive_opt::<Int32Type>()?;
        let seq = batch.column_by_name("seq")?.as_primitive_opt::<Int64Type>()?;
        let node = text("node_id")?;
        let session = text("session_id");
        Some(Self { session, node, epoch: epoch.clone(), seq: seq.clone() })
    }

    pub(super) fn at(&self, row: usize) -> Key<'_> {
        let session = self.session.as_ref().map_or("", |session| session.value(row));
        (session, self.node.value(row), self.epoch.value(row), self.seq.value(row))
    }
}

/// Rows in their order.
pub(super) struct Sorted {
    rows: Rows,
    /// Rows that were in the sources.
    pub(super) sum: Sum,
}

enum Rows {
    Held(Held),
    Runs(Vec<Head>),
}

/// Sorts all rows; what does not fit into memory goes to files in `staging`.
pub(super) fn sort(
    options: &Options,
    sources: &mut Sources<'_>,
    staging: &Path,
    watch: &mut dyn Watch,
) -> Result<Sorted, CompactError> {
    let (held, runs) = (Held::default(), Vec::new());
    let mut sorter = Sorter { staging, table: sources.table, held, runs, made: 0 };
    while sources.next(&mut |batch| {
        sorter.held.push(batch);
        if sorter.held.bytes < options.run_bytes { Ok(()) } else { sorter.spill(watch) }
    })? {
        watch.step(Step::Read);
    }
    Ok(Sorted { rows: sorter.finish(watch)?, sum: sources.sum })
}

/// Batches in memory.
#[derive(Default)]
struct Held {
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl Held {
    fn push(&mut self, batch: RecordBatch) {
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    /// Hands all rows to `each` in order, in batches of `rows`; then there are none.
    fn drain(&mut self, rows: usize, each: &mut Each<'_>) -> Result<(), CompactError> {
        let batches = std::mem::take(&mut self.batches);
        self.bytes = 0;
        let keys: Option<Vec<Keys>> = batches.iter().map(Keys::of).collect();
        let keys = keys.ok_or_else(|| bad("a key"))?;
        let mut order: Vec<(usize, usize)> = batches
            .iter()
            .enumerate()
            .flat_map(|(at, batch)| (0..batch.num_rows()).map(move |row| (at, row)))
            .collect();
        let key = |at: &(usize, usize)| keys.get(at.0).map(|keys| keys.at(at.1));
        order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        let all: Vec<&RecordBatch> = batches.iter().collect();
        for rows in order.chunks(rows.max(1)) {
            each(interleave_record_batch(&all, rows).map_err(parquet)?)?;
        }
        Ok(())
    }
}

/// Takes rows.
type Each<'a> = dyn FnMut(RecordBatch) -> Result<(), CompactError> + 'a;

/// Sorts batches, and puts them on disk where they are too many.
struct Sorter<'a> {
    staging: &'a Path,
    table: Table,
    held: Held,
    runs: Vec<PathBuf>,
    /// Runs that were begun.
    made: usize,
}

impl Sorter<'_> {
    fn spill(&mut self, watch: &mut dyn Watch) -> Result<(), CompactError> {
        let rows: usize = self.held.batches.iter().map(RecordBatch::num_rows).sum();
        let fit = rows.saturating_mul(BATCH_BYTES) / self.held.bytes.max(1);
        let fit = fit.clamp(1, BATCH_ROWS);
        let (path, mut run) = self.begin(fit)?;
        self.held.drain(fit, &mut |batch| Ok(run.write(&batch).map_err(WriteError::from)?))?;
        run.close().map_err(WriteError::from)?;
        self.runs.push(path);
        watch.step(Step::Run);
        Ok(())
    }

    /// A new run's file, in batches of `rows`, of which a row group has four.
    fn begin(&mut self, rows: usize) -> Result<(PathBuf, ArrowWriter<File>), CompactError> {
        let path = self.staging.join(format!("run-{:06}", self.made));
        self.made += 1;
        let file = File::create(&path).map_err(io_error(&path))?;
        let level = ZstdLevel::try_new(1).map_err(WriteError::from)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(rows * GROUP_BATCHES))
            .set_data_page_row_count_limit(rows)
            .set_write_batch_size(rows.min(1024));
        let writer = ArrowWriter::try_new(file, schema(self.table), Some(properties.build()));
        Ok((path, writer.map_err(WriteError::from)?))
    }

    fn finish(mut self, watch: &mut dyn Watch) -> Result<Rows, CompactError> {
        if self.runs.is_empty() {
            return Ok(Rows::Held(self.held));
        }
        if !self.held.batches.is_empty() {
            self.spill(watch)?;
        }
        while self.runs.len() > RUNS_MAX {
            let some: Vec<PathBuf> = self.runs.drain(..RUNS_MAX).collect();
            let mut heads = heads(&some)?;
            let rows = heads.iter().map(|head| head.batch.num_rows()).min().unwrap_or(1);
            let (path, mut run) = self.begin(rows)?;
            merge(&mut heads, rows, &mut |batch| {
                Ok(run.write(&batch).map_err(WriteError::from)?)
            })?;
            run.close().map_err(WriteError::from)?;
            for path in some {
                std::fs::remove_file(&path).map_err(io_error(&path))?;
            }
            self.runs.push(path);
            watch.step(Step::Run);
        }
        Ok(Rows::Runs(heads(&self.runs)?))
    }
}

fn heads(runs: &[PathBuf]) -> Result<Vec<Head>, CompactError> {
    let mut heads = Vec::new();
    for run in runs {
        heads.extend(Head::next(open(run, None)?)?);
    }
    Ok(heads)
}

/// What of a run is next.
struct Head {
    reader: ParquetRecordBatchReader,
    batch: RecordBatch,
    keys: Keys,
    at: usize,
}

impl Head {
    /// The next batch of a run; `None` at its end.
    fn next(mut reader: ParquetRecordBatchReader) -> Result<Option<Self>, CompactError> {
        while let Some(batch) = reader.next().transpose().map_err(parquet)? {
            if batch.num_rows() > 0 {
                let keys = Keys::of(&batch).ok_or_else(|| bad("a run's key"))?;
                return Ok(Some(Self { reader, batch, keys, at: 0 }));
            }
        }
        Ok(None)
    }

    fn key(&self) -> Key<'_> {
        self.keys.at(self.at)
    }
}

impl Sorted {
    /// Hands all rows to `each` in order, in batches of up to [`BATCH_ROWS`].
    pub(super) fn drain(&mut self, each: &mut Each<'_>) -> Result<(), CompactError> {
        match &mut self.rows {
            Rows::Held(held) => held.drain(BATCH_ROWS, each),
            Rows::Runs(heads) => merge(heads, BATCH_ROWS, each),
        }
    }
}

fn merge(heads: &mut Vec<Head>, rows: usize, each: &mut Each<'_>) -> Result<(), CompactError> {
    let mut picked: Vec<(usize, usize)> = Vec::with_capacity(rows);
    while let Some(least) = least(heads, None) {
        let bound = self::least(heads, Some(least));
        // As long as one run is ahead of all others no other is looked at.
        while let Some(head) = heads.get(least) {
            let is_due = bound
                .and_then(|other| heads.get(other))
                .is_none_or(|other| head.key().cmp(&other.key()) != Ordering::Greater);
            if !is_due || head.at >= head.batch.num_rows() || picked.len() >= rows {
                break;
            }
            picked.push((least, head.at));
            let is_last = head.at + 1 >= head.batch.num_rows();
            if let Some(head) = heads.get_mut(least) {
                head.at += 1;
            }
            if is_last {
                break;
            }
        }
        let is_empty = heads.get(least).is_none_or(|head| head.at >= head.batch.num_rows());
        if is_empty || picked.len() >= rows {
            flush(heads, &mut picked, each)?;
        }
        if is_empty {
            let head = heads.remove(least);
            if let Some(next) = Head::next(head.reader)? {
                heads.insert(least, next);
            }
        }
    }
    flush(heads, &mut picked, each)
}

fn flush(
    heads: &[Head],
    picked: &mut Vec<(usize, usize)>,
    each: &mut Each<'_>,
) -> Result<(), CompactError> {
    if picked.is_empty() {
        return Ok(());
    }
    let batches: Vec<&RecordBatch> = heads.iter().map(|head| &head.batch).collect();
    let batch = interleave_record_batch(&batches, picked).map_err(parquet)?;
    picked.clear();
    each(batch)
}

/// The head with the least key, but for one.
fn least(heads: &[Head], but: Option<usize>) -> Option<usize> {
    let others = heads.iter().enumerate().filter(|(at, _)| Some(*at) != but);
    others.min_by(|(_, a), (_, b)| a.key().cmp(&b.key())).map(|(at, _)| at)
}

fn parquet(error: impl Into<parquet::errors::ParquetError>) -> CompactError {
    WriteError::from(error.into()).into()
}

fn bad(what: &str) -> CompactError {
    parquet(parquet::errors::ParquetError::General(format!("{what} is not as it must be")))
}
