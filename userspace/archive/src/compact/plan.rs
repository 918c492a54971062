//! Which days are put together.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use journal::row::Table;

use super::{CompactError, Options, io_error};
use crate::compacted::{self, Compacted, Part, Replaced, Together};
use crate::layout::{self, Manifest};
use crate::note::{self, Checkpoint};
use crate::retention::{self, Gone};
use crate::{files, verify, worm};

/// A day of a table with files that were not put together yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The table.
    pub table: Table,
    /// The day, UTC.
    pub day: String,
    /// The files that are read: of an earlier compaction, and those that came since.
    pub sources: Vec<Part>,
    /// The files of manifests whose rows these are.
    pub replaces: Vec<Replaced>,
    /// Why it stays as it is; absent where it does not.
    pub why: Option<Why>,
}

/// Why a day stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A file is only in a store.
    Elsewhere(String),
    /// A file is not shipped yet.
    NotShipped(String),
    /// The list of what holds what is none.
    BadList(String),
    /// A file can't be removed.
    Immutable(String),
    /// One log was imported from a capture, another was not: the rows of both are not put into one file.
    Imported(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Elsewhere(path) => write!(f, "{path} is not here; bring it with `archive fetch`"),
            Self::NotShipped(path) => write!(f, "{path} is not shipped yet"),
            Self::Immutable(path) => {
                write!(f, "{path} is immutable: `chattr -i` lets it be replaced")
            }
            Self::Imported(origin) => {
                write!(f, "{origin} was imported, and is not put together with what was recorded")
            }
            Self::BadList(path) => write!(f, "{path} can't be read: verify the archive"),
        }
    }
}

impl Due {
    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.sources.iter().map(|source| source.rows).sum()
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.bytes).sum()
    }

    /// How many new files it gives.
    pub(super) fn parts(&self, source_bytes: u64) -> u64 {
        self.bytes().div_ceil(source_bytes.max(1)).max(1)
    }

    /// The partition `node` of its new files: the node where all rows are of one.
    pub(super) fn node(&self) -> &str {
        let mut nodes = self.replaces.iter().map(|one| node(&one.origin));
        let first = nodes.next().unwrap_or(compacted::NO_NODE);
        if nodes.all(|node| node == first) { first } else { compacted::NO_NODE }
    }
}

fn node(origin: &str) -> &str {
    let id = origin.strip_prefix("vestibule/node/").unwrap_or(origin);
    id.rsplit_once('/').map_or(id, |(node, _)| node)
}

/// The days before that of the options which have files that were not put together yet.
pub(super) fn plan(options: &Options) -> Result<Vec<Due>, CompactError> {
    let archive = &options.archive;
    let mut days: BTreeMap<(String, Table), Due> = BTreeMap::new();
    let before = layout::date(options.before);
    let origins = verify::origins(archive);
    let origins = origins.map_err(|error| io_error(archive)(std::io::Error::other(error)))?;
    let together = Together::read(archive).unwrap_or_default();
    let mut gone: Option<BTreeMap<String, Gone>> = None;
    for origin in origins {
        for (manifest, entry) in entries(archive, &origin)? {
            let table = entry.table.as_deref().and_then(layout::table);
            let day = entry.path.split('/').find_map(|part| part.strip_prefix("dt="));
            let (Some(table), Some(day)) = (table, day) else { continue };
            if day >= before.as_str() {
                continue;
            }
            if together.of(&entry).is_none() && !archive.join(&entry.path).exists() {
                let gone = match &mut gone {
                    Some(gone) => gone,
                    none => none.insert(disposed(archive)?),
                };
                if retention::accounts(gone, &entry) {
                    continue;
                }
            }
            let due = days.entry((day.to_owned(), table)).or_insert_with(|| Due {
                table,
                day: day.to_owned(),
                sources: Vec::new(),
                replaces: Vec::new(),
                why: None,
            });
            let shipped = options.upto.get(&origin).copied().unwrap_or(u64::MAX);
            if manifest > shipped {
                due.why = Some(Why::NotShipped(entry.path.clone()));
            }
            due.replaces.push(Replaced::new(&origin, &entry));
        }
    }
    let mut all = Vec::new();
    for mut due in days.into_values() {
        if fill(archive, &mut due)? {
            all.push(due);
        }
    }
    Ok(all)
}

fn disposed(archive: &Path) -> Result<BTreeMap<String, Gone>, CompactError> {
    let gone = retention::dispositions(archive);
    gone.map_err(|error| io_error(archive)(std::io::Error::other(error)))
}

/// Finds where a day's rows are now; false where all of it was put together already.
fn fill(archive: &Path, due: &mut Due) -> Result<bool, CompactError> {
    let mut before = Compacted::default();
    let found = compacted::of_day(archive, due.table, &due.day).map_err(io_error(archive))?;
    if let Some(found) = found {
        match found.says {
            Some(says) => before = says,
            None => due.why = Some(Why::BadList(found.path)),
        }
    }
    let mut sources = before.files;
    for one in &due.replaces {
        if before.replaces.contains(one) {
            continue;
        }
        if !archive.join(&one.path).exists() {
            due.why.get_or_insert_with(|| Why::Elsewhere(one.path.clone()));
        }
        let Replaced { origin: _, path, sha256, bytes, rows } = one.clone();
        sources.push(Part { path, sha256, bytes, rows });
    }
    let path = |source: &Part| archive.join(&source.path);
    let is_protected = |source: &&Part| worm::is_protected(&path(source)).unwrap_or(false);
    if let Some(source) = sources.iter().find(is_protected) {
        due.why.get_or_insert_with(|| Why::Immutable(source.path.clone()));
    }
    let (imported, own): (Vec<&Replaced>, Vec<&Replaced>) =
        due.replaces.iter().partition(|one| layout::is_import(&one.origin));
    if let Some(one) = imported.first().filter(|_| !own.is_empty()) {
        due.why.get_or_insert_with(|| Why::Imported(one.origin.clone()));
    }
    let is_new = due.replaces.iter().any(|one| !before.replaces.contains(one));
    due.sources = sources;
    Ok(is_new)
}

/// The files of tables that a log's manifests list as far as its checkpoint goes, with the tree's size of their step.
fn entries(archive: &Path, origin: &str) -> Result<Vec<(u64, layout::FileEntry)>, CompactError> {
    let dir = archive.join(layout::log_dir(origin));
    let note = fs::read_to_string(dir.join(layout::CHECKPOINT)).unwrap_or_default();
    let says = note::split(&note).and_then(|(text, _)| Checkpoint::parse(text));
    let size = says.filter(|says| says.origin == origin).map_or(0, |says| says.size);
    let folder = dir.join("manifest");
    let mut all = Vec::new();
    for path in files::walk(&folder).map_err(io_error(&folder))? {
        if layout::manifest_size(&path).is_none_or(|step| step > size) {
            continue;
        }
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|_| CompactError::Changed(path.display().to_string()))?;
        let step = manifest.tree_size;
        let files = manifest.files.into_iter().filter(|entry| entry.table.is_some());
        all.extend(files.map(|entry| (step, entry)));
    }
    Ok(all)
}
