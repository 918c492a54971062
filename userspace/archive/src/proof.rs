//! That some rows are in a tree: the hashes that give its root together with their leaves (RFC 6962 §2.1.1, for any
//! number of leaves at once).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::merkle::{self, Hash, TILE_WIDTH, Tile};

/// Leaves of one tile.
const GROUP: u64 = 256;

/// What gives the root together with the leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Leaves of the tree.
    pub size: u64,
    /// Roots of what holds none of the rows: from the first leaf to before the last.
    pub nodes: BTreeMap<(u64, u64), Hash>,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A tile is missing, or has another length.
    #[error("tile {} is missing or cut: verify the archive", .0.display())]
    Tile(PathBuf),
    /// Rows beside the ones to be proven are missing.
    #[error("rows {0} and up are not all there: verify the archive")]
    Leaves(u64),
    /// A row is beyond the tree.
    #[error("row {row} is not under the checkpoint, which has {size}")]
    Beyond {
        /// The row.
        row: u64,
        /// The tree's size.
        size: u64,
    },
    /// Rows and tree do not agree.
    #[error("the rows do not give the signed root: verify the archive")]
    Root,
}

/// The tiles of one log, and leaves that are computed from rows.
pub struct Tiles<'a> {
    log: &'a Path,
    size: u64,
    leaves: &'a BTreeMap<u64, Hash>,
    read: HashMap<(usize, u64), Vec<Hash>>,
}

impl<'a> Tiles<'a> {
    /// Those below the log's folder, of a tree of `size`; `leaves` are those of whole groups of 256.
    pub fn new(log: &'a Path, size: u64, leaves: &'a BTreeMap<u64, Hash>) -> Self {
        Self { log, size, leaves, read: HashMap::new() }
    }

    /// The proof of the leaves `rows`, ascending.
    ///
    /// # Errors
    /// If what it needs is not there.
    pub fn prove(&mut self, rows: &[u64]) -> Result<Proof, ProofError> {
        if let Some(row) = rows.last().copied().filter(|row| *row >= self.size) {
            return Err(ProofError::Beyond { row, size: self.size });
        }
        let mut proof = Proof { size: self.size, nodes: BTreeMap::new() };
        self.walk((0, self.size), rows, &mut proof.nodes)?;
        Ok(proof)
    }

    fn walk(
        &mut self,
        (from, until): (u64, u64),
        rows: &[u64],
        nodes: &mut BTreeMap<(u64, u64), Hash>,
    ) -> Result<(), ProofError> {
        if rows.is_empty() && from < until {
            let hash = self.hash(from, until)?;
            nodes.insert((from, until), hash);
        } else if until - from > 1 {
            let middle = middle(from, until);
            let (left, right) = rows.split_at(rows.partition_point(|row| *row < middle));
            self.walk((from, middle), left, nodes)?;
            self.walk((middle, until), right, nodes)?;
        }
        Ok(())
    }

    /// The root over some leaves, which are a node of the tree.
    fn hash(&mut self, from: u64, until: u64) -> Result<Hash, ProofError> {
        let count = until - from;
        if count.is_power_of_two() {
            return self.perfect(count.ilog2(), from / count);
        }
        let middle = middle(from, until);
        let pair = [self.hash(from, middle)?, self.hash(middle, until)?];
        Ok(merkle::root(&pair))
    }

    fn perfect(&mut self, height: u32, index: u64) -> Result<Hash, ProofError> {
        let (level, within) = (usize::try_from(height / 8).unwrap_or(0), height % 8);
        let (first, count) = (index << within, 1_usize << within);
        let (tile, offset) = (first / GROUP, usize::try_from(first % GROUP).unwrap_or(0));
        let path = self.log.join(name(level, tile, TILE_WIDTH).path());
        let entries = self.tile(level, tile)?.get(offset..offset + count);
        entries.map(merkle::root).ok_or(ProofError::Tile(path))
    }

    fn tile(&mut self, level: usize, index: u64) -> Result<&[Hash], ProofError> {
        if !self.read.contains_key(&(level, index)) {
            let below = self.size >> (8 * level);
            let is_full = index < below / GROUP;
            let rest = usize::try_from(below % GROUP).unwrap_or(0);
            let hashes = if level == 0 && is_full {
                self.group(index)?
            } else {
                self.stored(&name(level, index, if is_full { TILE_WIDTH } else { rest }))?
            };
            self.read.insert((level, index), hashes);
        }
        self.read.get(&(level, index)).map(Vec::as_slice).ok_or(ProofError::Root)
    }

    fn group(&self, index: u64) -> Result<Vec<Hash>, ProofError> {
        let first = index * GROUP;
        let leaves: Vec<Hash> = self.leaves.range(first..first + GROUP).map(|(_, l)| *l).collect();
        if leaves.len() == TILE_WIDTH { Ok(leaves) } else { Err(ProofError::Leaves(first)) }
    }

    fn stored(&self, tile: &Tile) -> Result<Vec<Hash>, ProofError> {
        let path = self.log.join(tile.path());
        let bytes = fs::read(&path).unwrap_or_default();
        let hashes = bytes.as_chunks::<32>().0.to_vec();
        let is_whole = bytes.len() == tile.hashes.len() * 32;
        if is_whole { Ok(hashes) } else { Err(ProofError::Tile(path)) }
    }
}

impl Proof {
    /// The root that the proof gives together with `leaves`; `None` where it gives none, or a leaf has no part in it.
    pub fn root(&self, leaves: &BTreeMap<u64, Hash>) -> Option<Hash> {
        let mut used = 0;
        let root = self.part((0, self.size), leaves, &mut used)?;
        (used == leaves.len() + self.nodes.len()).then_some(root)
    }

    fn part(
        &self,
        (from, until): (u64, u64),
        leaves: &BTreeMap<u64, Hash>,
        used: &mut usize,
    ) -> Option<Hash> {
        let known = self.nodes.get(&(from, until));
        if let Some(hash) = known.or_else(|| leaves.get(&from).filter(|_| until - from == 1)) {
            *used += 1;
            return Some(*hash);
        }
        if until.saturating_sub(from) < 2 {
            return None;
        }
        let middle = middle(from, until);
        let left = self.part((from, middle), leaves, used)?;
        Some(merkle::root(&[left, self.part((middle, until), leaves, used)?]))
    }
}

/// Where RFC 6962 §2.1 divides `until - from` leaves, two or more: at the largest power of two below.
fn middle(from: u64, until: u64) -> u64 {
    from + ((until - from).next_power_of_two() / 2)
}

fn name(level: usize, index: u64, width: usize) -> Tile {
    Tile { level, index, hashes: vec![[0; 32]; width] }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::files;
    use crate::merkle::Tree;

    #[test]
    fn any_rows_of_any_tree_are_proven_and_no_others() {
        for size in [1_u64, 2, 255, 256, 257, 700, 65_536, 66_000] {
            let dir = tempfile::tempdir().unwrap();
            let all: BTreeMap<u64, Hash> =
                (0..size).map(|i| (i, Sha256::digest(i.to_be_bytes()).into())).collect();
            let (mut tree, mut full) = (Tree::default(), Vec::new());
            for leaf in all.values() {
                tree.push(*leaf, &mut full);
            }
            for tile in full.into_iter().chain(tree.partial()) {
                // As the archive has them: full tiles of leaves are computed.
                if tile.is_stored(size) {
                    files::write(&dir.path().join(tile.path()), &tile.bytes(), 0o644).unwrap();
                }
            }
            for step in [1, 3, 255, 256, 9_999, 70_000] {
                let rows: Vec<u64> = (0..size).filter(|i| (i + 1) % step == 0 || *i == 0).collect();
                let proof = Tiles::new(dir.path(), size, &all).prove(&rows).unwrap();
                let mut leaves: BTreeMap<u64, Hash> = rows.iter().map(|i| (*i, all[i])).collect();
                assert_eq!(proof.root(&leaves), Some(tree.root()), "{size} {step}");
                let last = *rows.last().unwrap();
                leaves.insert(last, [9; 32]);
                assert_ne!(proof.root(&leaves), Some(tree.root()), "{size} {step}");
                leaves.remove(&last);
                assert_eq!(proof.root(&leaves), None, "{size} {step}: a row left out");
                leaves.insert(last, all[&last]);
                leaves.insert(size, [9; 32]);
                assert_eq!(proof.root(&leaves), None, "{size} {step}: a row added");
            }
            let beyond = Tiles::new(dir.path(), size, &all).prove(&[size]);
            assert!(matches!(beyond, Err(ProofError::Beyond { .. })));
        }
    }
}
