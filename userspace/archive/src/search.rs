//! Commands of the past, found without an SQL engine: by time, agent, person, object, decision and session. Reads what
//! is sealed, and what of the journal is not yet; in bounded time, and says so where that was not all.
//!
//! It verifies nothing: `vestibule verify` does.

mod file;
mod tail;

use std::path::{Path, PathBuf};

use journal::assemble::AssembleError;
use journal::record::Lsn;
use journal::row::{EventRow, RecordingRow, Row, SessionRow, Table};

use crate::decode::DecodeError;
use crate::{compacted, files, layout};

/// Rows that one search looks at in files: a day of a busy host, whose time, names and decisions take about 100 MB.
pub const ROWS_LOOKED_AT_MAX: u64 = 4 * 1024 * 1024;

/// Rows that one search looks at in the journal: an hour at a hundred commands a second, two rows each.
pub const TAIL_ROWS_MAX: usize = 1024 * 1024;

/// Commands of one session that are answered: each about 2 KiB with its text, 4 MiB.
pub const COMMANDS_MAX: usize = 2_000;

/// Days that a session's files are looked for after it began.
const SESSION_DAYS_MAX: i64 = 8;

const DAY_US: i64 = 86_400_000_000;

/// Where it is looked.
#[derive(Clone, Debug)]
pub struct Place {
    /// The archive's folder.
    pub archive: PathBuf,
    /// Whose rows.
    pub node: String,
    /// Rows that are sealed; the journal has the others.
    pub sealed: u64,
    /// The journal's folder.
    pub journal: PathBuf,
    /// What of it is durable.
    pub durable: Lsn,
}

/// What is sought; what is absent is not gone by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// Begun at or after, microseconds since 1970 UTC.
    pub from_us: i64,
    /// Begun before.
    pub until_us: i64,
    /// The agent.
    pub agent: Option<String>,
    /// The person, by name or key.
    pub person: Option<String>,
    /// What is touched: `schema.name`, or `name` in any schema.
    pub object: Option<String>,
    /// The archive's word.
    pub decision: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// So many of the newest.
    pub most: usize,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Commands, newest first.
    pub events: Vec<EventRow>,
    /// Why there may be more.
    pub cut: Option<Cut>,
}

/// One session, as far as there are rows of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whole {
    /// Its own row, once it ended.
    pub session: Option<SessionRow>,
    /// Its commands, in order.
    pub events: Vec<EventRow>,
    /// What they said and were answered, as long as that is kept.
    pub recordings: Vec<RecordingRow>,
    /// Why there may be more.
    pub cut: Option<Cut>,
}

/// Why there may be more than was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As many as asked for were found.
    Most,
    /// So many rows were looked at.
    Rows,
    /// The journal holds more than is looked at; once it is sealed, that is found.
    Journal,
}

/// Why a search fails.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The archive can't be read.
    #[error("the archive can't be read")]
    Io(#[from] std::io::Error),
    /// A file is not as it was written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        why: DecodeError,
    },
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] AssembleError),
}

/// The newest commands that are sought.
///
/// # Errors
/// If files or the journal can't be read.
pub fn search(place: &Place, sought: &Sought) -> Result<Found, SearchError> {
    let tail = tail::events(place, sought)?;
    let mut found = Found { events: tail.events, cut: tail.cut };
    let (mut looked_at, mut is_done, mut last) = (0, false, PathBuf::new());
    for path in files_of(place, Table::Events, sought)? {
        // Files of a day that were put together are sorted by session: any of them may have the newest.
        let is_beside = compacted::is_part(&path) && path.parent() == last.parent();
        let rest = sought.most.saturating_sub(found.events.len());
        let left = if is_beside { sought.most } else { rest };
        if left == 0 || looked_at >= ROWS_LOOKED_AT_MAX {
            found.cut = Some(if left == 0 { Cut::Most } else { Cut::Rows });
            is_done = true;
            break;
        }
        let mut each = |row| {
            if let Row::Event(event) = row {
                found.events.push(*event);
            }
        };
        let limits = (left, place.sealed);
        looked_at += file::newest(Table::Events, &path, sought, limits, &mut each)?;
        last = path;
    }
    found.events.sort_by_key(|event| std::cmp::Reverse((event.ts.0, event.seq.0)));
    if found.events.len() > sought.most {
        found.events.truncate(sought.most);
        found.cut = Some(Cut::Most);
    }
    if !is_done && found.events.len() >= sought.most {
        found.cut = Some(Cut::Most);
    }
    Ok(found)
}

/// All of a session that opened at `opened_us`.
///
/// # Errors
/// If files or the journal can't be read.
pub fn session(place: &Place, session: &str, opened_us: i64) -> Result<Whole, SearchError> {
    let sought = Sought {
        // Its id has milliseconds.
        from_us: opened_us.saturating_sub(1_000),
        until_us: opened_us.saturating_add(SESSION_DAYS_MAX * DAY_US),
        session: Some(session.to_owned()),
        most: COMMANDS_MAX,
        ..Sought::default()
    };
    let mut whole = tail::session(place, &sought)?;
    for table in [Table::Events, Table::Recordings, Table::Sessions] {
        let mut looked_at = 0;
        // The first commands are what a replay begins with.
        for path in files_of(place, table, &sought)?.iter().rev() {
            if looked_at >= ROWS_LOOKED_AT_MAX {
                whole.cut = Some(Cut::Rows);
                break;
            }
            let limits = (COMMANDS_MAX + 1, place.sealed);
            looked_at += file::newest(table, path, &sought, limits, &mut |row| whole.take(row))?;
        }
    }
    whole.events.sort_by_key(|event| event.session_seq);
    whole.recordings.sort_by_key(|one| one.session_seq);
    if whole.events.len() > COMMANDS_MAX {
        whole.events.truncate(COMMANDS_MAX);
        whole.cut = Some(Cut::Most);
    }
    Ok(whole)
}

impl Whole {
    fn take(&mut self, row: Row) {
        match row {
            // What is beyond the bound is cut; one more says that there is more.
            Row::Event(event) if self.events.len() <= COMMANDS_MAX => self.events.push(*event),
            // A part of what is sealed: nobody reads it here.
            Row::Recording(one) if one.sealed.is_some() => {}
            Row::Recording(one) if self.recordings.len() <= COMMANDS_MAX => {
                self.recordings.push(*one);
            }
            Row::Session(row) => self.session = Some(*row),
            Row::Event(_) | Row::Recording(_) | Row::Control(_) => {}
        }
    }
}

impl Sought {
    /// Whether a command is meant.
    fn meets(&self, event: &EventRow) -> bool {
        let Self { from_us, until_us, agent, person, object, decision, session, most: _ } = self;
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == value)
        };
        let is_of = |person: &str| {
            [&event.session.actor_user, &event.session.actor_sub]
                .iter()
                .any(|one| one.as_deref() == Some(person))
        };
        (*from_us..*until_us).contains(&event.ts.0)
            && is(agent, &event.session.agent_id)
            && is(decision, &event.decision)
            && is(session, &event.session.session_id)
            && person.as_deref().is_none_or(is_of)
            && object
                .as_deref()
                .is_none_or(|wanted| event.statement.objects.iter().any(|one| names(wanted, one)))
    }
}

/// Whether an object is meant by its whole name, or by its own without the schema's.
fn names(wanted: &str, object: &str) -> bool {
    object == wanted || object.rsplit_once('.').is_some_and(|(_, own)| own == wanted)
}

/// A table's files of the node and the days that are sought, the newest first.
fn files_of(place: &Place, table: Table, sought: &Sought) -> Result<Vec<PathBuf>, SearchError> {
    let dir = layout::table_dir(&place.archive, table);
    let (first, last) = (sought.from_us.div_euclid(DAY_US), sought.until_us.div_euclid(DAY_US));
    // A session's row is of when it closed.
    let days = layout::date(first)..=layout::date(last);
    let mut found = files::walk(&dir)?;
    let node = format!("node={}", place.node);
    found.retain(|path| {
        let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
        let is_parquet = path.extension().is_some_and(|extension| extension == "parquet");
        let day = parts.iter().find_map(|part| part.strip_prefix("dt="));
        is_parquet && parts.contains(&node.as_str()) && day.is_some_and(|day| is_within(&days, day))
    });
    found.reverse();
    Ok(found)
}

/// Dates sort as texts within the years 0000 to 9999.
fn is_within(days: &std::ops::RangeInclusive<String>, day: &str) -> bool {
    let is_after = days.start().starts_with('-') || days.start().as_str() <= day;
    is_after && (days.end().len() > 10 || day <= days.end().as_str())
}

/// What the archive of a node has sealed, and where its journal is.
///
/// # Errors
/// If the checkpoint can't be read.
pub fn place(
    archive: &Path,
    (node, epoch): (&str, i32),
    journal: &Path,
    durable: Lsn,
) -> std::io::Result<Place> {
    let last = crate::status::last(archive, node, epoch)?;
    Ok(Place {
        archive: archive.to_owned(),
        node: node.to_owned(),
        sealed: last.map_or(0, |last| last.tree_size),
        journal: journal.to_owned(),
        durable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_with_their_schema_or_without() {
        for (wanted, object, is) in [
            ("public.transfers", "public.transfers", true),
            ("transfers", "public.transfers", true),
            ("transfer", "public.transfers", false),
            ("fers", "public.transfers", false),
            ("public", "public.transfers", false),
            ("transfers", "transfers", true),
        ] {
            assert_eq!(names(wanted, object), is, "{wanted} {object}");
        }
    }

    #[test]
    fn days_are_compared_as_dates() {
        let days = |from: i64, until: i64| layout::date(from)..=layout::date(until);
        assert!(is_within(&days(20_778, 20_778), "2026-11-21"));
        assert!(!is_within(&days(20_779, 20_800), "2026-11-21"));
        let all = days(i64::MIN / DAY_US, i64::MAX / DAY_US);
        assert!(is_within(&all, "2026-11-21"), "{all:?}");
    }
}
