//! `vestibule archive export`: rows for others to read.

mod kit;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

/// Hand out rows of the archive.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    Kit(kit::Args),
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    match args {
        Args::Kit(args) => kit::run(control, args),
    }
}
