//! `cargo xtask escape-test`: every known way past the door is tried, and what became of it is a row.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use integration::escape::{self, Level, Row, report};

use crate::command::{cargo, command, run as run_command};
use crate::setup::{self, Scope, require_root};
use crate::term::say;

/// What is tried, and where the rows go.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Write the rows as JSON here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A1 (a user without privileges) or A2 (root, held by BPF LSM programs); both by default
    #[arg(long)]
    level: Option<Level>,
    /// Only attempts whose names contain this
    #[arg(default_value = "")]
    filter: String,
    /// Within namespaces of its own already
    #[arg(long, hide = true)]
    inside: bool,
}

/// Runs the attempts, prints the table, writes the rows.
///
/// # Errors
/// If an attempt had another outcome than expected, or the suite could not run.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.inside {
        return inside(args);
    }
    require_root("attempts start a daemon and agents, which")?;
    setup::ensure(Scope::Test)?;
    run_command(cargo(None).args(["build", "--quiet"]))?;
    let own = std::env::current_exe().context("this program does not know where it is")?;
    let mut task = command("unshare");
    task.args(["--net", "--mount", "--propagation", "private", "--"]).arg(own);
    task.args(["escape-test", "--inside"]);
    if let Some(json) = &args.json {
        task.arg("--json").arg(std::path::absolute(json)?);
    }
    if let Some(level) = args.level {
        task.arg("--level").arg(level.to_string());
    }
    run_command(task.arg(&args.filter))
}

fn inside(args: &Args) -> Result<()> {
    let levels = args.level.map_or(vec![Level::A1], |level| vec![level]);
    say(report::head());
    let rows = escape::run(&levels, &args.filter, |row| say(report::line(row)))?;
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report::to_json(&rows));
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    finish(&rows)
}

fn finish(rows: &[Row]) -> Result<()> {
    let wrong: Vec<&Row> = rows.iter().filter(|r| !r.is_right() && !r.is_unproven()).collect();
    say(format_args!("\n{} attempts, {} wrong", rows.len(), wrong.len()));
    for (attempt, level) in report::unproven(rows) {
        say(format_args!("{attempt} at {level}: this kernel can't show it"));
    }
    if !wrong.is_empty() || rows.is_empty() {
        bail!("not every attempt was held");
    }
    Ok(())
}
