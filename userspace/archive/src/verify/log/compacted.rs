//! A log's rows that are in files of days that were put together, and what they say.

use super::{Files, Log};
use crate::layout::{FileEntry, Manifest};
use crate::merkle::Hash;
use crate::verify::report::Level;

impl Log<'_> {
    /// Whether a file was put together with others since it was sealed.
    pub(super) fn is_compacted(&mut self, entry: &FileEntry) -> bool {
        let Files { known, days, .. } = &mut *self.files;
        days.has((&self.options.archive, self.origin), entry, known, self.report)
    }

    /// Takes the rows of a step that are in files of days that were put together.
    pub(super) fn take_compacted(&mut self, step: &Manifest, leaves: &mut [Option<Hash>]) {
        let days = &mut self.files.days;
        days.need(self.options, self.origin, step.files.iter(), self.report);
        let (mut twice, mut count, first) = (0_u64, 0, step.first_seq);
        let taken = days.rows(self.origin, first..step.tree_size, &mut |seq, leaf| {
            count += 1;
            let at = usize::try_from(seq - first).ok();
            match at.and_then(|at| leaves.get_mut(at)) {
                Some(slot @ None) => *slot = Some(leaf),
                _ => twice += 1,
            }
        });
        self.report.rows_read += count;
        let said = match &self.beyond {
            Some(_) => self.files.days.facts(self.origin, &(first..step.tree_size)).map(Some),
            None => Ok(None),
        };
        let taken = taken.and(said).map(|said| {
            if let (Some(beyond), Some(said)) = (&mut self.beyond, said) {
                beyond.take(Some(said));
            }
        });
        if let Err(error) = taken {
            let text =
                format!("rows that were put together could not be kept for comparison: {error}");
            self.report.find(Level::Rows, None, text);
        }
        if twice > 0 {
            let text = format!(
                "{twice} rows of records {first} to {} stand twice in files of days that were put together",
                step.tree_size - 1
            );
            self.report.find(Level::Rows, None, text);
        }
    }
}
