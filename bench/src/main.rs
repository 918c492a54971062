//! Measures one PostgreSQL reached directly, through pgbouncer, haproxy and vestibule, in turns.
//!
//! Every round runs every case against every target, so that a noisy minute hits all of them alike;
//! medians over the rounds are reported. What survives a noisy machine is the processor time of the
//! proxy's process: it is read from the kernel's scheduler statistics, in nanoseconds, while the load is
//! steady. `cargo xtask bench` builds what is measured and starts this.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

mod case;
mod load;
mod person;
mod probe;
mod report;
mod target;

use case::Case;
use report::{Row, Sample};
use target::{Bed, Target};

/// Compare vestibule with other proxies and with none.
#[derive(Parser)]
struct Cli {
    /// Short rounds and 100 MB of bulk data.
    #[arg(long)]
    quick: bool,
    /// Write the rows as JSON here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Rounds, where not the usual number.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of steady load per case, target and round, where not the usual.
    #[arg(long)]
    seconds: Option<u64>,
    /// Only these targets.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these cases: their word, or word and clients as in `prepared-8`.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
}

/// How long and how much.
struct Plan {
    rounds: usize,
    /// Of steady load, per case, target and round.
    seconds: u64,
    bulk_bytes: u64,
    /// pgbench's scale: 100,000 accounts each.
    scale: u32,
}

impl Plan {
    fn new(quick: bool) -> Self {
        if quick {
            return Self { rounds: 1, seconds: 1, bulk_bytes: 100_000_000, scale: 5 };
        }
        Self { rounds: 3, seconds: 5, bulk_bytes: 1_000_000_000, scale: 10 }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut plan = Plan::new(cli.quick);
    plan.rounds = cli.rounds.unwrap_or(plan.rounds);
    plan.seconds = cli.seconds.unwrap_or(plan.seconds);
    let mut cases = Case::all();
    cases.retain(|case| cli.cases.is_empty() || cli.cases.iter().any(|name| case.is_called(name)));
    let done = measure(&plan, &cases, &cli.only)
        .and_then(|rows| report::publish(&rows, cli.json.as_deref()));
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn measure(plan: &Plan, cases: &[Case], only: &[String]) -> Result<Vec<Row>> {
    let is_bulk = |case: &Case| matches!(case, Case::Bulk(_));
    let bulk_bytes = if cases.iter().any(is_bulk) { plan.bulk_bytes } else { 1_000_000 };
    eprintln!(
        "loading: pgbench at scale {}, {} MB of bulk data",
        plan.scale,
        bulk_bytes / 1_000_000
    );
    let bed = Bed::start()?;
    load::fill(&bed.server, plan.scale, bulk_bytes)?;
    let targets = target::start(&bed, only)?;
    let mut samples: Vec<Sample> = Vec::new();
    for round in 0..plan.rounds {
        for case in cases {
            // Each round begins with another target: none is always the first after a pause.
            for step in 0..targets.len() {
                let target = targets.get((step + round) % targets.len()).context("a target")?;
                samples.extend(run_one(plan, round, *case, target)?);
            }
        }
    }
    Ok(report::medians(&samples))
}

fn run_one(plan: &Plan, round: usize, case: Case, target: &Target<'_>) -> Result<Option<Sample>> {
    if !target.supports(case) {
        return Ok(None);
    }
    let sample = load::run(case, target, plan.seconds)
        .with_context(|| format!("{} {} {}", target.name(), case.name(), case.clients()))?;
    eprintln!(
        "round {} {:>9} {:>2} clients {:<22} {:>9.1}/s {:>8.1} us/txn",
        round + 1,
        case.name(),
        case.clients(),
        target.name(),
        sample.tps,
        sample.cpu_us_per_txn.unwrap_or_default()
    );
    Ok(Some(sample))
}
