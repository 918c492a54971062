//! `vestibule archive export`: rows and sessions for others to read.

mod asciicast;
mod kit;
mod pcapng;
mod rows;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use archive::export::{Lines, Ocsf};
use clap::Subcommand;

use super::recorded::{Session, Source};

/// Hand out rows of the archive, or a session as packets or as a recording of a terminal.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    Kit(kit::Args),
    /// Write rows as CSV with a header (RFC 4180): what is absent is nothing, an empty text is "", lists are JSON.
    Csv(rows::Args),
    /// Write rows as JSON Lines, an object a row.
    Jsonl(rows::Args),
    /// Write rows as syslog messages (RFC 5424), a line each, with all columns that are not absent.
    Syslog(rows::Args),
    /// Write rows in ArcSight's Common Event Format, a line each.
    Cef(rows::Args),
    /// Write commands as OCSF 1.8 events, a JSON object a line, a file a class.
    OcsfJson(rows::OcsfArgs),
    /// Write commands as OCSF 1.8 events in Parquet, a file a class.
    OcsfParquet(rows::OcsfArgs),
    Pcapng(pcapng::Args),
    Asciicast(asciicast::Args),
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    match args {
        Args::Kit(args) => kit::run(control, args),
        Args::Csv(args) => rows::run(args, Lines::Csv),
        Args::Jsonl(args) => rows::run(args, Lines::Json),
        Args::Syslog(args) => rows::run(args, Lines::Syslog),
        Args::Cef(args) => rows::run(args, Lines::Cef),
        Args::OcsfJson(args) => rows::run_ocsf(args, Ocsf::Json),
        Args::OcsfParquet(args) => rows::run_ocsf(args, Ocsf::Parquet),
        Args::Pcapng(args) => pcapng::run(control, args),
        Args::Asciicast(args) => asciicast::run(control, args),
    }
}

/// Writes a session to a file, or to the standard output; says where it is not whole.
fn hand_out(
    control: &Path,
    source: &Source,
    out: Option<&Path>,
    write: impl FnOnce(&Session, &mut dyn Write) -> Result<()>,
) -> Result<ExitCode> {
    let session = Session::read(control, source)?;
    match out {
        None => write(&session, &mut io::stdout().lock())?,
        Some(path) => {
            let what = || path.display().to_string();
            let file = File::create(path).with_context(what)?;
            write(&session, &mut BufWriter::new(file)).with_context(what)?;
        }
    }
    if session.is_cut {
        eprintln!("vestibule: the session has more than is held: its last commands are missing");
    }
    Ok(ExitCode::SUCCESS)
}
