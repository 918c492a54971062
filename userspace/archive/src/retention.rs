//! How long files are kept, and what may go: by class, and never what is held. What goes is first recorded in the log
//! (`archive.disposed`), so that its absence is known for what it is; tiles stay, and the tree with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use journal::row::{Row, Table};
use serde::{Deserialize, Serialize};

use crate::holds::{Held, HoldError};
use crate::layout::{self, FileEntry, Manifest};
use crate::scan::{self, Filter, ScanError};
use crate::{files, pruned};

/// The kind of a record of what was disposed of.
pub const DISPOSED: &str = "archive.disposed";

/// Files of one record: of 250 B each, 32 KiB of a detail of 64.
pub const FILES_MAX: usize = 128;

/// Days by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// Events and sessions.
    pub std7y_days: u32,
    /// Recordings.
    pub payload13m_days: u32,
}

impl Default for Periods {
    /// Seven years with two leap days, and thirteen months.
    fn default() -> Self {
        Self { std7y_days: 7 * 365 + 2, payload13m_days: 397 }
    }
}

impl Periods {
    /// The class and days of a file.
    pub fn of(&self, path: &str) -> (&'static str, u32) {
        if path.starts_with("payload13m/") {
            ("payload13m", self.payload13m_days)
        } else {
            ("std7y", self.std7y_days)
        }
    }
}

/// What a record says that was disposed of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disposition {
    /// The log.
    pub origin: String,
    /// By which rule: `payload13m after 397 days`.
    pub rule: String,
    /// Files of days before this one.
    pub before: String,
    /// Who approved it, by issuer and subject.
    pub approver: String,
    /// The signed tree that has the rows: its size.
    pub size: u64,
    /// Its root, base64.
    pub root: String,
    /// The files.
    pub files: Vec<Gone>,
}

/// A file that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// Its path below the archive's folder.
    pub path: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Its first row.
    pub first_seq: u64,
    /// Its last.
    pub last_seq: u64,
    /// How many it had.
    pub rows: u64,
}

impl From<&FileEntry> for Gone {
    fn from(entry: &FileEntry) -> Self {
        let FileEntry { path, table: _, sha256, bytes: _, rows, first_seq, last_seq } = entry;
        Self {
            path: path.clone(),
            sha256: sha256.clone(),
            first_seq: *first_seq,
            last_seq: *last_seq,
            rows: *rows,
        }
    }
}

/// A file whose time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// It.
    pub entry: FileEntry,
    /// Its class.
    pub class: &'static str,
    /// The hold that keeps it, if any.
    pub held: Option<String>,
}

/// Why nothing is disposed of.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// Holds can't be told.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// Rows can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A manifest is none.
    #[error("{} is no manifest: verify the archive", .0.display())]
    Manifest(PathBuf),
}

/// The files of the log `origin` whose time is over on the day `today`, from 1970-01-01, and that are here. Control
/// records have no end.
///
/// # Errors
/// If anything that decides it can't be read.
pub fn due(archive: &Path, origin: &str, periods: &Periods, today: i64) -> Result<Vec<Due>, RetentionError> {
    let elsewhere: BTreeSet<String> = crate::verify::origins(archive)
        .map_err(|error| io_error(archive)(io::Error::other(error)))?
        .iter()
        .map(|origin| pruned::read(archive, origin).map_err(io_error(archive)))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flat_map(BTreeMap::into_keys)
        .filter(|path| !archive.join(path).exists())
        .collect();
    let held = Held::resolve(archive, &elsewhere)?;
    let mut all = Vec::new();
    for entry in entries(archive, origin)? {
        let (class, days) = periods.of(&entry.path);
        let before = layout::date(today - i64::from(days));
        let is_over = day(&entry.path).is_some_and(|day| day < before.as_str());
        let is_control = entry.table.as_deref() == Some(Table::Control.as_str());
        if !is_over || is_control || !archive.join(&entry.path).exists() {
            continue;
        }
        let held = held.file(archive, &entry.path)?;
        all.push(Due { entry, class, held });
    }
    Ok(all)
}

/// All dispositions that the archive's records tell of, by the path of each file.
///
/// # Errors
/// If records can't be read. One that is no disposition is left out: it accounts for nothing.
pub fn dispositions(archive: &Path) -> Result<BTreeMap<String, Gone>, ScanError> {
    let mut all = BTreeMap::new();
    scan::scan(archive, Table::Control, &Filter::default(), &mut |row| {
        if let Row::Control(row) = row
            && row.kind == DISPOSED
            && let Ok(said) = serde_json::from_str::<Disposition>(&row.detail)
            && said.origin == layout::origin(&row.node_id, row.log_epoch)
        {
            all.extend(said.files.into_iter().map(|gone| (gone.path.clone(), gone)));
        }
        Ok::<(), ScanError>(())
    })?;
    Ok(all)
}

/// Removes files that a durable, sealed record accounts for.
///
/// # Errors
/// If the system refuses.
pub fn remove(archive: &Path, gone: &[Gone]) -> Result<(), RetentionError> {
    let folder = fs::File::open(archive).map_err(io_error(archive))?;
    folder.lock().map_err(io_error(archive))?;
    for Gone { path, .. } in gone {
        let path = archive.join(path);
        fs::remove_file(&path).map_err(io_error(&path))?;
        path.parent().map_or(Ok(()), files::sync_dir).map_err(io_error(&path))?;
    }
    Ok(())
}

/// What there is of each class: for a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Files that are here.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that are only in a store.
    pub elsewhere: u64,
    /// Files that were disposed of.
    pub disposed: u64,
    /// The day of the oldest that is here.
    pub oldest: Option<String>,
    /// Files whose time is over and that are here.
    pub due: u64,
    /// Of these, held.
    pub held: u64,
}

/// How the classes stand.
///
/// # Errors
/// As [`due`].
pub fn report(archive: &Path, periods: &Periods, today: i64) -> Result<BTreeMap<String, Standing>, RetentionError> {
    let gone = dispositions(archive)?;
    let mut all: BTreeMap<String, Standing> = BTreeMap::new();
    let origins = crate::verify::origins(archive);
    for origin in origins.map_err(|error| io_error(archive)(io::Error::other(error)))? {
        for entry in entries(archive, &origin)? {
            let is_control = entry.table.as_deref() == Some(Table::Control.as_str());
            let class = if is_control { "control" } else { periods.of(&entry.path).0 };
            let standing = all.entry(class.to_owned()).or_default();
            if archive.join(&entry.path).exists() {
                standing.files += 1;
                standing.bytes += entry.bytes;
                let day = day(&entry.path).map(str::to_owned);
                standing.oldest = standing.oldest.take().into_iter().chain(day).min();
            } else if gone.contains_key(&entry.path) {
                standing.disposed += 1;
            } else {
                standing.elsewhere += 1;
            }
        }
        for Due { class, held, .. } in due(archive, &origin, periods, today)? {
            let standing = all.entry(class.to_owned()).or_default();
            standing.due += 1;
            standing.held += u64::from(held.is_some());
        }
    }
    Ok(all)
}

fn entries(archive: &Path, origin: &str) -> Result<Vec<FileEntry>, RetentionError> {
    let folder = archive.join(layout::log_dir(origin)).join("manifest");
    let mut all = Vec::new();
    for path in files::walk(&folder).map_err(io_error(&folder))? {
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|_| RetentionError::Manifest(path.clone()))?;
        all.extend(manifest.files.into_iter().filter(|entry| entry.table.is_some()));
    }
    Ok(all)
}

fn day(path: &str) -> Option<&str> {
    path.split('/').find_map(|part| part.strip_prefix("dt="))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RetentionError {
    let path = path.to_owned();
    move |source| RetentionError::Io { path, source }
}
