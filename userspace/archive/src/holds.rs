//! Legal holds: what must not be disposed of, by whatever rule. They are records of the log (`hold.set`, `hold.released`),
//! so whoever has the archive has them; control records are never disposed of.

mod held;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use held::{Held, Standing};
use serde::{Deserialize, Serialize};

use crate::layout::is_day;
use crate::pruned;
use crate::scan::{self, ScanError};

/// The kind of a record that sets one.
pub const SET: &str = "hold.set";

/// The kind of a record of one person who wants it released; a second one releases it.
pub const RELEASE_ASKED: &str = "hold.release_asked";

/// The kind of a record that releases one.
pub const RELEASED: &str = "hold.released";

/// Sessions that holds name, by what their commands say: 1 Mi × 60 B, 63 MB.
const SESSIONS_MAX: usize = 1024 * 1024;

/// Bytes of a hold's name.
pub const NAME_BYTES_MAX: usize = 100;

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
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive's rows can't be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A record of a hold is none.
    #[error(
        "record {0} of a hold can't be read: nothing may be disposed of until that is found out"
    )]
    Record(String),
    /// Too many sessions.
    #[error(
        "holds name more than {SESSIONS_MAX} sessions: hold days, or an agent's or target's, in the place of them"
    )]
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
            let (name, value) = word
                .split_once('=')
                .ok_or_else(|| bad(format!("`{word}`: NAME=VALUE is expected")))?;
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
                    return Err(bad(format!(
                        "`{name}`: one of agent, actor, target, session, days"
                    )));
                }
            }
        }
        if scope == Self::default() {
            return Err(bad(
                "a hold on nothing: give agent=, actor=, target=, session= or days=".into()
            ));
        }
        Ok(scope)
    }

    /// Whether files of a day may have something of it.
    pub fn has_day(&self, day: &str) -> bool {
        self.from.as_deref().is_none_or(|from| day >= from)
            && self.until.as_deref().is_none_or(|until| day <= until)
    }

    /// Whether nothing but days is given.
    pub(crate) fn is_days(&self) -> bool {
        let Self { agent, actor, target, session, from: _, until: _ } = self;
        [agent, actor, target, session].iter().all(|it| it.is_none())
    }

    /// Whether a row that says this of its session is of it, its day aside.
    fn has(&self, said: &Said<'_>) -> bool {
        let is = |due: &Option<String>, is: &[Option<&str>]| {
            due.as_deref().is_none_or(|due| is.contains(&Some(due)))
        };
        is(&self.agent, &[said.agent])
            && is(&self.actor, &[said.user, said.sub])
            && is(&self.target, &[said.target])
            && is(&self.session, &[said.session])
    }
}

/// What a row says of its session.
#[derive(Clone, Copy, Debug)]
struct Said<'a> {
    session: Option<&'a str>,
    agent: Option<&'a str>,
    user: Option<&'a str>,
    sub: Option<&'a str>,
    target: Option<&'a str>,
}

/// Node and name: holds of two nodes may have the same name.
pub type Key = (String, String);

/// The holds in force, by node and name, as the archive's records have them.
///
/// # Errors
/// If they can't be read: then everything is to be kept.
pub fn in_force(archive: &Path) -> Result<BTreeMap<Key, Hold>, HoldError> {
    if let Some(path) = pruned::absent(archive)
        .map_err(|source| HoldError::Io { path: archive.to_owned(), source })?
        .into_keys()
        .find(|path| path.contains("/table=control/"))
    {
        return Err(HoldError::Elsewhere(path.into()));
    }
    let mut records = Vec::new();
    scan::control(archive, &[SET, RELEASE_ASKED, RELEASED], &mut |row| {
        records.push((row.node_id, row.log_epoch, row.seq, row.kind, row.detail));
        Ok::<(), HoldError>(())
    })?;
    records.sort();
    let mut holds = BTreeMap::new();
    for (node, epoch, seq, kind, detail) in records {
        let bad = || HoldError::Record(format!("{node}/{epoch}/{}", seq.0));
        if kind == SET {
            let hold: Hold = serde_json::from_str(&detail).map_err(|_| bad())?;
            holds.insert((node, hold.name.clone()), hold);
            continue;
        }
        let said: Release = serde_json::from_str(&detail).map_err(|_| bad())?;
        let key = (node, said.name);
        if kind == RELEASED {
            holds.remove(&key);
        } else if let Some(hold) = holds.get_mut(&key) {
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
