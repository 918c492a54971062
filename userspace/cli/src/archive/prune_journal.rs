//! `vestibule archive prune-journal`: the journal's segments that are safe elsewhere.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use types::control::{JournalPruned, Request, Response};

use crate::{Output, control};

/// It seals, which waits for a verification under way.
const PATIENCE: Duration = Duration::from_mins(30);

/// Have the daemon let go of the journal's segments whose rows are safe elsewhere, as [journal] prune and keep_days say; it does so by
/// itself once an hour. First it records from where on the journal is kept (`log.pruned`) and seals that, so that `vestibule verify
/// --journal` can tell it from a hand that took them. The last two segments stay in any case.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { dry_run, output } = args;
    let response = control::ask(control, &Request::PruneJournal { dry_run: *dry_run }, PATIENCE)?;
    let Response::JournalPruned(pruned) = &response else {
        bail!("the daemon's answer is not about the journal's segments");
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table => tell(pruned, *dry_run),
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(pruned: &JournalPruned, dry_run: bool) {
    let JournalPruned { segments, bytes, first_row, limits } = pruned;
    let done = match (segments, dry_run) {
        (0, _) => "nothing can go".to_owned(),
        (_, true) => format!("{segments} segments, {bytes} bytes, would go: --dry-run"),
        (_, false) => format!("{segments} segments, {bytes} bytes, are gone"),
    };
    let first = if dry_run && *segments > 0 { "would begin" } else { "begins" };
    println!("{done}; the journal {first} at row {first_row}");
    for limit in limits {
        println!("  {limit}");
    }
}
