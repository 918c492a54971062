//! Days whose files were put together: a list in the day's folder says which files hold what others held.
//!
//! It is no evidence. That no row was lost, changed or added on the way is proven by the rows alone: they are leaves of the
//! trees that were signed, whatever file they are in (`verify`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use journal::row::Table;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use types::hex::hex;

use crate::layout::{self, FileEntry};
use crate::{files, texts};

/// The list's name in the folder of a table's day. Spark, Hive and Trino pass over names that begin so.
pub const NAME: &str = "_compacted.json";

/// The folder beside the tables, in each class, in which a day is put together: nothing in it counts.
pub const STAGING: &str = "compacting";

/// The kind of the record by which a node says that a day was put together; its detail has the list's SHA-256 as `list`.
pub const KIND: &str = "archive.compacted";

/// What the partition `node` is called where a file has rows of several: Hive's word for none.
pub const NO_NODE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Bytes of a list at most: 100,000 files of 320 B each.
const LIST_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// A day of a table that was put together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compacted {
    /// The form of this list: 1.
    pub version: u32,
    /// The table.
    pub table: String,
    /// The day, UTC.
    pub day: String,
    /// The files that hold the rows now, sorted by session, node, epoch and sequence number, one after the other.
    pub files: Vec<Part>,
    /// The files that held them, as the logs' manifests list them.
    pub replaces: Vec<Replaced>,
}

/// A file that holds rows of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its path below the archive's folder.
    pub path: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
}

/// A file that is no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replaced {
    /// The log whose manifest lists it.
    pub origin: String,
    /// Its path below the archive's folder.
    pub path: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
}

impl Replaced {
    /// A file of a log.
    pub fn new(origin: &str, entry: &FileEntry) -> Self {
        Self {
            origin: origin.to_owned(),
            path: entry.path.clone(),
            sha256: entry.sha256.clone(),
            bytes: entry.bytes,
            rows: entry.rows,
        }
    }
}

/// A list as it lies there.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its path below the archive's folder.
    pub path: String,
    /// SHA-256 of it, hex.
    pub sha256: String,
    /// What it says; `None` where it is none.
    pub says: Option<Compacted>,
}

impl Compacted {
    /// The list's bytes.
    ///
    /// # Errors
    /// If it can't be written as JSON.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(io::Error::other)
    }

    /// Its table; `None` where there is no such table.
    pub fn table(&self) -> Option<Table> {
        layout::table(&self.table)
    }

    /// Rows that the files had which are no more, by log.
    pub fn rows_by_log(&self) -> BTreeMap<&str, u64> {
        let mut rows = BTreeMap::new();
        for one in &self.replaces {
            let count: &mut u64 = rows.entry(one.origin.as_str()).or_default();
            *count = count.saturating_add(one.rows);
        }
        rows
    }
}

/// The days of an archive that were put together, by the files that are no more.
#[derive(Clone, Debug, Default)]
pub struct Together {
    lists: Vec<Compacted>,
    /// The list that says what became of a file.
    by_path: BTreeMap<String, usize>,
}

impl Together {
    /// Of all lists of an archive.
    ///
    /// # Errors
    /// If one can't be read, or is none: then nothing may go by what the others say.
    pub fn read(archive: &Path) -> io::Result<Self> {
        let mut together = Self::default();
        for found in all(archive)? {
            let none = || io::Error::other(format!("{} is no list of files", found.path));
            let list = found.says.clone().ok_or_else(none)?;
            let at = together.lists.len();
            together.by_path.extend(list.replaces.iter().map(|one| (one.path.clone(), at)));
            together.lists.push(list);
        }
        Ok(together)
    }

    /// The day that a sealed file was put together with others into.
    pub fn of(&self, entry: &FileEntry) -> Option<&Compacted> {
        let list = self.by_path.get(&entry.path).and_then(|at| self.lists.get(*at))?;
        let is_it = |one: &&Replaced| one.path == entry.path && one.sha256 == entry.sha256;
        list.replaces.iter().find(is_it).map(|_| list)
    }

    /// All of them.
    pub fn lists(&self) -> &[Compacted] {
        &self.lists
    }
}

/// The folder of a table's day, below the archive's.
pub fn day_dir(table: Table, day: &str) -> String {
    format!("{}/table={}/dt={day}", texts::class(table), table.as_str())
}

/// Whether a table has a folder of a day; that of a Delta log is none.
pub(crate) fn has_days(archive: &Path, table: Table) -> bool {
    let dir = layout::table_dir(archive, table);
    let is_day = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"dt="))
    };
    folders(&dir).is_ok_and(|folders| folders.iter().any(is_day))
}

/// The folder in which a table's day is put together.
pub(crate) fn staging_dir(table: Table, day: &str) -> String {
    format!("{}/{STAGING}/table={}/dt={day}", texts::class(table), table.as_str())
}

/// Whether a file is one that rows were put together in, by its name.
pub(crate) fn is_part(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"part-"))
}

/// Whether a path below the archive's folder is of a compaction under way, or of one that was cut short.
pub fn is_staged(path: &str) -> bool {
    [layout::STANDARD, layout::PAYLOAD]
        .iter()
        .any(|class| path.strip_prefix(class).is_some_and(|rest| rest.starts_with("/compacting/")))
}

/// The list of a table's day; `None` where it was not put together.
///
/// # Errors
/// If it can't be read.
pub fn of_day(archive: &Path, table: Table, day: &str) -> io::Result<Option<Found>> {
    let path = format!("{}/{NAME}", day_dir(table, day));
    read(archive, path)
}

/// All lists of an archive, by path.
///
/// # Errors
/// If a folder or a list can't be read.
pub fn all(archive: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for table in Table::ALL {
        let dir = layout::table_dir(archive, table);
        for day in folders(&dir)? {
            let name = files::relative(archive, &day);
            found.extend(read(archive, format!("{name}/{NAME}"))?);
        }
    }
    Ok(found)
}

fn read(archive: &Path, path: String) -> io::Result<Option<Found>> {
    let file = archive.join(&path);
    let length = match fs::metadata(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?.len(),
    };
    let bytes = if length > LIST_BYTES_MAX { Vec::new() } else { fs::read(&file)? };
    let says: Option<Compacted> = serde_json::from_slice(&bytes).ok();
    let is_here = |says: &Compacted| {
        let dir = says.table().map(|table| format!("{}/", day_dir(table, &says.day)));
        let is_own = |part: &Part| dir.as_ref().is_some_and(|dir| part.path.starts_with(dir));
        let is_plain = |path: &str| !path.split('/').any(|name| name == ".." || name == ".");
        says.version == 1
            && dir.as_ref().is_some_and(|dir| path.starts_with(dir.as_str()))
            && says.files.iter().all(|part| is_own(part) && is_plain(&part.path))
    };
    let says = says.filter(is_here);
    Ok(Some(Found { path, sha256: hex(&Sha256::digest(&bytes)), says }))
}

/// The folders in a folder, sorted; none where it is absent.
pub(crate) fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The files below a folder of a day by their paths below the archive's.
pub(crate) fn below(archive: &Path, dir: &str) -> io::Result<Vec<String>> {
    Ok(files::walk(&archive.join(dir))?.iter().map(|path| files::relative(archive, path)).collect())
}
