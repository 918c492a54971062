//! A log as it lies here at one moment: its newest checkpoint and all that this covers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use archive::files;
use archive::layout::{self, Manifest};
use archive::merkle::{Hash, Tile};
use archive::note::{self, Checkpoint};
use sha2::{Digest, Sha256};
use types::hex::hex;

use crate::{ShipError, io_error};

/// It.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The newest checkpoint's note.
    pub(crate) note: String,
    /// What it says.
    pub(crate) checkpoint: Checkpoint,
    /// Its steps beyond a size, in order.
    pub(crate) steps: Vec<Step>,
    /// Unfinished tiles: name and bytes. They go with the next seal.
    pub(crate) partial: Vec<(String, Vec<u8>)>,
    /// The whole tiles that were finished beyond that size.
    pub(crate) whole: Vec<String>,
}

/// One step of sealing.
#[derive(Debug)]
pub(crate) struct Step {
    /// The manifest's name, below the archive's folder.
    pub(crate) name: String,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// What it says.
    pub(crate) manifest: Manifest,
    /// The name of its checkpoint.
    pub(crate) checkpoint: String,
    /// The name of that one's cosignatures.
    pub(crate) cosigned: String,
}

impl Snapshot {
    /// The log `origin` beyond the rows `from`, of which `previous` is the last manifest's digest; `None` where nothing
    /// is sealed. A seal under way is waited for.
    pub(crate) fn take(
        archive: &Path,
        origin: &str,
        from: u64,
        previous: &str,
    ) -> Result<Option<Self>, ShipError> {
        if !archive.exists() {
            return Ok(None);
        }
        let folder = File::open(archive).map_err(io_error(archive))?;
        folder.lock_shared().map_err(io_error(archive))?;
        let below = layout::log_dir(origin);
        let dir = archive.join(&below);
        let path = dir.join(layout::CHECKPOINT);
        if !path.exists() {
            return Ok(None);
        }
        let note = fs::read_to_string(&path).map_err(io_error(&path))?;
        let says = note::split(&note).and_then(|(text, _)| Checkpoint::parse(text));
        let checkpoint = says
            .filter(|says| says.origin == origin)
            .ok_or_else(|| ShipError::Changed(path.clone()))?;
        if checkpoint.size < from {
            let text = format!("{from} rows are shipped, the archive ends at {}", checkpoint.size);
            return Err(ShipError::Rollback(text));
        }
        let steps = steps(archive, &below, from, &checkpoint, previous)?;
        let (mut partial, mut whole) = (Vec::new(), Vec::new());
        for tile in tiles(from, checkpoint.size) {
            let name = format!("{below}/{}", tile.path().display());
            if tile.hashes.len() == archive::merkle::TILE_WIDTH {
                whole.push(name);
            } else {
                let path = archive.join(&name);
                partial.push((name, fs::read(&path).map_err(io_error(&path))?));
            }
        }
        Ok(Some(Self { note, checkpoint, steps, partial, whole }))
    }
}

fn steps(
    archive: &Path,
    below: &str,
    from: u64,
    checkpoint: &Checkpoint,
    previous: &str,
) -> Result<Vec<Step>, ShipError> {
    let folder = archive.join(below).join("manifest");
    let mut previous = previous.to_owned();
    let mut steps = Vec::new();
    for path in files::walk(&folder).map_err(io_error(&folder))? {
        let Some(size) = layout::manifest_size(&path) else { continue };
        if size <= from || size > checkpoint.size {
            continue;
        }
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let manifest: Option<Manifest> = serde_json::from_slice(&bytes).ok();
        let manifest = manifest
            .filter(|manifest| manifest.previous == previous && manifest.tree_size == size)
            .ok_or_else(|| follows(&path, &previous, steps.is_empty()))?;
        previous = hex(&Sha256::digest(&bytes));
        let name = format!("{below}/{}", layout::manifest(manifest.first_seq, size));
        let [kept, cosigned] = [layout::checkpoint(size), layout::cosigned(size)]
            .map(|name| format!("{below}/{name}"));
        steps.push(Step { name, bytes, manifest, checkpoint: kept, cosigned });
    }
    let last: Hash = checkpoint.manifest;
    if previous != hex(&last) {
        return Err(follows(&folder, &previous, steps.is_empty()));
    }
    Ok(steps)
}

fn follows(path: &Path, previous: &str, is_first: bool) -> ShipError {
    if is_first {
        return ShipError::Rollback(format!(
            "{} does not follow manifest {previous}, which was shipped last",
            path.display()
        ));
    }
    ShipError::Changed(PathBuf::from(path))
}

/// The tiles that a tree of `size` leaves holds and one of `from` did not.
fn tiles(from: u64, size: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for level in 0..8 {
        let [before, below] = [from, size].map(|size| size >> (8 * level));
        if below == 0 {
            break;
        }
        let full =
            |index| Tile { level, index, hashes: vec![[0; 32]; archive::merkle::TILE_WIDTH] };
        if level > 0 {
            tiles.extend((before / 256..below / 256).map(full));
        }
        let width = usize::try_from(below % 256).unwrap_or(0);
        if width > 0 {
            tiles.push(Tile { level, index: below / 256, hashes: vec![[0; 32]; width] });
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiles_between_two_sizes_are_all_that_are_stored() {
        let all = |size: u64| -> Vec<PathBuf> {
            let mut all: Vec<_> = tiles(0, size).iter().map(Tile::path).collect();
            all.sort();
            all
        };
        for (from, size) in [(0, 1), (1, 300), (255, 256), (300, 70_000), (65_536, 140_000), (7, 7)]
        {
            let new = tiles(from, size);
            assert!(new.iter().all(|tile| tile.is_stored(size)), "{from} {size}");
            // Those of before that are whole, and the new ones, are all.
            let mut both: Vec<_> =
                tiles(0, from).iter().filter(|t| t.hashes.len() == 256).map(Tile::path).collect();
            both.extend(new.iter().map(Tile::path));
            both.sort();
            both.dedup();
            assert_eq!(both, all(size), "{from} {size}");
        }
    }
}
