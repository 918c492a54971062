//! `cargo xtask tamper-test`: archives are altered as one with the node's disk or keys would, and each alteration
//! must be found by name; what is none must pass.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args as ClapArgs;
use integration::paths;

use crate::command::{cargo, command, run as run_command};
use crate::setup::{self, Scope};

/// What is tried, and where the counts go.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Fewer places in each file, and a few thousand records instead of a million; half a minute once built
    #[arg(long)]
    quick: bool,
    /// Write `{"cases","missed","false_alarms"}` here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only cases whose names contain this
    #[arg(default_value = "")]
    filter: String,
}

/// Builds what it needs, in release where a million records are made, and runs it.
///
/// # Errors
/// If an alteration was missed, or what is none was taken for one.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Scope::Test)?;
    let Args { quick, json, filter } = args;
    let mut build = cargo(None);
    build.args(["build", "--quiet"]);
    if *quick {
        build.args(["--all-targets"]);
    } else {
        build.args(["--release", "-p", "archive", "-p", "verifier", "-p", "witness"]);
        build.args(["--bins", "--example", "tamper"]);
    }
    run_command(&mut build)?;
    start(*quick, json.as_deref(), filter)
}

/// The quick suite, of programs that are built already.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_quick() -> Result<()> {
    start(true, None, "")
}

fn start(quick: bool, json: Option<&Path>, filter: &str) -> Result<()> {
    let profile = if quick { "debug" } else { "release" };
    let suite = paths::root().join("target").join(profile).join("examples/tamper");
    let mut suite = command(&suite.display().to_string());
    if quick {
        suite.arg("--quick");
    }
    if let Some(json) = json {
        suite.arg("--json").arg(std::path::absolute(json)?);
    }
    run_command(suite.args(["--only", filter]))
}
