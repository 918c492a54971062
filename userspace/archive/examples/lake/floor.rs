//! What of sealing each part takes by itself: reading rows from the journal, their canonical form, SHA-256 of that, and Parquet.
//! What SHA-256 and Parquet take alone is near the least that sealing these rows takes; of Parquet, turning rows into columns
//! is our own.

use std::collections::BTreeMap;
use std::path::Path;

use archive::writer::TableFile;
use journal::assemble::Rows;
use journal::record::Lsn;
use journal::row::{Row, Table};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::timed;

/// Rows taken apart at once: few enough to stay near the processor, as one by one they would.
const BLOCK_ROWS: usize = 64;

/// Processor time of each part, seconds.
#[derive(Debug, Default)]
struct Parts {
    rows: u64,
    read: f64,
    canonical: f64,
    canonical_bytes: u64,
    sha256: f64,
    parquet: f64,
    parquet_bytes: u64,
}

/// Takes apart what sealing the rows from `from` up to the frame `durable` takes; files lie in `dir` for as long.
pub(crate) fn measure(journal: &Path, from: u64, durable: Lsn, dir: &Path) -> serde_json::Value {
    let mut rows = Rows::open(journal, from, Some(durable)).unwrap();
    let mut parts = Parts::default();
    let mut files = BTreeMap::new();
    loop {
        let (block, cpu) = timed(|| read(&mut rows));
        parts.read += cpu;
        if block.is_empty() {
            break;
        }
        parts.rows += u64::try_from(block.len()).unwrap();
        hash(&block, &mut parts);
        parts.parquet += timed(|| write(block, &mut files, dir)).1;
    }
    let (written, cpu) = timed(|| {
        let end = |(table, file): (Table, TableFile)| {
            file.finish(|_| dir.join(format!("{}.parquet", table.as_str()))).unwrap().bytes
        };
        files.into_iter().map(end).sum::<u64>()
    });
    parts.parquet += cpu;
    parts.parquet_bytes = written;
    std::fs::remove_dir_all(dir).unwrap();
    parts.say()
}

fn read(rows: &mut Rows) -> Vec<Row> {
    let mut block = Vec::with_capacity(BLOCK_ROWS);
    while block.len() < BLOCK_ROWS
        && let Some(row) = rows.next_row().unwrap()
    {
        block.push(row);
    }
    block
}

fn hash(block: &[Row], parts: &mut Parts) {
    let mut bytes = Vec::new();
    let (ends, cpu) = timed(|| {
        let mut end = |row: &Row| {
            row.canon(&mut bytes);
            bytes.len()
        };
        block.iter().map(&mut end).collect::<Vec<_>>()
    });
    parts.canonical += cpu;
    parts.canonical_bytes += u64::try_from(bytes.len()).unwrap();
    let (sum, cpu) = timed(|| {
        let mut start = 0;
        ends.iter().fold(0_u8, |sum, end| {
            let row = &bytes[std::mem::replace(&mut start, *end)..*end];
            sum ^ Sha256::digest(row)[0]
        })
    });
    std::hint::black_box(sum);
    parts.sha256 += cpu;
}

fn write(block: Vec<Row>, files: &mut BTreeMap<Table, TableFile>, dir: &Path) {
    for row in block {
        let table = row.table();
        let create = || {
            let path = dir.join(format!("{}.unfinished", table.as_str()));
            TableFile::create(table, path, "floor").unwrap()
        };
        files.entry(table).or_insert_with(create).push(row).unwrap();
    }
}

impl Parts {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn say(&self) -> serde_json::Value {
        let rows = self.rows as f64;
        let us = |cpu: f64| cpu / rows * 1e6;
        let [read, canonical, sha256, parquet] =
            [self.read, self.canonical, self.sha256, self.parquet].map(us);
        let bytes = self.canonical_bytes as f64 / rows;
        let least = rows / (self.sha256 + self.parquet);
        println!(
            "a row, of {} in one day: read {read:.2} µs, canonical form {canonical:.2} µs ({bytes:.0} bytes), SHA-256 {sha256:.2} µs, \
             Parquet {parquet:.2} µs; by the last two alone {least:.0} rows per CPU-second",
            self.rows
        );
        json!({
            "rows": self.rows, "read_us": read, "canonical_us": canonical, "canonical_bytes": bytes, "sha256_us": sha256,
            "parquet_us": parquet, "parquet_bytes": self.parquet_bytes, "least_rows_per_cpu_s": least,
        })
    }
}
