//! `vestibule archive fetch` and `remote-check`: an archive in a store.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use ship::check;
use ship::fetch::{self, Fetched, Wanted};
use ship::place::{Credentials, Place};
use ship::remote::Remote;

use crate::Output;

/// The exit status where objects are not as they should be: L0, as of a verification.
const NOT_AS_RECORDED: u8 = 10;

/// How a store is reached.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Store {
    /// The store's address where it is not the cloud's own.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The region.
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    /// A file of lines NAME=value, such as `AWS_ACCESS_KEY_ID=…`; the environment where absent.
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// An authority of the store's certificate, PEM, beside the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Allow plain HTTP to other hosts.
    #[arg(long)]
    allow_http: bool,
}

impl Store {
    fn place(&self, url: &str) -> Result<Place> {
        let Self { endpoint, region, credentials, ca, allow_http } = self;
        let around = Credentials::of_environment(std::env::vars());
        let own = credentials.as_deref().map(Credentials::read).transpose()?.unwrap_or_default();
        Ok(Place {
            endpoint: endpoint.clone(),
            region: region.clone(),
            ca: ca.clone(),
            allow_http: *allow_http,
            credentials: own.or(&around),
            ..Place::new(url)?
        })
    }
}

/// Bring an archive back from a store: what each log's checkpoint covers. Into a folder that holds the log already, files
/// that were let go come back; nothing there is overwritten.
#[derive(Debug, ClapArgs)]
pub(crate) struct Fetch {
    /// The store: s3://bucket/prefix, gs://…, az://… or file:///folder.
    #[arg(long, value_name = "URL")]
    from: String,
    /// The folder.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Only files of these days, `2026-11-21` or `2026-11-21..2026-11-23`; the log itself in any case.
    #[arg(long, value_name = "DAYS", value_parser = days)]
    days: Option<(String, String)>,
    /// Only files of the day on which this session was opened, by its id, and of the next.
    #[arg(long, value_name = "SESSION", value_parser = session_days, conflicts_with = "days")]
    session: Option<(String, String)>,
    #[command(flatten)]
    store: Store,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Check a store's objects against what its logs list: names, lengths, versions, delete markers, locks. Exit status 0: all
/// is there as it should be. 10: not. Rows and signatures are `verify`'s.
#[derive(Debug, ClapArgs)]
pub(crate) struct Check {
    /// The store.
    #[arg(long, value_name = "URL")]
    from: String,
    /// Read each file and hold it against its SHA-256.
    #[arg(long)]
    read: bool,
    /// Objects must be held in this mode at least.
    #[arg(long, value_name = "MODE", value_parser = ["governance", "compliance"])]
    lock: Option<String>,
    /// For so many days since they were sealed, all but recordings.
    #[arg(long, value_name = "DAYS", default_value = "2557", requires = "lock")]
    std7y_days: u32,
    /// For so many days since they were sealed, recordings.
    #[arg(long, value_name = "DAYS", default_value = "397", requires = "lock")]
    payload13m_days: u32,
    #[command(flatten)]
    store: Store,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn fetch(args: &Fetch) -> Result<ExitCode> {
    let Fetch { from, to, days, session, store, output } = args;
    let wanted = days.clone().or_else(|| session.clone());
    let wanted = wanted.map_or_else(Wanted::default, |(from, until)| Wanted {
        from: Some(from),
        until: Some(until),
    });
    let mut remote = Remote::open(&store.place(from)?)?;
    let fetched = fetch::fetch(&mut remote, to, &wanted)?;
    archive::delta::keep(to, false)?;
    let Fetched { logs, files, bytes, there, elsewhere, beyond } = &fetched;
    match output {
        Output::Json => println!(
            "{}",
            serde_json::json!({
                "logs": logs, "files": files, "bytes": bytes, "there": there, "elsewhere": elsewhere, "beyond": beyond,
            })
        ),
        Output::Table => {
            for (origin, size) in logs {
                println!("log {origin}: {size} records");
            }
            println!("{files} files brought, {bytes} bytes; {there} were there already");
            if *elsewhere > 0 {
                println!("{elsewhere} files of other days stay in the store");
            }
            say_beyond(beyond.len());
            println!("now: vestibule archive verify --archive {}", to.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say_beyond(objects: usize) {
    if objects > 0 {
        println!(
            "{objects} objects lie beyond the checkpoints and stay there: a shipment is under way, or a checkpoint was \
             brought back (the witnesses know)"
        );
    }
}

pub(super) fn check(args: &Check) -> Result<ExitCode> {
    let Check { from, read, lock, std7y_days, payload13m_days, store, output } = args;
    let mut place = store.place(from)?;
    place.lock = lock.as_ref().map(|mode| ship::place::Lock {
        mode: match mode.as_str() {
            "compliance" => ship::place::Mode::Compliance,
            _ => ship::place::Mode::Governance,
        },
        days: [("std7y".to_owned(), *std7y_days), ("payload13m".to_owned(), *payload13m_days)]
            .into(),
    });
    let report = check::check(&mut Remote::open(&place)?, *read)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string(&report)?),
        Output::Table => print(&report),
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_RECORDED) })
}

fn print(report: &check::Report) {
    let check::Report {
        remote,
        logs,
        files,
        bytes,
        disposed,
        is_read,
        locks,
        held,
        beyond,
        findings,
        findings_more,
    } = report;
    for (origin, size) in logs {
        println!("log {origin}: {size} records");
    }
    let how = if *is_read { "read and as recorded" } else { "there, by name and length" };
    println!(
        "{remote}: {files} files, {bytes} bytes {how}; {locks} locks looked at, {held} with a legal hold"
    );
    if *disposed > 0 {
        println!("{disposed} files are not there: disposed of, as records say");
    }
    say_beyond(usize::try_from(*beyond).unwrap_or(usize::MAX));
    for check::Finding { name, text } in findings {
        println!("  {text}\n    in {name}");
    }
    if *findings_more > 0 {
        println!("  and {findings_more} more");
    }
    println!("{}", if report.is_ok() { "OK" } else { "FAILED: the store is not as it should be" });
}

/// Verifies an archive in a folder; one in a store is fetched first, into a folder that goes away.
pub(super) fn verify(args: &verifier::Args) -> Result<ExitCode> {
    let Some(url) = args.archive().to_str().filter(|text| Place::is_url(text)) else {
        return verifier::run(args);
    };
    let place =
        Store { endpoint: None, region: None, credentials: None, ca: None, allow_http: false };
    let folder = Temporary::make()?;
    let mut remote = Remote::open(&place.place(url)?)?;
    let fetched = fetch::fetch(&mut remote, &folder.0, &Wanted::default())?;
    eprintln!("{} files, {} bytes fetched from {url}", fetched.files, fetched.bytes);
    say_beyond(fetched.beyond.len());
    verifier::run(&args.at(&folder.0))
}

/// A folder that goes away.
struct Temporary(PathBuf);

impl Temporary {
    fn make() -> Result<Self> {
        let name = format!("vestibule-verify-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

fn days(text: &str) -> Result<(String, String)> {
    let (from, until) = text.split_once("..").unwrap_or((text, text));
    for day in [from, until] {
        if !archive::layout::is_day(day) {
            bail!("a day is like 2026-11-21, several are like 2026-11-21..2026-11-23");
        }
    }
    Ok((from.to_owned(), until.to_owned()))
}

/// The days of a session, by the time in its id (RFC 9562, UUID version 7).
fn session_days(text: &str) -> Result<(String, String)> {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    let ms =
        hex.get(..12).filter(|_| hex.len() == 32).and_then(|ms| i64::from_str_radix(ms, 16).ok());
    let day = ms.context("a session's id is a UUID of version 7")? / 86_400_000;
    Ok((archive::layout::date(day), archive::layout::date(day + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_of_texts_and_of_sessions() {
        let pair = |from: &str, until: &str| (from.to_owned(), until.to_owned());
        assert_eq!(days("2026-11-21").unwrap(), pair("2026-11-21", "2026-11-21"));
        assert_eq!(days("2026-11-21..2026-12-01").unwrap(), pair("2026-11-21", "2026-12-01"));
        assert!(days("21.11.2026").is_err());
        let id = "019aa8c5-f000-7000-8000-000000000000";
        assert_eq!(session_days(id).unwrap(), pair("2025-11-21", "2025-11-22"));
        assert!(session_days("s-1").is_err());
    }
}
