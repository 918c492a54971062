//! `cargo xtask bench --archive`: how fast the archive is sealed, verified and put together, what it takes, and how fast
//! auditors' questions are answered, beside files with a JSON column.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use integration::paths;

use crate::command::{cargo, command, run as run_command};
use crate::setup::{self, Scope};
use crate::spark;
use crate::term::heading;

/// Events where no number is named, and where it is to be quick.
const EVENTS: u64 = 10_000_000;
const EVENTS_QUICK: u64 = 200_000;

/// What is made, and where.
pub(crate) struct Lake<'a> {
    pub(crate) events: Option<u64>,
    pub(crate) dir: Option<&'a Path>,
    pub(crate) keep: bool,
}

/// Measures sealing and verification by themselves, then makes an archive of many days and asks.
///
/// # Errors
/// If something can't be built or run, there is no room, or the archive does not verify.
pub(crate) fn run(quick: bool, lake: &Lake<'_>, json: Option<&Path>) -> Result<()> {
    setup::ensure(Scope::Test)?;
    let python = paths::python().to_string_lossy().into_owned();
    let has_spark = spark::is_there(&python)?;
    let events = lake.events.unwrap_or(if quick { EVENTS_QUICK } else { EVENTS });
    let mut speed = example("speed");
    run_command(speed.args(quick.then_some("--quick")))?;
    let dir = lake.dir.map_or_else(|| paths::root().join("target/bench-lake"), Path::to_owned);
    let dir = std::path::absolute(dir)?;
    anyhow::ensure!(!dir.exists(), "{} is there already: remove it", dir.display());
    let done = make_and_ask(&dir, events, (&python, has_spark), json);
    if !lake.keep && dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    done
}

fn make_and_ask(
    dir: &Path,
    events: u64,
    (python, has_spark): (&str, bool),
    json: Option<&Path>,
) -> Result<()> {
    run_command(cargo(None).args(["build", "--release", "--quiet", "-p", "cli"]))?;
    let mut make = example("lake");
    make.arg("--out").arg(dir).arg("--events").arg(events.to_string());
    run_command(make.arg("--json").arg(dir.join("made.json")))?;
    let to: PathBuf = json.map_or_else(|| Ok(dir.join("asked.json")), std::path::absolute)?;
    let mut ask = command(python);
    ask.arg("bench/lake.py").arg(dir).arg(to);
    ask.arg("--vestibule").arg(paths::root().join("target/release/vestibule"));
    ask.arg("--duckdb").arg(paths::duckdb());
    if !has_spark {
        heading(
            "Spark is left out: it needs Java 17 or later, and `cargo xtask spark-test` brings the rest",
        );
        ask.arg("--no-spark");
    }
    run_command(&mut ask)
}

fn example(name: &str) -> std::process::Command {
    let mut example = cargo(None);
    example.args(["run", "--release", "--quiet", "-p", "archive", "--example", name, "--"]);
    example
}
