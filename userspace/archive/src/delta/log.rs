//! The folder of a log: read strictly, written so that each commit is there whole or not at all, and never in another's place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use journal::row::Table;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::action::{self, Action, Add, MetaData, Remove};
use super::{COMMITS_MAX, DeltaError, LOG, io_error};
use crate::files::{self, UNFINISHED};

/// Bytes of a commit at most: a table's 200,000 files, of 450 B each, make 90 MB.
const COMMIT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What a log says, all commits taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The number of the next commit.
    pub(crate) next: u64,
    /// The table.
    pub(crate) meta_data: Option<MetaData>,
    /// Its files by path.
    pub(crate) files: BTreeMap<String, Add>,
    /// Files that it took out and has not named again.
    pub(crate) removed: BTreeSet<String>,
}

impl State {
    pub(crate) fn apply(&mut self, action: Action) {
        match action {
            Action::Protocol(_) => {}
            Action::MetaData(meta_data) => self.meta_data = Some(meta_data),
            Action::Add(add) => {
                self.removed.remove(&add.path);
                self.files.insert(add.path.clone(), add);
            }
            Action::Remove(Remove { path, data_change: _ }) => {
                self.files.remove(&path);
                self.removed.insert(path);
            }
        }
    }
}

/// The name of a commit's file.
pub(crate) fn name(version: u64) -> String {
    format!("{version:020}.json")
}

/// The folder in which a log is made, beside it.
pub(crate) fn staging() -> String {
    format!("{LOG}{UNFINISHED}")
}

/// Whether a table has a log, or one is being made.
pub(crate) fn is_begun(dir: &Path) -> bool {
    dir.join(LOG).exists() || dir.join(staging()).exists()
}

/// The number of the commit whose file has this name; `None` where it is no commit's.
pub(crate) fn version(name: &str) -> Option<u64> {
    let version = name.strip_suffix(".json")?.parse().ok()?;
    (self::name(version) == name).then_some(version)
}

/// Whether a file of a log's folder is a commit that was cut short, by its name.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).and_then(version).is_some()
}

/// What the log of `table`, whose folder is `dir`, says; `None` where there is none.
pub(crate) fn read(table: Table, dir: &Path) -> Result<Option<State>, DeltaError> {
    let log = dir.join(LOG);
    let mut versions = Vec::new();
    for path in entries(&log)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match version(name) {
            Some(version) if path.is_file() => versions.push(version),
            None if path.is_file() && is_unfinished(name) => {}
            _ => return Err(foreign(&path, "its name")),
        }
    }
    if !log.exists() {
        return Ok(None);
    }
    versions.sort_unstable();
    let mut state = State::default();
    for version in versions {
        let path = log.join(name(version));
        if version != state.next || version > COMMITS_MAX {
            return Err(foreign(&path, "its number"));
        }
        read_commit(&path, &mut state)?;
        if version == 0 && !is_its_own(table, &state) {
            return Err(foreign(&path, "its table's id is not of its files"));
        }
        state.next += 1;
    }
    if state.next == 0 {
        return Err(foreign(&log, "it has no commit"));
    }
    Ok(Some(state))
}

/// Whether the first commit's id is the one that its files give.
fn is_its_own(table: Table, state: &State) -> bool {
    let adds: Vec<Add> = state.files.values().cloned().collect();
    state.meta_data.as_ref().is_some_and(|it| it.id == action::id(table, &adds))
}

fn read_commit(path: &Path, state: &mut State) -> Result<(), DeltaError> {
    if fs::metadata(path).map_err(io_error(path))?.len() > COMMIT_BYTES_MAX {
        return Err(foreign(path, "its length"));
    }
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => foreign(path, "it is no text"),
        _ => io_error(path)(error),
    })?;
    let is_first = state.next == 0;
    let whole = text.strip_suffix('\n').ok_or_else(|| foreign(path, "its last line is cut off"))?;
    for (at, line) in whole.split('\n').enumerate() {
        let bad = || foreign(path, &format!("line {}", at + 1));
        let action = Action::parse(line).ok_or_else(bad)?;
        // The first says what the table is, and no other does by whom it can be read.
        let is_due = match (&action, at) {
            (Action::Protocol(_), at) => is_first && at == 0,
            (Action::MetaData(it), at) => {
                let is_same = state.meta_data.as_ref().is_none_or(|before| before.id == it.id);
                at == usize::from(is_first) && is_same
            }
            (Action::Add(_), at) => !is_first || at > 1,
            (Action::Remove(remove), _) => !is_first && state.files.contains_key(&remove.path),
        };
        if !is_due {
            return Err(bad());
        }
        state.apply(action);
    }
    if state.meta_data.is_none() {
        return Err(foreign(path, "it does not say what the table is"));
    }
    Ok(())
}

/// Writes a commit durably; it is an error where there is one of that number.
pub(crate) fn commit(log: &Path, version: u64, actions: &[Action]) -> Result<(), DeltaError> {
    let path = log.join(name(version));
    let unfinished = log.join(name(version) + UNFINISHED);
    let mut text = String::new();
    for action in actions {
        text.push_str(&action.line());
        text.push('\n');
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).open(&unfinished);
    let mut file = file.map_err(io_error(&unfinished))?;
    file.write_all(text.as_bytes()).map_err(io_error(&unfinished))?;
    file.sync_all().map_err(io_error(&unfinished))?;
    renameat_with(CWD, &unfinished, CWD, &path, RenameFlags::NOREPLACE)
        .map_err(|error| io_error(&path)(error.into()))?;
    files::sync_dir(log).map_err(io_error(log))
}

/// A log with one commit in the table's folder, in one step in the place of any that there is.
pub(crate) fn place(dir: &Path, actions: &[Action]) -> Result<(), DeltaError> {
    let (log, new) = (dir.join(LOG), dir.join(staging()));
    fs::create_dir(&new).map_err(io_error(&new))?;
    commit(&new, 0, actions)?;
    let (flags, is_old) =
        if log.exists() { (RenameFlags::EXCHANGE, true) } else { (RenameFlags::NOREPLACE, false) };
    renameat_with(CWD, &new, CWD, &log, flags).map_err(|error| io_error(&log)(error.into()))?;
    files::sync_dir(dir).map_err(io_error(dir))?;
    if is_old {
        fs::remove_dir_all(&new).map_err(io_error(&new))?;
        files::sync_dir(dir).map_err(io_error(dir))?;
    }
    Ok(())
}

/// Removes what a pass that was cut short left: a log under way, or one that another took the place of, and a commit.
pub(crate) fn clean(dir: &Path) -> Result<(), DeltaError> {
    let staged = dir.join(staging());
    if staged.exists() {
        fs::remove_dir_all(&staged).map_err(io_error(&staged))?;
    }
    let is_unfinished =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(is_unfinished);
    for path in entries(&dir.join(LOG))?.into_iter().filter(is_unfinished) {
        fs::remove_file(&path).map_err(io_error(&path))?;
    }
    Ok(())
}

/// Removes a table's log, whatever lies in its folder; answers whether there was one. Readers find none or all of it.
pub(crate) fn take_away(dir: &Path) -> Result<bool, DeltaError> {
    clean(dir)?;
    let (log, away) = (dir.join(LOG), dir.join(staging()));
    match fs::rename(&log, &away) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        done => done.map_err(io_error(&log))?,
    }
    fs::remove_dir_all(&away).map_err(io_error(&away))?;
    files::sync_dir(dir).map_err(io_error(dir))?;
    Ok(true)
}

/// What lies in a folder; nothing where it is absent.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, DeltaError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error(dir))?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(io_error(dir))
}

fn foreign(path: &Path, why: &str) -> DeltaError {
    DeltaError::Foreign { path: path.to_owned(), why: why.to_owned() }
}
