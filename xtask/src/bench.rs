//! `cargo xtask bench`: builds everything in release and runs `bench/`, which measures.

pub(crate) mod archive;

use std::path::Path;

use anyhow::Result;

use crate::command::{cargo, run};
use crate::setup::{self, Scope, require_root};

/// Measures what the kernel programs cost.
///
/// # Errors
/// If something can't be built or measured, or a program runs for a process that is not its concern.
pub(crate) fn run_kernel(quick: bool, json: Option<&Path>) -> Result<()> {
    require_root("it loads BPF programs, which")?;
    setup::ensure(Scope::Bench)?;
    start("bench-kernel", quick, json)
}

/// Measures what masks cost per byte.
///
/// # Errors
/// If it can't be built or run.
pub(crate) fn run_masks(quick: bool, json: Option<&Path>) -> Result<()> {
    start("bench-masks", quick, json)
}

/// Measures what whom an agent acts for costs by itself.
///
/// # Errors
/// If something can't be built or run.
pub(crate) fn run_identity(quick: bool, json: Option<&Path>) -> Result<()> {
    setup::ensure(Scope::Bench)?;
    start("bench-identity", quick, json)
}

/// Drives approvals through two hubs.
///
/// # Errors
/// If something can't be built or run, or a vote or a request is lost.
pub(crate) fn run_hub(quick: bool, json: Option<&Path>) -> Result<()> {
    setup::ensure(Scope::Bench)?;
    run(cargo(None).args(["build", "--release", "--quiet", "-p", "daemon", "-p", "bench"]))?;
    start("bench-hub", quick, json)
}

/// Measures the journal against the disk under it.
///
/// # Errors
/// If it can't be built or run.
pub(crate) fn run_journal(quick: bool, json: Option<&Path>) -> Result<()> {
    setup::ensure(Scope::Bench)?;
    let mut speed = cargo(None);
    speed.args(["run", "--release", "--quiet", "-p", "journal", "--example", "commits", "--"]);
    if quick {
        speed.arg("--quick");
    }
    if let Some(json) = json {
        speed.arg("--json").arg(std::path::absolute(json)?);
    }
    run(&mut speed)
}

/// Runs the comparison.
///
/// # Errors
/// If something can't be built or measured.
pub(crate) fn run_bench(quick: bool, json: Option<&Path>) -> Result<()> {
    require_root("the comparison loads BPF programs, which")?;
    setup::ensure(Scope::Bench)?;
    run(cargo(None).args([
        "build",
        "--release",
        "--quiet",
        "-p",
        "daemon",
        "-p",
        "cli",
        "-p",
        "bench",
    ]))?;
    start("bench", quick, json)
}

fn start(binary: &str, quick: bool, json: Option<&Path>) -> Result<()> {
    let mut bench = cargo(None);
    bench.args(["run", "--release", "--quiet", "-p", "bench", "--bin", binary, "--"]);
    if quick {
        bench.arg("--quick");
    }
    if let Some(json) = json {
        bench.arg("--json").arg(std::path::absolute(json)?);
    }
    run(&mut bench)
}
