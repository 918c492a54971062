//! The chain of manifests back from the checkpoint.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::report::{Level, Report};
use super::{Files, VerifyError, io_error};
use crate::layout::Manifest;
use crate::merkle::Hash;
use crate::note::unhex;
use crate::seal::STEP_ROWS_MAX;
use crate::{files, layout};
use types::hex::hex;

/// The manifests of a log in order, and whether all are what the checkpoint `last` covers.
pub(super) fn read(
    archive: &Path,
    origin: &str,
    last: Hash,
    known: &mut Files,
    report: &mut Report,
) -> Result<(Vec<Manifest>, bool), VerifyError> {
    let folder = archive.join(layout::log_dir(origin)).join("manifest");
    let mut sound = true;
    let mut due = Some(last);
    let mut manifests: Vec<Manifest> = Vec::new();
    for path in files::walk(&folder).map_err(io_error(&folder))?.iter().rev() {
        let bytes = std::fs::read(path).map_err(io_error(path))?;
        let name = path.strip_prefix(archive).unwrap_or(path).display().to_string();
        known.known.insert(name.clone());
        let digest: Hash = Sha256::digest(&bytes).into();
        let parsed: Option<Manifest> = serde_json::from_slice(&bytes).ok();
        if due.is_some_and(|due| due != digest) || parsed.is_none() {
            sound = false;
            report.find(Level::Checkpoint, Some(&name), "manifest is not the one that was sealed");
        }
        due = parsed.as_ref().and_then(|manifest| unhex(&manifest.previous));
        manifests.extend(parsed);
    }
    if due.is_some_and(|due| due != [0; 32]) {
        sound = false;
        let text = format!("manifest {} is missing", due.map(|due| hex(&due)).unwrap_or_default());
        report.find(Level::Checkpoint, None, text);
    }
    manifests.sort_by_key(|manifest| manifest.first_seq);
    manifests.retain(|manifest| {
        let rows = manifest.tree_size.checked_sub(manifest.first_seq);
        rows.is_some_and(|rows| rows <= STEP_ROWS_MAX)
    });
    Ok((manifests, sound))
}
