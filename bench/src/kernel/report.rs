//! Rows as a table and as JSON.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::client::Answer;
use crate::cost::CostRow;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) costs: Vec<CostRow>,
    /// Connects by outsiders during which no program of the agents' slice ran.
    pub(crate) outside: u64,
    pub(crate) rates: Vec<RateRow>,
}

/// Connects one way: medians over the rounds.
#[derive(Debug, Serialize)]
pub(crate) struct RateRow {
    pub(crate) way: &'static str,
    pub(crate) rounds: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl RateRow {
    /// Answers the medians of these rounds.
    pub(crate) fn new(way: &'static str, rounds: &[Answer]) -> Result<Self> {
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let rate = |answer: &Answer| answer.done as f64 / answer.seconds;
        let of = |value: &dyn Fn(&Answer) -> f64| -> Result<f64> {
            let mut values: Vec<f64> = rounds.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().context("a round")
        };
        Ok(Self {
            way,
            rounds: rounds.len(),
            per_second: of(&rate)?,
            p50_us: of(&|answer| answer.p50_us)?,
            p99_us: of(&|answer| answer.p99_us)?,
        })
    }
}

/// Writes the JSON, if wanted, and prints the tables.
pub(crate) fn publish(report: &Report, json: Option<&Path>) -> Result<()> {
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(report)?;
        fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    let mut out = std::io::stdout().lock();
    out.write_all(tables(report).as_bytes()).context("standard output")
}

/// Markdown tables: what the README carries.
fn tables(report: &Report) -> String {
    let Report { costs, outside, rates } = report;
    let mut lines = vec![
        "| load | who | times | program | runs per one | ns per run | ns per one |".to_owned(),
        "|---|---|--:|---|--:|--:|--:|".to_owned(),
    ];
    // What others on the host did meanwhile, and what a client does once, is in the JSON only.
    for row in costs.iter().filter(|row| row.runs_per_one() >= 0.05) {
        lines.push(format!(
            "| {} | {} | {} | {}{} | {:.2} | {:.0} | {:.0} |",
            row.load.name(),
            format!("{:?}", row.who).to_lowercase(),
            row.count,
            row.program,
            if row.is_global { " (all of the host)" } else { "" },
            row.runs_per_one(),
            row.ns_per_run(),
            row.ns_per_one(),
        ));
    }
    lines.push(format!(
        "\nWhile outsiders connected {outside} times, programs of the agents' slice ran 0 times.\n"
    ));
    lines.push("| what | rounds | per second | p50 µs | p99 µs |".to_owned());
    lines.push("|---|--:|--:|--:|--:|".to_owned());
    for RateRow { way, rounds, per_second, p50_us, p99_us } in rates {
        lines.push(format!("| {way} | {rounds} | {per_second:.0} | {p50_us:.1} | {p99_us:.1} |"));
    }
    lines.join("\n") + "\n"
}
