//! A Delta log beside each table's files, for readers that want one (deltalake, DuckDB's extension, Spark, Trino): which
//! files there are, with their rows and times, in one atomic commit after each seal, compaction or disposal.
//!
//! It is no evidence, and derived from nothing but what lies there: the files that manifests and lists of what was put
//! together name, and that are here. A pass writes the difference between that and what the log says, so that whatever
//! ends one the next heals it. `verify` reads the log strictly and says where it lies; rows are proven without it.
//!
//! JSON commits alone, by the Delta protocol (`PROTOCOL.md` of delta-io/delta) at reader version 1 and writer version 2: no
//! checkpoints, no deletion vectors, no column mapping. After [`COMMITS_MAX`] commits the folder is exchanged with one
//! that has a single commit, whose table id is another one: who follows the table as a stream begins anew.

pub(crate) mod action;
pub(crate) mod here;
pub(crate) mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use journal::row::Table;
use serde::Serialize;

use self::action::{Action, Add, MetaData, Protocol, Remove};
use self::here::{Here, Known};
use self::log::State;
use crate::{compacted, files, layout};

/// The folder of a table's log, in the table's folder. Spark, Hive and Trino pass over names that begin so.
pub const LOG: &str = "_delta_log";

/// Commits of a log, after which it is made anew with one: six weeks of a seal an hour. Readers list and read them all.
pub const COMMITS_MAX: u64 = 1000;

/// How a table's log stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// The table.
    pub table: &'static str,
    /// Its folder below the archive's.
    pub path: String,
    /// The version that readers see.
    pub version: u64,
    /// The files that it names.
    pub files: u64,
    /// Commits written by this pass.
    pub commits: u64,
}

/// Why a log is not as it should be. What it is about is as it was.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The system refused.
    #[error("{}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in a log's folder is not what this program writes there.
    #[error(
        "{} is nothing that vestibule writes in a Delta log ({why}): look at it; \
         `vestibule archive delta --rebuild` makes the log anew", path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file is not as it was sealed or put together.
    #[error("{0} is not as it was sealed: verify the archive")]
    Changed(String),
}

/// Brings the logs of all tables up to what lies there, and with `make` makes those that are missing; a table without files
/// gets none. Waits for a seal or a verification under way to end. A table that fails leaves the others as they should be.
///
/// # Errors
/// If a log is another's, or the system refuses: the first such error.
pub fn keep(archive: &Path, make: bool) -> Result<Vec<Kept>, DeltaError> {
    pass(archive, make, false)
}

/// Makes the logs of all tables anew, with one commit each, whatever lies in their folders.
///
/// # Errors
/// As [`keep`].
pub fn rebuild(archive: &Path) -> Result<Vec<Kept>, DeltaError> {
    pass(archive, true, true)
}

/// Takes the logs of all tables away, whatever lies in their folders; answers the tables that had one.
///
/// # Errors
/// If the system refuses.
pub fn remove(archive: &Path) -> Result<Vec<&'static str>, DeltaError> {
    let _lock = files::lock(archive).map_err(io_error(archive))?;
    let mut had = Vec::new();
    for table in Table::ALL {
        let dir = layout::table_dir(archive, table);
        if log::take_away(&dir)? {
            had.push(table.as_str());
        }
    }
    Ok(had)
}

fn pass(archive: &Path, make: bool, anew: bool) -> Result<Vec<Kept>, DeltaError> {
    let _lock = files::lock(archive).map_err(io_error(archive))?;
    let is_wanted = |table: &Table| {
        let dir = layout::table_dir(archive, *table);
        log::is_begun(&dir) || (make && dir.exists())
    };
    let wanted: Vec<Table> = Table::ALL.into_iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let known = here::known(archive)?;
    let (mut all, mut failed) = (Vec::new(), None);
    for table in wanted {
        match keep_table(archive, table, &known, (make, anew)) {
            Ok(kept) => all.extend(kept),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(all), Err)
}

fn keep_table(
    archive: &Path,
    table: Table,
    known: &BTreeMap<String, Known>,
    (make, anew): (bool, bool),
) -> Result<Option<Kept>, DeltaError> {
    let dir = layout::table_dir(archive, table);
    log::clean(&dir)?;
    let here = here::here(archive, &dir, known)?;
    let state = if anew { None } else { log::read(table, &dir)? };
    let kept = |state: &State, commits| Kept {
        table: table.as_str(),
        path: files::relative(archive, &dir),
        version: state.next.saturating_sub(1),
        files: u64::try_from(state.files.len()).unwrap_or(u64::MAX),
        commits,
    };
    let Some(mut state) = state else {
        // A log that was there is made anew even for no files: a reader finds none rather than what is gone.
        if (!make || here.is_empty()) && !dir.join(LOG).exists() {
            return Ok(None);
        }
        let state = first(table, &dir, &here)?;
        return Ok(Some(kept(&state, 1)));
    };
    let mut commits = 0;
    loop {
        let actions = difference(table, &dir, &state, &here)?;
        if actions.is_empty() {
            return Ok(Some(kept(&state, commits)));
        }
        if state.next >= COMMITS_MAX {
            let state = first(table, &dir, &here)?;
            return Ok(Some(kept(&state, commits + 1)));
        }
        log::commit(&dir.join(LOG), state.next, &actions)?;
        for action in actions {
            state.apply(action);
        }
        state.next += 1;
        commits += 1;
    }
}

/// A log with one commit, in the place of any that there is.
fn first(table: Table, dir: &Path, here: &BTreeMap<String, Here>) -> Result<State, DeltaError> {
    let adds: Vec<Add> =
        here.iter().map(|(path, one)| add(dir, path, one, true)).collect::<Result<_, _>>()?;
    let meta_data = MetaData::new(table, action::id(table, &adds), true);
    let mut actions = vec![Action::Protocol(Protocol::OURS), Action::MetaData(meta_data)];
    actions.extend(adds.into_iter().map(Action::Add));
    log::place(dir, &actions)?;
    let mut state = State { next: 1, ..State::default() };
    for action in actions {
        state.apply(action);
    }
    Ok(state)
}

/// What a commit must say so that the log says what lies there; nothing where it does.
fn difference(
    table: Table,
    dir: &Path,
    state: &State,
    here: &BTreeMap<String, Here>,
) -> Result<Vec<Action>, DeltaError> {
    let gone: Vec<&Add> =
        state.files.values().filter(|add| !here.contains_key(&add.path)).collect();
    let is_other =
        |(path, one): &(&String, &Here)| !state.files.get(*path).is_some_and(|add| one.is(add));
    let new: Vec<(&String, &Here)> = here.iter().filter(is_other).collect();
    let moved = moved(state, &gone, &new);
    let (mut actions, mut takes) = (Vec::new(), false);
    for add in gone {
        let data_change = !moved.contains(day(&add.path));
        takes |= data_change;
        actions.push(Action::Remove(Remove { path: add.path.clone(), data_change }));
    }
    for (path, one) in new {
        let before = state.files.get(path);
        // Written anew with the same rows: by who compressed it otherwise, for instance.
        let is_same = before.is_some_and(|add| one.has_rows_of(add));
        let data_change = !is_same && !moved.contains(day(path));
        takes |= data_change && before.is_some();
        actions.push(Action::Add(add(dir, path, one, data_change)?));
    }
    let id = state.meta_data.as_ref().map_or_else(String::new, |meta| meta.id.clone());
    // Of a table that is append-only rows can be moved, and none taken away: for that commit it is not.
    let meta_data = MetaData::new(table, id, !takes);
    if state.meta_data.as_ref() != Some(&meta_data) {
        actions.insert(0, Action::MetaData(meta_data));
    }
    Ok(actions)
}

/// The days whose files were put together, and nothing else: the same rows in other files.
fn moved<'a>(state: &State, gone: &[&'a Add], new: &[(&'a String, &'a Here)]) -> BTreeSet<&'a str> {
    let mut days: BTreeMap<&str, (u64, u64, bool)> = BTreeMap::new();
    for add in gone {
        let (before, _, _) = days.entry(day(&add.path)).or_insert((0, 0, true));
        *before += add.rows();
    }
    for (path, one) in new {
        let (before, after, are_parts) = days.entry(day(path)).or_insert((0, 0, true));
        *before += state.files.get(*path).map_or(0, Add::rows);
        *after += one.rows;
        *are_parts &= compacted::is_part(Path::new(path));
    }
    let is_moved =
        |(_, (before, after, are_parts)): &(&str, (u64, u64, bool))| *are_parts && before == after;
    days.into_iter().filter(is_moved).map(|(day, _)| day).collect()
}

fn add(dir: &Path, path: &str, one: &Here, data_change: bool) -> Result<Add, DeltaError> {
    let file = dir.join(&one.name);
    let footer = here::footer(&file)?;
    if footer.rows != one.rows {
        return Err(DeltaError::Changed(file.display().to_string()));
    }
    Ok(Add::new(path, one, &footer, data_change))
}

/// The folder of the day of a file, by its path below the table's folder.
fn day(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DeltaError {
    let path = path.to_owned();
    move |source| DeltaError::Io { path, source }
}
