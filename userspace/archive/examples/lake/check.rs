//! What was sealed is verified, and its first day put together.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use archive::compact::{self, Unwatched};
use archive::verify::{Options, Progress, verify};
use rustix::time::ClockId;
use serde_json::json;

use crate::now;

/// Verifies all.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn check(archive: &Path) -> serde_json::Value {
    let options = Options { progress: Some(say), ..Options::new(archive) };
    let before = [ClockId::Monotonic, ClockId::ProcessCPUTime].map(now);
    let report = verify(&options).unwrap();
    let after = [ClockId::Monotonic, ClockId::ProcessCPUTime].map(now);
    assert!(report.is_ok(), "{report}");
    let (wall, cpu) = (after[0] - before[0], after[1] - before[1]);
    let (rows_s, gb_s) = (report.rows_read as f64 / cpu, report.bytes_read as f64 / 1e9 / cpu);
    println!(
        "verify: {} rows and {} bytes in {wall:.0} s, {rows_s:.0} rows and {gb_s:.3} GB of Parquet per CPU-second",
        report.rows_read, report.bytes_read
    );
    json!({
        "rows": report.rows_read, "bytes": report.bytes_read, "wall_s": wall, "cpu_s": cpu, "rows_per_cpu_s": rows_s,
        "gb_per_cpu_s": gb_s,
    })
}

/// A line for each tenth.
fn say(progress: Progress) {
    static SAID: AtomicU64 = AtomicU64::new(0);
    let Progress { done, total, bytes: _ } = progress;
    let tenth = done * 10 / total.max(1);
    if SAID.swap(tenth, Ordering::Relaxed) != tenth {
        eprintln!("verified {} of {} million rows of a log", done / 1_000_000, total / 1_000_000);
    }
}

/// Puts the first day of all nodes together.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn compact(archive: &Path, day: i64) -> serde_json::Value {
    let before = [ClockId::Monotonic, ClockId::ProcessCPUTime].map(now);
    let options = compact::Options::new(archive, day + 1);
    let done = compact::compact(&options, &mut Unwatched, &mut |_, error| panic!("{error}"));
    let after = [ClockId::Monotonic, ClockId::ProcessCPUTime].map(now);
    let (wall, cpu) = (after[0] - before[0], after[1] - before[1]);
    let done = done.unwrap();
    let rows = |table: &str| -> u64 {
        let of = done.iter().filter(|done| done.list.table == table);
        of.flat_map(|done| &done.list.files).map(|file| file.rows).sum()
    };
    let (events, all) = (rows("events"), done.iter().flat_map(|done| &done.list.files));
    let (all, bytes) =
        all.fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.bytes));
    let bytes_before: u64 = done.iter().map(|done| done.bytes_before).sum();
    let per = |bytes: u64| bytes as f64 / events as f64;
    let rows_s = all as f64 / cpu;
    println!(
        "compact: {events} events, {all} rows of one day in {wall:.0} s, {:.1} bytes an event where there were {:.1}, {rows_s:.0} \
         rows per CPU-second",
        per(bytes),
        per(bytes_before)
    );
    json!({
        "events": events, "rows": all, "bytes_before": bytes_before, "bytes": bytes, "wall_s": wall, "cpu_s": cpu,
        "bytes_per_event_before": per(bytes_before), "bytes_per_event": per(bytes), "rows_per_cpu_s": rows_s,
        "tables": done.iter().map(|done| json!({
            "table": done.list.table, "files_before": done.files_before, "bytes_before": done.bytes_before,
            "bytes": done.list.files.iter().map(|file| file.bytes).sum::<u64>(),
        })).collect::<Vec<_>>(),
    })
}
