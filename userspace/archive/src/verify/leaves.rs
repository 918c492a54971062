//! Compares rows' leaves with the stored tiles: two trees grow side by side, one from the rows and
//! one from the tiles, each 256 records at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::merkle::{self, Hash, TILE_WIDTH, Tile, Tree};

/// A record's leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Its row was read.
    Known(Hash),
    /// Its row is in a file that is accounted for and not here: the stored tiles stand for it.
    Elsewhere,
    /// Its row can't be read, or is missing.
    Unknown,
}

impl Leaf {
    fn known(self) -> Option<Hash> {
        if let Self::Known(hash) = self { Some(hash) } else { None }
    }
}

/// What the comparison says.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// The root over the rows, if all could be read.
    pub(super) rows: Option<Hash>,
    /// The root over the tiles, if all are there.
    pub(super) tiles: Option<Hash>,
    /// First records of 256 whose rows and tile differ.
    pub(super) groups: Vec<u64>,
    /// Records of the last, unfinished 256 that differ from their leaf.
    pub(super) records: Vec<u64>,
    /// Tiles that are missing or not what the rows give.
    pub(super) bad_tiles: BTreeSet<String>,
    /// The roots over the first rows at the sizes that were asked for; absent where rows can't be read.
    pub(super) roots: BTreeMap<u64, Option<Hash>>,
    /// The tree over the rows, if all could be read.
    pub(super) tree: Option<Tree>,
}

/// A comparison under way.
pub(super) struct Comparison<'a> {
    log: &'a Path,
    size: u64,
    pending: Vec<Leaf>,
    /// Unfinished tiles of leaves that an earlier tree had and a copy may have kept: by place, with their widths.
    outgrown: BTreeMap<u64, Vec<Tile>>,
    rows: Option<Tree>,
    tiles: Option<Tree>,
    tile: Option<Tile>,
    sizes: BTreeSet<u64>,
    result: Compared,
    next: u64,
}

impl<'a> Comparison<'a> {
    /// Of a tree of `size` leaves whose tiles are below `log`; goes on from `start`, and says the roots at `sizes`.
    pub(super) fn new(log: &'a Path, size: u64, start: Tree, sizes: BTreeSet<u64>) -> Self {
        let mut result = Compared::default();
        result.roots.insert(start.size(), Some(start.root()));
        let (start, leaves) = start.split_leaves();
        let next = start.size();
        let (rows, tiles) = (Some(start.clone()), Some(start));
        let pending = leaves.into_iter().map(Leaf::Known).collect();
        let outgrown = outgrown(log, size, &mut result);
        Self { log, size, pending, outgrown, rows, tiles, tile: None, sizes, result, next }
    }

    /// The next leaf.
    pub(super) fn push(&mut self, leaf: Leaf) {
        self.pending.push(leaf);
        if self.pending.len() == TILE_WIDTH {
            let leaves = std::mem::take(&mut self.pending);
            self.group(&leaves);
        }
    }

    /// Takes note of the roots at sizes before and among `leaves`.
    fn note_roots(&mut self, leaves: &[Leaf]) {
        let end = self.next + u64::try_from(leaves.len()).unwrap_or(0);
        for size in self.sizes.range(self.next..=end) {
            let count = usize::try_from(size - self.next).unwrap_or(0);
            let more: Option<Vec<Hash>> =
                leaves.iter().take(count).map(|leaf| leaf.known()).collect();
            let root = self.rows.as_ref().zip(more).map(|(tree, more)| tree.root_with(&more));
            self.result.roots.entry(*size).or_insert(root);
        }
    }

    fn group(&mut self, leaves: &[Leaf]) {
        self.note_roots(leaves);
        let known: Option<Vec<Hash>> = leaves.iter().map(|leaf| leaf.known()).collect();
        self.check_outgrown(self.next / 256, leaves);
        let stored = self.entry(self.next / 256);
        let given = match known {
            Some(known) => Some(merkle::root(&known)),
            None if leaves.contains(&Leaf::Unknown) => None,
            None => stored,
        };
        if given.is_none() || given != stored {
            self.result.groups.push(self.next);
        }
        self.next += 256;
        let mut full = Vec::new();
        grow(&mut self.rows, given, |tree, root| tree.push_group(root, &mut full));
        for tile in full.drain(..) {
            self.check(&tile);
        }
        grow(&mut self.tiles, stored, |tree, root| tree.push_group(root, &mut full));
    }

    /// The stored root over the `index`th 256 leaves.
    fn entry(&mut self, index: u64) -> Option<Hash> {
        let (place, at) = (index / 256, usize::try_from(index % 256).ok()?);
        if self.tile.as_ref().is_none_or(|tile| tile.index != place) {
            let entries = self.size / 256;
            let width = entries.saturating_sub(place * 256).min(256);
            let name = Tile {
                level: 1,
                index: place,
                hashes: vec![[0; 32]; usize::try_from(width).ok()?],
            };
            let hashes = read(self.log, &name).unwrap_or_default();
            if hashes.is_empty() {
                self.result.bad_tiles.insert(name.path().display().to_string());
            }
            self.tile = Some(Tile { hashes, ..name });
        }
        self.tile.as_ref()?.hashes.get(at).copied()
    }

    /// Whether unfinished tiles of before are what the leaves give.
    fn check_outgrown(&mut self, index: u64, leaves: &[Leaf]) {
        for tile in self.outgrown.remove(&index).unwrap_or_default() {
            let stored = read(self.log, &tile).unwrap_or_default();
            let known = stored.iter().zip(leaves);
            // Of what is elsewhere nothing is known but what such a tile says.
            let is_same =
                |(hash, leaf): (&Hash, &Leaf)| leaf.known().is_none_or(|leaf| leaf == *hash);
            if stored.is_empty() || stored.len() > leaves.len() || !known.into_iter().all(is_same) {
                self.result.bad_tiles.insert(tile.path().display().to_string());
            }
        }
    }

    fn check(&mut self, tile: &Tile) {
        if read(self.log, tile).as_ref() != Some(&tile.hashes) {
            self.result.bad_tiles.insert(tile.path().display().to_string());
        }
    }

    /// Compares the last leaves and says what was found.
    pub(super) fn finish(mut self) -> Compared {
        let leaves = std::mem::take(&mut self.pending);
        self.note_roots(&leaves);
        let name = Tile { level: 0, index: self.next / 256, hashes: vec![[0; 32]; leaves.len()] };
        let stored = if leaves.is_empty() { Some(Vec::new()) } else { read(self.log, &name) };
        if stored.is_none() {
            self.result.bad_tiles.insert(name.path().display().to_string());
        }
        self.check_outgrown(self.next / 256, &leaves);
        for (at, leaf) in leaves.iter().enumerate() {
            let entry = stored.as_ref().and_then(|stored| stored.get(at)).copied();
            let leaf = &if *leaf == Leaf::Elsewhere { entry } else { leaf.known() };
            if leaf.is_none() || (entry.is_some() && *leaf != entry) {
                self.result.records.push(self.next + u64::try_from(at).unwrap_or(0));
            }
            grow(&mut self.rows, *leaf, |tree, leaf| tree.push(leaf, &mut Vec::new()));
            grow(&mut self.tiles, entry, |tree, leaf| tree.push(leaf, &mut Vec::new()));
        }
        let partial: Vec<Tile> = self.rows.iter().flat_map(Tree::partial).collect();
        for tile in &partial {
            self.check(tile);
        }
        let size = self.size;
        let root = |tree: Option<Tree>| tree.filter(|t| t.size() == size).map(|t| t.root());
        self.result.tree = self.rows.clone().filter(|tree| tree.size() == size);
        self.result.rows = root(self.rows.take());
        self.result.tiles = root(self.tiles.take());
        self.result
    }
}

/// Adds to a tree what is known; a tree of which anything is unknown is given up.
fn grow(tree: &mut Option<Tree>, entry: Option<Hash>, add: impl FnOnce(&mut Tree, Hash)) {
    match (tree.as_mut(), entry) {
        (Some(tree), Some(entry)) => add(tree, entry),
        _ => *tree = None,
    }
}

/// The unfinished tiles of leaves that the tree has outgrown; those of higher levels are held against what followed
/// them.
fn outgrown(log: &Path, size: u64, result: &mut Compared) -> BTreeMap<u64, Vec<Tile>> {
    let mut found: BTreeMap<u64, Vec<Tile>> = BTreeMap::new();
    for path in crate::files::walk(&log.join("tile")).unwrap_or_default() {
        let name = path.strip_prefix(log).unwrap_or(&path);
        let Some(tile) = Tile::parse(name).filter(|tile| tile.is_outgrown(size)) else { continue };
        if tile.level == 0 {
            found.entry(tile.index).or_default().push(tile);
            continue;
        }
        let entries = (size >> (8 * tile.level)).saturating_sub(tile.index * 256).min(256);
        let hashes = vec![[0; 32]; usize::try_from(entries).unwrap_or(0)];
        let later = read(log, &Tile { level: tile.level, index: tile.index, hashes });
        let before = read(log, &tile);
        if before.zip(later).is_none_or(|(before, later)| !later.starts_with(&before)) {
            result.bad_tiles.insert(name.display().to_string());
        }
    }
    found
}

/// A stored tile's hashes; `None` where it is missing or has another width.
fn read(log: &Path, tile: &Tile) -> Option<Vec<Hash>> {
    let bytes = fs::read(log.join(tile.path())).ok()?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == tile.hashes.len()).then(|| hashes.to_vec())
}
