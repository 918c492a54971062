//! The chain of manifests back from the checkpoint.

use std::path::Path;

use sha2::{Digest, Sha256};
use types::hex::unhex;

use super::report::{Level, Report};
use super::{Files, VerifyError, io_error};
use crate::layout::Manifest;
use crate::merkle::Hash;
use crate::seal::STEP_ROWS_MAX;
use crate::{files, layout};

/// The manifests of a log in order with their digests, and whether all are what the checkpoint `last` covers.
pub(super) fn read(
    archive: &Path,
    origin: &str,
    (last, size): (Hash, u64),
    known: &mut Files,
    report: &mut Report,
) -> Result<(Vec<(Manifest, Hash)>, bool), VerifyError> {
    let folder = archive.join(layout::log_dir(origin)).join("manifest");
    let mut sound = true;
    let (mut due, mut end) = (Some(last), size);
    let mut manifests: Vec<(Manifest, Hash)> = Vec::new();
    for path in files::walk(&folder).map_err(io_error(&folder))?.iter().rev() {
        let bytes = std::fs::read(path).map_err(io_error(path))?;
        let name = files::relative(archive, path);
        known.known.insert(name.clone());
        let digest: Hash = Sha256::digest(&bytes).into();
        let parsed: Option<Manifest> = serde_json::from_slice(&bytes).ok();
        let begins = parsed.as_ref().map(|manifest| manifest.tree_size);
        if let Some(begins) = begins.filter(|begins| *begins < end) {
            sound = false;
            report.find(Level::Checkpoint, None, missing(begins, end));
        } else if due.is_some_and(|due| due != digest) || parsed.is_none() {
            sound = false;
            report.find(Level::Checkpoint, Some(&name), "manifest is not the one that was sealed");
        }
        end = parsed.as_ref().map_or(end, |manifest| manifest.first_seq);
        due = parsed.as_ref().and_then(|manifest| unhex(&manifest.previous));
        manifests.extend(parsed.map(|manifest| (manifest, digest)));
    }
    if end > 0 {
        sound = false;
        report.find(Level::Checkpoint, None, missing(0, end));
    } else if due.is_some_and(|due| due != [0; 32]) {
        sound = false;
        report.find(Level::Checkpoint, None, "the first manifest names one before it");
    }
    manifests.sort_by_key(|(manifest, _)| manifest.first_seq);
    manifests.retain(|(manifest, _)| {
        let rows = manifest.tree_size.checked_sub(manifest.first_seq);
        rows.is_some_and(|rows| rows <= STEP_ROWS_MAX)
    });
    Ok((manifests, sound))
}

fn missing(from: u64, end: u64) -> String {
    format!("the manifest of records {from} to {} is missing", end.saturating_sub(1))
}
