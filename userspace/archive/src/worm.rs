//! Sealed files that nobody changes, renames or removes, root neither until it takes that back: the immutable attribute
//! of file systems that have it (`chattr +i`; ioctl_iflags(2)). Whoever is root can take it back: this makes mistakes
//! impossible and alterations deliberate, and is no proof by itself.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::layout::{self, Manifest};
use crate::merkle::{TILE_WIDTH, Tile};
use crate::{files, status};

/// Makes a file unchangeable.
///
/// # Errors
/// If the file system has no such attribute, or this process may not set it (CAP_LINUX_IMMUTABLE).
pub fn protect(path: &Path) -> io::Result<()> {
    set(path, |flags| flags | IFlags::IMMUTABLE)
}

/// Takes that back; a file system without such an attribute has nothing to take back.
///
/// # Errors
/// If the file is not there, or this process may not.
pub fn release(path: &Path) -> io::Result<()> {
    if is_protected(path)? { set(path, |flags| flags - IFlags::IMMUTABLE) } else { Ok(()) }
}

/// Whether a file is unchangeable; it is not where the file system has no such attribute.
///
/// # Errors
/// If it can't be opened.
pub fn is_protected(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    Ok(ioctl_getflags(&file).is_ok_and(|flags| flags.contains(IFlags::IMMUTABLE)))
}

/// Whether files in a folder can be made so: by one that is made, protected, tried and taken away.
///
/// # Errors
/// If not.
pub fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(PROBE);
    // One of a probe that was cut short.
    if path.exists() {
        release(&path)?;
    }
    fs::write(&path, b"")?;
    let tried = protect(&path).and_then(|()| match File::options().append(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::other("a file with the attribute can be written all the same")),
    });
    release(&path)?;
    fs::remove_file(&path)?;
    tried
}

/// Protects what is sealed of a node's log and is not protected yet; answers how many files that were. What a later seal
/// replaces (the newest checkpoint, keys, texts, unfinished tiles) stays as it is, and so does what witnesses add to.
///
/// # Errors
/// If the archive can't be read, or a file can't be protected.
pub fn protect_sealed(archive: &Path, node: &str, epoch: i32) -> io::Result<u64> {
    let Some(last) = status::last(archive, node, epoch)? else { return Ok(0) };
    let log = archive.join(layout::log_dir(&layout::origin(node, epoch)));
    let mut count = 0;
    for path in files::walk(&log.join("manifest"))? {
        let Some(size) = layout::manifest_size(&path).filter(|size| *size <= last.tree_size) else {
            continue;
        };
        let manifest: Manifest =
            serde_json::from_slice(&fs::read(&path)?).map_err(io::Error::other)?;
        let tables = manifest.files.iter().filter(|entry| entry.table.is_some());
        let all = tables.map(|entry| archive.join(&entry.path));
        for path in all.chain([log.join(layout::checkpoint(size)), path]) {
            // What was disposed of, or is only in a store, is not here.
            if path.exists() && !is_protected(&path)? {
                protect(&path)?;
                count += 1;
            }
        }
    }
    for path in files::walk(&log.join("tile"))? {
        let name = path.strip_prefix(&log).unwrap_or(&path);
        if Tile::parse(name).is_some_and(|tile| is_full(&tile)) && !is_protected(&path)? {
            protect(&path)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Whether a tile is never replaced.
pub(crate) fn is_full(tile: &Tile) -> bool {
    tile.hashes.len() == TILE_WIDTH
}

/// The name of the file that is tried.
const PROBE: &str = ".immutable.unfinished";

fn set(path: &Path, change: impl Fn(IFlags) -> IFlags) -> io::Result<()> {
    let file = File::open(path)?;
    let flags = ioctl_getflags(&file)?;
    let new = change(flags);
    if new != flags {
        ioctl_setflags(&file, new)?;
    }
    Ok(())
}
