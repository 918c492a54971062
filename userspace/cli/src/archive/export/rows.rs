//! Which rows, and where to.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use archive::export::{self, ExportError, Lines, Ocsf};
use archive::scan::Filter;
use clap::{Args as ClapArgs, ValueEnum};
use journal::row::Table;
use types::clock::from_utc;

/// Rows of one table.
#[derive(Debug, ClapArgs)]
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Of which table.
    #[arg(long, value_enum, default_value = "events")]
    table: OfTable,
    /// Write them here; to the standard output where absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Commands as OCSF events.
#[derive(Debug, ClapArgs)]
#[group(skip)]
pub(crate) struct OcsfArgs {
    #[command(flatten)]
    which: Which,
    /// Write the files into this folder.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, ClapArgs)]
#[group(skip)]
struct Which {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// Begun at or after: `2026-11-21` or `2026-11-21T08:00:00Z`.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<i64>,
    /// Begun before.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<i64>,
    /// Of this session; as often as needed.
    #[arg(long = "session", value_name = "SESSION")]
    sessions: Vec<String>,
    /// Of this agent.
    #[arg(long)]
    agent: Option<String>,
    /// Commands decided so: allow, mask, deny, approved, break_glass.
    #[arg(long)]
    decision: Option<String>,
}

/// A table.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OfTable {
    Events,
    Sessions,
    Control,
    Recordings,
}

fn time(text: &str) -> Result<i64, String> {
    from_utc(text).ok_or_else(|| "not like 2026-11-21 or 2026-11-21T08:00:00Z".to_owned())
}

impl Which {
    fn filter(&self) -> Filter {
        let Self { archive: _, since, until, sessions, agent, decision } = self;
        let (agent, decision) = (agent.clone(), decision.clone());
        Filter { from_us: *since, until_us: *until, sessions: sessions.clone(), agent, decision }
    }
}

pub(super) fn run(args: &Args, format: Lines) -> Result<ExitCode> {
    let Args { which, table, out } = args;
    let table = match table {
        OfTable::Events => Table::Events,
        OfTable::Sessions => Table::Sessions,
        OfTable::Control => Table::Control,
        OfTable::Recordings => Table::Recordings,
    };
    anyhow::ensure!(which.archive.is_dir(), "no archive in {}", which.archive.display());
    let filter = which.filter();
    let written = if let Some(path) = out {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        export::lines(&which.archive, table, &filter, format, &mut BufWriter::new(file))
    } else {
        let mut out = BufWriter::new(io::stdout().lock());
        export::lines(&which.archive, table, &filter, format, &mut out)
    };
    match written {
        // Whoever reads has enough, as `head` does.
        Err(ExportError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {}
        Ok(count) if out.is_some() => println!("{count} rows"),
        other => drop(other?),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run_ocsf(args: &OcsfArgs, format: Ocsf) -> Result<ExitCode> {
    let OcsfArgs { which, out } = args;
    anyhow::ensure!(which.archive.is_dir(), "no archive in {}", which.archive.display());
    for (path, count) in export::ocsf(&which.archive, &which.filter(), format, out)? {
        println!("{}: {count} events", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
