//! What was verified before, so that the next time only what is new is read. Kept by whoever verifies: it is
//! worth what its place is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use types::hex::{hex, unhex};

use crate::merkle::{Hash, Tile, Tree};

/// What was verified of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Its logs by name.
    pub logs: BTreeMap<String, Verified>,
    /// SHA-256 of the lists of days that were put together, hex.
    #[serde(default)]
    pub(super) compacted: BTreeSet<String>,
}

/// What was verified of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verified {
    /// How many records.
    pub size: u64,
    /// The root over them, hex.
    pub root: String,
    /// SHA-256 of the last of their manifests, hex.
    pub manifest: String,
    /// The right edge of the tree: unfinished tiles by path, hex.
    edge: BTreeMap<PathBuf, String>,
    /// The records by which keys followed one another: sequence number and detail.
    pub(super) rotations: Vec<(u64, String)>,
    /// The row before which the journal was let go, by its last record of that.
    #[serde(default)]
    pub(super) journal_from: u64,
}

impl Verified {
    /// Of a tree that was verified, and what its records say of keys and journal.
    pub(super) fn new(
        tree: &Tree,
        manifest: &Hash,
        (rotations, journal_from): (&[(u64, String)], u64),
    ) -> Self {
        let edge = tree.partial().map(|tile| (tile.path(), hex_all(&tile.bytes())));
        Self {
            size: tree.size(),
            root: hex(&tree.root()),
            manifest: hex(manifest),
            edge: edge.collect(),
            rotations: rotations.to_vec(),
            journal_from,
        }
    }

    /// The tree; `None` where this is none.
    pub(super) fn tree(&self) -> Option<Tree> {
        let stored = |tile: &Tile| {
            let text = self.edge.get(&tile.path())?;
            let hashes = text.as_bytes().chunks(64).map(|hash| unhex(str::from_utf8(hash).ok()?));
            Some(hashes.collect::<Option<Vec<Hash>>>()?.concat())
        };
        Tree::load(self.size, stored).filter(|tree| hex(&tree.root()) == self.root)
    }
}

fn hex_all(bytes: &[u8]) -> String {
    bytes.as_chunks::<32>().0.iter().map(|hash| hex(hash)).collect()
}
