//! The leaves that a journal says the archive must have.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use journal::assemble::{AssembleError, Rows};
use journal::row::Row;

use super::changed::describe;
use super::report::{Level, Report};
use crate::layout;
use crate::merkle::Hash;

/// A writer needs far less for a frame that is half in the file.
const WRITING_PAUSE: Duration = Duration::from_millis(150);

/// How often an end that can't be read is read again.
const WRITING_TRIES: u32 = 3;

/// A journal being read along with the archive.
pub(super) struct Journal {
    dir: PathBuf,
    /// The log it belongs to.
    pub(super) origin: Option<String>,
    rows: Option<Rows>,
    next: Option<Row>,
    fault: Option<AssembleError>,
    /// Its first record.
    begins: u64,
    /// The record before which it was let go, by a record of that.
    let_go: u64,
}

impl Journal {
    pub(super) fn open(dir: &Path) -> Self {
        let (rows, fault) = match Rows::open(dir, 0, None) {
            Ok(rows) => (Some(rows), None),
            Err(fault) => (None, Some(fault)),
        };
        let mut journal = Self {
            dir: dir.to_owned(),
            origin: None,
            rows,
            next: None,
            fault,
            begins: 0,
            let_go: 0,
        };
        journal.advance();
        journal.begins =
            journal.rows.as_ref().and_then(Rows::segment).map_or(0, |header| header.first_seq);
        journal.origin = journal.rows.as_ref().and_then(Rows::segment).map(|header| {
            layout::origin(&header.node, i32::try_from(header.epoch).unwrap_or(i32::MAX))
        });
        journal
    }

    /// The leaves from `first` to before `end`; absent where the journal does not have them.
    /// Called with ascending ranges.
    pub(super) fn leaves(&mut self, first: u64, end: u64) -> Vec<Option<Hash>> {
        let count = usize::try_from(end.saturating_sub(first)).unwrap_or(0);
        let mut leaves = vec![None; count];
        while let Some(row) = self.next.as_ref().filter(|row| row.seq().0 < end) {
            let at = row.seq().0.checked_sub(first).and_then(|at| usize::try_from(at).ok());
            if let Some(leaf) = at.and_then(|at| leaves.get_mut(at)) {
                *leaf = Some(row.leaf_hash());
            }
            self.advance();
        }
        leaves
    }

    /// Archived records say that it was let go before the record `seq`.
    pub(super) fn let_go_before(&mut self, seq: u64) {
        self.let_go = self.let_go.max(seq);
    }

    /// Reads to the end and says what is wrong, and whether rows of the `sealed` ones are missing.
    pub(super) fn finish(mut self, sealed: u64, report: &mut Report) {
        while self.next.is_some() {
            self.advance();
        }
        let held = self.rows.as_ref().and_then(Rows::next_seq).unwrap_or(0);
        report.journal_rows = Some(held);
        if self.begins > self.let_go {
            let text = format!(
                "journal begins at record {}, and no record says that what was before was let go: its first segments are missing",
                self.begins
            );
            report.find(Level::Journal, None, text);
        } else if self.begins > 0 {
            report.notes.push(format!(
                "the journal begins at record {}: the node let go of what was before, and recorded that",
                self.begins
            ));
        }
        let Some(fault) = self.fault.take() else {
            if held < sealed {
                report.find(
                    Level::Journal,
                    None,
                    format!("journal ends at record {held}, the archive has {sealed}: records are missing from its end"),
                );
            } else if held > sealed {
                report.notes.push(format!("{} records are not sealed yet", held - sealed));
            }
            return;
        };
        // The end of a journal that is being written may be half a frame.
        if held >= sealed && self.rows.is_some() && self.reads_now(held) {
            return;
        }
        let why = fault.source().map_or_else(String::new, |why| format!(": {why}"));
        let text = format!(
            "{fault}{why}: the journal is changed there; from record {held} on the archive is checked by its own tree alone"
        );
        report.find(Level::Journal, None, text);
    }

    fn reads_now(&self, from: u64) -> bool {
        (0..WRITING_TRIES).any(|_| {
            thread::sleep(WRITING_PAUSE);
            let read = || -> Result<(), AssembleError> {
                let mut rows = Rows::open(&self.dir, from, None)?;
                while rows.next_row()?.is_some() {}
                Ok(())
            };
            read().is_ok()
        })
    }

    fn advance(&mut self) {
        self.next = None;
        if self.fault.is_some() {
            return;
        }
        match self.rows.as_mut().map(Rows::next_row) {
            Some(Ok(row)) => self.next = row,
            Some(Err(fault)) => self.fault = Some(fault),
            None => {}
        }
    }
}

/// What the journal in `dir` says the records `seqs`, ascending, are; absent where it can't.
pub(super) fn describe_all(dir: &Path, seqs: &[u64]) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let Some(first) = seqs.first() else { return found };
    let Ok(mut rows) = Rows::open(dir, *first, None) else { return found };
    while found.len() < seqs.len() {
        let Ok(Some(row)) = rows.next_row() else { break };
        if seqs.binary_search(&row.seq().0).is_ok() {
            found.push((row.seq().0, describe(&row)));
        }
    }
    found
}
