//! Legal holds: what must not be disposed of, by whatever rule. They are records of the log (`hold.set`, `hold.released`),
//! so whoever has the archive has them; control records are never disposed of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use journal::row::{Row, Table};
use serde::{Deserialize, Serialize};

use crate::scan::{self, Filter, ScanError};

/// The kind of a record that sets one.
pub const SET: &str = "hold.set";

/// The kind of a record of one person who wants it released; a second one releases it.
pub const RELEASE_ASKED: &str = "hold.release_asked";

/// The kind of a record that releases one.
pub const RELEASED: &str = "hold.released";

/// Sessions that holds name, by what their commands say: 1 Mi × 60 B, 63 MB.
const SESSIONS_MAX: usize = 1024 * 1024;

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Its name: `LH-7`.
    pub name: String,
    /// What it is about.
    pub scope: Scope,
    /// Why.
    pub reason: String,
    /// Who set it, in words.
    pub by: String,
    /// Who wants it released; one is not enough.
    #[serde(default)]
    pub release_asked: Vec<String>,
}

/// What a hold is about: sessions for which all that is given holds, of the past and of the future. What is absent is not
/// gone by; days alone hold everything of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// The agent's name.
    pub agent: Option<String>,
    /// The person's name or subject.
    pub actor: Option<String>,
    /// The target's name.
    pub target: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// The first day, `2026-11-21`.
    pub from: Option<String>,
    /// The last.
    pub until: Option<String>,
}

/// Why holds can't be told.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The archive's rows can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A record of a hold is none.
    #[error("record {0} of a hold can't be read: nothing may be disposed of until that is found out")]
    Record(String),
    /// Too many sessions.
    #[error("holds name more than {SESSIONS_MAX} sessions: hold days, or an agent's or target's, in the place of them")]
    TooMany,
    /// A file that would say which sessions are held is not here.
    #[error("{} is only in the store, and says which sessions are held: bring it with `vestibule archive fetch`", .0.display())]
    Elsewhere(PathBuf),
    /// A scope is not one.
    #[error("{0}")]
    Scope(String),
}

impl Scope {
    /// What `agent=A actor=P target=T session=S days=2026-11-01..2026-11-30` says.
    ///
    /// # Errors
    /// If it says something else.
    pub fn parse(words: &[String]) -> Result<Self, HoldError> {
        let bad = |told: String| HoldError::Scope(told);
        let mut scope = Self::default();
        for word in words {
            let (name, value) =
                word.split_once('=').ok_or_else(|| bad(format!("`{word}`: NAME=VALUE is expected")))?;
            let value = (!value.is_empty()).then(|| value.to_owned());
            let value = value.ok_or_else(|| bad(format!("`{word}`: no value")))?;
            match name {
                "agent" => scope.agent = Some(value),
                "actor" => scope.actor = Some(value),
                "target" => scope.target = Some(value),
                "session" => scope.session = Some(value),
                "days" => {
                    let (from, until) = value.split_once("..").unwrap_or((&value, &value));
                    let day = |day: &str| match (day.is_empty(), is_day(day)) {
                        (true, _) => Ok(None),
                        (false, true) => Ok(Some(day.to_owned())),
                        (false, false) => Err(bad(format!("`{day}`: a day is like 2026-11-21"))),
                    };
                    (scope.from, scope.until) = (day(from)?, day(until)?);
                }
                _ => {
                    return Err(bad(format!("`{name}`: one of agent, actor, target, session, days")));
                }
            }
        }
        if scope == Self::default() {
            return Err(bad("a hold on nothing: give agent=, actor=, target=, session= or days=".into()));
        }
        Ok(scope)
    }

    /// Whether files of a day may have something of it.
    pub fn has_day(&self, day: &str) -> bool {
        self.from.as_deref().is_none_or(|from| day >= from)
            && self.until.as_deref().is_none_or(|until| day <= until)
    }

    /// Whether nothing but days is given.
    fn is_days(&self) -> bool {
        let Self { agent, actor, target, session, from: _, until: _ } = self;
        [agent, actor, target, session].iter().all(|it| it.is_none())
    }

    fn has(&self, said: &Said<'_>) -> bool {
        let is = |due: &Option<String>, is: &[&str]| {
            due.as_deref().is_none_or(|due| is.contains(&due))
        };
        is(&self.agent, &[said.agent])
            && is(&self.actor, &[said.user, said.sub])
            && is(&self.target, &[said.target])
            && is(&self.session, &[said.session])
    }
}

/// What a row says of its session.
struct Said<'a> {
    agent: &'a str,
    user: &'a str,
    sub: &'a str,
    target: &'a str,
    session: &'a str,
}

/// The holds in force, by name, as the archive's records have them.
///
/// # Errors
/// If they can't be read.
pub fn in_force(archive: &Path) -> Result<BTreeMap<String, Hold>, HoldError> {
    let mut records = Vec::new();
    scan::scan(archive, Table::Control, &Filter::default(), &mut |row| {
        if let Row::Control(row) = row
            && [SET, RELEASE_ASKED, RELEASED].contains(&row.kind.as_str())
        {
            records.push((row.node_id, row.seq, row.kind, row.detail));
        }
        Ok::<(), HoldError>(())
    })?;
    records.sort();
    let mut holds = BTreeMap::new();
    for (node, seq, kind, detail) in records {
        let bad = || HoldError::Record(format!("{node}/{seq}"));
        if kind == SET {
            let hold: Hold = serde_json::from_str(&detail).map_err(|_| bad())?;
            holds.insert(hold.name.clone(), hold);
            continue;
        }
        let said: Release = serde_json::from_str(&detail).map_err(|_| bad())?;
        if kind == RELEASED {
            holds.remove(&said.name);
        } else if let Some(hold) = holds.get_mut(&said.name) {
            hold.release_asked.push(said.by);
        }
    }
    Ok(holds)
}

/// What a record of a release says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The hold's name.
    pub name: String,
    /// Who wants it, by issuer and subject.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What is held, resolved.
#[derive(Debug, Default)]
pub struct Held {
    holds: Vec<Hold>,
    sessions: BTreeMap<String, String>,
}

impl Held {
    /// Of the holds in force: the sessions that they name, by the archive's rows.
    ///
    /// # Errors
    /// If rows that would say it are not here, or can't be read.
    pub fn resolve(archive: &Path, elsewhere: &BTreeSet<String>) -> Result<Self, HoldError> {
        let holds: Vec<Hold> = in_force(archive)?.into_values().collect();
        let mut held = Self { holds, sessions: BTreeMap::new() };
        let named: Vec<&Hold> = held.holds.iter().filter(|hold| !hold.scope.is_days()).collect();
        if named.is_empty() {
            return Ok(held);
        }
        let tables = ["/table=events/", "/table=sessions/"];
        for path in elsewhere.iter().filter(|path| tables.iter().any(|table| path.contains(table))) {
            let day = path.split('/').find_map(|part| part.strip_prefix("dt="));
            if day.is_none_or(|day| named.iter().any(|hold| hold.scope.has_day(day))) {
                return Err(HoldError::Elsewhere(path.into()));
            }
        }
        let mut sessions = BTreeMap::new();
        for table in [Table::Events, Table::Sessions] {
            scan::scan(archive, table, &Filter::default(), &mut |row| {
                let day = crate::layout::date(row.ts().0.div_euclid(86_400_000_000));
                let Some(said) = said(&row) else { return Ok(()) };
                let hold = named.iter().find(|hold| hold.scope.has_day(&day) && hold.scope.has(&said));
                if let Some(hold) = hold {
                    sessions.insert(said.session.to_owned(), hold.name.clone());
                }
                if sessions.len() > SESSIONS_MAX { Err(HoldError::TooMany) } else { Ok(()) }
            })?;
        }
        held.sessions = sessions;
        Ok(held)
    }

    /// The hold that a file is under, if any: its day is held, or a row of it is of a session that is.
    ///
    /// # Errors
    /// If it can't be read: then it may not be disposed of.
    pub fn file(&self, archive: &Path, path: &str) -> Result<Option<String>, HoldError> {
        let day = path.split('/').find_map(|part| part.strip_prefix("dt="));
        let by_day = self.holds.iter().find(|hold| {
            hold.scope.is_days() && day.is_none_or(|day| hold.scope.has_day(day))
        });
        if let Some(hold) = by_day {
            return Ok(Some(hold.name.clone()));
        }
        if self.sessions.is_empty() {
            return Ok(None);
        }
        let table = path.split('/').find_map(|part| part.strip_prefix("table="));
        let Some(table) = table.and_then(crate::layout::table) else { return Ok(None) };
        let file = archive.join(path);
        let bytes = std::fs::read(&file).map_err(|source| ScanError::Io { path: file.clone(), source })?;
        let mut found = None;
        let mut take = |row: Row| {
            let session = session(&row).and_then(|session| self.sessions.get(session));
            found = found.take().or_else(|| session.cloned());
        };
        crate::decode::rows(table, bytes, &mut take)
            .map_err(|source| ScanError::File { path: file, source })?;
        Ok(found)
    }
}

fn said(row: &Row) -> Option<Said<'_>> {
    match row {
        Row::Event(row) => Some(Said {
            agent: &row.agent_id,
            user: row.actor_user.as_deref().unwrap_or_default(),
            sub: row.actor_sub.as_deref().unwrap_or_default(),
            target: &row.target_name,
            session: &row.session_id,
        }),
        Row::Session(row) => Some(Said {
            agent: &row.agent_id,
            user: row.actor_user.as_deref().unwrap_or_default(),
            sub: row.actor_sub.as_deref().unwrap_or_default(),
            target: &row.target_name,
            session: &row.session_id,
        }),
        Row::Recording(_) | Row::Control(_) => None,
    }
}

fn session(row: &Row) -> Option<&str> {
    match row {
        Row::Event(row) => Some(&row.session_id),
        Row::Session(row) => Some(&row.session_id),
        Row::Recording(row) => Some(&row.session_id),
        Row::Control(_) => None,
    }
}

fn is_day(text: &str) -> bool {
    let digit = |(at, byte): (usize, u8)| {
        if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() }
    };
    text.len() == 10 && text.bytes().enumerate().all(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(words: &str) -> Result<Scope, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Scope::parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn scopes_are_what_they_say() {
        let one = scope("agent=reader days=2026-11-01..2026-11-30").unwrap();
        assert!(one.has_day("2026-11-30") && !one.has_day("2026-12-01") && !one.is_days());
        assert!(scope("days=2026-11-01..").unwrap().is_days());
        assert!(scope("days=2026-11-01..").unwrap().has_day("2099-01-01"), "the future, too");
        for (words, told) in [
            ("", "a hold on nothing"),
            ("agent", "NAME=VALUE"),
            ("agent=", "no value"),
            ("user=ada", "one of agent"),
            ("days=yesterday", "2026-11-21"),
        ] {
            let error = scope(words).unwrap_err();
            assert!(error.contains(told), "{words}: {error}");
        }
    }
}
