//! The Merkle tree of RFC 6962 §2.1 in tiles of C2SP tlog-tiles; only its right edge is in memory.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A node's or leaf's hash.
pub type Hash = [u8; 32];

/// Entries of a full tile (C2SP tlog-tiles).
pub const TILE_WIDTH: usize = 256;

/// Levels of tiles: 256^8 leaves are all that a u64 counts.
const LEVELS_MAX: usize = 8;

/// A tile of some level; level 0 holds leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Its level.
    pub level: usize,
    /// Its place in the level.
    pub index: u64,
    /// Its entries, at most [`TILE_WIDTH`].
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// Its path below the log's folder (C2SP tlog-tiles, "Merkle Tree").
    pub fn path(&self) -> PathBuf {
        let mut groups = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups = format!("x{:03}/{groups}", rest % 1000);
            rest /= 1000;
        }
        let path = format!("tile/{}/{groups}", self.level);
        let partial = self.hashes.len() < TILE_WIDTH;
        PathBuf::from(if partial { format!("{path}.p/{}", self.hashes.len()) } else { path })
    }

    /// The place and width that a path below the log's folder names, its hashes zero; `None`
    /// where it names no tile.
    pub fn parse(path: &Path) -> Option<Self> {
        let mut parts = path.iter().map(|part| part.to_str());
        if parts.next()?? != "tile" {
            return None;
        }
        let level: usize = parts.next()??.parse().ok().filter(|level| *level < LEVELS_MAX)?;
        let (mut index, mut width) = (0_u64, TILE_WIDTH);
        for part in parts {
            let part = part?;
            if let Some(last) = part.strip_suffix(".p") {
                index = index.checked_mul(1000)?.checked_add(last.parse().ok()?)?;
                width = 0;
            } else if width == 0 {
                width = part.parse().ok()?;
            } else {
                let digits = part.strip_prefix('x').unwrap_or(part);
                index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
            }
        }
        let tile = Self { level, index, hashes: vec![[0; 32]; width.min(TILE_WIDTH)] };
        (width > 0 && tile.path() == path).then_some(tile)
    }

    /// Whether an archive of a tree of `size` leaves holds this tile: all tiles but full ones of
    /// leaves, which are computed from rows.
    pub fn is_stored(&self, size: u64) -> bool {
        let below = size >> (8 * self.level);
        let (full, rest) = (below / 256, below % 256);
        let width = u64::try_from(self.hashes.len()).unwrap_or(0);
        if width == 256 {
            self.level > 0 && self.index < full
        } else {
            self.index == full && width == rest
        }
    }

    /// Whether it is an unfinished tile that a smaller tree had and one of `size` leaves does not: a copy may have kept
    /// it.
    pub fn is_outgrown(&self, size: u64) -> bool {
        let below = size >> (8 * self.level);
        let (full, rest) = (below / 256, below % 256);
        let width = u64::try_from(self.hashes.len()).unwrap_or(0);
        width < 256 && (self.index < full || (self.index == full && width < rest))
    }

    /// Its bytes in a file.
    pub fn bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }
}

/// A growing tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    edge: [Vec<Hash>; LEVELS_MAX],
}

impl Tree {
    /// The tree of `size` leaves whose partial tiles `read` gives; `None` if one is missing or has
    /// another length.
    pub fn load(size: u64, mut read: impl FnMut(&Tile) -> Option<Vec<u8>>) -> Option<Self> {
        let mut tree = Self { size, ..Self::default() };
        for (level, edge) in tree.edge.iter_mut().enumerate() {
            let below = size >> (8 * level);
            let width = usize::try_from(below % 256).ok()?;
            if width == 0 {
                continue;
            }
            let name = Tile { level, index: below / 256, hashes: vec![[0; 32]; width] };
            let bytes = read(&name)?;
            *edge = bytes.as_chunks::<32>().0.to_vec();
            if bytes.len() != width * 32 {
                return None;
            }
        }
        Some(tree)
    }

    /// The tree of its whole tiles of leaves, and the leaves beyond.
    pub fn split_leaves(mut self) -> (Self, Vec<Hash>) {
        let leaves = self.edge.first_mut().map(std::mem::take).unwrap_or_default();
        self.size -= self.size % 256;
        (self, leaves)
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; full tiles of level 0 and up that it completes go to `full`.
    pub fn push(&mut self, leaf: Hash, full: &mut Vec<Tile>) {
        self.size += 1;
        self.push_entry(0, leaf, full);
    }

    /// Adds [`TILE_WIDTH`] leaves by the root over them, to a tree of whole tiles of leaves; full
    /// tiles of level 1 and up that they complete go to `full`.
    pub fn push_group(&mut self, root: Hash, full: &mut Vec<Tile>) {
        debug_assert!(self.size.is_multiple_of(256));
        self.size += 256;
        self.push_entry(1, root, full);
    }

    fn push_entry(&mut self, from: usize, mut entry: Hash, full: &mut Vec<Tile>) {
        for (level, edge) in self.edge.iter_mut().enumerate().skip(from) {
            edge.push(entry);
            if edge.len() < TILE_WIDTH {
                return;
            }
            let hashes = std::mem::take(edge);
            entry = root(&hashes);
            let index = (self.size >> (8 * (level + 1))).saturating_sub(1);
            full.push(Tile { level, index, hashes });
        }
    }

    /// The root that the tree has once `more` leaves follow; they are not added.
    pub fn root_with(&self, more: &[Hash]) -> Hash {
        let mut grown = self.clone();
        for leaf in more {
            grown.push(*leaf, &mut Vec::new());
        }
        grown.root()
    }

    /// The partial tiles at its right edge.
    pub fn partial(&self) -> impl Iterator<Item = Tile> {
        self.edge.iter().enumerate().filter(|(_, edge)| !edge.is_empty()).map(|(level, edge)| {
            Tile { level, index: self.size >> (8 * (level + 1)), hashes: edge.clone() }
        })
    }

    /// The root; of no leaves, the hash of nothing.
    pub fn root(&self) -> Hash {
        let perfect: Vec<Hash> = self.edge.iter().rev().flat_map(|edge| perfect(edge)).collect();
        perfect
            .into_iter()
            .rev()
            .reduce(|right, left| node(&left, &right))
            .unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// The roots of the perfect subtrees of `entries`, largest first.
fn perfect(mut entries: &[Hash]) -> Vec<Hash> {
    let mut roots = Vec::new();
    while let Some(log) = entries.len().checked_ilog2() {
        let (left, right) = entries.split_at(1 << log);
        roots.push(root(left));
        entries = right;
    }
    roots
}

/// The root of a perfect subtree.
pub fn root(entries: &[Hash]) -> Hash {
    let mut row = entries.to_vec();
    while row.len() > 1 {
        row = row.as_chunks::<2>().0.iter().map(|[left, right]| node(left, right)).collect();
    }
    row.first().copied().unwrap_or_default()
}

/// The hash of a node by its children's.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 §2.1 word for word.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                node(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    #[test]
    fn root_is_the_rfcs_and_survives_reloading() {
        let leaves: Vec<Hash> =
            (0..66_000_u32).map(|i| Sha256::digest(i.to_be_bytes()).into()).collect();
        let mut tree = Tree::default();
        let mut full = Vec::new();
        for (i, leaf) in leaves.iter().enumerate() {
            if [0, 1, 2, 3, 255, 256, 257, 511, 1000, 65_535, 65_536, 65_537].contains(&i) {
                assert_eq!(tree.root(), mth(&leaves[..i]), "{i}");
                let parts: Vec<Tile> = tree.partial().collect();
                let read = |t: &Tile| parts.iter().find(|p| p.path() == t.path()).map(Tile::bytes);
                assert_eq!(Tree::load(tree.size(), read).unwrap(), tree);
            }
            tree.push(*leaf, &mut full);
        }
        assert_eq!(full.iter().filter(|t| t.level == 1).count(), 1);
        assert!(full.iter().all(|t| t.hashes.len() == 256));
    }

    #[test]
    fn paths() {
        let tile = |index, n| Tile { level: 1, index, hashes: vec![[0; 32]; n] }.path();
        assert_eq!(tile(1_234_067, 256), PathBuf::from("tile/1/x001/x234/067"));
        assert_eq!(tile(5, 7), PathBuf::from("tile/1/005.p/7"));
        for (index, n) in [(1_234_067, 256), (5, 7), (0, 255), (1000, 256), (1_000_000, 1)] {
            let parsed = Tile::parse(&tile(index, n)).unwrap();
            assert_eq!((parsed.index, parsed.hashes.len()), (index, n));
        }
        for path in ["tile/1/5", "tile/9/005", "tile/1/005.p/256", "tile/1/005.p/0", "tile/1"] {
            assert_eq!(Tile::parse(Path::new(path)), None, "{path}");
        }
    }
}
