//! Whether the key that is kept for the next seal fits the journal's last one.

use std::path::Path;

use super::{OpenError, Recovery, io_error};
use crate::disk::Disk;
use crate::recorder::{Options, Seals};
use crate::sealing::{Kept, last_seal};

/// Looks at both; where the loss is accepted, notes what does not fit.
pub(super) fn fit(options: &Options, recovery: &mut Recovery) -> Result<(), OpenError> {
    let Some(seals) = &options.seals else { return Ok(()) };
    match align(&*options.disk, &options.dir, seals) {
        Err(error @ (OpenError::SealsMissing { .. } | OpenError::SealsBegunAnew(_)))
            if options.accept_loss =>
        {
            recovery.note(&error);
            Ok(())
        }
        other => other,
    }
}

/// Gives up the key of a seal that is there already: a crash came between the two.
pub(super) fn align(disk: &dyn Disk, dir: &Path, seals: &Seals) -> Result<(), OpenError> {
    let mut kept = Kept::open(disk, &seals.path)?;
    let last = last_seal(dir).map_err(io_error("read", dir))?;
    let missing = |from: u64, to: u64| OpenError::SealsMissing { dir: dir.to_owned(), from, to };
    match last {
        None if kept.next == 0 => Ok(()),
        None => Err(missing(0, kept.next - 1)),
        Some(seal) if seal.id != kept.id => Err(OpenError::SealsBegunAnew(seals.path.clone())),
        Some(seal) if seal.index.saturating_add(1) < kept.next => {
            Err(missing(seal.index + 1, kept.next - 1))
        }
        Some(seal) => {
            let path = seals.path.clone();
            kept.advance_beyond(seal.index).map_err(io_error("give up a key in", &path))
        }
    }
}
