//! Which sealed files can't be changed where they lie: said, and no proof of anything.

use std::path::Path;

use super::report::Report;
use crate::layout::Manifest;
use crate::worm;

/// Says how many of the tables' files that are here have the immutable attribute, where any has.
pub(super) fn tell<'m>(
    archive: &Path,
    steps: impl Iterator<Item = &'m Manifest>,
    report: &mut Report,
) {
    let (mut files, mut immutable, mut first) = (0_u64, 0_u64, None);
    for entry in steps.flat_map(|step| &step.files).filter(|entry| entry.table.is_some()) {
        let Ok(is_protected) = worm::is_protected(&archive.join(&entry.path)) else { continue };
        files += 1;
        immutable += u64::from(is_protected);
        if !is_protected {
            first.get_or_insert(&entry.path);
        }
    }
    if immutable == 0 {
        return;
    }
    let rest = first.map(|path| format!("; {path} can, first of all")).unwrap_or_default();
    report.notes.push(format!(
        "{immutable} of {files} files of tables can't be changed where they lie (immutable attribute){rest}"
    ));
    report.files_immutable += immutable;
}
