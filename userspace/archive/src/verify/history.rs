//! The signed checkpoints of a log: the newest and all that were kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::keys::Keys;
use super::report::{Level, Report};
use super::{Files, VerifyError, io_error};
use crate::merkle::Hash;
use crate::note::{self, Checkpoint};
use crate::{files, layout};

/// Bytes of a checkpoint at most: its lines, and those of 64 signatures.
const CHECKPOINT_BYTES_MAX: u64 = 64 * 1024;

/// A signed checkpoint as it lies there.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// Its file, below the archive's folder.
    pub(super) name: String,
    /// The note.
    pub(super) note: String,
    /// What it says, whoever signed it; absent where it is none of the log's.
    pub(super) says: Option<Checkpoint>,
}

/// The checkpoints of a log by size.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// The newest; absent where there is none.
    pub(super) newest: Option<Kept>,
    /// Those of each step.
    pub(super) kept: BTreeMap<u64, Kept>,
    /// The cosignatures of some, by size.
    pub(super) cosigned: BTreeMap<u64, (String, String)>,
    /// The time-stamp responses for some, by size: their files.
    pub(super) stamped: BTreeMap<u64, String>,
}

impl History {
    /// Reads them.
    pub(super) fn read(
        archive: &Path,
        origin: &str,
        known: &mut Files,
    ) -> Result<Self, VerifyError> {
        let folder = layout::log_dir(origin);
        let mut history = Self::default();
        let name = format!("{folder}/{}", layout::CHECKPOINT);
        known.known.insert(name.clone());
        history.newest = read(archive, &name).map(|note| kept(name, note, origin));
        let dir = archive.join(&folder).join(layout::STAMPED);
        for path in files::walk(&dir).map_err(io_error(&dir))? {
            let Some(size) = layout::checkpoint_size(&path) else { continue };
            let name = files::relative(archive, &path);
            known.known.insert(name.clone());
            history.stamped.insert(size, name);
        }
        for (part, is_note) in [(layout::CHECKPOINTS, true), (layout::COSIGNED, false)] {
            let dir = archive.join(&folder).join(part);
            for path in files::walk(&dir).map_err(io_error(&dir))? {
                let Some(size) = layout::checkpoint_size(&path) else { continue };
                let name = files::relative(archive, &path);
                let note = read(archive, &name).unwrap_or_default();
                known.known.insert(name.clone());
                if is_note {
                    history.kept.insert(size, kept(name, note, origin));
                } else {
                    history.cosigned.insert(size, (name, note));
                }
            }
        }
        Ok(history)
    }

    /// Whether each is signed with the key of its time, and with which roots; `steps` are the sizes and
    /// manifests of the steps, `roots` what the rows say.
    pub(super) fn check(
        &self,
        keys: &Keys,
        steps: &[(u64, Hash)],
        roots: &BTreeMap<u64, Option<Hash>>,
        report: &mut Report,
    ) {
        for (size, manifest) in steps {
            let Some(Kept { name, note, says }) = self.kept.get(size) else {
                let text = format!("the checkpoint of size {size} is missing");
                report.find(Level::Checkpoint, None, text);
                continue;
            };
            let opened = keys.at(*size).and_then(|key| note::open(note, key));
            let Some(says) = says.as_ref().filter(|says| opened.is_some() && says.size == *size)
            else {
                let other = keys.all().any(|key| note::open(note, key).is_some());
                let text = if other {
                    "checkpoint is signed with a key that was not in force at its size"
                } else {
                    "checkpoint is not signed with the node's key"
                };
                report.find(Level::Checkpoint, Some(name), text);
                continue;
            };
            if says.manifest != *manifest {
                let text = "checkpoint is of another manifest than the one that lies there";
                report.find(Level::Checkpoint, Some(name), text);
            }
            if roots.get(size).copied().flatten().is_some_and(|root| root != says.root) {
                let text = "checkpoint is of other records: the newest one does not continue it";
                report.find(Level::Checkpoint, Some(name), text);
            }
        }
        for (size, Kept { name, .. }) in &self.kept {
            if !steps.iter().any(|(step, _)| step == size) {
                report.find(Level::Checkpoint, Some(name), "checkpoint is of no sealed step");
            }
        }
        let last = steps.last().and_then(|(size, _)| self.kept.get(size));
        if let (Some(newest), Some(last)) = (&self.newest, last)
            && newest.note != last.note
        {
            let text = "the newest checkpoint is not that of the last sealed step";
            report.find(Level::Checkpoint, Some(&newest.name), text);
        }
    }
}

fn kept(name: String, note: String, origin: &str) -> Kept {
    let says = note::split(&note).and_then(|(text, _)| Checkpoint::parse(text));
    Kept { name, says: says.filter(|says| says.origin == origin), note }
}

/// A checkpoint's text; `None` where it can't be read or is too long to be one.
fn read(archive: &Path, name: &str) -> Option<String> {
    let path = archive.join(name);
    let length = fs::metadata(&path).ok()?.len();
    (length <= CHECKPOINT_BYTES_MAX).then(|| fs::read_to_string(&path).unwrap_or_default())
}
