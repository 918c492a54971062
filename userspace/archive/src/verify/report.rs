//! What a verification found, for people and for programs.

use std::fmt;

use serde::Serialize;

/// Findings listed; of further ones only the number is kept.
pub const FINDINGS_MAX: usize = 1000;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Level {
    /// L0: files as the manifests list them.
    Files,
    /// L1: rows as the Merkle tree has them.
    Rows,
    /// L2: signature, checkpoint, chain of manifests.
    Checkpoint,
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
}

impl Report {
    /// Whether everything is as recorded.
    pub fn is_ok(&self) -> bool {
        self.ok
    }

    pub(super) fn find(&mut self, level: Level, path: Option<&str>, text: impl Into<String>) {
        self.add(Finding { level, path: path.map(str::to_owned), record: None, text: text.into() });
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.ok = false;
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
        for (level, name) in [
            (Level::Files, "L0 files"),
            (Level::Rows, "L1 records"),
            (Level::Checkpoint, "L2 checkpoint"),
            (Level::Journal, "journal"),
        ] {
            if level == Level::Journal && self.journal_rows.is_none() {
                continue;
            }
            let count = self.findings.iter().filter(|finding| finding.level == level).count();
            match count {
                0 => writeln!(f, "{name}: as recorded")?,
                _ => writeln!(f, "{name}: {count} not as recorded")?,
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
