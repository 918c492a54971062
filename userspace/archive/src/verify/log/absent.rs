//! A log's files that are not here, and what its records say beyond their bytes.

use std::fs;

use journal::row::Table;

use super::super::Options;
use super::super::elsewhere::Elsewhere;
use super::super::file::{self, Read};
use super::super::history::History;
use super::super::leaves::Leaf;
use super::super::report::Level;
use super::Log;
use crate::layout::{self, FileEntry, Manifest};
use crate::merkle::Hash;
use crate::pruned;
use crate::retention::Disposition;

impl Log<'_> {
    /// Looks whether the files of a step that was verified before are there, as long as they were.
    pub(super) fn glance(&mut self, step: &Manifest) {
        for entry in step.files.iter().filter(|entry| entry.table.is_some()) {
            if self.is_compacted(entry) {
                continue;
            }
            self.files.known.insert(entry.path.clone());
            let length =
                fs::metadata(self.options.archive.join(&entry.path)).map(|file| file.len());
            if length.is_err() && !self.elsewhere.has(entry) {
                self.report.find(Level::Files, Some(&entry.path), "file is missing");
            }
        }
    }

    /// Reads the list of what is elsewhere.
    pub(super) fn list_elsewhere(&mut self) {
        let archive = &self.options.archive;
        match pruned::read(archive, self.origin) {
            Ok(listed) => self.elsewhere = Elsewhere::new(listed),
            Err(error) => {
                self.report.notes.push(format!("the list of what is elsewhere: {error}"));
            }
        }
        let list = format!("{}/{}", layout::log_dir(self.origin), pruned::NAME);
        self.files.known.insert(list);
    }

    /// Where files are missing that no list accounts for: what the log's records tell of dispositions.
    pub(super) fn account(&mut self, steps: &[(Manifest, Hash)], trusted: bool) {
        let Options { archive, reader, .. } = self.options;
        let tables =
            || steps.iter().flat_map(|(step, _)| &step.files).filter(|e| e.table.is_some());
        let is_gone = |entry: &FileEntry| {
            !archive.join(&entry.path).exists()
                && !self.elsewhere.has(entry)
                && self.files.days.at(self.origin, entry).is_none()
        };
        if !tables().any(is_gone) {
            return;
        }
        let control =
            || tables().filter(|entry| entry.table.as_deref() == Some(Table::Control.as_str()));
        let days = &mut self.files.days;
        days.need(self.options, self.origin, control(), self.report);
        let said: Vec<_> = days.rotations(self.origin).filter_map(disposition).collect();
        let own = said.into_iter().filter(|said| said.origin == self.origin);
        self.elsewhere.dispose(own.flat_map(|said| said.files));
        for entry in control() {
            if self.files.days.at(self.origin, entry).is_some() {
                continue;
            }
            let Read { rows, .. } = file::read(archive, reader.as_deref(), entry, (trusted, false));
            let said = rows.rotations.iter().filter_map(|(_, detail)| disposition(detail));
            let own = said.filter(|said| said.origin == self.origin);
            self.elsewhere.dispose(own.flat_map(|said| said.files));
        }
    }

    /// The leaves of a step, and what is not to be known of them.
    pub(super) fn settle(&mut self, step: &Manifest, leaves: Vec<Option<Hash>>) -> Vec<Leaf> {
        if self.elsewhere.is_partial() {
            let is_here = |entry: &FileEntry| step.files.iter().any(|file| file.path == entry.path);
            let (unproven, rest) =
                std::mem::take(&mut self.rewritten).into_iter().partition(is_here);
            self.rewritten = rest;
            let unproven: Vec<FileEntry> = unproven;
            for entry in &unproven {
                Elsewhere::unproven(entry, self.report);
            }
            self.changed_files.extend(unproven);
            // What went with a file that is accounted for is no record that can't be read.
            let end = step.tree_size;
            self.unread.retain(|seq| !(step.first_seq..end).contains(seq));
        }
        self.elsewhere.settle(step, leaves)
    }

    /// Says whether all is there and was done as it had to be, where that is asked for.
    pub(super) fn judge(&mut self, steps: &[(Manifest, Hash)], history: &History) {
        let Some(beyond) = self.beyond.take() else { return };
        let kept = history.kept.iter();
        let roots = kept.filter_map(|(size, kept)| Some((*size, kept.says.as_ref()?.root)));
        let steps = steps.iter().map(|(step, _)| step);
        beyond.conclude(self.id, &roots.collect(), steps, self.report);
    }
}

/// What a record's detail says of a disposition; `None` where it is another's.
pub(super) fn disposition(detail: &str) -> Option<Disposition> {
    serde_json::from_str(detail).ok()
}
