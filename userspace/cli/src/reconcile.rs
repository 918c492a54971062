//! `vestibule reconcile`: the server's own trail against the archive.

mod compare;
mod recorded;
mod trail;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use types::id::SessionId;

use crate::{Output, deep};
use compare::{Comparison, Finding};
use recorded::Recorded;

/// Compare what pgaudit wrote on a PostgreSQL server with the archive: every statement that the server ran in a session
/// of an agent must be a recorded command that was let through, and agents' accounts must have been logged in with through
/// vestibule alone. Sessions are known by the mark that vestibule puts into application_name. Seal the archive before, and
/// have log_destination csvlog or jsonlog with pgaudit.log = 'all'. Exit status 1 where something does not agree.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// The server is this target of the configuration; all PostgreSQL targets where absent.
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// How far the log's times are ahead of UTC, as +01:00, where they name a zone by letters other than UTC.
    #[arg(long, value_name = "OFFSET", value_parser = offset, allow_hyphen_values = true)]
    utc_offset: Option<i64>,
    /// The log has everything that the server ran meanwhile (pgaudit.log = 'all', no file missing): recorded commands that it
    /// does not have are findings, too.
    #[arg(long)]
    complete: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// The server's log: csvlog (.csv) or jsonlog (.json), the oldest file first.
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let compared = deep::run(|| compare(args))?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&compared)?),
        Output::Table => print(args, &compared),
    }
    Ok(ExitCode::from(u8::from(compared.found > 0)))
}

fn compare(args: &Args) -> Result<Comparison> {
    let mut first_us = i64::MAX;
    let audited = trail::read(&args.logs, args.utc_offset, &mut |ran| {
        let opened = ran.mark.as_deref().and_then(|mark| mark.parse::<SessionId>().ok());
        first_us = first_us.min(opened.map_or(ran.at_us, |session| session.made_us()));
        Ok(())
    })?;
    ensure!(
        audited > 0,
        "no line of pgaudit is in the log: see that the server has shared_preload_libraries = 'pgaudit' and \
         pgaudit.log = 'all'"
    );
    let recorded = Recorded::read(&args.archive, &args.target, first_us)?;
    ensure!(
        recorded.until_us > i64::MIN,
        "{} was never sealed since the log begins: vestibule archive seal",
        args.archive.display()
    );
    let mut comparison = Comparison::new(recorded, first_us);
    trail::read(&args.logs, args.utc_offset, &mut |ran| {
        comparison.take(&ran);
        Ok(())
    })
    .context("the log changed while it was read")?;
    Ok(comparison.end(args.complete))
}

fn print(args: &Args, compared: &Comparison) {
    let mut table = Table::new();
    table.load_style(NOTHING);
    for (count, what) in compared.counts() {
        table.add_row([count.to_string(), what.to_owned()]);
    }
    println!("{table}");
    for Finding { kind, session, line, file, at, account, client, statement } in &compared.findings
    {
        let log = args.logs.get(*file).map(|path| path.display().to_string()).unwrap_or_default();
        let place = if *line > 0 { format!("{log}:{line}: ") } else { String::new() };
        println!("{place}{}: {at} {account}@{client} {session} {statement}", kind.words());
    }
    let shown = u64::try_from(compared.findings.len()).unwrap_or(u64::MAX);
    if compared.found > shown {
        println!("… and {} more", compared.found - shown);
    }
    if compared.found == 0 {
        println!("the server's trail and the archive agree");
    }
}

fn offset(text: &str) -> Result<i64, String> {
    trail::numeric(text).ok_or_else(|| "is not like +01:00".to_owned())
}
