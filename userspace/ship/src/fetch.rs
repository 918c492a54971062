//! Brings an archive back from a store: what each log's checkpoint covers, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path};

use archive::files;
use archive::layout::{self, FileEntry, Manifest};
use archive::merkle::Tile;
use archive::note::{self, Checkpoint};
use archive::pruned::{self, Pruned};
use archive::retention::{self, Gone};
use types::hex::{hex, unhex};

use crate::pass::tables;
use crate::remote::{Remote, file_sum, sum};
use crate::{ShipError, Sum, io_error};

/// Names of one log at most: 61,000 seals in seven years have four each, and tiles; of 150 B each 150 MB.
const NAMES_MAX: usize = 1_000_000;

/// What is brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The first day, `2026-11-21`; from the beginning where absent.
    pub from: Option<String>,
    /// The last; to the end where absent.
    pub until: Option<String>,
}

impl Wanted {
    fn has(&self, path: &str) -> bool {
        let day = layout::day_of(path);
        let Some(day) = day else { return true };
        self.from.as_deref().is_none_or(|from| day >= from)
            && self.until.as_deref().is_none_or(|until| day <= until)
    }
}

/// What was brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The logs and the rows under their checkpoints.
    pub logs: Vec<(String, u64)>,
    /// Files brought.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already, equal.
    pub there: u64,
    /// Files of other days, which stay in the store.
    pub elsewhere: u64,
    /// Objects beyond the checkpoints, left in the store: a shipment is under way, or a checkpoint was brought back.
    pub beyond: Vec<String>,
}

/// The objects of one log.
#[derive(Debug, Default)]
struct Names {
    manifests: Vec<String>,
    tiles: Vec<String>,
    kept: Vec<String>,
    others: Vec<String>,
}

/// Brings what is wanted into the folder `to`. What is there already must be equal, and is not brought again; where `to`
/// holds a log already, only files of it that were pruned come back.
///
/// # Errors
/// If either side fails, or what comes is not what was sealed.
pub fn fetch(remote: &mut Remote, to: &Path, wanted: &Wanted) -> Result<Fetched, ShipError> {
    files::make_dir(to).map_err(io_error(to))?;
    let mut fetched = Fetched::default();
    for (origin, names) in logs(remote)? {
        one(remote, to, &origin, &names, wanted, &mut fetched)?;
    }
    if fetched.logs.is_empty() {
        let told = "no log is there: nothing was shipped to it, or it is another prefix".to_owned();
        return Err(ShipError::Answer { name: remote.url().to_owned(), told });
    }
    Ok(fetched)
}

/// The logs of a store, those that have a checkpoint or anything else.
fn logs(remote: &Remote) -> Result<BTreeMap<String, Names>, ShipError> {
    let below = format!("{}/log/", layout::STANDARD);
    let mut logs: BTreeMap<String, Names> = BTreeMap::new();
    let mut count = 0_usize;
    remote.list(below.trim_end_matches('/'), &mut |name, _| {
        count += 1;
        if count > NAMES_MAX {
            let told = format!(
                "more than {NAMES_MAX} objects of logs: ship hosts to prefixes of their own"
            );
            return Err(ShipError::Answer { name: name.to_owned(), told });
        }
        let Some((origin, rest)) = name.strip_prefix(&below).and_then(divided) else {
            return Ok(());
        };
        let names = logs.entry(origin.to_owned()).or_default();
        let kind = match rest.split('/').next().unwrap_or_default() {
            "manifest" => &mut names.manifests,
            "tile" => &mut names.tiles,
            layout::CHECKPOINTS | layout::COSIGNED | layout::STAMPED => &mut names.kept,
            _ => &mut names.others,
        };
        kind.push(name.to_owned());
        Ok(())
    })?;
    Ok(logs)
}

/// A log's name and what follows it, where `path` is something of a log's.
fn divided(path: &str) -> Option<(&str, &str)> {
    const PARTS: [&str; 7] = [
        "manifest",
        "tile",
        layout::CHECKPOINT,
        layout::CHECKPOINTS,
        layout::COSIGNED,
        layout::STAMPED,
        layout::KEY,
    ];
    let mut from = 0;
    for part in path.split('/') {
        if PARTS.contains(&part) && from > 0 {
            return Some((path.get(..from - 1)?, path.get(from..)?));
        }
        from += part.len() + 1;
    }
    None
}

fn one(
    remote: &mut Remote,
    to: &Path,
    origin: &str,
    names: &Names,
    wanted: &Wanted,
    fetched: &mut Fetched,
) -> Result<(), ShipError> {
    let below = layout::log_dir(origin);
    let name = format!("{below}/{}", layout::CHECKPOINT);
    let Some((newest, _)) = remote.read(&name)? else {
        // Its first shipment is under way.
        fetched
            .beyond
            .extend(names.manifests.iter().chain(&names.tiles).chain(&names.kept).cloned());
        return Ok(());
    };
    let says = str::from_utf8(&newest).ok().and_then(note::split);
    let says =
        says.and_then(|(text, _)| Checkpoint::parse(text)).filter(|says| says.origin == origin);
    let answer =
        |name: &str, told: &str| ShipError::Answer { name: name.to_owned(), told: told.to_owned() };
    let says = says.ok_or_else(|| answer(&name, "no checkpoint of this log"))?;
    fetched.logs.push((origin.to_owned(), says.size));
    let is_here = to.join(&name).exists();
    let mut entries = BTreeMap::new();
    let mut logged = Vec::new();
    for name in &names.manifests {
        if layout::manifest_size(Path::new(name)).is_none_or(|size| size > says.size) {
            fetched.beyond.push(name.clone());
            continue;
        }
        let (bytes, _) = remote.read(name)?.ok_or_else(|| answer(name, "it is listed and gone"))?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|_| answer(name, "no manifest"))?;
        entries.extend(manifest.files.into_iter().map(|entry| (entry.path.clone(), entry)));
        logged.push((name.clone(), bytes));
    }
    let gone = pruned::read(to, origin).map_err(io_error(to))?;
    let (mut back, mut left) = (BTreeSet::new(), Vec::new());
    let mut tables: Vec<&FileEntry> =
        entries.values().filter(|entry| entry.table.is_some()).collect();
    // Control records say what was disposed of.
    tables.sort_by_key(|entry| entry.table.as_deref() != Some("control"));
    let mut disposed = None;
    for entry in tables {
        if is_here && !gone.contains_key(&entry.path) {
            continue;
        }
        if wanted.has(&entry.path) {
            bring(remote, to, entry, fetched)
                .or_else(|error| is_disposed(to, entry, &mut disposed, error))?;
            back.insert(entry.path.clone());
        } else if !to.join(&entry.path).exists() {
            fetched.elsewhere += 1;
            left.push(Pruned {
                path: entry.path.clone(),
                sha256: entry.sha256.clone(),
                bytes: entry.bytes,
                remote: remote.url().to_owned(),
                at_us: 0,
            });
        }
    }
    if !is_here {
        let log = Log { names, below: &below, size: says.size };
        logged.push((name, newest));
        bring_log(remote, to, &log, &entries, logged, fetched)?;
    }
    // Others let files go meanwhile.
    let lock = fs::File::open(to).map_err(io_error(to))?;
    lock.lock().map_err(io_error(to))?;
    let mut gone = pruned::read(to, origin).map_err(io_error(to))?;
    gone.retain(|path, _| !back.contains(path));
    for one in left {
        gone.entry(one.path.clone()).or_insert(one);
    }
    pruned::write(to, origin, &gone).map_err(io_error(to))
}

/// A log in a store, and the rows under its checkpoint.
struct Log<'a> {
    names: &'a Names,
    below: &'a str,
    size: u64,
}

/// Brings what a log is beside its tables' files: its checkpoint comes last.
fn bring_log(
    remote: &mut Remote,
    to: &Path,
    log: &Log<'_>,
    entries: &BTreeMap<String, FileEntry>,
    logged: Vec<(String, bytes::Bytes)>,
    fetched: &mut Fetched,
) -> Result<(), ShipError> {
    let mut small: BTreeSet<String> = BTreeSet::new();
    for name in &log.names.tiles {
        let tile =
            name.strip_prefix(&format!("{}/", log.below)).map(Path::new).and_then(Tile::parse);
        // Unfinished tiles of before stay in the store.
        if tile.is_some_and(|tile| tile.is_stored(log.size)) {
            small.insert(name.clone());
        }
    }
    for name in &log.names.kept {
        match layout::checkpoint_size(Path::new(name)) {
            Some(size) if size <= log.size => drop(small.insert(name.clone())),
            _ => fetched.beyond.push(name.clone()),
        }
    }
    small.extend(entries.values().filter(|entry| entry.table.is_none()).map(|e| e.path.clone()));
    for name in small {
        if let Some((bytes, _)) = remote.read(&name)? {
            keep(to, &name, &bytes, fetched)?;
        }
    }
    for (name, bytes) in logged {
        keep(to, &name, &bytes, fetched)?;
    }
    Ok(())
}

/// Whether a file that is not in the store was disposed of; the error otherwise.
fn is_disposed(
    to: &Path,
    entry: &FileEntry,
    known: &mut Option<BTreeMap<String, Gone>>,
    error: ShipError,
) -> Result<(), ShipError> {
    if !matches!(error, ShipError::Answer { .. }) {
        return Err(error);
    }
    let all = match known {
        Some(all) => all,
        none => none.insert(retention::dispositions(to).map_err(|error| ShipError::Answer {
            name: to.display().to_string(),
            told: error.to_string(),
        })?),
    };
    if retention::accounts(all, entry) { Ok(()) } else { Err(error) }
}

/// Brings a file of a table; what comes must be what was sealed.
pub(crate) fn bring(
    remote: &mut Remote,
    to: &Path,
    entry: &FileEntry,
    fetched: &mut Fetched,
) -> Result<(), ShipError> {
    let name = &entry.path;
    let path = below(to, name)?;
    let sha256 = unhex(&entry.sha256).unwrap_or_default();
    let due = Sum { sha256, bytes: entry.bytes };
    if path.exists() {
        let here = file_sum(&path)?;
        if here != due {
            return Err(ShipError::Changed(path));
        }
        fetched.there += 1;
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        files::make_dir(folder).map_err(io_error(folder))?;
    }
    let mut unfinished = path.clone().into_os_string();
    unfinished.push(files::UNFINISHED);
    let there = remote.download(name, Path::new(&unfinished))?;
    if there != Some(due) {
        fs::remove_file(&unfinished).map_err(io_error(&path))?;
        return Err(match there {
            None => ShipError::Answer {
                name: name.clone(),
                told: "it is sealed and not in the store".into(),
            },
            Some(there) => ShipError::Conflict { name: name.clone(), here: due, there },
        });
    }
    fs::rename(&unfinished, &path).map_err(io_error(&path))?;
    fetched.files += 1;
    fetched.bytes += due.bytes;
    Ok(())
}

fn keep(to: &Path, name: &str, bytes: &[u8], fetched: &mut Fetched) -> Result<(), ShipError> {
    let path = below(to, name)?;
    if let Ok(here) = fs::read(&path) {
        // A text that several logs list lies there once.
        if here != bytes {
            return Err(ShipError::Conflict {
                name: name.to_owned(),
                here: sum(&here),
                there: sum(bytes),
            });
        }
        fetched.there += 1;
        return Ok(());
    }
    files::write(&path, bytes, 0o644).map_err(io_error(&path))?;
    fetched.files += 1;
    fetched.bytes += u64::try_from(bytes.len()).unwrap_or(0);
    Ok(())
}

/// A path below a folder: names come from the store.
fn below(to: &Path, name: &str) -> Result<std::path::PathBuf, ShipError> {
    let is_below = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if is_below {
        return Ok(to.join(name));
    }
    Err(ShipError::Answer { name: name.to_owned(), told: "no name of an archive's".into() })
}

/// What a log's checkpoint in a store covers.
pub(crate) struct Covered {
    /// The log.
    pub(crate) origin: String,
    /// Rows under it; 0 where there is none.
    pub(crate) size: u64,
    /// Tables' files, and when they were sealed.
    pub(crate) entries: Vec<(i64, FileEntry)>,
    /// Names of manifests and checkpoints.
    pub(crate) due: BTreeSet<String>,
}

/// What the store's checkpoints cover, by log.
pub(crate) fn covered(remote: &mut Remote) -> Result<Vec<Covered>, ShipError> {
    let mut all = Vec::new();
    for (origin, names) in logs(remote)? {
        let below = layout::log_dir(&origin);
        let name = format!("{below}/{}", layout::CHECKPOINT);
        let newest = remote.read(&name)?;
        let says = newest.and_then(|(bytes, _)| {
            let note = String::from_utf8(bytes.to_vec()).ok()?;
            Checkpoint::parse(note::split(&note)?.0)
        });
        let size = says.map_or(0, |says| says.size);
        let mut entries = Vec::new();
        let mut due = BTreeSet::from([name]);
        for name in &names.manifests {
            let Some(step) = layout::manifest_size(Path::new(name)).filter(|step| *step <= size)
            else {
                continue;
            };
            let Some((bytes, _)) = remote.read(name)? else { continue };
            let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { continue };
            due.insert(name.clone());
            due.insert(format!("{below}/{}", layout::checkpoint(step)));
            entries.extend(tables(&manifest).map(|entry| (manifest.sealed_us, entry.clone())));
        }
        all.push(Covered { origin, size, entries, due });
    }
    Ok(all)
}

/// The sum in words, for reports.
pub(crate) fn hex_sum(sum: &Sum) -> String {
    hex(&sum.sha256)
}
