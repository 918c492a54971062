//! How long files are kept, and what may go: by class, and never what is held. What goes is first recorded in the log
//! (`archive.disposed`), so that its absence is known for what it is; tiles stay, and the tree with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use journal::row::Table;
use serde::{Deserialize, Serialize};

use crate::compact;
use crate::compacted::{Compacted, Replaced, Together};
use crate::files;
use crate::holds::{Held, HoldError};
use crate::layout::{self, FileEntry, Manifest};
use crate::pruned::{self, Pruned};
use crate::scan::{self, ScanError};

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
    /// Why, in that person's words.
    pub reason: String,
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
    /// Whether it is here, and not in a store alone.
    pub is_here: bool,
    /// Why it stays all the same, if it does.
    pub kept: Option<Kept>,
}

/// Why a file stays whose time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// A hold is on something in it.
    Held(String),
    /// It is only in a store, and holds are in force of which only its rows say whether they are on it.
    Unread,
    /// It is not safe in the store yet to which this archive is shipped.
    Unshipped,
    /// Its rows were put together with those of this other log, which does not go with it.
    Together(String),
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held(name) => write!(f, "held by {name}"),
            Self::Unread => f.write_str(
                "only in the store, where nothing says whether a hold is on it (`vestibule archive fetch` brings it)",
            ),
            Self::Unshipped => f.write_str("not shipped yet"),
            Self::Together(origin) => {
                write!(f, "put together with rows of {origin}, which does not go with it")
            }
        }
    }
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
    /// A file that is sealed is not here, and nothing says why.
    #[error(
        "{0} is missing, and nothing says why: verify the archive; nothing is disposed of until then"
    )]
    Missing(String),
    /// A file is of a day that was put together, and not disposed of.
    #[error("{0} was put together with what is to go, and no sealed record says that it goes, too")]
    Unaccounted(String),
    /// What was put together can't be removed.
    #[error(transparent)]
    Compact(#[from] compact::CompactError),
    /// A manifest is none.
    #[error("{} is no manifest: verify the archive", .0.display())]
    Manifest(PathBuf),
}

/// The files of the log `origin` whose time is over on the day `today`, from 1970-01-01, here or in a store. Control
/// records have no end. Where the archive is shipped, `shipped` is how many rows are.
///
/// # Errors
/// If anything that decides it can't be read, or is missing.
pub fn due(
    archive: &Path,
    origin: &str,
    periods: &Periods,
    today: i64,
    shipped: Option<u64>,
) -> Result<Vec<Due>, RetentionError> {
    let entries = entries(archive, origin)?;
    Known::read(archive)?.due(archive, (origin, entries), *periods, today, shipped)
}

/// What an archive's records and lists say of its files, whichever log they are of.
struct Known {
    absent: BTreeMap<String, Pruned>,
    gone: BTreeMap<String, Gone>,
    held: Held,
    together: Together,
}

impl Known {
    fn read(archive: &Path) -> Result<Self, RetentionError> {
        Ok(Self {
            absent: pruned::absent(archive).map_err(io_error(archive))?,
            gone: dispositions(archive)?,
            held: Held::resolve(archive, &BTreeSet::new())?,
            together: Together::read(archive).map_err(io_error(archive))?,
        })
    }

    /// Of these files, those whose time is over.
    fn due(
        &self,
        archive: &Path,
        (origin, entries): (&str, Vec<FileEntry>),
        periods: Periods,
        today: i64,
        shipped: Option<u64>,
    ) -> Result<Vec<Due>, RetentionError> {
        let Self { absent, gone, held, together } = self;
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (entry, list) in entries.iter().filter_map(|one| Some((one, together.of(one)?))) {
            let last = last.entry(name(list)).or_default();
            *last = (*last).max(entry.last_seq);
        }
        let mut kept_days: BTreeMap<&str, Option<Kept>> = BTreeMap::new();
        let mut all = Vec::new();
        for entry in entries {
            let list = together.of(&entry);
            let is_here = list.is_some() || archive.join(&entry.path).exists();
            if !is_here && accounts(gone, &entry) {
                continue;
            }
            if !is_here && !absent.contains_key(&entry.path) {
                return Err(RetentionError::Missing(entry.path));
            }
            let (class, days) = periods.of(&entry.path);
            let before = layout::date(today - i64::from(days));
            let day = layout::day_of(&entry.path);
            let is_over = day.is_some_and(|day| day < before.as_str());
            if !is_over || entry.table.as_deref() == Some(Table::Control.as_str()) {
                continue;
            }
            if let Some(list) = list {
                let of_day = name(list);
                if !kept_days.contains_key(of_day) {
                    let last = last.get(of_day).copied().unwrap_or(u64::MAX);
                    let why = self.of_day(archive, origin, list, (last, shipped))?;
                    kept_days.insert(of_day, why);
                }
                let kept = kept_days.get(of_day).cloned().flatten();
                all.push(Due { entry, class, is_here, kept });
                continue;
            }
            let hold = if is_here {
                held.file(archive, &entry.path)?
            } else {
                day.and_then(|day| held.day(day)).map(str::to_owned)
            };
            let kept = match hold {
                Some(hold) => Some(Kept::Held(hold)),
                None if !is_here && held.needs_rows() => Some(Kept::Unread),
                None if shipped.is_some_and(|shipped| entry.last_seq >= shipped) => {
                    Some(Kept::Unshipped)
                }
                None => None,
            };
            all.push(Due { entry, class, is_here, kept });
        }
        Ok(all)
    }

    /// Why a day stays whose files were put together: it goes as one or not at all. Of its rows of the log, `last` is the last.
    fn of_day(
        &self,
        archive: &Path,
        origin: &str,
        list: &Compacted,
        (last, shipped): (u64, Option<u64>),
    ) -> Result<Option<Kept>, RetentionError> {
        if let Some(other) = list.replaces.iter().find(|one| one.origin != origin) {
            return Ok(Some(Kept::Together(other.origin.clone())));
        }
        let hold = self.held.together(archive, list)?.map(Kept::Held);
        Ok(hold.or(shipped.is_some_and(|shipped| last >= shipped).then_some(Kept::Unshipped)))
    }
}

/// What a day that was put together is known by: its first file, as each has one at least.
fn name(list: &Compacted) -> &str {
    list.files.first().map_or("", |part| part.path.as_str())
}

/// Whether dispositions account for a file: exactly as it was sealed, and nothing else.
pub fn accounts(gone: &BTreeMap<String, Gone>, entry: &FileEntry) -> bool {
    gone.get(&entry.path).is_some_and(|gone| *gone == Gone::from(entry))
}

/// The rule by which files of a class go, as records have it.
pub fn rule(class: &str, days: u64) -> String {
    format!("{class} after {days} days")
}

/// All dispositions that the archive's records tell of, by the path of each file.
///
/// # Errors
/// If records can't be read. One that is no disposition is left out: it accounts for nothing.
pub fn dispositions(archive: &Path) -> Result<BTreeMap<String, Gone>, ScanError> {
    let mut all = BTreeMap::new();
    scan::control(archive, &[DISPOSED], &mut |row| {
        if let Ok(said) = serde_json::from_str::<Disposition>(&row.detail)
            && said.origin == layout::origin(&row.node_id, row.log_epoch)
        {
            all.extend(said.files.into_iter().map(|gone| (gone.path.clone(), gone)));
        }
        Ok::<(), ScanError>(())
    })?;
    Ok(all)
}

/// Removes files that a durable, sealed record accounts for, and folders that are empty then: views of a table without
/// files are others. What is gone already is no error.
///
/// # Errors
/// If the system refuses.
pub fn remove(archive: &Path, origin: &str, gone: &[Gone]) -> Result<(), RetentionError> {
    let _lock = files::lock(archive).map_err(io_error(archive))?;
    remove_together(archive, gone)?;
    files::remove(archive, gone.iter().map(|gone| gone.path.as_str()))
        .map_err(io_error(archive))?;
    // What was only in a store is not looked for there any more.
    let mut list = pruned::read(archive, origin).map_err(io_error(archive))?;
    let before = list.len();
    list.retain(|path, _| !gone.iter().any(|gone| gone.path == *path));
    if list.len() < before {
        pruned::write(archive, origin, &list).map_err(io_error(archive))?;
    }
    Ok(())
}

/// Removes the days that were put together of such files. The archive is locked.
fn remove_together(archive: &Path, gone: &[Gone]) -> Result<(), RetentionError> {
    let together = Together::read(archive).map_err(io_error(archive))?;
    let is_going = |list: &&Compacted| {
        list.replaces.iter().any(|one| gone.iter().any(|it| it.path == one.path))
    };
    let going: Vec<&Compacted> = together.lists().iter().filter(is_going).collect();
    if going.is_empty() {
        return Ok(());
    }
    let all = dispositions(archive)?;
    for list in going {
        let is_gone =
            |one: &&Replaced| all.get(&one.path).is_some_and(|gone| gone.sha256 == one.sha256);
        if let Some(one) = list.replaces.iter().find(|one| !is_gone(one)) {
            return Err(RetentionError::Unaccounted(one.path.clone()));
        }
        compact::remove(archive, list)?;
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
    /// Files whose time is over.
    pub due: u64,
    /// Of these, those that a hold keeps, or may keep.
    pub held: u64,
}

/// How the classes stand.
///
/// # Errors
/// As [`due`].
pub fn report(
    archive: &Path,
    periods: &Periods,
    today: i64,
) -> Result<BTreeMap<String, Standing>, RetentionError> {
    let known = Known::read(archive)?;
    let mut all: BTreeMap<String, Standing> = BTreeMap::new();
    let day = |path: &str| layout::day_of(path).map(str::to_owned);
    for list in known.together.lists() {
        let is_control = list.table() == Some(Table::Control);
        for part in &list.files {
            let class = if is_control { "control" } else { periods.of(&part.path).0 };
            let standing = all.entry(class.to_owned()).or_default();
            standing.files += 1;
            standing.bytes += part.bytes;
            standing.oldest = standing.oldest.take().into_iter().chain(day(&part.path)).min();
        }
    }
    let origins = crate::verify::origins(archive);
    for origin in origins.map_err(|error| io_error(archive)(io::Error::other(error)))? {
        let entries = entries(archive, &origin)?;
        for entry in &entries {
            let is_control = entry.table.as_deref() == Some(Table::Control.as_str());
            let class = if is_control { "control" } else { periods.of(&entry.path).0 };
            let standing = all.entry(class.to_owned()).or_default();
            if known.together.of(entry).is_some() {
                // It is in files that were counted.
            } else if archive.join(&entry.path).exists() {
                standing.files += 1;
                standing.bytes += entry.bytes;
                standing.oldest = standing.oldest.take().into_iter().chain(day(&entry.path)).min();
            } else if known.gone.contains_key(&entry.path) {
                standing.disposed += 1;
            } else {
                standing.elsewhere += 1;
            }
        }
        for Due { class, kept, .. } in
            known.due(archive, (&origin, entries), *periods, today, None)?
        {
            let standing = all.entry(class.to_owned()).or_default();
            standing.due += 1;
            standing.held += u64::from(kept.is_some());
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

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RetentionError {
    let path = path.to_owned();
    move |source| RetentionError::Io { path, source }
}
