//! Up to where a log is witnessed, by the cosignatures that lie beside its checkpoints.

use std::fs;
use std::io;
use std::path::Path;

use tlog::cosignature;
use tlog::policy::Policy;

use crate::note;
use crate::{files, layout};

/// The greatest size whose checkpoint has the cosignatures that `policy` asks for; 0 where none has. A policy that asks
/// for none says nothing: 0.
///
/// # Errors
/// If the log can't be read.
pub fn upto(archive: &Path, origin: &str, policy: &Policy) -> io::Result<u64> {
    if policy.is_met(&|_| false) {
        return Ok(0);
    }
    let dir = archive.join(layout::log_dir(origin));
    for path in files::walk(&dir.join(layout::COSIGNED))?.iter().rev() {
        let Some(size) = layout::checkpoint_size(path) else { continue };
        let lines = fs::read_to_string(path)?;
        let kept = fs::read_to_string(dir.join(layout::checkpoint(size))).unwrap_or_default();
        let (Some((text, _)), Some(lines)) = (note::split(&kept), note::lines(&lines)) else {
            continue;
        };
        let has = |at: usize| {
            let witness = policy.witnesses.get(at);
            witness.is_some_and(|witness| cosignature::time_s(text, &lines, &witness.key).is_some())
        };
        if policy.is_met(&has) {
            return Ok(size);
        }
    }
    Ok(0)
}
