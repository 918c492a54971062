//! Where things lie below the archive's folder, and what a manifest says.

use std::path::{Path, PathBuf};

use journal::imported;
use journal::row::Table;
use serde::{Deserialize, Serialize};

use crate::texts;

/// Files kept seven years.
pub const STANDARD: &str = "std7y/v1";

/// Recordings, kept thirteen months.
pub const PAYLOAD: &str = "payload13m/v1";

/// The newest signed checkpoint, in the log's folder.
pub const CHECKPOINT: &str = "checkpoint";

/// The folder of all signed checkpoints, in the log's folder.
pub const CHECKPOINTS: &str = "checkpoints";

/// The folder of witnesses' cosignatures, in the log's folder.
pub const COSIGNED: &str = "cosigned";

/// The folder of time-stamp authorities' responses, in the log's folder.
pub const STAMPED: &str = "stamped";

/// The public keys in the order in which they were in force, a line each, in the log's folder.
pub const KEY: &str = "key.vkey";

/// What the archive is, for whoever finds it.
pub const README: &str = "std7y/v1/README-AUDITOR.md";

/// DuckDB's views.
pub const VIEWS: &str = "std7y/v1/views/duckdb.sql";

/// Spark's views.
pub const SPARK_VIEWS: &str = "std7y/v1/views/spark.sql";

/// Trino's views.
pub const TRINO_VIEWS: &str = "std7y/v1/views/trino.sql";

/// The folder of ready questions.
pub const QUESTIONS: &str = "std7y/v1/questions";

/// A table's folder.
pub(crate) fn table_dir(archive: &Path, table: Table) -> PathBuf {
    archive.join(texts::class(table)).join(format!("table={}", table.as_str()))
}

/// A file as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path below the archive's folder.
    pub path: String,
    /// Its table; absent for a text.
    pub table: Option<String>,
    /// SHA-256, hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// The least sequence number in it.
    pub first_seq: u64,
    /// The greatest.
    pub last_seq: u64,
}

/// What one step of sealing wrote: `manifest/<first_seq>-<last_seq>.json` in the log's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// SHA-256 of the manifest before it, hex; zeros for the first.
    pub previous: String,
    /// When, microseconds since 1970-01-01 UTC.
    pub sealed_us: i64,
    /// The first row.
    pub first_seq: u64,
    /// The row after the last: the tree's size.
    pub tree_size: u64,
    /// The files.
    pub files: Vec<FileEntry>,
}

/// The log's name.
pub fn origin(node: &str, epoch: i32) -> String {
    format!("vestibule/node/{node}/{epoch}")
}

/// Whether the log of this name is of what was imported.
pub fn is_import(origin: &str) -> bool {
    origin.strip_prefix("vestibule/node/").is_some_and(imported::is_import)
}

/// The log's folder.
pub fn log_dir(origin: &str) -> String {
    format!("{STANDARD}/log/{origin}")
}

/// A manifest's name in the log's folder.
pub fn manifest(first_seq: u64, tree_size: u64) -> String {
    format!("manifest/{first_seq:020}-{:020}.json", tree_size.saturating_sub(1))
}

/// The name of the signed checkpoint of a tree of `size` leaves, in the log's folder.
pub fn checkpoint(size: u64) -> String {
    format!("{CHECKPOINTS}/{size:020}")
}

/// The name of the cosignatures of that checkpoint, in the log's folder.
pub fn cosigned(size: u64) -> String {
    format!("{COSIGNED}/{size:020}")
}

/// The name of a time-stamp response for that checkpoint, in the log's folder.
pub fn stamped(size: u64) -> String {
    format!("{STAMPED}/{size:020}")
}

/// The tree's size in the name of a checkpoint or of its cosignatures; `None` where it is no such name.
pub fn checkpoint_size(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.parse().ok().filter(|size: &u64| format!("{size:020}") == name)
}

/// The tree's size in a manifest's name; `None` where it is no manifest's.
pub fn manifest_size(path: &Path) -> Option<u64> {
    let (_, last) = path.file_name()?.to_str()?.strip_suffix(".json")?.split_once('-')?;
    last.parse::<u64>().ok()?.checked_add(1)
}

/// The first sequence number in the name of a table's file of `epoch`.
pub(crate) fn first_seq(path: &Path, epoch: i32) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".parquet")?;
    let (first, _) = name.strip_prefix(&format!("{epoch}-"))?.split_once('-')?;
    first.parse().ok()
}

/// The path of a table's file for one day.
pub fn parquet(table: Table, day: i64, node: &str, epoch: i32, seqs: (u64, u64)) -> String {
    let class = if table == Table::Recordings { PAYLOAD } else { STANDARD };
    let (table, dt, (first, last)) = (table.as_str(), date(day), seqs);
    format!("{class}/table={table}/dt={dt}/node={node}/{epoch}-{first:020}-{last:020}.parquet")
}

/// The table of that name.
pub(crate) fn table(name: &str) -> Option<Table> {
    Table::ALL.into_iter().find(|table| table.as_str() == name)
}

/// An instant as RFC 3339 in UTC, to the millisecond.
pub(crate) fn time(unix_us: i64) -> String {
    let (day, ms) = (unix_us.div_euclid(86_400_000_000), unix_us.rem_euclid(86_400_000_000) / 1000);
    let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{}T{h:02}:{m:02}:{s:02}.{:03}Z", date(day), ms % 1000)
}

/// The day in a file's path: `2026-11-21` of `…/dt=2026-11-21/…`.
pub fn day_of(path: &str) -> Option<&str> {
    path.split('/').find_map(|part| part.strip_prefix("dt="))
}

/// Whether a text is like `2026-01-31`; not whether there is such a day.
pub fn is_day(text: &str) -> bool {
    let digit = |(at, byte): (usize, u8)| {
        if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() }
    };
    text.len() == 10 && text.bytes().enumerate().all(digit)
}

/// The UTC date of a day counted from 1970-01-01, by Hinnant's `civil_from_days`.
pub fn date(day: i64) -> String {
    // Times are a changed file's, too; ±10 million years are enough.
    let z = day.clamp(-3_652_500_000, 3_652_500_000) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let d = doy - (153 * mp + 2) / 5 + 1;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    let y = yoe + era * 400 + i64::from(m <= 2);
    format!("{y:04}-{m:02}-{d:02}")
}

/// The day of a date such as `2026-11-21`, counted from 1970-01-01; `None` where it is none.
pub fn day(date: &str) -> Option<i64> {
    let mut parts = date.split('-').map(str::parse::<i64>);
    let (Some(Ok(y)), Some(Ok(m)), Some(Ok(d)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    // Hinnant's `days_from_civil`.
    let year = y - i64::from(m <= 2);
    let era = year.div_euclid(400);
    let yoe = year.rem_euclid(400);
    let doy = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    let day = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468;
    ((0..=9999).contains(&y) && self::date(day) == date).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (day, text) in
            [(0, "1970-01-01"), (-1, "1969-12-31"), (11_016, "2000-02-29"), (20_778, "2026-11-21")]
        {
            assert_eq!(date(day), text);
            assert_eq!(super::day(text), Some(day));
        }
        for none in ["", "2026-11", "2026-02-29", "2026-13-01", "2026-1-1", "2026-11-21-1", "x"] {
            assert_eq!(super::day(none), None, "{none}");
        }
        assert_eq!(time(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(time(951_782_400_000_000 + 3_723_004_005), "2000-02-29T01:02:03.004Z");
    }
}
