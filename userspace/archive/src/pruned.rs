//! Files of a log that are not in this copy of the archive and lie in a store: a list beside the log. It is this copy's
//! own and no evidence: what it names is looked for in the store by whoever needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{files, layout};

/// The list's name in the log's folder: a JSON object a line.
pub const NAME: &str = "pruned.jsonl";

/// A file that is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruned {
    /// Its path below the archive's folder.
    pub path: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
    /// The store.
    pub remote: String,
    /// Since when, microseconds since 1970 UTC.
    pub at_us: i64,
}

/// The list of the log `origin`, by path; empty where there is none.
///
/// # Errors
/// If it can't be read, or a line is none.
pub fn read(archive: &Path, origin: &str) -> io::Result<BTreeMap<String, Pruned>> {
    let text = match fs::read_to_string(path(archive, origin)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text?,
    };
    let one = |line: &str| {
        let one: Pruned = serde_json::from_str(line).map_err(io::Error::other)?;
        Ok((one.path.clone(), one))
    };
    text.lines().map(one).collect()
}

/// Of all logs of an archive: what their lists say of files that are not here, by path.
///
/// # Errors
/// If a list can't be read.
pub fn absent(archive: &Path) -> io::Result<BTreeMap<String, Pruned>> {
    let origins = crate::verify::origins(archive).map_err(io::Error::other)?;
    let mut all = BTreeMap::new();
    for origin in origins {
        let listed = read(archive, &origin)?.into_iter();
        all.extend(listed.filter(|(path, _)| !archive.join(path).exists()));
    }
    Ok(all)
}

/// Writes the list durably, or removes it where it is empty.
///
/// # Errors
/// If the system refuses.
pub fn write(archive: &Path, origin: &str, all: &BTreeMap<String, Pruned>) -> io::Result<()> {
    let path = path(archive, origin);
    if all.is_empty() {
        return if path.exists() { fs::remove_file(path) } else { Ok(()) };
    }
    let mut text = String::new();
    for one in all.values() {
        text.push_str(&serde_json::to_string(one).map_err(io::Error::other)?);
        text.push('\n');
    }
    files::write(&path, text.as_bytes(), 0o644)
}

/// How many files of all logs are elsewhere and not here, and in which stores.
///
/// # Errors
/// If a list can't be read.
pub fn count(archive: &Path) -> io::Result<(u64, Vec<String>)> {
    let absent = absent(archive)?;
    let count = u64::try_from(absent.len()).unwrap_or(u64::MAX);
    let stores: BTreeSet<String> = absent.into_values().map(|one| one.remote).collect();
    Ok((count, stores.into_iter().collect()))
}

fn path(archive: &Path, origin: &str) -> std::path::PathBuf {
    archive.join(layout::log_dir(origin)).join(NAME)
}
