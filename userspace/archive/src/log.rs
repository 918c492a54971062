//! One node's log in the archive as its newest checkpoint has it: tree, manifests; and what a
//! crash left beyond it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::compacted;
use crate::files;
use crate::layout::{self, FileEntry, Manifest};
use crate::merkle::{Hash, Tile, Tree};
use crate::note::{self, Checkpoint, PublicKey};
use types::hex::hex;

/// A log, ready to grow.
#[derive(Debug)]
pub(crate) struct Log {
    /// Its name.
    pub(crate) origin: String,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// The tree.
    pub(crate) tree: Tree,
    /// SHA-256 of the newest manifest; zeros before the first.
    pub(crate) manifest: Hash,
    /// The texts as the manifests last list them.
    pub(crate) texts: BTreeMap<String, FileEntry>,
}

/// Why a log can't be continued.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The checkpoint is not signed with the node's key, or is another log's.
    #[error("checkpoint {} is not this node's: verify the archive", .0.display())]
    Foreign(PathBuf),
    /// A file that the checkpoint covers is missing or changed.
    #[error("{} is missing or changed: verify the archive", .0.display())]
    Damaged(PathBuf),
}

impl Log {
    /// Reads the log `origin` of the archive, signed with one of `keys`; a new one where it has no checkpoint.
    pub(crate) fn load(
        archive: &Path,
        origin: &str,
        keys: &[&PublicKey],
    ) -> Result<Self, LogError> {
        let dir = archive.join(layout::log_dir(origin));
        let origin = origin.to_owned();
        let path = dir.join(layout::CHECKPOINT);
        let Some(bytes) = read(&path)? else {
            let (tree, manifest, texts) = (Tree::default(), [0; 32], BTreeMap::new());
            return Ok(Self { origin, dir, tree, manifest, texts });
        };
        let checkpoint = str::from_utf8(&bytes)
            .ok()
            .and_then(|note| keys.iter().find_map(|key| note::open(note, key)))
            .and_then(Checkpoint::parse)
            .filter(|checkpoint| checkpoint.origin == origin)
            .ok_or_else(|| LogError::Foreign(path.clone()))?;
        let stored = |tile: &Tile| fs::read(dir.join(tile.path())).ok();
        let tree = Tree::load(checkpoint.size, stored)
            .filter(|tree| tree.root() == checkpoint.root)
            .ok_or_else(|| LogError::Damaged(dir.join("tile")))?;
        let texts = texts(&dir, &checkpoint)?;
        Ok(Self { origin, dir, tree, manifest: checkpoint.manifest, texts })
    }

    /// Removes what an interrupted step of sealing left: files beyond the checkpoint.
    pub(crate) fn remove_orphans(&self, archive: &Path, node: &str, epoch: i32) -> io::Result<()> {
        let size = self.tree.size();
        let folder = format!("node={node}");
        for class in [layout::STANDARD, layout::PAYLOAD] {
            for path in files::walk(&archive.join(class))? {
                let own = path.parent().is_some_and(|dir| dir.ends_with(&folder));
                let orphan = own && layout::first_seq(&path, epoch).is_some_and(|seq| seq >= size);
                let log = path.starts_with(&self.dir);
                let unfinished =
                    (own || log) && path.to_string_lossy().ends_with(files::UNFINISHED);
                let name = files::relative(archive, &path);
                if (orphan || unfinished) && !compacted::is_staged(&name) {
                    fs::remove_file(path)?;
                }
            }
        }
        for folder in [layout::CHECKPOINTS, layout::COSIGNED, layout::STAMPED] {
            for path in files::walk(&self.dir.join(folder))? {
                if layout::checkpoint_size(&path).is_none_or(|checkpoint| checkpoint > size) {
                    fs::remove_file(path)?;
                }
            }
        }
        for path in files::walk(&self.dir.join("manifest"))? {
            if layout::manifest_size(&path).is_none_or(|manifest| manifest > size) {
                fs::remove_file(path)?;
            }
        }
        self.remove_tiles()
    }

    /// Removes tiles that are not the tree's: partial ones it has outgrown, and those beyond it.
    pub(crate) fn remove_tiles(&self) -> io::Result<()> {
        let tiles = self.dir.join("tile");
        for path in files::walk(&tiles)? {
            let name = path.strip_prefix(&self.dir).unwrap_or(&path);
            if Tile::parse(name).is_none_or(|tile| !tile.is_stored(self.tree.size())) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// The texts that the manifests list, the newest entry of each; checks that their chain ends in
/// the checkpoint.
fn texts(dir: &Path, checkpoint: &Checkpoint) -> Result<BTreeMap<String, FileEntry>, LogError> {
    let folder = dir.join("manifest");
    let names = files::walk(&folder).map_err(|source| LogError::Io { path: folder, source })?;
    let mut texts = BTreeMap::new();
    let mut previous = [0; 32];
    for path in names {
        if layout::manifest_size(&path).is_none_or(|size| size > checkpoint.size) {
            continue;
        }
        let bytes = read(&path)?.unwrap_or_default();
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .ok()
            .filter(|manifest: &Manifest| manifest.previous == hex(&previous))
            .ok_or_else(|| LogError::Damaged(path.clone()))?;
        previous = Sha256::digest(&bytes).into();
        for entry in manifest.files.into_iter().filter(|entry| entry.table.is_none()) {
            texts.insert(entry.path.clone(), entry);
        }
    }
    if previous != checkpoint.manifest {
        return Err(LogError::Damaged(dir.join("manifest")));
    }
    Ok(texts)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LogError::Io { path: path.to_owned(), source }),
    }
}
