//! What is sealed, for whoever looks; not verified.

use std::path::Path;
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::files;
use crate::layout::{self, Manifest};
use crate::note::Checkpoint;

/// A checkpoint and a manifest have a few hundred bytes to some KiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The newest checkpoint, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// The rows that it commits to.
    pub tree_size: u64,
    /// Their root, base64.
    pub root: String,
    /// When the last step was sealed, microseconds since 1970 UTC, where its manifest is there.
    pub sealed_us: Option<i64>,
}

/// The newest checkpoint of a node's log; `None` where nothing is sealed.
///
/// # Errors
/// If it can't be read, or is none.
pub fn last(archive: &Path, node: &str, epoch: i32) -> io::Result<Option<Last>> {
    let dir = archive.join(layout::log_dir(&layout::origin(node, epoch)));
    let note = match read(&dir.join(layout::CHECKPOINT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        note => note?,
    };
    // The signatures stand behind an empty line (C2SP signed-note).
    let text = note.split_once("\n\n").map(|(text, _)| format!("{text}\n"));
    let checkpoint =
        text.and_then(|text| Checkpoint::parse(&text)).ok_or(io::ErrorKind::InvalidData)?;
    let manifests = files::walk(&dir.join("manifest"))?;
    let newest =
        manifests.iter().rev().find(|path| layout::manifest_size(path) == Some(checkpoint.size));
    let manifest = newest.and_then(|path| read(path).ok());
    let manifest = manifest.and_then(|text| serde_json::from_str::<Manifest>(&text).ok());
    Ok(Some(Last {
        tree_size: checkpoint.size,
        root: STANDARD.encode(checkpoint.root),
        sealed_us: manifest.map(|manifest| manifest.sealed_us),
    }))
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    fs::read_to_string(path)
}
