//! `vestibule recordings`: sealed recordings, their keys, and the end of both.

pub(crate) mod open;
pub(crate) mod read;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use recording::keys;
use types::control::{Request, Response};
use types::id::SessionId;

use crate::control::ask;

/// Sealed recordings: make a pair of keys for who may read them, open one, or destroy what opens it.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    Keygen(Keygen),
    Open(open::Args),
    Shred(Shred),
}

/// Make a pair of keys: FILE.pub is for `recordings.recipients` of the daemon's configuration, FILE.key (mode 0600) opens
/// what was sealed to it. Make it where the recordings are read, not at the host; keep FILE.key off it.
#[derive(Debug, ClapArgs)]
pub(crate) struct Keygen {
    /// The files' name without its end, such as `audit`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Destroy the keys of recordings, so that nobody opens them again; it is recorded who did and why. Rows and proofs
/// stay, and verify. Copies of the vault of keys elsewhere have to go by their own rules.
#[derive(Debug, ClapArgs)]
pub(crate) struct Shred {
    /// Of this session; may be given several times.
    #[arg(long, value_name = "ID", required_unless_present = "before", conflicts_with = "before")]
    session: Vec<SessionId>,
    /// Of all sessions that opened before this day, UTC.
    #[arg(long, value_name = "DAY")]
    before: Option<String>,
    /// Why; it is recorded, and must not be empty.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Each key takes a commit of the journal and three trips to the disk: 10,000 of them at 30 ms.
const SHRED_PATIENCE: Duration = Duration::from_mins(5);

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    match args {
        Args::Keygen(args) => keygen(args),
        Args::Open(args) => open::run(control, args),
        Args::Shred(args) => shred(control, args),
    }
}

fn keygen(Keygen { out }: &Keygen) -> Result<ExitCode> {
    let key = keys::generate()?;
    let (private, public) = keys::write(&key, out)?;
    println!("{}: for recordings.recipients of the daemon's configuration", public.display());
    println!("{}: opens them; keep it off the host, and a copy of it safe", private.display());
    println!("its name in records is {}", key.public().id());
    Ok(ExitCode::SUCCESS)
}

fn shred(control: &Path, Shred { session, before, reason }: &Shred) -> Result<ExitCode> {
    let (sessions, before, reason) = (session.clone(), before.clone(), reason.clone());
    let response = ask(control, &Request::Shred { sessions, before, reason }, SHRED_PATIENCE)?;
    let Response::Shredded { shredded, held } = response else {
        bail!("the daemon's answer is not about recordings");
    };
    println!("{shredded} shredded: nobody opens them again");
    if held > 0 {
        println!("{held} stay: legal holds are on them (`vestibule archive hold list`)");
    }
    Ok(ExitCode::SUCCESS)
}
