//! `vestibule archive hold`, `dispose` and `retention`: what is kept, and what goes when its time is over.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use archive::holds::{self, Hold, Scope};
use archive::retention::{self, Periods, Standing};
use clap::{Args as ClapArgs, Subcommand};
use types::control::{Person, Request, Response};

use crate::Output;
use crate::control;
use crate::whom::sudo_uid;

/// Sealing, and reading what may be held: seven years of a busy node are read in a quarter of an hour.
const PATIENCE: Duration = Duration::from_hours(1);

/// Legal holds: what must not be disposed of.
#[derive(Debug, Subcommand)]
pub(crate) enum HoldArgs {
    Set(Set),
    List(List),
    Release(ReleaseArgs),
}

/// Set a hold, on what is there and on what will come.
#[derive(Debug, ClapArgs)]
pub(crate) struct Set {
    /// Its name, such as LH-7.
    #[arg(value_name = "NAME")]
    name: String,
    /// On what: agent=NAME, actor=PERSON, target=NAME, session=ID, days=2026-11-01..2026-11-30; all that are given must
    /// hold. May be given again.
    #[arg(long = "where", value_name = "NAME=VALUE", required = true, num_args = 1..)]
    scope: Vec<String>,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// List the holds in force.
#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Ask for a hold's release, as the person who is logged in here; it is released once another person has asked, too.
#[derive(Debug, ClapArgs)]
pub(crate) struct ReleaseArgs {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The file with your token, in the place of a login on this host.
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
}

/// Remove files whose class's time is over and that no hold is on, as the person who is logged in here: recorded and sealed
/// first. Tiles and control records stay.
#[derive(Debug, ClapArgs)]
pub(crate) struct Dispose {
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    /// Why.
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// The file with your token, in the place of a login on this host.
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
}

/// Say what is kept of each class, what went, what is over and what is held.
#[derive(Debug, ClapArgs)]
pub(crate) struct Retention {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// Days that events and sessions are kept.
    #[arg(long, value_name = "DAYS", default_value_t = Periods::default().std7y_days)]
    std7y_days: u32,
    /// Days that recordings are kept.
    #[arg(long, value_name = "DAYS", default_value_t = Periods::default().payload13m_days)]
    payload13m_days: u32,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn hold(control: &Path, args: &HoldArgs) -> Result<ExitCode> {
    match args {
        HoldArgs::Set(Set { name, scope, reason }) => {
            let words: Vec<String> = scope
                .iter()
                .flat_map(|words| words.split_whitespace())
                .map(str::to_owned)
                .collect();
            Scope::parse(&words)?;
            let (name, reason) = (name.clone(), reason.clone());
            ask(control, &Request::HoldSet { name, scope: words, reason })
        }
        HoldArgs::List(List { archive, output }) => list(archive, *output),
        HoldArgs::Release(ReleaseArgs { name, reason, token_file }) => {
            let (name, reason) = (name.clone(), reason.clone());
            ask(control, &Request::HoldRelease { name, reason, by: person(token_file.as_deref())? })
        }
    }
}

pub(super) fn dispose(control: &Path, args: &Dispose) -> Result<ExitCode> {
    let Dispose { dry_run, reason, token_file } = args;
    let by = person(token_file.as_deref())?;
    ask(
        control,
        &Request::Dispose { dry_run: *dry_run, reason: reason.clone().unwrap_or_default(), by },
    )
}

pub(super) fn report(args: &Retention) -> Result<ExitCode> {
    let Retention { archive, std7y_days, payload13m_days, output } = args;
    let periods = Periods { std7y_days: *std7y_days, payload13m_days: *payload13m_days };
    #[expect(clippy::disallowed_methods, reason = "what is over is a question of today")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?;
    let today = i64::try_from(now.as_secs() / 86_400)?;
    let all = retention::report(archive, &periods, today)?;
    if *output == Output::Json {
        println!("{}", serde_json::to_string(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    for (class, Standing { files, bytes, elsewhere, disposed, oldest, due, held }) in &all {
        let days = match class.as_str() {
            "control" => "for good".to_owned(),
            "payload13m" => format!("{payload13m_days} days"),
            _ => format!("{std7y_days} days"),
        };
        let oldest =
            oldest.as_ref().map(|day| format!(", the oldest of {day}")).unwrap_or_default();
        println!("{class} ({days}): {files} files here, {bytes} bytes{oldest}");
        println!(
            "  {elsewhere} only in a store, {disposed} disposed of; {due} are over, {held} of these held"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn list(archive: &Path, output: Output) -> Result<ExitCode> {
    let all = holds::in_force(archive)?;
    if output == Output::Json {
        println!("{}", serde_json::to_string(&all.values().collect::<Vec<_>>())?);
        return Ok(ExitCode::SUCCESS);
    }
    for ((node, _), Hold { name, scope, reason, by, release_asked }) in &all {
        println!("{name} of {node}: {} ({reason}), by {by}", serde_json::to_string(scope)?);
        if !release_asked.is_empty() {
            println!(
                "  its release was asked for by {}; another person must, too",
                release_asked.join(", ")
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn person(token_file: Option<&Path>) -> Result<Person> {
    let token_file = token_file.map(std::path::absolute).transpose()?;
    Ok(Person { token_file, sudo_uid: sudo_uid()? })
}

/// Asks the daemon, and prints its words.
pub(super) fn ask(control: &Path, request: &Request) -> Result<ExitCode> {
    let Response::Retained { lines } = control::ask(control, request, PATIENCE)? else {
        bail!("the daemon's answer is not about this");
    };
    for line in lines {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}
