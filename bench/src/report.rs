//! What comes out: medians over the rounds, as JSON rows and as a table with ratios.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::case::Case;
use crate::load::as_f64;
use crate::target::TLS;

/// One case on one target in one round.
pub(crate) struct Sample {
    pub(crate) case: Case,
    pub(crate) target: &'static str,
    pub(crate) tps: f64,
    pub(crate) cpu_us_per_txn: Option<f64>,
    pub(crate) cpu_ns_per_byte: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) journal_bytes_per_txn: Option<f64>,
}

/// The median of a case on a target; null is what does not apply (a direct connection has no proxy).
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    target: &'static str,
    case: &'static str,
    clients: u32,
    tps: f64,
    cpu_us_per_txn: Option<f64>,
    cpu_ns_per_byte: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    rss_mb: Option<f64>,
    journal_bytes_per_txn: Option<f64>,
}

/// Answers a row for each case and target, in the order of their first sample.
pub(crate) fn medians(samples: &[Sample]) -> Vec<Row> {
    let mut seen: Vec<(Case, &str)> = Vec::new();
    for sample in samples {
        if !seen.contains(&(sample.case, sample.target)) {
            seen.push((sample.case, sample.target));
        }
    }
    let row = |&(case, target): &(Case, &str)| {
        let of: Vec<&Sample> =
            samples.iter().filter(|s| s.case == case && s.target == target).collect();
        let middle = |value: fn(&Sample) -> Option<f64>| {
            median(of.iter().filter_map(|s| value(s)).collect())
        };
        Some(Row {
            target: of.first()?.target,
            case: case.name(),
            clients: case.clients(),
            tps: middle(|s| Some(s.tps))?,
            cpu_us_per_txn: middle(|s| s.cpu_us_per_txn),
            cpu_ns_per_byte: middle(|s| s.cpu_ns_per_byte),
            p50_us: middle(|s| s.p50_us),
            p99_us: middle(|s| s.p99_us),
            rss_mb: middle(|s| s.rss_bytes.map(|b| as_f64(b) / 1e6)),
            journal_bytes_per_txn: middle(|s| s.journal_bytes_per_txn),
        })
    };
    seen.iter().filter_map(row).collect()
}

/// Writes the JSON, if wanted, and prints the table.
pub(crate) fn publish(rows: &[Row], json: Option<&Path>) -> Result<()> {
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&serde_json::json!({ "rows": rows }))?;
        fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    let mut out = std::io::stdout().lock();
    out.write_all(table(rows).as_bytes()).context("standard output")
}

/// A Markdown table: what the README carries.
fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        "| case | clients | target | tps | × direct | proxy CPU µs/txn | × pgbouncer-session | CPU ns/byte | p50 µs (added) | p99 µs (added) | peak RSS MB | journal B/txn |".to_owned(),
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|".to_owned(),
    ];
    for row in rows {
        let same = |target: &str| {
            rows.iter()
                .find(|r| r.target == target && r.case == row.case && r.clients == row.clients)
        };
        // What has TLS is held against what has it.
        let tls = if row.target.ends_with(TLS) { TLS } else { "" };
        let direct = same(&format!("direct{tls}"));
        let bouncer = same(&format!("pgbouncer-session{tls}")).and_then(|r| r.cpu_us_per_txn);
        let added = |own: Option<f64>, base: Option<f64>| match (own, base) {
            (Some(own), Some(base)) if !row.target.starts_with("direct") => {
                format!("{own:.0} ({:+.0})", own - base)
            }
            (Some(own), _) => format!("{own:.0}"),
            _ => String::new(),
        };
        lines.push(format!(
            "| {} | {} | {} | {:.*} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.case,
            row.clients,
            row.target,
            if row.tps < 10.0 { 3 } else { 0 },
            row.tps,
            number(direct.map(|d| row.tps / d.tps), 2),
            number(row.cpu_us_per_txn, 1),
            number(row.cpu_us_per_txn.zip(bouncer).map(|(own, base)| own / base), 2),
            number(row.cpu_ns_per_byte, 2),
            added(row.p50_us, direct.and_then(|d| d.p50_us)),
            added(row.p99_us, direct.and_then(|d| d.p99_us)),
            number(row.rss_mb, 1),
            number(row.journal_bytes_per_txn, 0),
        ));
    }
    lines.join("\n") + "\n"
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |v| format!("{v:.digits$}"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return values.get(middle).copied();
    }
    let below = values.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(*below, *values.get(middle)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Mode;

    fn sample(target: &'static str, tps: f64, cpu: Option<f64>) -> Sample {
        Sample {
            case: Case::Select { mode: Mode::Prepared, clients: 8 },
            target,
            tps,
            cpu_us_per_txn: cpu,
            cpu_ns_per_byte: None,
            p50_us: Some(100.0),
            p99_us: None,
            rss_bytes: Some(5_000_000),
            journal_bytes_per_txn: None,
        }
    }

    #[test]
    fn medians_and_ratios() {
        let samples = [
            sample("direct", 100.0, None),
            sample("pgbouncer-session", 50.0, Some(30.0)),
            sample("vestibule", 40.0, Some(60.0)),
            sample("vestibule", 30.0, Some(40.0)),
            sample("vestibule", 20.0, Some(45.0)),
        ];
        let rows = medians(&samples);
        assert_eq!(rows.len(), 3);
        assert!((rows[2].tps - 30.0).abs() < 1e-9);
        let table = table(&rows);
        let line = table.lines().last().unwrap();
        assert!(line.contains("| 30 | 0.30 | 45.0 | 1.50 |"), "{line}");
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(json[0]["cpu_us_per_txn"], serde_json::Value::Null);
        assert_eq!(json[2]["case"], "prepared");
    }

    #[test]
    fn the_median_of_an_even_count_is_between() {
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
