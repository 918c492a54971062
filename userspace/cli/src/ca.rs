//! `vestibule ca`: the host's own certificate authority, by which agents are shown TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use ca::{Authority, CERTIFICATE_FILE, Permit, Permits, Request, TokenUri};
use clap::{Args as ClapArgs, Subcommand};
use journal::clock::SystemClock;
use serde_json::json;
use types::clock::Clock as _;

use crate::Output;

/// The host's own certificate authority: make it, look at it, have this host trust it.
///
/// Agents that ask for TLS are shown certificates of this authority, for the servers that they ask
/// for; towards those servers the daemon verifies in their stead. Its key never leaves this host.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    Init(Init),
    Show(Show),
    Trust(Trust),
}

/// Make the authority, once. The daemon offers TLS from its next start on.
#[derive(Debug, ClapArgs)]
pub(crate) struct Init {
    /// A domain (with all below it) or addresses (IP or IP/BITS) for which it may be used; whoever
    /// got hold of its key could stand in for nothing else.
    #[arg(long, value_name = "NAME|IP[/BITS]", required_unless_present = "any")]
    permit: Vec<Permit>,
    /// Let it be used for any name there is. Think of who else trusts it.
    #[arg(long, conflicts_with = "permit")]
    any: bool,
    /// How long it is valid.
    #[arg(long, value_name = "DAYS", default_value_t = 1_095, value_parser = clap::value_parser!(u16).range(1..=7_300))]
    days: u16,
    /// Keep its key in a token: `pkcs11:token=TOKEN;object=KEY?module-path=FILE&pin-source=FILE` (RFC 7512).
    /// A key on P-256 of that name is used, or made so that it can't leave the token.
    #[arg(long, value_name = "URI")]
    pkcs11: Option<TokenUri>,
    #[command(flatten)]
    place: Place,
}

/// Show it: name, validity, fingerprint, and for which names it may be used.
#[derive(Debug, ClapArgs)]
pub(crate) struct Show {
    /// The form.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// Have this host's system store trust it (or, with --remove, no longer).
///
/// Programs that read the system store then trust it, whoever runs them. Agents started by
/// `vestibule run` do so without this: their environment names a bundle of the system's authorities
/// and this one.
#[derive(Debug, ClapArgs)]
pub(crate) struct Trust {
    /// Take it out again.
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, ClapArgs)]
struct Place {
    /// Where it is kept; `tls.ca_dir` of the daemon's configuration, if that says so.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/ca")]
    dir: PathBuf,
}

/// Stores of Debian's kind and of Red Hat's: where anchors lie, and what reads them anew.
const STORES: [(&str, &[&str]); 2] = [
    ("/usr/local/share/ca-certificates", &["update-ca-certificates"]),
    ("/etc/pki/ca-trust/source/anchors", &["update-ca-trust", "extract"]),
];

/// Our anchor in a store.
const ANCHOR: &str = "vestibule.crt";

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match args {
        Args::Init(args) => init(args),
        Args::Show(args) => show(args),
        Args::Trust(args) => trust(args),
    }
}

fn init(args: &Init) -> Result<ExitCode> {
    let Init { permit, any, days, pkcs11, place: Place { dir } } = args;
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let permits = if *any { Permits::Any } else { Permits::Only(permit.clone()) };
    let request = Request { node, permits, days: *days, token: pkcs11.clone() };
    let authority = Authority::create(dir, &request, now())?;
    println!("{}", table(&authority));
    println!(
        "It is in {}. Restart vestibuled to have agents offered TLS; `vestibule ca trust` has the \
         whole host trust it, which agents started by `vestibule run` do anyway.",
        dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Show) -> Result<ExitCode> {
    let Show { output, place: Place { dir } } = args;
    let authority = Authority::load(dir)?;
    match output {
        Output::Table => println!("{}", table(&authority)),
        Output::Json => {
            let (from, to) = authority.validity();
            let permits = match authority.permits() {
                Permits::Any => None,
                Permits::Only(permits) => {
                    Some(permits.iter().map(ToString::to_string).collect::<Vec<_>>())
                }
            };
            let shown = json!({
                "subject": authority.subject(),
                "sha256": authority.fingerprint(),
                "not_before_unix_s": unix_s(from),
                "not_after_unix_s": unix_s(to),
                "valid": authority.is_valid(now()),
                "permits": permits,
                "trusted_by_system": is_trusted(),
            });
            println!("{shown}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn trust(args: &Trust) -> Result<ExitCode> {
    let Trust { remove, place: Place { dir } } = args;
    let Some((anchor, update)) = anchor() else {
        bail!(
            "neither Debian's nor Red Hat's store is here; add {} to this system's authorities",
            dir.join(CERTIFICATE_FILE).display()
        );
    };
    if *remove {
        fs::remove_file(&anchor).with_context(|| format!("removing {}", anchor.display()))?;
    } else {
        // Only what is whole is trusted.
        Authority::load(dir)?;
        fs::copy(dir.join(CERTIFICATE_FILE), &anchor)
            .with_context(|| format!("writing {}", anchor.display()))?;
    }
    let Some((program, arguments)) = update.split_first() else { bail!("no such program") };
    let done = Command::new(program).args(arguments).output();
    let done = done.with_context(|| format!("{program} can't be run"))?;
    ensure!(
        done.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    );
    let verb = if *remove { "no longer trusts" } else { "trusts" };
    println!("This host {verb} the authority ({}).", anchor.display());
    Ok(ExitCode::SUCCESS)
}

/// Our anchor in this system's store, and what reads the store anew.
fn anchor() -> Option<(PathBuf, &'static [&'static str])> {
    let (store, update) = STORES.into_iter().find(|(store, _)| Path::new(store).is_dir())?;
    Some((Path::new(store).join(ANCHOR), update))
}

fn is_trusted() -> bool {
    anchor().is_some_and(|(anchor, _)| anchor.exists())
}

fn table(authority: &Authority) -> String {
    let (from, to) = authority.validity();
    let permits = match authority.permits() {
        Permits::Any => "any name".to_owned(),
        Permits::Only(permits) => {
            permits.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
    };
    let days = |at: SystemTime| unix_s(at) / 86_400;
    let left = i128::from(days(to)) - i128::from(days(now()));
    format!(
        "subject      {}\nsha256       {}\nvalid        {} days, {} left\nfor          {}\nsystem store {}",
        authority.subject(),
        authority.fingerprint(),
        days(to) - days(from),
        left.max(0),
        permits,
        if is_trusted() { "trusts it" } else { "does not know it" },
    )
}

fn unix_s(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(SystemClock.now().unix_us.unsigned_abs())
}
