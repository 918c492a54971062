//! `cargo xtask corpus-test`: the analysis of SQL against PostgreSQL's own parser and executor, on the whole of its
//! regression corpus.
//!
//! The comparison is an example of the tests' crate, which links the analysis; the tasks must build before the SQL
//! grammar can.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

use crate::command::{cargo, run as run_command};
use crate::setup::{self, Scope, require_root};

/// Where the figures go.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Write the figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the corpus, shows the differences by kind, writes the figures.
///
/// # Errors
/// If anything that the server calls a write is called harmless here, a relation it demands is not named, or the
/// corpus can't be fetched.
pub(crate) fn run(args: &Args) -> Result<()> {
    require_root("the server that the corpus runs on")?;
    setup::ensure(Scope::Test)?;
    let mut corpus = cargo(None);
    corpus.args(["run", "--quiet", "--example", "corpus", "--"]);
    if let Some(path) = &args.json {
        // The example runs at the repository's root.
        corpus.arg(std::path::absolute(path).context("there is no such folder")?);
    }
    run_command(&mut corpus)
}
