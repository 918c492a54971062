//! An evidence kit: one case's rows with all that an examiner needs to check them, in a folder that needs nothing of
//! ours: inclusion proofs to the signed checkpoint, public keys, a verifier in plain Python, a report that opens
//! offline, and a manifest over all of it, to be signed by whoever hands it out.
//!
//! The rows are the archive's as they are: nothing is left out of a session, nothing added, and what was masked or
//! replaced when it was recorded is so here.

mod claims;
mod collect;
mod logs;
mod report;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use journal::row::{Column, Table};
use serde::Serialize;
use sha2::{Digest, Sha256};
use types::hex::hex;

pub use logs::LogEntry;

use crate::merkle::Hash;
use crate::proof::ProofError;
use crate::scan::ScanError;
use crate::writer::WriteError;
use crate::{files, json, texts};

/// Sessions of one case: their ids stand in the report's head.
pub const SESSIONS_MAX: usize = 64;

/// The manifest's name.
pub const MANIFEST: &str = "manifest.json";

/// The name of the note that signs it.
pub const NOTE: &str = "manifest.note";

/// The name of the signer's public key.
pub const SIGNER: &str = "keys/signer.vkey";

/// What the kit is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The archive's folder.
    pub archive: PathBuf,
    /// The case's sessions.
    pub sessions: Vec<String>,
    /// The kit's folder, which is not there yet.
    pub out: PathBuf,
    /// When it is made, microseconds since 1970 UTC.
    pub now_us: i64,
    /// What else goes in: wrapped keys of its sealed recordings, by the file's name in the kit.
    pub keys: Vec<(String, Vec<u8>)>,
}

/// A kit that is whole but for its signature; gone if it is not finished.
#[derive(Debug)]
pub struct Unsigned {
    unfinished: PathBuf,
    out: PathBuf,
    /// SHA-256 of the manifest, to be signed.
    pub manifest: Hash,
    /// Rows in it, by table.
    pub rows: BTreeMap<&'static str, u64>,
}

/// Why there is no kit.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// No session is named, or too many are.
    #[error("a kit is of 1 to {SESSIONS_MAX} sessions")]
    Sessions,
    /// It is there already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// The system refused.
    #[error("cannot write or read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Rows can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The report can't be written.
    #[error("the report can't be written: {0}")]
    Report(#[from] askama::Error),
    /// Rows are not under their log's checkpoint.
    #[error("log {origin}: {source}")]
    Proof {
        /// Which log.
        origin: String,
        /// Why.
        source: ProofError,
    },
    /// There is no such session.
    #[error("session {0} has no row in this archive; is it sealed (`vestibule archive seal`)?")]
    NoSession(String),
    /// Commands are missing.
    #[error(
        "session {session} declares {declared} commands, the archive has {present}: verify the archive"
    )]
    Incomplete {
        /// The session.
        session: String,
        /// What its row declares.
        declared: i64,
        /// What there is.
        present: i64,
    },
    /// A log's checkpoint is not signed by its key, or absent.
    #[error("log {0} has no checkpoint that its key signed: verify the archive")]
    Checkpoint(String),
    /// There is more than is proven at once.
    #[error("the case is too large: {0}")]
    TooLarge(&'static str),
}

/// Gathers the rows, proves them, and writes all but the signature.
///
/// # Errors
/// If the sessions are not whole in the archive, or anything does not agree with the signed checkpoint: verify the
/// archive then.
pub fn write(options: &Options) -> Result<Unsigned, KitError> {
    let Options { archive, sessions, out, now_us, keys } = options;
    if sessions.is_empty() || sessions.len() > SESSIONS_MAX {
        return Err(KitError::Sessions);
    }
    if out.exists() {
        return Err(KitError::Exists(out.clone()));
    }
    // A seal replaces tiles and the checkpoint; on a file system that can't lock nobody seals.
    let folder = File::open(archive).map_err(io_error(archive))?;
    let _is_locked = folder.lock_shared().is_ok();
    let mut unfinished = out.as_os_str().to_owned();
    unfinished.push(files::UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(io_error(&unfinished))?;
    }
    let mut kit =
        Unsigned { unfinished, out: out.clone(), manifest: [0; 32], rows: BTreeMap::new() };
    let dir = kit.unfinished.clone();
    let case = collect::collect(archive, sessions, &dir)?;
    let logs = logs::prove(archive, &dir, &case.leaves)?;
    kit.rows.clone_from(&case.rows);
    texts(&dir, &kit.rows)?;
    let report = report::html(&case, &logs, *now_us)?;
    put(&dir, "report.html", report.as_bytes())?;
    for (name, bytes) in keys {
        put(&dir, name, bytes)?;
    }
    let manifest = Manifest {
        format: "vestibule/evidence-kit/v1",
        made: json::time(*now_us),
        sessions,
        logs: &logs,
        rows: &kit.rows,
        files: listed(&dir)?,
    };
    let manifest = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| io_error(&dir)(io::Error::other(error)))?;
    put(&dir, MANIFEST, &manifest)?;
    kit.manifest = Sha256::digest(&manifest).into();
    Ok(kit)
}

impl Unsigned {
    /// Adds the note that signs the manifest and the signer's public key, and gives the kit its name.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn finish(self, note: &str, key: &str) -> Result<(), KitError> {
        put(&self.unfinished, NOTE, note.as_bytes())?;
        put(&self.unfinished, SIGNER, key.as_bytes())?;
        fs::rename(&self.unfinished, &self.out).map_err(io_error(&self.out))
    }
}

impl Drop for Unsigned {
    fn drop(&mut self) {
        // After `finish` it is not there.
        let _is_gone = fs::remove_dir_all(&self.unfinished).is_ok();
    }
}

/// `manifest.json`.
#[derive(Serialize)]
struct Manifest<'a> {
    format: &'static str,
    made: String,
    sessions: &'a [String],
    logs: &'a [LogEntry],
    rows: &'a BTreeMap<&'static str, u64>,
    files: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    path: String,
    bytes: u64,
    sha256: String,
}

/// All files below `dir`, as they are.
fn listed(dir: &Path) -> Result<Vec<Entry>, KitError> {
    let mut entries = Vec::new();
    for path in files::walk(dir).map_err(io_error(dir))? {
        let (sha256, bytes) = digest(&path).map_err(io_error(&path))?;
        let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        entries.push(Entry { path: name, bytes, sha256: hex(&sha256) });
    }
    Ok(entries)
}

fn digest(path: &Path) -> io::Result<(Hash, u64)> {
    let (mut file, mut hash, mut bytes) = (File::open(path)?, Sha256::new(), 0);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok((hash.finalize().into(), bytes));
        }
        hash.update(chunk.get(..count).unwrap_or_default());
        bytes += u64::try_from(count).unwrap_or(0);
    }
}

/// What lies beside the rows: programs, views, the columns' kinds, a description.
fn texts(dir: &Path, rows: &BTreeMap<&'static str, u64>) -> Result<(), KitError> {
    let has = |table: &Table| rows.get(table.as_str()).is_some_and(|count| *count > 0);
    let view = |table: &Table| {
        let name = table.as_str();
        if has(table) {
            format!(
                "CREATE OR REPLACE VIEW {name} AS SELECT *, CAST(ts AT TIME ZONE 'UTC' AS DATE) AS dt, node_id AS node \
                 FROM read_parquet('rows/{name}.parquet');\n"
            )
        } else {
            texts::empty_view(*table)
        }
    };
    let views: String = Table::ALL.iter().map(view).chain([texts::DERIVED.to_owned()]).collect();
    for (name, text) in [
        ("README.md", README),
        ("verify.py", VERIFY),
        ("check.py", CHECK),
        ("schema.json", schema().as_str()),
        ("views/duckdb.sql", views.as_str()),
    ] {
        put(dir, name, text.as_bytes())?;
    }
    Ok(())
}

/// `schema.json`: each table's tag, how many of its columns there were first, and their names and kinds in canonical
/// order.
fn schema() -> String {
    let table = |table: &Table| {
        let column = |column: &Column| serde_json::json!([column.name, column.kind.as_str()]);
        let columns: Vec<_> = table.columns().iter().map(column).collect();
        let about = serde_json::json!({
            "tag": table.tag(), "first": table.first_columns(), "columns": columns,
        });
        (table.as_str().to_owned(), about)
    };
    serde_json::Value::Object(Table::ALL.iter().map(table).collect()).to_string()
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), KitError> {
    let path = dir.join(name);
    files::write(&path, bytes, 0o644).map_err(io_error(&path))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> KitError {
    let path = path.to_owned();
    move |source| KitError::Io { path, source }
}

const README: &str = include_str!("kit/README.md");
const VERIFY: &str = include_str!("kit/verify.py");
const CHECK: &str = include_str!("kit/check.py");
