//! Which records it is: what the journal says they are, or else what the files say now.

use std::collections::BTreeMap;

use super::Options;
use super::changed::{self, Found};
use super::journal::describe_all;
use super::report::{Finding, Level, Report};
use crate::layout::{self, FileEntry};

/// Records named one by one; of further ones only the number is said.
const NAMED_MAX: usize = 20;

/// What records are named by.
pub(super) struct Names<'a> {
    pub(super) options: &'a Options,
    /// `node/epoch`.
    pub(super) id: &'a str,
    /// Files that are not as they were written, with the records they cover.
    pub(super) changed_files: &'a [FileEntry],
}

impl Names<'_> {
    /// Names records one by one.
    pub(super) fn name(&self, seqs: &[u64], level: Level, text: &str, report: &mut Report) {
        let named = seqs.get(..seqs.len().min(NAMED_MAX)).unwrap_or_default();
        let mut words: BTreeMap<u64, String> = BTreeMap::new();
        if let Some(dir) = &self.options.journal {
            words.extend(describe_all(dir, named));
        } else {
            self.describe_by_files(named, &mut words);
        }
        for seq in named {
            let what = words.get(seq).map(|what| format!(" {what}")).unwrap_or_default();
            let record = Some(format!("{}/{seq}{what}", self.id));
            let path = self.changed_file(*seq, *seq);
            report.add(Finding { level, path, record, text: text.to_owned() });
        }
        if seqs.len() > NAMED_MAX {
            let more = format!(
                "{text}: {} more, up to {}/{}",
                seqs.len() - NAMED_MAX,
                self.id,
                seqs.last().unwrap_or(&0)
            );
            report.find(level, None, more);
        }
    }

    /// Names the 256 records from `first` on.
    pub(super) fn group(&self, first: u64, report: &mut Report) {
        let record = Some(format!("{}/{first} to {}", self.id, first + 255));
        let path = self.changed_file(first, first + 255);
        let text = "record changed or unreadable among these 256".to_owned();
        report.add(Finding { level: Level::Rows, path, record, text });
    }

    fn describe_by_files(&self, seqs: &[u64], words: &mut BTreeMap<u64, String>) {
        for entry in self.changed_files {
            let path = self.options.archive.join(&entry.path);
            let covers = seqs.iter().any(|seq| (entry.first_seq..=entry.last_seq).contains(seq));
            let table = entry.table.as_deref().and_then(layout::table).filter(|_| covers);
            let Some(table) = table else { continue };
            let mut take = |Found { seq, what, .. }: Found| {
                if seqs.binary_search(&seq).is_ok() {
                    words.insert(seq, format!("now {what}"));
                }
            };
            let reader = self.options.reader.as_deref();
            // What can't be read was said already.
            drop(changed::rows(reader, table, &path, entry.bytes, &mut take));
        }
    }

    /// The only changed file that covers records, if it is only one.
    fn changed_file(&self, first: u64, last: u64) -> Option<String> {
        let mut files =
            self.changed_files.iter().filter(|e| e.first_seq <= last && first <= e.last_seq);
        let file = files.next()?;
        files.next().is_none().then(|| file.path.clone())
    }
}
