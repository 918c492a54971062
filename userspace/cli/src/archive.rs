//! `vestibule archive`: fill it, check it, ask it, hand it out.

mod ask;
mod blind;
mod compact;
mod delta;
mod export;
mod prune_journal;
mod recorded;
mod remote;
mod replay;
mod retention;
mod seal_secret;
mod transcript;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use archive::query::{self, Mode};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use types::control::{Request, Response};

use crate::Output;
use crate::control;

/// Sealing a full journal takes a while: 64 segments at about 300,000 rows a second.
const SEAL_PATIENCE: Duration = Duration::from_mins(10);

/// The archive: seal what the journal holds into it, verify it, query it, hand out rows of it.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    Seal(Seal),
    Compact(compact::Args),
    Delta(delta::Args),
    RotateKey(RotateKey),
    DestroyKeys(DestroyKeys),
    PruneJournal(prune_journal::Args),
    SealSecret(seal_secret::Args),
    Verify(verifier::Args),
    Fetch(remote::Fetch),
    RemoteCheck(remote::Check),
    #[command(subcommand)]
    Hold(retention::HoldArgs),
    Dispose(retention::Dispose),
    Retention(retention::Retention),
    Query(Query),
    Ask(ask::Args),
    Blind(blind::Args),
    RotateBlindKey(blind::Rotate),
    #[command(subcommand)]
    Export(export::Args),
    Replay(replay::Args),
}

/// Have the daemon archive what its journal holds now, and sign a checkpoint.
#[derive(Debug, ClapArgs)]
pub(crate) struct Seal {
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Have the daemon replace the key that signs checkpoints, and record that with both keys' signatures. Keep the new
/// public keys (keys/NODE.vkey) where the host can't change them, and give them to the witnesses.
#[derive(Debug, ClapArgs)]
pub(crate) struct RotateKey {
    /// Others may have the old key: beyond this size its checkpoints don't stand by themselves.
    #[arg(long, value_name = "SIZE")]
    revoked_from: Option<u64>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Have the daemon destroy private keys in the token ([archive.key]) that others have followed, whatever `label` said
/// when they were made; without a name, list them. First it seals, so that the key in force has signed a checkpoint; a key that
/// signs, or is to, or is not this node's, is refused. It is recorded who asked, before (`key.destroying`) and after
/// (`key.destroyed`). What the key signed verifies as before. It can't be undone, and a key that another host uses, too, is gone
/// there as well.
#[derive(Debug, ClapArgs)]
pub(crate) struct DestroyKeys {
    /// Their names in the token.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Ask the archive in SQL, through the `duckdb` executable, with the views events, sessions, control
/// and recordings at hand.
#[derive(Debug, ClapArgs)]
pub(crate) struct Query {
    #[command(flatten)]
    place: Where,
    /// How to print the rows.
    #[arg(long, value_enum, default_value = "table")]
    output: Rows,
    /// The query.
    #[arg(value_name = "SQL")]
    sql: String,
}

/// What is asked, and by which program.
#[derive(Debug, ClapArgs)]
pub(crate) struct Where {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// DuckDB's executable; searched on PATH where absent.
    #[arg(long, value_name = "FILE", env = "VESTIBULE_DUCKDB")]
    duckdb: Option<PathBuf>,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Rows {
    /// For people.
    Table,
    /// One JSON array.
    Json,
    /// CSV with a header.
    Csv,
}

impl Rows {
    fn mode(self) -> Mode {
        match self {
            Self::Table => Mode::Table,
            Self::Json => Mode::Json,
            Self::Csv => Mode::Csv,
        }
    }
}

/// `vestibule verify`.
pub(crate) fn verify(args: &verifier::Args) -> Result<ExitCode> {
    remote::verify(args)
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    match args {
        Args::Seal(Seal { output }) => seal(control, &Request::Seal, *output),
        Args::PruneJournal(args) => prune_journal::run(control, args),
        Args::SealSecret(args) => seal_secret::run(args),
        Args::RotateKey(RotateKey { revoked_from, output }) => {
            seal(control, &Request::RotateKey { revoked_from: *revoked_from }, *output)
        }
        Args::DestroyKeys(DestroyKeys { names }) => {
            retention::ask(control, &Request::DestroyKeys { names: names.clone() })
        }
        Args::Compact(args) => compact::run(control, args),
        Args::Delta(args) => delta::run(args),
        Args::Verify(args) => remote::verify(args),
        Args::Fetch(args) => remote::fetch(args),
        Args::RemoteCheck(args) => remote::check(args),
        Args::Hold(args) => retention::hold(control, args),
        Args::Dispose(args) => retention::dispose(control, args),
        Args::Retention(args) => retention::report(args),
        Args::Query(args) => query(args),
        Args::Ask(args) => ask::run(args),
        Args::Blind(args) => blind::run(args),
        Args::RotateBlindKey(args) => blind::rotate(control, args),
        Args::Export(args) => export::run(control, args),
        Args::Replay(args) => replay::run(control, args),
    }
}

fn seal(control: &Path, request: &Request, output: Output) -> Result<ExitCode> {
    let response = control::ask(control, request, SEAL_PATIENCE)?;
    let Response::Sealed { tree_size, root, files } = &response else {
        bail!("the daemon's answer is not about sealing");
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table => {
            println!("{tree_size} rows are sealed, root {root}");
            for file in files {
                println!("  {file}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn query(args: &Query) -> Result<ExitCode> {
    let Query { place: Where { archive, duckdb }, output, sql } = args;
    say_elsewhere(archive);
    let status = query::run(archive, duckdb.as_deref(), output.mode(), sql)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says on stderr what of an archive is not here: answers lack it.
fn say_elsewhere(archive: &Path) {
    if let Ok((files, stores)) = archive::pruned::count(archive)
        && files > 0
    {
        let stores = stores.join(", ");
        eprintln!(
            "note: {files} files are only in {stores}, and this answer lacks their rows: \
             `vestibule archive fetch --from URL --to DIR` brings them"
        );
    }
}
