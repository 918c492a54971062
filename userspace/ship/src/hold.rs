//! Legal holds in the store: what a hold is on here is held there as well (S3's legal hold), whatever its date of retention,
//! until the hold is released. Stores other than S3 have their own ways, which are the operator's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use archive::compacted::Together;
use archive::files;
use archive::holds::{self, Held};
use archive::layout::{self, Manifest};
use serde::{Deserialize, Serialize};

use crate::pass::tables;
use crate::remote::Remote;
use crate::{ShipError, io_error};

/// Changes between two writings of what is held: each is a request or two.
const SAVED_EVERY: usize = 64;

/// The state's name in the folder of the shipment's.
const NAME: &str = "held.json";

/// What is held in the store, kept on disk: of 150 B a name, 15 MB for 100,000 files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    url: String,
    /// Objects that are held.
    names: BTreeSet<String>,
    /// The holds that were in force when it was looked last, as JSON, and how many rows were shipped then.
    holds: String,
    size: u64,
}

/// What was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Objects that are held now and were not.
    pub held: Vec<String>,
    /// Objects that are not held any more.
    pub released: Vec<String>,
}

/// Has the store hold what holds in force are on, of the first `size` rows of a log, and nothing else any more that it was
/// told to hold before. What can't be looked into, because it is only in the store, is held where its day may be.
///
/// # Errors
/// If holds can't be told, or the store does not take one; what was changed until then stays so.
pub fn apply(
    archive: &Path,
    origin: &str,
    remote: &Remote,
    size: u64,
    state_dir: &Path,
) -> Result<Changed, ShipError> {
    let mut changed = Changed::default();
    let Some((s3, runtime, prefix)) = remote.s3().filter(|(s3, _, _)| s3.lock().is_some()) else {
        return Ok(changed);
    };
    let told = |error: holds::HoldError| ShipError::Hold(error.to_string());
    let in_force: Vec<_> = holds::in_force(archive).map_err(told)?.into_values().collect();
    let text =
        serde_json::to_string(&in_force).map_err(|error| ShipError::Hold(error.to_string()))?;
    let mut state = State::load(state_dir, remote.url())?;
    if state.holds == text && (state.size == size || in_force.is_empty()) {
        return Ok(changed);
    }
    let due = due(archive, origin, size)?;
    let going: Vec<String> = state.names.difference(&due).cloned().collect();
    let coming: Vec<String> = due.difference(&state.names).cloned().collect();
    let all = coming.into_iter().map(|name| (name, true));
    for (at, (name, is_held)) in all.chain(going.into_iter().map(|name| (name, false))).enumerate()
    {
        let object = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        runtime.block_on(s3.set_legal_hold(&object, is_held))?;
        if is_held {
            state.names.insert(name.clone());
            changed.held.push(name);
        } else {
            state.names.remove(&name);
            changed.released.push(name);
        }
        if at % SAVED_EVERY == SAVED_EVERY - 1 {
            state.save(state_dir)?;
        }
    }
    (state.holds, state.size) = (text, size);
    state.save(state_dir)?;
    Ok(changed)
}

/// The shipped files that something is on.
fn due(archive: &Path, origin: &str, size: u64) -> Result<BTreeSet<String>, ShipError> {
    let told = |error: holds::HoldError| ShipError::Hold(error.to_string());
    let held = Held::resolve_widely(archive).map_err(told)?;
    let together = Together::read(archive).map_err(io_error(archive))?;
    // By their first files: what was put together is held as one.
    let mut days: BTreeMap<&str, bool> = BTreeMap::new();
    let mut due = BTreeSet::new();
    let folder = archive.join(layout::log_dir(origin)).join("manifest");
    for path in files::walk(&folder).map_err(io_error(&folder))? {
        if layout::manifest_size(&path).is_none_or(|step| step > size) {
            continue;
        }
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
            return Err(ShipError::Changed(path));
        };
        for entry in tables(&manifest) {
            let is_held = match together.of(entry) {
                None => held.file(archive, &entry.path).map_err(told)?.is_some(),
                Some(list) => {
                    let day = list.files.first().map_or("", |part| part.path.as_str());
                    let known = days.get(day).copied();
                    let is_held = known.map_or_else(
                        || held.together(archive, list).map(|hold| hold.is_some()),
                        Ok,
                    );
                    *days.entry(day).or_insert(is_held.map_err(told)?)
                }
            };
            if is_held {
                due.insert(entry.path.clone());
            }
        }
    }
    Ok(due)
}

impl State {
    fn load(dir: &Path, url: &str) -> Result<Self, ShipError> {
        let path = dir.join(NAME);
        let none = Self { url: url.to_owned(), ..Self::default() };
        match fs::read(&path) {
            // What it said is set again: that changes nothing.
            Ok(text) => Ok(serde_json::from_slice(&text)
                .ok()
                .filter(|state: &Self| state.url == url)
                .unwrap_or(none)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(none),
            Err(error) => Err(io_error(&path)(error)),
        }
    }

    fn save(&self, dir: &Path) -> Result<(), ShipError> {
        let path = dir.join(NAME);
        let text = serde_json::to_vec(self).map_err(io::Error::other).map_err(io_error(&path))?;
        files::write(&path, &text, 0o600).map_err(io_error(&path))
    }
}
