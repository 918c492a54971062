//! Delta logs beside the tables: that they are ours to the letter, and whether what they say of the files is true. They are no
//! evidence; but who reads a table by its log misses rows where it lies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use journal::row::Table;

use super::Files;
use super::report::{Level, Report};
use crate::compacted::is_part;
use crate::delta::action::{self, Add};
use crate::delta::here::{self, Here, Known};
use crate::delta::{DeltaError, LOG, log};
use crate::files::relative;
use crate::layout;

/// Looks at the logs of all tables, once their files are read. What a log's folder holds beside commits belongs to nothing.
pub(super) fn check(archive: &Path, files: &mut Files, report: &mut Report) {
    let with_log: Vec<Table> = Table::ALL
        .into_iter()
        .filter(|table| log::is_begun(&layout::table_dir(archive, *table)))
        .collect();
    if with_log.is_empty() {
        return;
    }
    // Where a manifest or a list is none, that is found elsewhere.
    let known = here::known(archive).unwrap_or_default();
    let dubious: BTreeSet<String> =
        report.findings.iter().filter_map(|one| one.path.clone()).collect();
    for table in with_log {
        let told = Told { archive, table, known: &known, dubious: &dubious };
        if let Err(error) = told.check(files, report) {
            let (path, text) = match error {
                DeltaError::Foreign { path, why } => (
                    relative(archive, &path),
                    format!("is nothing that vestibule writes in a Delta log: {why}"),
                ),
                DeltaError::Io { path, source } => (relative(archive, &path), source.to_string()),
                DeltaError::Changed(path) => (path, "is not as it was sealed".to_owned()),
            };
            report.find(Level::Files, Some(&path), text);
        }
    }
}

/// A table's log, and what is known of the files.
struct Told<'a> {
    archive: &'a Path,
    table: Table,
    known: &'a BTreeMap<String, Known>,
    /// Files that something else was found of: what they say of themselves is not looked at.
    dubious: &'a BTreeSet<String>,
}

impl Told<'_> {
    fn check(&self, files: &mut Files, report: &mut Report) -> Result<(), DeltaError> {
        let dir = layout::table_dir(self.archive, self.table);
        let mut cut_short = 0;
        for (folder, is_staged) in [(dir.join(LOG), false), (dir.join(log::staging()), true)] {
            for path in log::entries(&folder)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let is_unfinished = log::is_unfinished(name);
                if path.is_file() && (is_unfinished || log::version(name).is_some()) {
                    files.known.insert(relative(self.archive, &path));
                    cut_short += u64::from(is_staged || is_unfinished);
                }
            }
        }
        let name = self.table.as_str();
        if cut_short > 0 {
            report.notes.push(format!(
                "{cut_short} files beside the Delta log of {name} are of a commit that was cut short: the next one removes them"
            ));
        }
        let Some(state) = log::read(self.table, &dir)? else { return Ok(()) };
        let log = relative(self.archive, &dir.join(LOG));
        if state.meta_data.is_some_and(|meta_data| !meta_data.is_of(self.table)) {
            report.find(Level::Files, Some(&log), format!("has other columns than {name}"));
        }
        let here = here::here(self.archive, &dir, self.known)?;
        let unnamed = here.keys().filter(|path| !state.files.contains_key(*path)).count();
        let mut behind = unnamed;
        for (path, one) in here.iter().filter(|(path, _)| state.removed.contains(*path)) {
            // Whoever puts a day together again gives its files the names of those that were there.
            if !is_part(Path::new(path)) {
                let text = format!("says that {} is gone, and it lies there", one.name);
                report.find(Level::Files, Some(&log), text);
            }
        }
        for add in state.files.values() {
            let lie = match here.get(&add.path) {
                None => self.foreign(&dir, add),
                Some(one) => {
                    behind += usize::from(one.size != add.size);
                    self.lie(&dir, add, one)?.map(|lie| format!("{lie} of {}", one.name))
                }
            };
            behind += usize::from(lie.is_none() && !here.contains_key(&add.path));
            if let Some(lie) = lie {
                report.find(Level::Files, Some(&log), lie);
            }
        }
        if behind > 0 {
            report.notes.push(format!(
                "the Delta log of {name} is behind what lies there: it lacks {unnamed} files, and names {} that are gone or other \
                 ones; who reads the table by it misses rows (`vestibule archive delta` brings it up)",
                behind - unnamed
            ));
        }
        Ok(())
    }

    /// That a log names a file that is not here, and never was by any manifest or list. What names a file of a day that was
    /// put together may be of the time before it was put together again.
    fn foreign(&self, dir: &Path, add: &Add) -> Option<String> {
        let name = action::decoded(&add.path)?;
        let is_known = self.known.contains_key(&relative(self.archive, &dir.join(&name)));
        let text = format!("names {name}, which no manifest lists");
        (!is_known && !is_part(Path::new(&name))).then_some(text)
    }

    /// What a log says of a file that is not true. A file that was rewritten has another length than it says, and so may one
    /// that a day was put together in again.
    fn lie(&self, dir: &Path, add: &Add, one: &Here) -> Result<Option<String>, DeltaError> {
        if !is_part(Path::new(&one.name)) {
            let known = self.known.get(&relative(self.archive, &dir.join(&one.name)));
            if add.size != one.size && known.is_some_and(|known| known.bytes == one.size) {
                let (said, bytes) = (add.size, one.size);
                return Ok(Some(format!("says {said} bytes, and there are {bytes},")));
            }
            if add.modification_time != one.sealed_ms {
                return Ok(Some("says another time of sealing than there was".to_owned()));
            }
        }
        if add.size != one.size {
            return Ok(None);
        }
        if add.rows() != one.rows {
            let (said, rows) = (add.rows(), one.rows);
            return Ok(Some(format!("says {said} rows, and there are {rows},")));
        }
        let path = dir.join(&one.name);
        if self.dubious.contains(&relative(self.archive, &path)) {
            return Ok(None);
        }
        let is_true = add.stats() == Some(here::footer(&path)?.stats());
        Ok((!is_true).then(|| "says other times than there are".to_owned()))
    }
}
