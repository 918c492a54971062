//! `cargo xtask escape-test`: every known way past the door is tried, and what became of it is a row.
//!
//! What this kernel can't show (a protocol it does not have, root held by BPF LSM programs it refuses) is tried
//! on a stock Debian kernel in a virtual machine, unless `--kernel here` says otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args as ClapArgs;
use integration::escape::{self, Level, Row, report};
use integration::paths;

use crate::command::{cargo, command, run as run_command, stdout_of};
use crate::setup::{self, Scope, require_root};
use crate::term::{heading, say};
use crate::vm::{self, Series};

/// What is tried, and where the rows go.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Write the rows as JSON here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A1 (a user without privileges) or A2 (root, held by BPF LSM programs); both by default
    #[arg(long)]
    level: Option<Level>,
    /// Where: on this kernel alone, or what it can't show on this Debian kernel in a virtual machine
    #[arg(long, default_value = "6.12")]
    kernel: Where,
    /// Only attempts whose names contain this, or one of these, with commas between
    #[arg(default_value = "")]
    filter: String,
    /// Within namespaces of its own already
    #[arg(long, hide = true)]
    inside: bool,
}

/// Which kernels are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Where {
    /// This host's.
    Here,
    #[value(name = "6.1")]
    Bookworm,
    #[value(name = "6.12")]
    Trixie,
    Newest,
}

impl Where {
    /// The kernel for what this one can't show.
    fn elsewhere(self) -> Option<Series> {
        match self {
            Self::Here => None,
            Self::Bookworm => Some(Series::Bookworm),
            Self::Trixie => Some(Series::Trixie),
            Self::Newest => Some(Series::Newest),
        }
    }
}

/// Runs the attempts, prints the table, writes the rows.
///
/// # Errors
/// If an attempt had another outcome than expected, or no kernel asked could show it.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.inside {
        return inside(args);
    }
    require_root("attempts start a daemon and agents, which")?;
    setup::ensure(Scope::Test)?;
    run_command(cargo(None).args(["build", "--quiet"]))?;
    try_all(args)
}

fn try_all(args: &Args) -> Result<()> {
    let mut rows = Vec::new();
    let mut left = Vec::new();
    for level in vm::levels(args.level) {
        if level == Level::A2 && !takes_lsm()? {
            say(format_args!("\n{level}: this kernel refuses BPF LSM programs"));
            left.push((level, args.filter.clone()));
            continue;
        }
        let found = here(level, &args.filter)?;
        let unproven = report::unproven(&found).into_iter().map(|(attempt, _)| attempt);
        let names = unproven.collect::<Vec<_>>().join(",");
        if !names.is_empty() {
            left.push((level, names));
        }
        rows.extend(found);
    }
    let asked = args.kernel.elsewhere();
    if let (Some(series), false) = (asked, left.is_empty()) {
        rows = elsewhere(series, &left, rows)?;
    }
    if let Some(path) = &args.json {
        write(path, &rows)?;
    }
    finish(&rows, asked.is_some())
}

/// Makes on a Debian kernel what this one could not show, and answers all rows together.
fn elsewhere(series: Series, left: &[(Level, String)], mut rows: Vec<Row>) -> Result<Vec<Row>> {
    let kernel = vm::kernel(series)?;
    heading(format_args!("what this kernel can't show, on Linux {}", kernel.release));
    let found = vm::escape(&kernel, &vm::programs()?, left)?;
    say(report::head());
    found.lines.iter().for_each(say);
    ensure!(found.failed.is_empty(), "{}", found.failed.join("\n"));
    rows.retain(|row| !row.is_unproven());
    // Names are matched by parts of them: what this kernel shows itself may be among what was found.
    let is_shown =
        |row: &Row| rows.iter().any(|r| r.attempt == row.attempt && r.level == row.level);
    let more: Vec<Row> = found.rows.into_iter().filter(|row| !is_shown(row)).collect();
    rows.extend(more);
    Ok(rows)
}

/// Runs the attempts on this kernel alone, at the levels it has, with programs that are built already; others are
/// `cargo xtask vm-test`'s.
///
/// # Errors
/// If one had another outcome than expected.
pub(crate) fn run_built() -> Result<()> {
    require_root("attempts start a daemon and agents, which")?;
    let filter = String::new();
    try_all(&Args { json: None, level: None, kernel: Where::Here, filter, inside: false })
}

/// Whether this kernel takes BPF LSM programs: found by loading one.
fn takes_lsm() -> Result<bool> {
    let daemon = paths::programs()?.join("vestibuled");
    let checks = stdout_of(std::process::Command::new(daemon).arg("--probe")).context("--probe")?;
    let checks: serde_json::Value = serde_json::from_str(&checks).context("--probe")?;
    let lsm = checks.as_array().into_iter().flatten().find(|check| check["name"] == "BPF LSM");
    Ok(lsm.is_some_and(|check| check["verdict"] == "ok"))
}

/// Makes the attempts on this kernel, in namespaces of their own.
fn here(level: Level, filter: &str) -> Result<Vec<Row>> {
    let own = paths::this_program()?;
    let folder = paths::root().join("target/escape");
    fs::create_dir_all(&folder).context("target/escape can't be made")?;
    let json = folder.join(format!("{level}.json"));
    fs::remove_file(&json).ok();
    let mut task = command("unshare");
    task.args(["--net", "--mount", "--propagation", "private", "--"]).arg(own);
    task.args(["escape-test", "--inside", "--level", &level.to_string(), "--json"]);
    // Its status says what the rows say as well.
    task.arg(&json).arg(filter).status().context("unshare")?;
    let text = fs::read_to_string(&json).with_context(|| format!("no rows at {level}"))?;
    report::from_json(&text)
}

fn inside(args: &Args) -> Result<()> {
    let levels = vm::levels(args.level);
    say(report::head());
    let rows = escape::run(&levels, &args.filter, |row| say(report::line(row)))?;
    if let Some(path) = &args.json {
        write(path, &rows)?;
    }
    Ok(())
}

fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let text = format!("{:#}\n", report::to_json(rows));
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// Says what is wrong; what no kernel could show is wrong where others were asked.
fn finish(rows: &[Row], asked_others: bool) -> Result<()> {
    let is_shown = |row: &Row| asked_others || !row.is_unproven();
    let judged: Vec<Row> = rows.iter().filter(|row| is_shown(row)).cloned().collect();
    let wrong = report::wrong(&judged);
    for line in &wrong {
        say(line);
    }
    if !asked_others {
        for (attempt, level) in report::unproven(rows) {
            say(format_args!("{attempt} at {level}: this kernel can't show it"));
        }
    }
    say(format_args!("\n{} rows, {} wrong", rows.len(), wrong.len()));
    if !wrong.is_empty() || judged.is_empty() {
        bail!("not every attempt was held");
    }
    Ok(())
}
