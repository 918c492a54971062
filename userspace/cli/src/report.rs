//! `vestibule report`: the evidence for each control, in a signed page.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use archive::attest::{self, Document};
use archive::controls::{self, Options, Report, Standing};
use archive::files;
use archive::note::PublicKey;
use clap::Args as ClapArgs;
use journal::clock::SystemClock;
use sha2::{Digest as _, Sha256};
use types::clock::Clock as _;

use crate::signing;

/// Verify the archive, ask it what controls need, and write how each stands. The report is signed by the daemon, which
/// records that it did, or by a key of yours: FILE.note and FILE.vkey beside it. Exit status 1 where there is something to
/// look into.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// On controls: those that ship, or those in FILE.
    #[arg(long, value_name = "FILE", num_args = 0..=1, required_unless_present = "check")]
    #[expect(clippy::option_option, reason = "absent, without a file, with one: as clap has it")]
    controls: Option<Option<PathBuf>>,
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// DuckDB's executable; searched on PATH where absent.
    #[arg(long, value_name = "FILE", env = "VESTIBULE_DUCKDB")]
    duckdb: Option<PathBuf>,
    /// The first day, UTC; questions on the record itself are asked of all days.
    #[arg(long, value_name = "DAY")]
    since: Option<String>,
    /// The last day.
    #[arg(long, value_name = "DAY")]
    until: Option<String>,
    /// Write it here: a page, or JSON where the name ends so.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["json", "check"])]
    out: Option<PathBuf>,
    /// Print it as JSON, unsigned.
    #[arg(long, conflicts_with = "out")]
    json: bool,
    #[command(flatten)]
    signing: signing::Args,
    /// Say whether a report is the one that was signed, by the note and the key beside it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["controls", "out", "json"])]
    check: Option<PathBuf>,
    /// The public key that must have signed it, kept elsewhere.
    #[arg(long, value_name = "FILE", requires = "check")]
    key: Option<PathBuf>,
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    if let Some(report) = &args.check {
        return check(report, args.key.as_deref());
    }
    let text = match args.controls.as_ref().and_then(Option::as_ref) {
        Some(file) => std::fs::read_to_string(file).with_context(|| file.display().to_string())?,
        None => controls::SHIPPED.to_owned(),
    };
    let now = SystemClock.now();
    let options = Options {
        archive: args.archive.clone(),
        duckdb: args.duckdb.clone(),
        reader: Some(std::env::current_exe()?),
        since: args.since.clone(),
        until: args.until.clone(),
        now_us: now.unix_us,
    };
    for day in [&args.since, &args.until].into_iter().flatten() {
        ensure!(archive::layout::is_day(day), "{day} is no day like 2026-01-31");
    }
    let report = controls::ask(&options, &controls::read(&text)?)?;
    let Some(out) = &args.out else {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(status(&report));
    };
    let is_json = out.extension().is_some_and(|extension| extension == "json");
    let bytes =
        if is_json { serde_json::to_string_pretty(&report)? } else { controls::html(&report)? };
    let digest = Sha256::digest(&bytes).into();
    let (note, key) = args.signing.sign(control, Document::Controls, digest, now)?;
    for (path, text) in
        [(out.clone(), &bytes), (beside(out, "note"), &note), (beside(out, "vkey"), &key)]
    {
        files::write(&std::path::absolute(&path)?, text.as_bytes(), 0o644)
            .with_context(|| path.display().to_string())?;
    }
    summary(&report);
    Ok(status(&report))
}

fn check(report: &Path, key: Option<&Path>) -> Result<ExitCode> {
    let read =
        |path: &Path| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let own = beside(report, "vkey");
    let line = read(key.unwrap_or(&own))?;
    let key = PublicKey::parse(&line).context("the key file holds no public key")?;
    let note = read(&beside(report, "note"))?;
    let signed = attest::attested(&note, &key, Document::Controls);
    let found: [u8; 32] = Sha256::digest(read(report)?).into();
    if signed != Some(found) {
        bail!("{} is not what {} signed", report.display(), key.name);
    }
    println!("{}: signed by {}", report.display(), key.name);
    Ok(ExitCode::SUCCESS)
}

fn summary(report: &Report) {
    for outcome in &report.controls {
        println!("{:<16} {}", outcome.standing.words(), outcome.id);
    }
}

fn status(report: &Report) -> ExitCode {
    let is_bad = report.controls.iter().any(|one| one.standing == Standing::LookInto);
    ExitCode::from(u8::from(is_bad || !report.verified.ok))
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{extension}"));
    name.into()
}
