//! Lets go here of what is safe in the store: Parquet files whose objects were read back when they were shipped, are
//! there now, and are under a checkpoint that others saw.
//!
//! Control records stay: keys, holds and dispositions are known by them. So do manifests, tiles and checkpoints: without
//! them nothing could be sealed on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use archive::files;
use archive::layout::{self, FileEntry, Manifest};
use archive::pruned::{self, Pruned};

use crate::pass::tables;
use crate::remote::Remote;
use crate::state::State;
use crate::{ShipError, io_error};

/// Files let go at once: each is asked for in the store first.
const FILES_MAX: usize = 4096;

/// The table whose files stay.
const STAYS: &str = "control";

/// Up to where and before when.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Rows that are witnessed, or, where nobody is asked, shipped.
    pub upto: u64,
    /// The first day, from 1970-01-01, whose files stay.
    pub day: i64,
    /// Now, microseconds since 1970 UTC.
    pub now_us: i64,
}

/// Lets files go; answers those that went. The list of them is on disk before the first goes.
///
/// # Errors
/// If something is not in the store as it should be; nothing goes then that was not checked.
pub fn prune(
    archive: &Path,
    remote: &mut Remote,
    state: &State,
    limits: &Limits,
) -> Result<Vec<FileEntry>, ShipError> {
    let going = due(archive, state, limits)?;
    let mut safe = Vec::new();
    for entry in going {
        match remote.length(&entry.path)? {
            Some(bytes) if bytes == entry.bytes => safe.push(entry),
            found => {
                let told = format!(
                    "it was shipped with {} bytes and has {} now: nothing is let go here",
                    entry.bytes,
                    found.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string())
                );
                return Err(ShipError::Answer { name: entry.path, told });
            }
        }
    }
    if safe.is_empty() {
        return Ok(safe);
    }
    // No seal, no verification and no shipment reads what goes now.
    let _lock = files::lock(archive).map_err(io_error(archive))?;
    let mut list = pruned::read(archive, &state.origin).map_err(io_error(archive))?;
    for entry in &safe {
        let one = Pruned {
            path: entry.path.clone(),
            sha256: entry.sha256.clone(),
            bytes: entry.bytes,
            remote: remote.url().to_owned(),
            at_us: limits.now_us,
        };
        list.insert(entry.path.clone(), one);
    }
    pruned::write(archive, &state.origin, &list).map_err(io_error(archive))?;
    files::remove(archive, safe.iter().map(|entry| entry.path.as_str()))
        .map_err(io_error(archive))?;
    Ok(safe)
}

/// The files that may go and are here.
fn due(archive: &Path, state: &State, limits: &Limits) -> Result<Vec<FileEntry>, ShipError> {
    let folder = archive.join(layout::log_dir(&state.origin)).join("manifest");
    let before = layout::date(limits.day);
    let upto = limits.upto.min(state.size);
    let mut going = Vec::new();
    let mut seen = BTreeSet::new();
    for path in files::walk(&folder).map_err(io_error(&folder))? {
        if layout::manifest_size(&path).is_none_or(|size| size > upto) {
            continue;
        }
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
            return Err(ShipError::Changed(path));
        };
        for entry in tables(&manifest) {
            let day = layout::day_of(&entry.path);
            let is_old = day.is_some_and(|day| day < before.as_str());
            let stays = entry.table.as_deref() == Some(STAYS);
            if is_old
                && !stays
                && archive.join(&entry.path).exists()
                && seen.insert(entry.path.clone())
            {
                going.push(entry.clone());
                if going.len() >= FILES_MAX {
                    return Ok(going);
                }
            }
        }
    }
    Ok(going)
}
