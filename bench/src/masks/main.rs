//! Measures what masks cost per byte, without sockets: the recognizers and masks by themselves, and a
//! session of the protocol that takes results apart for them.
//!
//! Time is that of this thread on a processor, so a busy machine changes little; of many short passes
//! the median is reported. Everything is one thread's.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use integration::paths;
use mask::classification::Classification;
use mask::{Catalog, Masks};
use proto::sql::{Analyzer, Reading};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use types::redact::{MaskRule, Operator, TreatmentKind};
use types::secret::Secret;

mod loopback;
mod mix;

use loopback::{Loopback, Way};
use mix::Mix;

/// Measure what masks cost per byte.
#[derive(Parser)]
struct Cli {
    /// A tenth of the passes.
    #[arg(long)]
    quick: bool,
    /// Write the rows as JSON here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only mixes whose names hold this.
    #[arg(long, default_value = "")]
    only: String,
    /// This many passes, one after the other, of this way alone (for a profiler).
    #[arg(long)]
    passes: Option<usize>,
    /// `masks`, `rows` or `copy`; all, where none is named.
    #[arg(long)]
    way: Option<String>,
}

/// One mix. Rates are per core, in bytes of values for `masks` and of messages for the others.
#[derive(Serialize)]
struct Row {
    mix: &'static str,
    masks_mb_s: Option<f64>,
    rows_mb_s: Option<f64>,
    copy_mb_s: Option<f64>,
}

fn main() -> ExitCode {
    let Err(error) = run(&Cli::parse()) else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run(cli: &Cli) -> Result<()> {
    let path = paths::policies().join("classification.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let classification = Classification::parse(&text)?;
    // As the shipped policies have it.
    let operator = |class: &str| match class {
        "email" => Operator::Hash,
        "phone" => Operator::Replace,
        _ => Operator::Partial,
    };
    let classes = classification.classes.iter();
    let rules: Vec<MaskRule> = classes
        .map(|c| MaskRule { class: c.name.clone(), operator: operator(&c.name.0) })
        .collect();
    let masks = Masks::compile(&rules, &classification, &Secret::new([7; 32]));
    // `notes` is there, and nothing of it is classified.
    let notes = ["l", "20000", "public", "notes", "100"].map(|cell| Some(cell.to_owned()));
    let notes: Vec<_> = notes.into_iter().chain([None, None, None]).collect();
    let catalog = Catalog::from_rows(&classification, &[notes], &Catalog::unknown())?;
    let catalog = Arc::new(catalog);
    let passes = cli.passes.unwrap_or(if cli.quick { 5 } else { 50 });
    let wanted = |way: &str| cli.way.as_ref().is_none_or(|only| only == way);
    let mut rows = Vec::new();
    for mix in Mix::all().iter().filter(|mix| mix.name.contains(&cli.only)) {
        let fetch = |way| -> Result<f64> {
            let mut loopback = Loopback::new(&masks, &catalog, mix, way)?;
            rate(passes, || loopback.fetch())
        };
        let row = Row {
            mix: mix.name,
            masks_mb_s: wanted("masks")
                .then(|| values(&masks, &catalog, mix, passes))
                .transpose()?,
            rows_mb_s: wanted("rows").then(|| fetch(Way::Rows)).transpose()?,
            copy_mb_s: wanted("copy").then(|| fetch(Way::Copy)).transpose()?,
        };
        eprintln!("{}", line(&row));
        rows.push(row);
    }
    if let Some(path) = &cli.json {
        let text = serde_json::to_string_pretty(&serde_json::json!({ "rows": rows }))?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "| values | masks alone, MB/s | rows, MB/s | COPY, MB/s |\n|---|--:|--:|--:|")?;
    rows.iter().try_for_each(|row| writeln!(out, "{}", line(row))).context("standard output")
}

/// Masks a mix's values as they lie.
fn values(masks: &Arc<Masks>, catalog: &Arc<Catalog>, mix: &Mix, passes: usize) -> Result<f64> {
    let mut redactor = masks.redactor(Arc::clone(catalog));
    let reading = Reading { standard_conforming_strings: true };
    let sql = loopback::select(&mix.columns);
    let statements = Analyzer::new().analyze(sql.as_bytes(), reading);
    let statement = statements.first().context("one statement")?;
    let mut treatments = Vec::new();
    redactor.plan(statement, &mix.columns, &mut treatments);
    let mut out = Vec::new();
    rate(passes, || {
        let mut bytes = 0;
        for row in &mix.rows {
            for (value, treatment) in row.iter().zip(&treatments) {
                if treatment.kind == TreatmentKind::Pass {
                    continue;
                }
                out.clear();
                bytes += value.len();
                let _became = redactor.redact(*treatment, value, &mut out);
                std::hint::black_box(&out);
            }
        }
        Ok(bytes)
    })
}

/// Megabytes per second of processor time: the median over `passes`.
fn rate(passes: usize, mut pass: impl FnMut() -> Result<usize>) -> Result<f64> {
    let mut rates = Vec::with_capacity(passes);
    for _ in 0..passes {
        let before = cpu_ns();
        let bytes = pass()?;
        let took = cpu_ns().saturating_sub(before).max(1);
        rates.push(as_f64(bytes) * 1e3 / as_f64(usize::try_from(took)?));
    }
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().context("no pass")
}

/// This thread's time on a processor.
fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

fn line(row: &Row) -> String {
    let Row { mix, masks_mb_s, rows_mb_s, copy_mb_s } = row;
    let number = |rate: &Option<f64>| rate.map_or_else(String::new, |rate| format!("{rate:.0}"));
    format!("| {mix} | {} | {} | {} |", number(masks_mb_s), number(rows_mb_s), number(copy_mb_s))
}

#[expect(clippy::cast_precision_loss, reason = "measurements are far below 2^53")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
