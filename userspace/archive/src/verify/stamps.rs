//! Time stamps on checkpoints: that each is of the checkpoint beside which it lies, and by an authority that is vouched for.

use std::fs;
use std::path::Path;

use super::Options;
use super::history::{History, Kept};
use super::report::{Level, Report};
use crate::layout;
use crate::timestamp::{self, RESPONSE_BYTES_MAX, Stamped};

/// Checks all, and says up to where records were there at which time.
pub(super) fn check(options: &Options, history: &History, report: &mut Report) {
    let mut proven: Option<(u64, Stamped)> = None;
    for (size, name) in &history.stamped {
        let kept = history.kept.get(size);
        match stamped(&options.archive, name, kept, options.authority.as_deref()) {
            Ok(stamped) => proven = Some((*size, stamped)),
            Err(why) => report.find(Level::Anchors, Some(name), why),
        }
    }
    if options.authority.is_some() {
        report.checked(Level::Anchors);
    }
    let told = match (&options.authority, proven) {
        (Some(_), Some((size, Stamped { at_s }))) => {
            let at = layout::time(i64::try_from(at_s).unwrap_or(0).saturating_mul(1_000_000));
            format!("time-stamped: the records up to {size} were there at {at}")
        }
        (Some(_), None) => {
            report.find(Level::Anchors, None, "no checkpoint has a time stamp that holds");
            return;
        }
        (None, Some(_)) => {
            let count = history.stamped.len();
            format!(
                "{count} time stamps are of their checkpoints; who made them was not verified (--tsa-ca)"
            )
        }
        (None, None) => return,
    };
    report.notes.push(told);
}

fn stamped(
    archive: &Path,
    name: &str,
    kept: Option<&Kept>,
    authority: Option<&Path>,
) -> Result<Stamped, String> {
    let kept = kept.ok_or("time stamp of no checkpoint that is there")?;
    let path = archive.join(name);
    let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if usize::try_from(length).map_or(true, |length| length > RESPONSE_BYTES_MAX) {
        return Err("time stamp is too long to be one".to_owned());
    }
    let response = fs::read(&path).map_err(|error| format!("time stamp can't be read: {error}"))?;
    let stamped = timestamp::read(&response, kept.note.as_bytes(), None)
        .map_err(|error| format!("time stamp: {error}"))?;
    let Some(authority) = authority else { return Ok(stamped) };
    match timestamp::verify(&path, &archive.join(&kept.name), authority) {
        Ok(Ok(())) => Ok(stamped),
        Ok(Err(why)) => Err(format!("time stamp is not by that authority: {why}")),
        Err(error) => {
            Err(format!("time stamp can't be verified without the openssl program: {error}"))
        }
    }
}
