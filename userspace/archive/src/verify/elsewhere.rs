//! Files that are not here and whose absence is accounted for: which records of a step are missing with them, and no
//! others.

use std::collections::BTreeMap;

use super::leaves::Leaf;
use super::report::{Level, Report};
use crate::layout::{FileEntry, Manifest};
use crate::merkle::Hash;
use crate::pruned::Pruned;
use crate::retention::{self, DISPOSED, Gone};

/// What of a log is accounted for elsewhere, and what was found missing for it.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// By path, as this copy's own list has it.
    listed: BTreeMap<String, Pruned>,
    /// By path, as records of dispositions have it.
    disposed: BTreeMap<String, Gone>,
    /// Those of the step under way.
    step: Vec<FileEntry>,
    /// Files that are only elsewhere.
    files: u64,
    /// Their records.
    records: u64,
    /// Files that were disposed of.
    gone_files: u64,
    /// Their records.
    gone_records: u64,
}

impl Elsewhere {
    pub(super) fn new(listed: BTreeMap<String, Pruned>) -> Self {
        Self { listed, ..Self::default() }
    }

    /// Whether a file that is missing is accounted for.
    pub(super) fn has(&self, entry: &FileEntry) -> bool {
        self.is_listed(entry) || self.is_disposed(entry)
    }

    fn is_listed(&self, entry: &FileEntry) -> bool {
        self.listed.get(&entry.path).is_some_and(|listed| listed.sha256 == entry.sha256)
    }

    /// Exactly what a record says, and nothing else.
    fn is_disposed(&self, entry: &FileEntry) -> bool {
        retention::accounts(&self.disposed, entry)
    }

    /// Takes what records tell of dispositions.
    pub(super) fn dispose(&mut self, gone: impl Iterator<Item = Gone>) {
        self.disposed.extend(gone.map(|gone| (gone.path.clone(), gone)));
    }

    /// Takes note of one that is, in the step under way.
    pub(super) fn missing(&mut self, entry: &FileEntry) {
        self.step.push(entry.clone());
        if self.is_disposed(entry) {
            self.gone_files += 1;
            self.gone_records += entry.rows;
        } else {
            self.files += 1;
            self.records += entry.rows;
        }
    }

    /// Whether the step under way lacks files that are accounted for.
    pub(super) fn is_partial(&self) -> bool {
        !self.step.is_empty()
    }

    /// The step's leaves: those that went with its missing files, as many as these had and where they had them; any
    /// others are unknown.
    pub(super) fn settle(&mut self, step: &Manifest, leaves: Vec<Option<Hash>>) -> Vec<Leaf> {
        let missing = std::mem::take(&mut self.step);
        let due: u64 = missing.iter().map(|entry| entry.rows).sum();
        let absent = leaves.iter().filter(|leaf| leaf.is_none()).count();
        let is_right = u64::try_from(absent).is_ok_and(|absent| absent == due);
        let covers = |seq: u64| missing.iter().any(|e| (e.first_seq..=e.last_seq).contains(&seq));
        let one = |(seq, leaf): (u64, Option<Hash>)| match leaf {
            Some(hash) => Leaf::Known(hash),
            None if is_right && covers(seq) => Leaf::Elsewhere,
            None => Leaf::Unknown,
        };
        (step.first_seq..).zip(leaves).map(one).collect()
    }

    /// Says what was not looked at.
    pub(super) fn tell(&self, report: &mut Report) {
        if self.gone_files > 0 {
            report.notes.push(format!(
                "{} files with {} records were disposed of, as records of kind {DISPOSED} say; the tree still has their leaves",
                self.gone_files, self.gone_records
            ));
            report.records_disposed += self.gone_records;
        }
        if self.files == 0 {
            return;
        }
        let mut stores: Vec<&str> = self.listed.values().map(|one| one.remote.as_str()).collect();
        stores.sort_unstable();
        stores.dedup();
        report.notes.push(format!(
            "{} files with {} records are only in {}: the tree has them, and their rows were NOT READ here; bring them with `vestibule archive fetch`, or verify --archive URL",
            self.files,
            self.records,
            stores.join(", ")
        ));
        report.records_elsewhere += self.records;
    }

    /// A file of a step that lacks others was written anew: nothing says that its rows are as they were.
    pub(super) fn unproven(entry: &FileEntry, report: &mut Report) {
        let text = "file changed: its SHA-256 is not the sealed one, and the files beside it that would prove its rows are elsewhere";
        report.find(Level::Files, Some(&entry.path), text);
    }
}
