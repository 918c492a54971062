//! Days whose files were put together: whatever file holds a row now, it is the row that was sealed, and each is there
//! once. The list of such a day is believed in nothing: what it says was replaced must be what manifests list, and the
//! rows must be the leaves of the trees.

mod part;
mod spool;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

pub use part::{READ_COMPACTED, print};

use self::part::{Item, Scan};
use self::spool::Spool;
use self::told::Told;
use super::facts::Facts;
use super::report::{Level, Report};
use super::state::State;
use super::{Files, Options, VerifyError, io_error};
use crate::compacted::{self, Compacted, Found, Replaced};
use crate::layout::FileEntry;
use crate::merkle::Hash;

/// Days that were put together.
#[derive(Debug, Default)]
pub(super) struct Days {
    lists: Vec<List>,
    /// The list that says what became of a file: by log and path.
    replaced: HashMap<(String, String), usize>,
    spool: Spool,
    /// What rows say beyond their leaves, where that is asked for.
    told: Told,
    /// Records by which one key follows another, and by which files went: log, sequence number, detail.
    rotations: Vec<(String, u64, String)>,
    /// SHA-256 of the lists that a log's record says were made so.
    attested: BTreeSet<String>,
    /// Bytes of files read.
    pub(super) bytes: u64,
}

/// One day of a table.
#[derive(Debug)]
struct List {
    found: Found,
    says: Compacted,
    /// What of it no manifest was seen to list yet.
    open: BTreeSet<Replaced>,
    is_read: bool,
    /// Rows in its files, by log.
    rows: BTreeMap<String, u64>,
    /// Files that are not as the list says.
    changed: Vec<usize>,
}

impl Days {
    /// The lists of an archive.
    pub(super) fn read(
        archive: &Path,
        files: &mut Files,
        report: &mut Report,
    ) -> Result<Self, VerifyError> {
        let mut days = Self::default();
        for found in compacted::all(archive).map_err(io_error(archive))? {
            files.known.insert(found.path.clone());
            let Some(says) = found.says.clone() else {
                let text = "the list of what was put together is none";
                report.find(Level::Files, Some(&found.path), text);
                continue;
            };
            files.known.extend(says.files.iter().map(|part| part.path.clone()));
            let at = days.lists.len();
            for one in &says.replaces {
                days.replaced.insert((one.origin.clone(), one.path.clone()), at);
            }
            let open = says.replaces.iter().cloned().collect();
            let (rows, changed) = (BTreeMap::new(), Vec::new());
            days.lists.push(List { found, says, open, is_read: false, rows, changed });
        }
        Ok(days)
    }

    /// Whether a log's files were put together since `state` was verified.
    pub(super) fn is_news(&self, origin: &str, state: &State) -> bool {
        let is_of = |list: &&List| list.says.replaces.iter().any(|one| one.origin == origin);
        let mut own = self.lists.iter().filter(is_of);
        own.any(|list| !state.compacted.contains(&list.found.sha256))
    }

    /// All lists, for the next time.
    pub(super) fn digests(&self) -> BTreeSet<String> {
        self.lists.iter().map(|list| list.found.sha256.clone()).collect()
    }

    /// Whether a file that a log's manifest lists was put together with others; takes note that a manifest lists it, and
    /// tells where it is here again.
    pub(super) fn has(
        &mut self,
        (archive, origin): (&Path, &str),
        entry: &FileEntry,
        files: &mut BTreeSet<String>,
        report: &mut Report,
    ) -> bool {
        let Some(at) = self.at(origin, entry) else { return false };
        let Some(list) = self.lists.get_mut(at) else { return false };
        list.open.remove(&Replaced::new(origin, entry));
        if files.insert(entry.path.clone()) && archive.join(&entry.path).exists() {
            let text = format!(
                "file was put together with others ({}) and is here again: its rows stand twice",
                list.found.path
            );
            report.find(Level::Files, Some(&entry.path), text);
        }
        true
    }

    pub(super) fn at(&self, origin: &str, entry: &FileEntry) -> Option<usize> {
        self.replaced.get(&(origin.to_owned(), entry.path.clone())).copied()
    }

    /// Reads the days that hold rows of some files of a log, as far as they are not read.
    pub(super) fn need<'e>(
        &mut self,
        options: &Options,
        origin: &str,
        entries: impl Iterator<Item = &'e FileEntry>,
        report: &mut Report,
    ) {
        let due: BTreeSet<usize> = entries.filter_map(|entry| self.at(origin, entry)).collect();
        let mut scans = Vec::new();
        for at in due {
            let Some(list) = self.lists.get_mut(at).filter(|list| !list.is_read) else { continue };
            list.is_read = true;
            for (number, part) in list.says.files.iter().enumerate() {
                let table = list.says.table();
                scans.extend(table.map(|table| Scan { at, number, table, part: part.clone() }));
            }
        }
        part::scan(options, &scans, &mut |scan, item| match item {
            Item::Row { origin, seq, leaf } => {
                self.spool.push(origin, seq, leaf);
                if let Some(list) = self.lists.get_mut(scan.at) {
                    count(&mut list.rows, origin);
                }
            }
            Item::Rotation { origin, seq, detail } => {
                self.rotations.push((origin.to_owned(), seq, detail));
            }
            Item::Compaction(detail) => self.attest(&detail),
            Item::Fact { origin, fact } => self.told.push(origin, &fact),
            Item::Marked(count) => {
                let text = format!(
                    "{count} records are marked as imported and must not be, or are not and must be"
                );
                report.find(Level::Rows, Some(&scan.part.path), text);
            }
            Item::Fault(text) => report.find(Level::Files, Some(&scan.part.path), text),
            Item::Changed => {
                if let Some(list) = self.lists.get_mut(scan.at) {
                    list.changed.push(scan.number);
                }
            }
            Item::Bytes(bytes) => self.bytes += bytes,
        });
        self.told.end_days();
    }

    /// Takes note of a record of a compaction.
    pub(super) fn attest(&mut self, detail: &str) {
        let detail: Option<serde_json::Value> = serde_json::from_str(detail).ok();
        let list = detail.as_ref().and_then(|detail| detail.get("list")).and_then(|l| l.as_str());
        self.attested.extend(list.map(str::to_owned));
    }

    /// Hands the rows of a log within a range to `each`.
    pub(super) fn rows(
        &mut self,
        origin: &str,
        range: std::ops::Range<u64>,
        each: &mut dyn FnMut(u64, Hash),
    ) -> std::io::Result<()> {
        self.spool.range(origin, range, each)
    }

    /// What records of a log within a range say beyond their leaves.
    pub(super) fn facts(
        &mut self,
        origin: &str,
        range: &std::ops::Range<u64>,
    ) -> std::io::Result<Facts> {
        self.told.take(origin, range)
    }

    /// What the records of a log that were read say by which one key follows another, and files went.
    pub(super) fn rotations(&self, origin: &str) -> impl Iterator<Item = &str> {
        let own = self.rotations.iter().filter(move |(of, _, _)| of == origin);
        own.map(|(_, _, detail)| detail.as_str())
    }

    /// Takes those records of a log.
    pub(super) fn take_rotations(&mut self, origin: &str) -> Vec<(u64, String)> {
        let (own, rest) = std::mem::take(&mut self.rotations)
            .into_iter()
            .partition::<Vec<_>, _>(|(of, _, _)| of == origin);
        self.rotations = rest;
        own.into_iter().map(|(_, seq, detail)| (seq, detail)).collect()
    }

    /// Files that were read and are not as the list says, as if a log's manifest listed them.
    pub(super) fn changed_of(&self, origin: &str) -> Vec<FileEntry> {
        let of = |list: &List| -> Vec<FileEntry> {
            let is_of = list.says.replaces.iter().any(|one| one.origin == origin);
            let parts = list.changed.iter().filter(|_| is_of);
            parts.filter_map(|number| entry(&list.says, *number)).collect()
        };
        self.lists.iter().flat_map(of).collect()
    }

    /// Says, once all logs are read, what of the lists does not hold.
    pub(super) fn conclude(
        &mut self,
        options: &Options,
        origins: &BTreeSet<String>,
        report: &mut Report,
    ) {
        let rows_hold = report.verdict(Level::Rows) != super::Verdict::Fails;
        let (mut files, mut old) = (0_u64, 0_u64);
        for list in &self.lists {
            let path = Some(list.found.path.as_str());
            let says = &list.says;
            for one in list.open.iter().filter(|one| origins.contains(&one.origin)) {
                let text = format!("the list names {}, which no manifest lists so", one.path);
                report.find(Level::Files, path, text);
            }
            for part in says.files.iter().filter(|_| !list.is_read) {
                let length = fs::metadata(options.archive.join(&part.path)).map(|f| f.len());
                if length.is_ok_and(|length| length == part.bytes) {
                    continue;
                }
                report.find(
                    Level::Files,
                    Some(&part.path),
                    "file is missing or has another length",
                );
            }
            let due = says.rows_by_log();
            let logs: BTreeSet<&str> =
                due.keys().copied().chain(list.rows.keys().map(String::as_str)).collect();
            for origin in logs.into_iter().filter(|_| list.is_read) {
                let (due, found) = (due.get(origin), list.rows.get(origin));
                if !origins.contains(origin) {
                    let text =
                        format!("rows of {origin} are in it, a log that is not in this archive");
                    report.find(Level::Rows, path, text);
                } else if due != found {
                    let [due, found] = [due, found].map(|n| n.copied().unwrap_or(0));
                    let text = format!(
                        "the files that were put together hold {found} rows of {origin} and held {due}: rows are missing, stand twice or do not belong there"
                    );
                    report.find(Level::Rows, path, text);
                }
            }
            self.judge(list, options, rows_hold, report);
            files += u64::try_from(says.files.len()).unwrap_or(0);
            old += u64::try_from(says.replaces.len()).unwrap_or(0);
        }
        if !self.lists.is_empty() {
            report.notes.push(format!(
                "{old} files were put together into {files} since they were sealed; their rows were found there"
            ));
        }
    }

    /// Whether a day's files mislead who reads them: one that no record attests, or that is not as the list says.
    fn judge(&self, list: &List, options: &Options, rows_hold: bool, report: &mut Report) {
        let is_attested = self.attested.contains(&list.found.sha256);
        for (number, part) in list.says.files.iter().enumerate().filter(|_| list.is_read) {
            let is_changed = list.changed.contains(&number);
            if !rows_hold && is_changed {
                let text = "file changed: its SHA-256 is not the one that it was put together with";
                report.find(Level::Files, Some(&part.path), text);
            } else if rows_hold && (is_changed || !is_attested) {
                let Some(table) = list.says.table() else { continue };
                let lie = part::lie(options, table, &options.archive.join(&part.path));
                match lie {
                    Some(lie) => report.find(Level::Files, Some(&part.path), lie),
                    None if is_changed => {
                        let text =
                            "was rewritten since it was put together; its rows are all as recorded";
                        report.notes.push(format!("{} {text}", part.path));
                        report.rewritten.push(part.path.clone());
                    }
                    None => {}
                }
            }
        }
    }
}

fn count(rows: &mut BTreeMap<String, u64>, origin: &str) {
    if let Some(count) = rows.get_mut(origin) {
        *count += 1;
    } else {
        rows.insert(origin.to_owned(), 1);
    }
}

fn entry(says: &Compacted, number: usize) -> Option<FileEntry> {
    let part = says.files.get(number)?;
    Some(FileEntry {
        path: part.path.clone(),
        table: Some(says.table.clone()),
        sha256: part.sha256.clone(),
        bytes: part.bytes,
        rows: part.rows,
        first_seq: 0,
        last_seq: u64::MAX,
    })
}
