//! What is held, as the archive's rows have it: the sessions that holds name, and which files have something of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use journal::row::Table;

use super::{Hold, HoldError, SESSIONS_MAX, Said, in_force};
use crate::compacted::Compacted;
use crate::layout::day_of;
use crate::pruned;
use crate::scan;

/// What a row says of its session, by the columns of events and sessions.
const COLUMNS: [&str; 5] = ["session_id", "agent_id", "actor_user", "actor_sub", "target_name"];

/// The holds in force and what they hold.
#[derive(Debug, Default)]
pub struct Held {
    holds: Vec<Hold>,
    /// Sessions and the name of a hold that each is under.
    sessions: BTreeMap<String, String>,
    /// Of the sessions that were asked about, those that rows speak of.
    known: BTreeSet<String>,
    /// Whether a hold on sessions is taken for one on all of its days: rows that would say which they are are not here.
    is_wide: bool,
}

/// Whether a session is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// By this hold.
    Held(String),
    /// By none.
    Free,
    /// No row says whose it is, and there are holds by which it might be: it is to be kept.
    Unknown,
}

impl Held {
    /// Of the holds in force: the sessions that they name, by the archive's rows; `asked` are those that will be asked
    /// about by name.
    ///
    /// # Errors
    /// If rows that would say it are not here, or can't be read.
    pub fn resolve(archive: &Path, asked: &BTreeSet<String>) -> Result<Self, HoldError> {
        let holds: Vec<Hold> = in_force(archive)?.into_values().collect();
        let mut held = Self { holds, ..Self::default() };
        let Self { holds, sessions, known, is_wide: _ } = &mut held;
        // Files have their day in their names; of sessions only rows say on which days they were.
        let named: Vec<&Hold> =
            holds.iter().filter(|hold| !asked.is_empty() || !hold.scope.is_days()).collect();
        if named.is_empty() {
            return Ok(held);
        }
        let is_asked = |path: &str| {
            let may =
                day_of(path).is_none_or(|day| named.iter().any(|hold| hold.scope.has_day(day)));
            may || !asked.is_empty()
        };
        let absent = pruned::absent(archive)
            .map_err(|source| HoldError::Io { path: archive.to_owned(), source })?;
        let tables = ["/table=events/", "/table=sessions/"];
        let mut speaking =
            absent.keys().filter(|path| tables.iter().any(|table| path.contains(table)));
        if let Some(path) = speaking.find(|path| is_asked(path)) {
            return Err(HoldError::Elsewhere(path.into()));
        }
        for table in [Table::Events, Table::Sessions] {
            for path in scan::files_of(archive, table)? {
                let text = path.display().to_string();
                if !is_asked(&text) {
                    continue;
                }
                let day = day_of(&text);
                let of_day: Vec<&&Hold> = named
                    .iter()
                    .filter(|hold| day.is_none_or(|day| hold.scope.has_day(day)))
                    .collect();
                let flow = scan::texts(&path, &COLUMNS, &mut |row| {
                    let [session, agent, user, sub, target] = *row else {
                        return ControlFlow::Continue(());
                    };
                    let Some(id) = session else { return ControlFlow::Continue(()) };
                    if asked.contains(id) {
                        known.insert(id.to_owned());
                    }
                    let said = Said { session, agent, user, sub, target };
                    let hold = of_day.iter().find(|hold| {
                        hold.scope.has(&said) && (!hold.scope.is_days() || asked.contains(id))
                    });
                    if let Some(hold) = hold.filter(|_| !sessions.contains_key(id)) {
                        sessions.insert(id.to_owned(), hold.name.clone());
                    }
                    if sessions.len() > SESSIONS_MAX {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                if flow.is_break() {
                    return Err(HoldError::TooMany);
                }
            }
        }
        Ok(held)
    }

    /// As [`Self::resolve`]; where rows that would say it are only in a store, a hold is on all files of its days.
    ///
    /// # Errors
    /// If records or rows can't be read.
    pub fn resolve_widely(archive: &Path) -> Result<Self, HoldError> {
        match Self::resolve(archive, &BTreeSet::new()) {
            Err(HoldError::Elsewhere(_)) => {
                let holds = in_force(archive)?.into_values().collect();
                Ok(Self { holds, is_wide: true, ..Self::default() })
            }
            held => held,
        }
    }

    /// Whether there are holds by which only rows say what is held.
    pub fn needs_rows(&self) -> bool {
        self.holds.iter().any(|hold| !hold.scope.is_days())
    }

    /// The hold by whose days everything of a day is held, if any.
    pub fn day(&self, day: &str) -> Option<&str> {
        let is_it =
            |hold: &&Hold| (self.is_wide || hold.scope.is_days()) && hold.scope.has_day(day);
        self.holds.iter().find(is_it).map(|hold| hold.name.as_str())
    }

    /// Whether a session is held that [`Self::resolve`] was told to ask about.
    pub fn session(&self, session: &str) -> Standing {
        match self.sessions.get(session) {
            Some(hold) => Standing::Held(hold.clone()),
            None if !self.holds.is_empty() && !self.known.contains(session) => Standing::Unknown,
            None => Standing::Free,
        }
    }

    /// The hold that a day is under whose files were put together, if any: on a row of any of them. What they held goes or
    /// stays as one.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn together(&self, archive: &Path, list: &Compacted) -> Result<Option<String>, HoldError> {
        for part in &list.files {
            if let Some(hold) = self.file(archive, &part.path)? {
                return Ok(Some(hold));
            }
        }
        Ok(None)
    }

    /// The hold that a file is under, if any: its day is held, or a row of it is of a session that is. Of one that is only
    /// in a store, the hold that it may be under.
    ///
    /// # Errors
    /// If it can't be read: then it may not be disposed of.
    pub fn file(&self, archive: &Path, path: &str) -> Result<Option<String>, HoldError> {
        if let Some(hold) = day_of(path).and_then(|day| self.day(day)) {
            return Ok(Some(hold.to_owned()));
        }
        if self.sessions.is_empty() {
            return Ok(None);
        }
        let table = path.split('/').find_map(|part| part.strip_prefix("table="));
        if table.is_none_or(|table| table == Table::Control.as_str()) {
            return Ok(None);
        }
        if !archive.join(path).exists() {
            // Only in a store: a hold may be on something in it.
            let may = |hold: &&Hold| day_of(path).is_none_or(|day| hold.scope.has_day(day));
            return Ok(self.holds.iter().find(may).map(|hold| hold.name.clone()));
        }
        let mut found = None;
        // Whoever finds it reads no further.
        let _flow = scan::texts(&archive.join(path), &["session_id"], &mut |row| {
            let session = row.first().copied().flatten();
            found = session.and_then(|session| self.sessions.get(session)).cloned();
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }
}
