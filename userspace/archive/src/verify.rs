//! Is the archive what was recorded? Files against manifests (L0), rows against the Merkle tree
//! (L1), tree and manifests against the signed checkpoints (L2), these against what others say (L3), and all
//! against the journal where it is at hand. Where it is asked for: is all there (L4), and was it done as it had to be (L5)? Writes nothing; needs neither the daemon nor a network.
//!
//! That the newest seals were taken away together with their checkpoints, or that the holder of the node's key
//! signed another history, it sees where it is given what others say: a policy of witnesses, a checkpoint kept
//! elsewhere, or what it verified before.

mod anchors;
mod beyond;
mod changed;
pub(crate) mod columns;
mod completeness;
mod days;
mod delta;
mod elsewhere;
mod facts;
mod file;
mod governance;
mod history;
mod immutable;
mod journal;
mod keys;
mod leaves;
mod log;
mod manifests;
mod naming;
mod pool;
mod report;
mod seals;
mod stamps;
mod state;
mod statistics;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ::journal::sealing::Secret;
use tlog::policy::Policy;

pub use changed::{READ_CHANGED, print as print_changed};
pub use days::{READ_COMPACTED, print as print_compacted};
pub use report::{FINDINGS_MAX, Finding, Level, LevelReport, LogSummary, Report, Verdict};
pub use state::{State, Verified};

use crate::note::PublicKey;
use crate::{compacted, files, layout};

/// What to verify, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The archive's folder.
    pub archive: PathBuf,
    /// The journal's folder.
    pub journal: Option<PathBuf>,
    /// The file of the node's public keys, as far as known; the archive's own copy where absent.
    pub key: Option<PathBuf>,
    /// The program that reads changed files, see [`print_changed`]; this process where absent,
    /// which reads none where a panic ends it.
    pub reader: Option<PathBuf>,
    /// Whose cosignatures are asked for.
    pub policy: Option<Policy>,
    /// The certificates (PEM) that must vouch for who stamped the time on checkpoints.
    pub authority: Option<PathBuf>,
    /// Signed checkpoints from elsewhere.
    pub elsewhere: Vec<Elsewhere>,
    /// Keys that do not sign beyond a size.
    pub revoked: Vec<(PublicKey, u64)>,
    /// The level at which it stops (L0 to L5); where absent, L3: completeness and governance are asked for by 4 and 5.
    pub level: Option<u8>,
    /// The first secret of the journal's forward-secure seals.
    pub seal_secret: Option<Secret>,
    /// Threads that read files.
    pub threads: usize,
    /// Told after each file.
    pub progress: Option<fn(Progress)>,
}

impl Options {
    /// Nothing but the archive, with as many threads as there are processors.
    pub fn new(archive: impl Into<PathBuf>) -> Self {
        Self {
            archive: archive.into(),
            journal: None,
            key: None,
            reader: None,
            policy: None,
            authority: None,
            elsewhere: Vec::new(),
            revoked: Vec::new(),
            level: None,
            seal_secret: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            progress: None,
        }
    }
}

/// A signed checkpoint that does not lie in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Whence it is, in words.
    pub whence: String,
    /// The note.
    pub note: String,
}

/// How far the reading of a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows read.
    pub done: u64,
    /// Rows to be read.
    pub total: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file holds no key.
    #[error("{} holds no public key", .0.display())]
    NoKey(PathBuf),
}

/// What is known of the archive's files on the way.
#[derive(Debug, Default)]
struct Files {
    /// Files that belong there.
    known: BTreeSet<String>,
    /// Texts and whether they are as some log lists them.
    texts: BTreeMap<String, bool>,
    /// Days that were put together.
    days: days::Days,
}

/// Verifies an archive. A seal under way is waited for.
pub fn verify(options: &Options) -> Result<Report, VerifyError> {
    verify_from(options, &mut State::default())
}

/// Verifies what is new in an archive since `state`, which then says what is verified now.
pub fn verify_from(options: &Options, state: &mut State) -> Result<Report, VerifyError> {
    let archive = &options.archive;
    let folder = File::open(archive).map_err(io_error(archive))?;
    let mut report = Report { ok: true, last: options.level, ..Report::default() };
    if folder.lock_shared().is_err() {
        report.notes.push("the archive could not be locked against a seal".to_owned());
    }
    let mut journal = options.journal.as_deref().map(journal::Journal::open);
    let mut files = Files::default();
    let mut sealed = 0;
    let origins = origins(archive)?;
    files.days = days::Days::read(archive, &mut files, &mut report)?;
    for origin in &origins {
        if layout::is_import(origin) {
            report.notes.push(format!(
                "log {origin} was imported from a capture: nobody intercepted or decided what is in it"
            ));
        }
        let own = journal.as_ref().is_some_and(|j| j.origin.as_ref() == Some(origin));
        let along = if own { journal.as_mut() } else { None };
        let size = log::verify(options, origin, along, &mut files, &mut report, state)?;
        sealed = if own { size } else { sealed };
    }
    let mut days = std::mem::take(&mut files.days);
    days.conclude(options, &origins, &mut report);
    state.compacted = days.digests();
    report.bytes_read += days.bytes;
    report.checked(Level::Files);
    report.checked(Level::Rows);
    report.checked(Level::Checkpoint);
    for gone in state.logs.keys().filter(|origin| !origins.contains(*origin)) {
        let text = format!("log {gone} was verified before and is gone");
        report.find(Level::Checkpoint, None, text);
    }
    if origins.is_empty() {
        report.find(Level::Checkpoint, None, "no log is in this archive: nothing in it is signed");
    }
    if let Some(journal) = journal {
        report.checked(Level::Journal);
        if journal.origin.as_ref().is_some_and(|origin| !origins.contains(origin)) {
            report.find(Level::Journal, None, "the journal's log is not in this archive");
        }
        journal.finish(sealed, &mut report);
    }
    if let (Some(dir), Some(secret)) = (&options.journal, &options.seal_secret) {
        seals::check(dir, secret, &mut report);
    }
    for (path, _) in files.texts.iter().filter(|(_, same)| !**same) {
        report.find(Level::Files, Some(path), "file changed or missing");
    }
    delta::check(archive, &mut files, &mut report);
    let mut staged = 0;
    for path in files::walk(archive).map_err(io_error(archive))? {
        let name = files::relative(archive, &path);
        if compacted::is_staged(&name) {
            staged += 1;
        } else if !files.known.contains(&name) {
            report.find(
                Level::Files,
                Some(&name),
                "file is in no manifest: added, or left by a seal that was interrupted",
            );
        }
    }
    if staged > 0 {
        report.notes.push(format!(
            "{staged} files are of a compaction under way, or of one that was cut short: they are no part of the archive"
        ));
    }
    report.settle();
    Ok(report)
}

/// The names of the logs in an archive, by any file that one has.
pub fn origins(archive: &Path) -> Result<BTreeSet<String>, VerifyError> {
    let logs = archive.join(layout::STANDARD).join("log");
    let mut origins = BTreeSet::new();
    for path in files::walk(&logs).map_err(io_error(&logs))? {
        let name = path.strip_prefix(&logs).unwrap_or(&path);
        let parts: Vec<&str> = name.iter().filter_map(|part| part.to_str()).collect();
        let end = parts.iter().position(|part| {
            [
                "manifest",
                "tile",
                layout::CHECKPOINT,
                layout::CHECKPOINTS,
                layout::COSIGNED,
                layout::STAMPED,
                layout::KEY,
            ]
            .contains(part)
        });
        if let Some(origin) = end.and_then(|end| parts.get(..end)).filter(|o| !o.is_empty()) {
            origins.insert(origin.join("/"));
        }
    }
    Ok(origins)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> VerifyError {
    let path = path.to_owned();
    move |source| VerifyError::Io { path, source }
}
