//! The rows of a case, copied from the archive in one pass a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use journal::row::{EventRow, Row, SessionRow, Table};

use super::claims::Counts;
use super::{KitError, io_error};
use crate::merkle::Hash;
use crate::scan::{self, Filter, Within};
use crate::writer::TableFile;
use crate::{files, json};

/// Rows of a case: their leaves take 4 Mi × about 60 B = 250 MB.
const ROWS_MAX: usize = 4 * 1024 * 1024;

/// Commands that the report lists; it counts all. Each about 1 KiB of HTML, 5 MB.
pub(super) const LISTED_MAX: usize = 5_000;

/// A node's log: node and epoch.
pub(super) type LogId = (String, i32);

/// What was gathered; the rows themselves are in files.
#[derive(Default)]
pub(super) struct Case {
    /// The sessions' own rows; of one that was open when it was sealed there is none.
    pub(super) sessions: Vec<SessionRow>,
    /// The first commands, in order of log and time.
    pub(super) listed: Vec<EventRow>,
    pub(super) counts: Counts,
    pub(super) leaves: BTreeMap<LogId, BTreeMap<u64, Hash>>,
    pub(super) rows: BTreeMap<&'static str, u64>,
    /// Event rows by session.
    present: BTreeMap<String, i64>,
    approvals: BTreeSet<String>,
}

/// Copies the rows of `sessions` into files below `dir`.
pub(super) fn collect(archive: &Path, sessions: &[String], dir: &Path) -> Result<Case, KitError> {
    let mut case = Case::default();
    let filter = Filter { sessions: sessions.to_vec(), ..Filter::default() };
    for table in [Table::Sessions, Table::Events, Table::Recordings] {
        let mut out = Out::new(dir, table);
        scan::scan(archive, table, &filter, &mut |row| case.take(&row, &mut out))?;
        case.rows.insert(table.as_str(), out.finish()?);
    }
    case.is_whole(sessions)?;
    let ids: Vec<String> = sessions.iter().cloned().chain(case.approvals.iter().cloned()).collect();
    let mut out = Out::new(dir, Table::Control);
    let all = Within { column: "ts", from: i64::MIN, until: i64::MAX };
    for path in scan::files_of(archive, Table::Control)? {
        let ids = ids.clone();
        let keep = move |batch: &RecordBatch, row: usize| {
            let detail = batch.column_by_name("detail").and_then(|c| c.as_string_opt::<i32>());
            detail.is_some_and(|detail| {
                !detail.is_null(row) && ids.iter().any(|id| detail.value(row).contains(id.as_str()))
            })
        };
        let mut each = |row: Row| case.take(&row, &mut out);
        scan::file(Table::Control, &path, &all, &["detail"], keep, &mut each)?;
    }
    case.rows.insert(Table::Control.as_str(), out.finish()?);
    Ok(case)
}

impl Case {
    fn take(&mut self, row: &Row, out: &mut Out) -> Result<(), KitError> {
        let (node, epoch) = log_of(row);
        let leaves = self.leaves.entry((node.to_owned(), epoch)).or_default();
        leaves.insert(row.seq().0, row.leaf_hash());
        if leaves.len() > ROWS_MAX {
            return Err(KitError::TooLarge("it has more than 4 million rows of one log"));
        }
        match row {
            Row::Event(event) => {
                *self.present.entry(event.session.session_id.to_string()).or_default() += 1;
                self.approvals.extend(event.approval_id.clone());
                self.counts.take(event);
                if self.listed.len() < LISTED_MAX {
                    self.listed.push(event.as_ref().clone());
                }
            }
            Row::Session(session) => self.sessions.push(session.as_ref().clone()),
            Row::Control(_) | Row::Recording(_) => {}
        }
        out.push(row)
    }

    /// That each session is there with as many commands as it declares.
    fn is_whole(&self, sessions: &[String]) -> Result<(), KitError> {
        for session in sessions {
            let present = self.present.get(session).copied().unwrap_or(0);
            let row = self.sessions.iter().find(|row| row.session_id == *session);
            let Some(declared) = row.map(|row| row.events_declared) else {
                if present == 0 {
                    return Err(KitError::NoSession(session.clone()));
                }
                continue;
            };
            if declared != present {
                let session = session.clone();
                return Err(KitError::Incomplete { session, declared, present });
            }
        }
        Ok(())
    }

    /// Whether a session's end was not sealed yet.
    pub(super) fn is_open(&self, session: &str) -> bool {
        self.sessions.iter().all(|row| row.session_id != session)
    }

    /// Commands of a session.
    pub(super) fn present(&self) -> &BTreeMap<String, i64> {
        &self.present
    }
}

pub(super) fn log_of(row: &Row) -> (&str, i32) {
    let epoch = match row {
        Row::Event(row) => row.session.log_epoch,
        Row::Session(row) => row.log_epoch,
        Row::Control(row) => row.log_epoch,
        Row::Recording(row) => row.log_epoch,
    };
    (row.node(), epoch)
}

/// One table's files: Parquet, and the same as JSON Lines. A table without rows has an empty file of lines alone.
struct Out {
    dir: PathBuf,
    table: Table,
    files: Option<(TableFile, BufWriter<File>)>,
    rows: u64,
    line: String,
}

impl Out {
    fn new(dir: &Path, table: Table) -> Self {
        let dir = dir.join("rows");
        Self { dir, table, files: None, rows: 0, line: String::new() }
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", self.table.as_str()))
    }

    fn push(&mut self, row: &Row) -> Result<(), KitError> {
        if self.files.is_none() {
            let unfinished = self.path("parquet.unfinished");
            let parquet = TableFile::create(self.table, unfinished, "vestibule/evidence-kit")?;
            let lines = self.path("jsonl");
            let lines = BufWriter::new(File::create(&lines).map_err(io_error(&lines))?);
            self.files = Some((parquet, lines));
        }
        self.line.clear();
        json::line(row, &mut self.line);
        self.line.push('\n');
        self.rows += 1;
        let path = self.path("jsonl");
        if let Some((parquet, lines)) = &mut self.files {
            lines.write_all(self.line.as_bytes()).map_err(io_error(&path))?;
            parquet.push(row.clone())?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64, KitError> {
        let (path, lines_path) = (self.path("parquet"), self.path("jsonl"));
        match self.files.take() {
            Some((parquet, mut lines)) => {
                lines.flush().map_err(io_error(&lines_path))?;
                parquet.finish(|_| path)?;
            }
            None => files::write(&lines_path, b"", 0o644).map_err(io_error(&lines_path))?,
        }
        Ok(self.rows)
    }
}
