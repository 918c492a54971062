//! What a verification found, for people and for programs.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

/// Findings listed; of further ones only the number is kept.
pub const FINDINGS_MAX: usize = 1000;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Level {
    /// L0: files as the manifests list them.
    Files,
    /// L1: rows as the Merkle tree has them.
    Rows,
    /// L2: signatures, checkpoints, keys, chain of manifests.
    Checkpoint,
    /// L3: what witnesses and other places say.
    Anchors,
    /// The journal's own chain, and that it is what was archived.
    Journal,
}

/// One thing that is not as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub level: Level,
    /// The file, below the archive's folder.
    pub path: Option<String>,
    /// The record, `node/epoch/seq`, or the range it is in.
    pub record: Option<String>,
    /// In words.
    pub text: String,
}

/// One log of the archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    /// Its name.
    pub origin: String,
    /// Rows under its checkpoint.
    pub size: u64,
    /// The root in its checkpoint, base64.
    pub root: String,
    /// Steps it was sealed in.
    pub manifests: u64,
    /// Files its manifests list.
    pub files: u64,
    /// Whether the signature holds, and with whose key.
    pub signature: String,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything is as recorded.
    pub ok: bool,
    /// The logs.
    pub logs: Vec<LogSummary>,
    /// Rows that the journal holds; absent where none was given.
    pub journal_rows: Option<u64>,
    /// What is not as recorded.
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub findings_more: u64,
    /// Worth knowing, and no fault.
    pub notes: Vec<String>,
    /// Files that other software rewrote since they were sealed, whose rows are all as recorded.
    pub rewritten: Vec<String>,
    /// Records whose files are only in a store: their rows were not read.
    pub records_elsewhere: u64,
    /// Records whose files were disposed of by recorded rules.
    pub records_disposed: u64,
    /// Files of tables that can't be changed where they lie (immutable attribute).
    pub files_immutable: u64,
    /// Rows read.
    pub rows_read: u64,
    /// Bytes of files read.
    pub bytes_read: u64,
    /// What was checked.
    pub(super) checked: BTreeSet<Level>,
    /// What does not hold.
    pub(super) failed: BTreeSet<Level>,
}

/// Whether what a level is about holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does not.
    Fails,
    /// Nothing to check it by was given.
    NotChecked,
}

impl Level {
    /// All, the lowest first.
    pub const ALL: [Self; 5] =
        [Self::Files, Self::Rows, Self::Checkpoint, Self::Anchors, Self::Journal];

    /// Its name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "L0 files",
            Self::Rows => "L1 records",
            Self::Checkpoint => "L2 checkpoints",
            Self::Anchors => "L3 witnesses",
            Self::Journal => "journal",
        }
    }

    /// The exit status of a verification of which this is the lowest level that fails.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Files => 10,
            Self::Rows => 11,
            Self::Checkpoint => 12,
            Self::Anchors => 13,
            Self::Journal => 14,
        }
    }

    /// What to do where it fails.
    fn advice(self) -> &'static str {
        match self {
            Self::Files => {
                "take the named files from another copy of the archive and verify again; keep these as they are"
            }
            Self::Rows => {
                "keep this copy as it is; compare the named records with another copy, or with the journal (--journal)"
            }
            Self::Checkpoint => {
                "do not rely on this copy: get the node's keys and checkpoints from where they are kept elsewhere (--key, --checkpoint)"
            }
            Self::Anchors => {
                "do not rely on this copy: ask the named witness or keeper for its checkpoint, and the operator for the records that are missing"
            }
            Self::Journal => {
                "the archive itself is judged above; keep the journal as it is, and find out who could write to it"
            }
        }
    }
}

impl Report {
    /// Whether everything is as recorded.
    pub fn is_ok(&self) -> bool {
        self.ok
    }

    /// Whether a level holds.
    pub fn verdict(&self, level: Level) -> Verdict {
        match (self.failed.contains(&level), self.checked.contains(&level)) {
            (true, _) => Verdict::Fails,
            (false, true) => Verdict::Holds,
            (false, false) => Verdict::NotChecked,
        }
    }

    /// The lowest level that fails; `None` where everything is as recorded.
    pub fn lowest_failed(&self) -> Option<Level> {
        self.failed.first().copied()
    }

    /// There was something to check a level by.
    pub(super) fn checked(&mut self, level: Level) {
        self.checked.insert(level);
    }

    pub(super) fn find(&mut self, level: Level, path: Option<&str>, text: impl Into<String>) {
        self.add(Finding { level, path: path.map(str::to_owned), record: None, text: text.into() });
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.ok = false;
        self.failed.insert(finding.level);
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_more += 1;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for log in &self.logs {
            let LogSummary { origin, size, root, manifests, files, signature } = log;
            writeln!(f, "log {origin}: {size} records, {files} files, {manifests} seals")?;
            writeln!(f, "  root {root}")?;
            writeln!(f, "  signature: {signature}")?;
        }
        if let Some(rows) = self.journal_rows {
            writeln!(f, "journal: {rows} records")?;
        }
        for level in Level::ALL {
            let name = level.as_str();
            let count = self.findings.iter().filter(|finding| finding.level == level).count();
            match self.verdict(level) {
                Verdict::Holds => writeln!(f, "{name}: as recorded")?,
                Verdict::Fails => writeln!(f, "{name}: {count} not as recorded")?,
                Verdict::NotChecked => {
                    writeln!(f, "{name}: NOT CHECKED, nothing was given to check by")?;
                }
            }
        }
        for Finding { path, record, text, .. } in &self.findings {
            write!(f, "  {text}")?;
            if let Some(record) = record {
                write!(f, ": {record}")?;
            }
            writeln!(f)?;
            if let Some(path) = path {
                writeln!(f, "    in {path}")?;
            }
        }
        if self.findings_more > 0 {
            writeln!(f, "  and {} more", self.findings_more)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if let Some(level) = self.lowest_failed() {
            writeln!(f, "what to do: {}", level.advice())?;
        }
        f.write_str(if self.ok {
            "OK: everything is as it was recorded\n"
        } else {
            "FAILED: the evidence is not as it was recorded\n"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_and_its_file_are_named_in_words() {
        let mut report = Report { ok: true, ..Report::default() };
        report.add(Finding {
            level: Level::Rows,
            path: Some("a.parquet".to_owned()),
            record: Some("n1/0/7 events".to_owned()),
            text: "record changed".to_owned(),
        });
        let told = report.to_string();
        assert!(told.contains("\n  record changed: n1/0/7 events\n    in a.parquet\n"), "{told}");
        assert!(told.contains("L1 records: 1 not as recorded\n"), "{told}");
        assert!(told.ends_with("FAILED: the evidence is not as it was recorded\n"), "{told}");
    }
}
