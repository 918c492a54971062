//! Consistency proofs of a log in the archive, for its witnesses: from stored tiles, and where those have no leaves,
//! from rows.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tlog::proof::{self, Subtree};

use crate::decode::{self, DecodeError};
use crate::layout::{self, Manifest};
use crate::merkle::{self, Hash, TILE_WIDTH, Tile};
use crate::note::{self, Checkpoint};

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's rows can't be read.
    #[error("cannot read the rows of {path}: {source}")]
    Rows {
        /// The file.
        path: String,
        /// Why.
        source: DecodeError,
    },
    /// A file that the proof needs is not here.
    #[error("{path} is needed and not here: bring it with `vestibule archive fetch`")]
    Elsewhere {
        /// The file.
        path: String,
    },
    /// The archive lacks what the proof needs.
    #[error("the archive has no proof from {old} to {new} records: verify it")]
    Missing {
        /// The smaller size.
        old: u64,
        /// The greater.
        new: u64,
    },
}

/// The signed note of the newest checkpoint of the log `origin`, and what it says; `None` where there is none.
pub fn newest(archive: &Path, origin: &str) -> Result<Option<(String, Checkpoint)>, ProofError> {
    let path = archive.join(layout::log_dir(origin)).join(layout::CHECKPOINT);
    let note = match fs::read_to_string(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ProofError::Io { path, source }),
    };
    let says = note::split(&note).and_then(|(text, _)| Checkpoint::parse(text));
    Ok(says.map(|says| (note, says)))
}

/// The proof that the log `origin`, at its newest checkpoint of `new` records, continues that of `old`.
pub fn consistency(
    archive: &Path,
    origin: &str,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, ProofError> {
    let mut source = Source {
        archive,
        dir: archive.join(layout::log_dir(origin)),
        size: new,
        groups: BTreeMap::new(),
        failed: None,
    };
    let proof = proof::consistency(old, new, &mut |subtree| source.hash(subtree));
    match (proof, source.failed) {
        (Some(proof), None) => Ok(proof),
        (_, Some(error)) => Err(error),
        (None, None) => Err(ProofError::Missing { old, new }),
    }
}

/// Where the roots of subtrees come from.
struct Source<'a> {
    archive: &'a Path,
    dir: PathBuf,
    size: u64,
    /// Leaves by the number of their tile: those around the old size and at the right edge.
    groups: BTreeMap<u64, Vec<Option<Hash>>>,
    failed: Option<ProofError>,
}

impl Source<'_> {
    fn hash(&mut self, Subtree { level, index }: Subtree) -> Option<Hash> {
        let (tiles, within) = (usize::try_from(level / 8).ok()?, level % 8);
        let first = index << within;
        let (tile, at) = (first / 256, usize::try_from(first % 256).ok()?);
        let entries = if tiles == 0 { self.leaves(tile)? } else { self.tile(tiles, tile)? };
        let entries: Option<Vec<Hash>> =
            entries.get(at..at + (1 << within))?.iter().copied().collect();
        Some(merkle::root(&entries?))
    }

    fn tile(&self, level: usize, index: u64) -> Option<Vec<Option<Hash>>> {
        let entries = self.size >> (8 * level);
        let width = usize::try_from(entries.saturating_sub(index * 256).min(256)).ok()?;
        let name = Tile { level, index, hashes: vec![[0; 32]; width] };
        let bytes = fs::read(self.dir.join(name.path())).ok()?;
        let hashes = bytes.as_chunks::<32>().0;
        (hashes.len() == width).then(|| hashes.iter().copied().map(Some).collect())
    }

    fn leaves(&mut self, index: u64) -> Option<Vec<Option<Hash>>> {
        if index == self.size / 256 {
            return self.tile(0, index);
        }
        if !self.groups.contains_key(&index) {
            match self.read_leaves(index * 256) {
                Ok(leaves) => drop(self.groups.insert(index, leaves)),
                Err(error) => self.failed = Some(error),
            }
        }
        self.groups.get(&index).cloned()
    }

    /// The leaves of 256 rows, from the files that hold them.
    fn read_leaves(&self, first: u64) -> Result<Vec<Option<Hash>>, ProofError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ProofError::Io { path, source }
        };
        let folder = self.dir.join("manifest");
        let mut leaves = vec![None; TILE_WIDTH];
        for path in crate::files::walk(&folder).map_err(io(&folder))? {
            let bytes = fs::read(&path).map_err(io(&path))?;
            let manifest: Manifest = serde_json::from_slice(&bytes)
                .map_err(|error| io(&path)(io::Error::other(error)))?;
            if manifest.tree_size <= first || manifest.first_seq >= first + 256 {
                continue;
            }
            for entry in manifest.files {
                let table = entry.table.as_deref().and_then(layout::table);
                let covers = entry.first_seq < first + 256 && entry.last_seq >= first;
                let Some(table) = table.filter(|_| covers) else { continue };
                let file = self.archive.join(&entry.path);
                let bytes = match fs::read(&file) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(ProofError::Elsewhere { path: entry.path });
                    }
                    bytes => bytes.map_err(io(&file))?,
                };
                let mut take = |row: journal::row::Row| {
                    let at = row.seq().0.checked_sub(first).and_then(|at| usize::try_from(at).ok());
                    if let Some(leaf) = at.and_then(|at| leaves.get_mut(at)) {
                        *leaf = Some(row.leaf_hash());
                    }
                };
                decode::rows(table, bytes, &mut take)
                    .map_err(|source| ProofError::Rows { path: entry.path, source })?;
            }
        }
        Ok(leaves)
    }
}
