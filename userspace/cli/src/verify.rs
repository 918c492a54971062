//! `vestibule verify`: is the evidence what was recorded?

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use archive::verify::{self, Options};
use clap::Args as ClapArgs;

use crate::Output;

/// Check an archive, and the journal it came from if it is at hand: files, rows, Merkle roots,
/// signatures. Works on a copy, without the daemon. Exit status 1 if anything is not as recorded.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// The journal; with it a changed record is named, without it the 256 records it is among.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// The node's public key, kept where the node can't change it; the archive's own copy where
    /// absent.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Print the rows of a changed file; verify runs itself so, as such a file may end the process.
    #[arg(long, value_name = "FILE", hide = true, requires = "read_table")]
    read_changed: Option<PathBuf>,
    /// Its table.
    #[arg(long, value_name = "TABLE", hide = true)]
    read_table: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { archive, journal, key, output, read_changed, read_table } = args;
    if let (Some(file), Some(table)) = (read_changed, read_table) {
        let mut out = BufWriter::new(std::io::stdout().lock());
        let whole = verify::print_changed(file, table, &mut out)?;
        out.flush()?;
        return Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let reader = Some(std::env::current_exe()?);
    let (archive, journal, key) = (archive.clone(), journal.clone(), key.clone());
    let options = Options { archive, journal, key, reader };
    let report = verify::verify(&options)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string(&report)?),
        Output::Table => print!("{report}"),
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
