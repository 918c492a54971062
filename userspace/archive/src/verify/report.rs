//! What a verification found, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
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
    /// L4: sessions and their commands, heartbeats, the kernel's counts.
    Completeness,
    /// L5: approvals, policies, holds, dispositions.
    Governance,
    /// L6: the targets' own trails.
    Reconcile,
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
    /// Each level, and how it stands.
    pub levels: Vec<LevelReport>,
    /// What was checked.
    #[serde(skip)]
    pub(super) checked: BTreeSet<Level>,
    /// What does not hold.
    #[serde(skip)]
    pub(super) failed: BTreeSet<Level>,
    /// What can't be told, and why.
    #[serde(skip)]
    pub(super) uncheckable: BTreeMap<Level, String>,
    /// The level at which it stops; the journal aside.
    #[serde(skip)]
    pub(super) last: Option<u8>,
}

/// How a level stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LevelReport {
    /// Which.
    pub level: Level,
    /// Its name for people.
    pub name: &'static str,
    /// Whether it holds.
    pub verdict: Verdict,
    /// Findings listed.
    pub findings: usize,
    /// Why it is not checked, where that is so.
    pub why: Option<String>,
}

/// Whether what a level is about holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// It does.
    #[serde(rename = "passed")]
    Holds,
    /// It does not.
    #[serde(rename = "failed")]
    Fails,
    /// Nothing to check it by was given, or what is there does not say it.
    #[serde(rename = "not checkable")]
    NotChecked,
}

impl Level {
    /// All, the lowest first.
    pub const ALL: [Self; 8] = [
        Self::Files,
        Self::Rows,
        Self::Checkpoint,
        Self::Anchors,
        Self::Completeness,
        Self::Governance,
        Self::Reconcile,
        Self::Journal,
    ];

    /// Its number; the journal has none.
    pub fn number(self) -> Option<u8> {
        match self {
            Self::Files => Some(0),
            Self::Rows => Some(1),
            Self::Checkpoint => Some(2),
            Self::Anchors => Some(3),
            Self::Completeness => Some(4),
            Self::Governance => Some(5),
            Self::Reconcile => Some(6),
            Self::Journal => None,
        }
    }

    /// Its name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "L0 files",
            Self::Rows => "L1 records",
            Self::Checkpoint => "L2 checkpoints",
            Self::Anchors => "L3 witnesses",
            Self::Completeness => "L4 completeness",
            Self::Governance => "L5 governance",
            Self::Reconcile => "L6 the targets' trails",
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
            Self::Completeness => 15,
            Self::Governance => 16,
            Self::Reconcile => 17,
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
            Self::Completeness => {
                "what is there is as recorded, and something was not recorded: ask the operator what happened at the named records"
            }
            Self::Governance => {
                "what is there is as recorded: ask the institution who decided what is named, and by which rule"
            }
            Self::Reconcile => "compare with the target's own trail (`vestibule reconcile`)",
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
        let is_told = !self.uncheckable.contains_key(&level) && self.checked.contains(&level);
        match (self.failed.contains(&level), is_told) {
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
        if self.has(level) {
            self.checked.insert(level);
        }
    }

    /// A level can't be told wholly, and why.
    pub(super) fn uncheckable(&mut self, level: Level, why: &str) {
        let all = self.uncheckable.entry(level).or_default();
        if !all.is_empty() {
            all.push_str("; ");
        }
        all.push_str(why);
    }

    /// Whether a level is asked for.
    fn has(&self, level: Level) -> bool {
        self.last.is_none_or(|last| level.number().is_none_or(|number| number <= last))
    }

    /// Puts the levels together, once all is found.
    pub(super) fn settle(&mut self) {
        let one = |level: Level| {
            let verdict = self.verdict(level);
            let default = match level {
                _ if !self.has(level) => "it was not asked for",
                Level::Completeness | Level::Governance => "ask for it: --level 4, --level 5",
                Level::Reconcile => "`vestibule reconcile` compares with a target's own trail",
                Level::Journal => "no journal was given (--journal)",
                _ => "nothing was given to check by",
            };
            let why = self.uncheckable.get(&level).cloned();
            let why = why.unwrap_or_else(|| default.to_owned());
            LevelReport {
                level,
                name: level.as_str(),
                verdict,
                findings: self.findings.iter().filter(|finding| finding.level == level).count(),
                why: (verdict == Verdict::NotChecked).then_some(why),
            }
        };
        self.levels = Level::ALL.map(one).into();
    }

    pub(super) fn find(&mut self, level: Level, path: Option<&str>, text: impl Into<String>) {
        self.add(Finding { level, path: path.map(str::to_owned), record: None, text: text.into() });
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if !self.has(finding.level) {
            return;
        }
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
        for LevelReport { level: _, name, verdict, findings, why } in &self.levels {
            match verdict {
                Verdict::Holds => writeln!(f, "{name}: as recorded")?,
                Verdict::Fails => writeln!(f, "{name}: {findings} not as recorded")?,
                Verdict::NotChecked => {
                    let why = why.as_deref().unwrap_or_default();
                    writeln!(f, "{name}: NOT CHECKED, {why}")?;
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
        report.settle();
        let told = report.to_string();
        assert!(told.contains("\n  record changed: n1/0/7 events\n    in a.parquet\n"), "{told}");
        assert!(told.contains("L1 records: 1 not as recorded\n"), "{told}");
        assert!(told.ends_with("FAILED: the evidence is not as it was recorded\n"), "{told}");
    }
}
