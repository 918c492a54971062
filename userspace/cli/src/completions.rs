//! `vestibule completions`: for the shell.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args as ClapArgs, CommandFactory};
use clap_complete::Shell;

/// Print a completion script for a shell.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[expect(clippy::unnecessary_wraps, reason = "every subcommand has this shape")]
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "vestibule", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}
