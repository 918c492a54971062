//! The command line of verification: what is given to `archive::verify`, and how its report is told.
//!
//! Shared by `vestibule verify` and `vestibule-verify`, which is nothing else. Links neither tokio, rustls nor aya.

#![expect(clippy::print_stdout, reason = "the terminal is what this is for")]

mod sign;

use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use archive::note::PublicKey;
use archive::verify::{
    self, Elsewhere, Level, LevelReport, Options, Progress, Report, State, Verdict,
};
use clap::{Args as ClapArgs, ValueEnum};
use tlog::policy::Policy;

/// Check an archive, and the journal it came from if it is at hand: files, records, Merkle roots, signatures, what
/// witnesses say. Works on a copy, without the daemon. Exit status 0: all is as recorded. 10 and the number of the
/// lowest level that is not (10 files, 11 records, 12 checkpoints, 13 witnesses), 14 the journal alone, 15 completeness, 16
/// governance. 2: it, or the level that was asked for, could not be checked.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// The journal; with it a changed record is named, without it the 256 records it is among.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// The node's public keys, kept where the node can't change them; the archive's own copy where absent.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Whose cosignatures are asked for (C2SP tlog-policy).
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Ask the policy's witnesses now, by their URLs, what they saw last: an archive that was rolled back is found.
    #[arg(long, requires = "policy")]
    ask_witnesses: bool,
    /// Certificates (PEM) of the authority that stamped the time on checkpoints (RFC 3161): its stamps are verified, by the
    /// openssl program, and one must hold.
    #[arg(long, value_name = "FILE")]
    tsa_ca: Option<PathBuf>,
    /// A signed checkpoint that was kept elsewhere; may be given again.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// Keys that were revoked: lines of a key and the size up to which its checkpoints stand.
    #[arg(long, value_name = "FILE")]
    revoked: Option<PathBuf>,
    /// The secret of the journal's seals, kept by audit (`vestibule archive seal-secret` opens it): what was committed since the
    /// last checkpoint is checked as well.
    #[arg(long, value_name = "FILE", requires = "journal")]
    seal_secret: Option<PathBuf>,
    /// What was verified before: read and written anew, so that only what is new is read. Keep it yourself.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The level that must have been checked, and at which it stops: 0 files, 1 records, 2 checkpoints, 3 what witnesses or
    /// other places say, 4 completeness (sessions and their commands, heartbeats, the kernel's counts), 5 governance
    /// (approvals, policies, holds, dispositions). Where absent: 2, and 3 as far as something is given for it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=5))]
    level: Option<u8>,
    /// Write the report as JSON, signed with the key in this file (made where absent), to FILE.report.
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// Threads that read files; as many as there are processors where absent.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// As `--output json`.
    #[arg(long)]
    json: bool,
}

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Args {
    /// The archive that is asked for.
    pub fn archive(&self) -> &Path {
        &self.archive
    }

    /// The same of another folder.
    #[must_use]
    pub fn at(&self, archive: &Path) -> Self {
        Self { archive: archive.to_owned(), ..self.clone() }
    }
}

/// Verifies and tells.
///
/// # Errors
/// If nothing could be verified.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut options = options(args)?;
    if std::io::stderr().is_terminal() {
        options.progress = Some(show);
    }
    let mut state = args.state.as_deref().map(read_state).transpose()?.unwrap_or_default();
    let report = verify::verify_from(&options, &mut state)?;
    if options.progress.is_some() {
        eprint!("\r\x1b[K");
    }
    let json = serde_json::to_string(&report)?;
    match (args.output, args.json) {
        (Output::Json, _) | (_, true) => println!("{json}"),
        (Output::Table, false) => print!("{report}"),
    }
    if let Some(path) = &args.state
        && report.is_ok()
    {
        let text = serde_json::to_vec_pretty(&state)?;
        archive::files::write(path, &text, 0o600).with_context(|| path.display().to_string())?;
    }
    if let Some(key) = &args.sign {
        sign::write(key, &json)?;
    }
    Ok(exit_code(&report, args.level))
}

fn exit_code(report: &Report, level: Option<u8>) -> ExitCode {
    if let Some(failed) = report.lowest_failed() {
        return ExitCode::from(failed.exit_code());
    }
    let is_due = |one: &&LevelReport| {
        one.level.number().zip(level).is_some_and(|(number, level)| number <= level)
    };
    // What witnesses say is asked for by its own level alone: not everybody has some.
    let is_needed = |one: &&LevelReport| one.level != Level::Anchors || level == Some(3);
    let mut due = report.levels.iter().filter(is_due).filter(is_needed);
    let Some(one) = due.find(|one| one.verdict == Verdict::NotChecked) else {
        return ExitCode::SUCCESS;
    };
    if one.level == Level::Anchors {
        eprintln!(
            "L3 was asked for, and none of --policy, --tsa-ca and --checkpoint says anything of this log"
        );
    } else {
        eprintln!(
            "{} was asked for, and can't be told: {}",
            one.name,
            one.why.as_deref().unwrap_or_default()
        );
    }
    ExitCode::from(2)
}

/// Does what another process of this program asked for, by its arguments: to read a file that is not as it was sealed, which may end
/// the process. `None` where it is nothing of the kind.
pub fn read_changed() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let what = args.next()?;
    if what.to_str()? == verify::READ_COMPACTED {
        let (table, path) = (args.next()?, PathBuf::from(args.next()?));
        let asked = args.next();
        let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
        let asked = asked.as_deref().and_then(|asked| asked.to_str());
        let read = verify::print_compacted(&path, table.to_str()?, asked, &mut out);
        return Some(code(read.and_then(|whole| out.flush().map(|()| whole))));
    }
    if what.to_str()? != verify::READ_CHANGED {
        return None;
    }
    let (table, bytes, path) = (args.next()?, args.next()?, PathBuf::from(args.next()?));
    let bytes = bytes.to_str()?.parse().ok()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let read = verify::print_changed(&path, table.to_str()?, bytes, &mut out);
    Some(code(read.and_then(|whole| out.flush().map(|()| whole))))
}

fn code(read: std::io::Result<bool>) -> ExitCode {
    if read.unwrap_or(false) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(args: &Args) -> Result<Options> {
    let mut options = Options::new(&args.archive);
    options.journal.clone_from(&args.journal);
    options.level = args.level;
    options.key.clone_from(&args.key);
    options.authority.clone_from(&args.tsa_ca);
    options.reader = Some(std::env::current_exe()?);
    options.threads = args.threads.unwrap_or(options.threads).max(1);
    for path in &args.checkpoint {
        options.elsewhere.push(Elsewhere { whence: path.display().to_string(), note: read(path)? });
    }
    if let Some(path) = &args.revoked {
        options.revoked = revoked(&read(path)?).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.seal_secret {
        let secret = archive::seal_secret::parse(&read(path)?);
        let none = || format!("{} holds no secret of a journal's seals", path.display());
        options.seal_secret = Some(secret.with_context(none)?);
    }
    if let Some(path) = &args.policy {
        let policy = Policy::parse(&read(path)?).with_context(|| path.display().to_string())?;
        if args.ask_witnesses {
            options.elsewhere.extend(ask(&policy, &args.archive)?);
        }
        options.policy = Some(policy);
    }
    Ok(options)
}

/// What the witnesses saw last of the archive's logs. One that can't be asked is an error: without its answer
/// nothing is known.
fn ask(policy: &Policy, archive: &Path) -> Result<Vec<Elsewhere>> {
    let mut said = Vec::new();
    for witness in &policy.witnesses {
        let Some(url) = &witness.url else { continue };
        for origin in verify::origins(archive)? {
            let note = witness::client::checkpoint(url, &origin)
                .with_context(|| format!("witness {} at {url}", witness.name))?;
            let whence = format!("witness {}", witness.name);
            said.extend(note.map(|note| Elsewhere { whence, note }));
        }
    }
    Ok(said)
}

fn revoked(text: &str) -> Result<Vec<(PublicKey, u64)>> {
    let mut revoked = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let parsed = line.split_once(' ').and_then(|(key, size)| {
            Some((PublicKey::parse(&format!("{key}\n"))?, size.trim().parse().ok()?))
        });
        let Some(parsed) = parsed else { bail!("not a key and a size: {line}") };
        revoked.push(parsed);
    }
    Ok(revoked)
}

fn read_state(path: &Path) -> Result<State> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn show(progress: Progress) {
    let Progress { done, total, bytes } = progress;
    let percent = done.saturating_mul(100) / total.max(1);
    eprint!("\r\x1b[K{percent} %, {done} of {total} records, {} MB read", bytes / 1_000_000);
}
