//! `vestibule policy`: before a policy goes live.

mod backtest;
mod captured;
mod replayed;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args as ClapArgs, Subcommand};
use policy::{PolicySet, PolicySource, cases};

/// Check policies, test them against cases, and against what agents did.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    Check(Check),
    Test(Test),
    Backtest(backtest::Args),
}

/// Compile schema, policies and classification; warnings are errors.
#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    /// The policy directory.
    #[arg(value_name = "DIR", default_value = "/etc/vestibule/policies")]
    dir: PathBuf,
}

/// Decide every case of DIR/cases/*.toml and compare. Exit status 1 if one differs.
#[derive(Debug, ClapArgs)]
pub(crate) struct Test {
    /// The policy directory.
    #[arg(value_name = "DIR", default_value = "/etc/vestibule/policies")]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match args {
        Args::Check(Check { dir }) => {
            compile(dir)?;
            println!("{}: ok", dir.display());
            Ok(ExitCode::SUCCESS)
        }
        Args::Test(Test { dir }) => test(dir),
        Args::Backtest(args) => backtest::run(args),
    }
}

fn test(dir: &Path) -> Result<ExitCode> {
    let policies = compile(dir)?;
    let mut failed = 0;
    let mut passed = 0;
    for (name, text) in files(&dir.join("cases"))? {
        let cases = cases::parse(&text).with_context(|| name.clone())?;
        for case in &cases {
            match case.run(&policies) {
                Ok(()) => passed += 1,
                Err(difference) => {
                    failed += 1;
                    println!("{name}: {}: {difference}", case.name);
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compile(dir: &Path) -> Result<PolicySet> {
    let source =
        PolicySource::from_files(files(dir)?).with_context(|| dir.display().to_string())?;
    PolicySet::compile(&source).with_context(|| dir.display().to_string())
}

/// Name and text of a directory's files, in the order of their names.
fn files(dir: &Path) -> Result<Vec<(String, String)>> {
    let what = || format!("{} can't be read", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(what)? {
        let path = entry.with_context(what)?.path();
        if path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path)
                .with_context(|| format!("{} can't be read", path.display()))?;
            files.push((name, text));
        }
    }
    files.sort();
    Ok(files)
}
