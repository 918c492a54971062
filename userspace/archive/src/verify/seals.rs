//! The journal's forward-secure seals, with the secret that audit keeps.

use std::path::Path;

use journal::sealing::{self, Break, Secret};
use types::clock::utc;
use types::hex::hex;

use super::report::{Level, Report};

/// Checks them and says what does not hold: the first record that may be another than was committed.
pub(super) fn check(dir: &Path, secret: &Secret, report: &mut Report) {
    let mut find = |text: String| report.find(Level::Journal, None, text);
    let checked = match sealing::check(dir, secret) {
        Ok(checked) => checked,
        Err(error) => return find(format!("the journal's seals were not checked: {error}")),
    };
    for what in &checked.breaks {
        find(describe(what));
    }
    let (Some((lsn, seq)), Some(at_us)) = (checked.sealed, checked.at_us) else {
        return find("no seal of this secret that holds is in the journal".to_owned());
    };
    report.notes.push(format!(
        "{} seals hold, the last of {}: it covers the journal up to frame {} (records before {seq}); {} frames are behind it",
        checked.seals,
        utc(at_us),
        lsn.0.saturating_sub(1),
        checked.behind
    ));
}

fn describe(what: &Break) -> String {
    match what {
        Break::Changed { index, first: (lsn, seq), last } => format!(
            "seal {index} does not hold: frames {} to {} were changed after they were sealed; the first record that may be another is {seq}",
            lsn.0, last.0
        ),
        Break::Missing { from, to, behind: (lsn, seq) } => format!(
            "seals {from} to {to} are missing behind frame {}: what they covered, from record {seq} on, was cut off",
            lsn.0.saturating_sub(1)
        ),
        Break::Again { index, lsn } => {
            format!(
                "seal {index} comes again before frame {}: the journal was put together anew",
                lsn.0
            )
        }
        Break::Other { lsn, id } => format!(
            "the seal before frame {} is of another secret ({}): seals were begun anew there",
            lsn.0,
            hex(id)
        ),
    }
}
