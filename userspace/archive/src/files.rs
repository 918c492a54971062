//! Files that are there whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::worm;

/// The end of the name of a file that is not whole yet.
pub const UNFINISHED: &str = ".unfinished";

/// Writes a file durably under its name, with its folders.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_dir(parent)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_dir(parent)
}

/// Removes the files of these names below `archive` durably, also those that can't be changed, and the folders that are
/// empty then. One that is not there is no error.
pub fn remove<'n>(archive: &Path, names: impl Iterator<Item = &'n str>) -> io::Result<()> {
    let named = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let mut folders = BTreeSet::new();
    for path in names.map(|name| archive.join(name)) {
        match worm::release(&path).and_then(|()| fs::remove_file(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(|error| named(&path, error))?,
        }
        folders.extend(path.parent().map(Path::to_owned));
    }
    folders.iter().try_for_each(|dir| tidy(archive, dir).map_err(|error| named(dir, error)))
}

/// Removes a folder below `archive`, and those around it, as far as they are empty, and syncs what has changed.
fn tidy(archive: &Path, dir: &Path) -> io::Result<()> {
    let mut folder = Some(dir);
    while let Some(dir) = folder.filter(|dir| dir.starts_with(archive) && *dir != archive) {
        folder = dir.parent();
        match fs::remove_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Something is in it.
            Err(_) => return sync_dir(dir),
            Ok(()) => {}
        }
    }
    sync_dir(archive)
}

/// All files below `dir`, sorted; none where it is absent.
pub fn walk(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Makes a folder and those above it, durably.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_dir(parent)?;
        fs::create_dir(dir).or_else(|e| if dir.is_dir() { Ok(()) } else { Err(e) })?;
        sync_dir(parent)?;
    }
    Ok(())
}

/// Keeps seals, verifications and shipments out of the archive until what is answered is dropped; waits for those under way.
pub fn lock(archive: &Path) -> io::Result<File> {
    let folder = File::open(archive)?;
    folder.lock()?;
    Ok(folder)
}

/// A path below the archive's folder as manifests and reports have it.
pub(crate) fn relative(archive: &Path, path: &Path) -> String {
    path.strip_prefix(archive).unwrap_or(path).display().to_string()
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
