//! Laying each statement of a server to a recorded command, and what is left over on either side.

use std::collections::{BTreeSet, HashSet};

use proto::sql::{Analyzer, Reading};
use serde::Serialize;
use types::command::{Class, Risk, Statement};
use types::id::SessionId;

use super::recorded::{Found, Recorded, Session};
use super::trail::Ran;

/// Findings that are told one by one: of 1 KiB each, 1 MiB. All are counted.
const FINDINGS_MAX: usize = 1_000;

/// Characters of a statement that are told.
const STATEMENT_CHARS_MAX: usize = 500;

/// How the daemon has a server plan what waits for people.
const PLANS: &str = "EXPLAIN (FORMAT JSON) ";

/// How a trail and an archive compare.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    /// Statements that the server ran.
    statements: u64,
    /// Of those, recorded commands.
    recorded: u64,
    /// Of those, the daemon's own: they read catalogs, or set and ask for settings.
    own: u64,
    /// Of those, within others that pgaudit was told not to write: nothing can be said of them.
    inner: u64,
    /// Of those, later than what is sealed.
    later: u64,
    /// Of those, of sessions whose end is not recorded, the last: under way when the archive was sealed.
    under_way: u64,
    /// Of those, of accounts that no agent logged in with.
    of_others: u64,
    /// Sessions of the archive that the server's log has.
    sessions: u64,
    /// Recorded commands of those sessions that ended well and that the server's log does not have.
    not_in_trail: u64,
    /// What does not agree.
    pub(super) found: u64,
    /// The same, one by one, as many as are told.
    pub(super) findings: Vec<Finding>,
    #[serde(skip)]
    archive: Recorded,
    #[serde(skip)]
    analyzer: Analyzer,
    #[serde(skip)]
    unknown: HashSet<String>,
    #[serde(skip)]
    round: BTreeSet<(String, String, String)>,
    #[serde(skip)]
    span_us: (i64, i64),
}

/// One thing that does not agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What it is.
    pub(super) kind: Kind,
    /// The session.
    pub(super) session: String,
    /// In which log, by number.
    pub(super) file: usize,
    /// In which line; 0 where it is in none.
    pub(super) line: u64,
    /// When, as the server wrote it.
    pub(super) at: String,
    /// The account.
    pub(super) account: String,
    /// The client.
    pub(super) client: String,
    /// The statement without its literals.
    pub(super) statement: String,
}

/// What a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The server ran what is not recorded.
    #[default]
    Unrecorded,
    /// The server ran what was refused.
    RefusedYetRan,
    /// The server has a session that the archive has not.
    UnknownSession,
    /// An agents' account was logged in with past vestibule.
    WentRound,
    /// The archive has a session that the server has not.
    NoTrace,
    /// The archive has commands of a session that the server has not.
    NotInTrail,
}

impl Kind {
    /// What people read.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Unrecorded => "ran and is not recorded",
            Self::RefusedYetRan => "ran though it was refused",
            Self::UnknownSession => "of a session that the archive does not have",
            Self::WentRound => "an agents' account came past vestibule",
            Self::NoTrace => "a recorded session that the server's log does not have",
            Self::NotInTrail => "recorded commands that the server's log does not have",
        }
    }
}

impl Comparison {
    /// With nothing compared yet; the log begins at `first_us`.
    pub(super) fn new(archive: Recorded, first_us: i64) -> Self {
        Self {
            statements: 0,
            recorded: 0,
            own: 0,
            inner: 0,
            later: 0,
            under_way: 0,
            of_others: 0,
            sessions: 0,
            not_in_trail: 0,
            found: 0,
            findings: Vec::new(),
            archive,
            analyzer: Analyzer::new(),
            unknown: HashSet::new(),
            round: BTreeSet::new(),
            span_us: (first_us, first_us),
        }
    }

    /// Counts, each with what it counts.
    pub(super) fn counts(&self) -> [(u64, &'static str); 9] {
        [
            (self.statements, "statements that the server ran"),
            (self.recorded, "of them recorded commands of agents"),
            (self.own, "of them the daemon's own: catalogs and settings"),
            (self.of_others, "of them of accounts that no agent has"),
            (self.inner, "of them within others that pgaudit does not write (pgaudit.log = 'all')"),
            (self.under_way, "of them under way when the archive was sealed"),
            (self.later, "of them later than what is sealed (vestibule archive seal)"),
            (self.sessions, "sessions of agents in both"),
            (self.not_in_trail, "recorded commands that the server's log does not have"),
        ]
    }

    /// Lays one statement to what is recorded.
    pub(super) fn take(&mut self, ran: &Ran) {
        self.statements += 1;
        if ran.at_us > self.archive.until_us {
            self.later += 1;
            return;
        }
        self.span_us.1 = self.span_us.1.max(ran.at_us);
        let Some(mark) = &ran.mark else { return self.unmarked(ran) };
        let Some(session) = self.archive.sessions.get_mut(mark) else {
            if self.unknown.insert(mark.clone()) {
                self.tell(Kind::UnknownSession, ran);
            }
            return;
        };
        if !std::mem::replace(&mut session.is_seen, true) {
            self.sessions += 1;
        }
        if ran.is_inner {
            self.inner += 1;
            return;
        }
        let statements = statements(&self.analyzer, ran);
        let found = claim(session, ran, &statements);
        let is_under_way = ran.is_last && !session.is_closed;
        let is_own = || statements.iter().all(|one| is_own(&self.analyzer, session, one));
        match found {
            Found::Command => self.recorded += 1,
            Found::Nothing if is_under_way => self.under_way += 1,
            _ if is_own() => self.own += 1,
            Found::Nothing => self.tell(Kind::Unrecorded, ran),
            Found::Refused => self.tell(Kind::RefusedYetRan, ran),
        }
    }

    fn unmarked(&mut self, ran: &Ran) {
        if !self.archive.accounts.contains(&ran.account) {
            self.of_others += 1;
            return;
        }
        let whose = (ran.account.clone(), ran.client.clone(), ran.connection.clone());
        if self.round.insert(whose) {
            self.tell(Kind::WentRound, ran);
        }
    }

    /// What is left over in the archive; findings where the log is complete.
    pub(super) fn end(mut self, is_complete: bool) -> Self {
        let span_us = self.span_us.0..=self.span_us.1;
        let mut left = Vec::new();
        for (id, session) in &self.archive.sessions {
            let unclaimed = session.unclaimed();
            if unclaimed == 0 || !session.is_closed {
                continue;
            }
            if session.is_seen {
                self.not_in_trail += unclaimed;
                left.push((Kind::NotInTrail, id.clone(), unclaimed));
            } else if id.parse::<SessionId>().is_ok_and(|id| span_us.contains(&id.made_us())) {
                left.push((Kind::NoTrace, id.clone(), unclaimed));
            }
        }
        left.sort_by(|one, other| one.1.cmp(&other.1));
        for (kind, session, commands) in left.into_iter().filter(|_| is_complete) {
            let statement = format!("{commands} commands");
            self.add(Finding { kind, session, statement, ..Finding::default() });
        }
        self
    }

    fn tell(&mut self, kind: Kind, ran: &Ran) {
        let of = |one: &Statement| {
            let is_read = !one.risks.contains(Risk::UNPARSED);
            if is_read { one.normalized.to_string() } else { format!("{} …", ran.command) }
        };
        let statements: Vec<String> =
            statements(&self.analyzer, ran).iter().map(|one| of(one)).collect();
        let statement = statements.join("; ").chars().take(STATEMENT_CHARS_MAX).collect();
        self.add(Finding {
            kind,
            session: ran.mark.clone().unwrap_or_default(),
            file: ran.file,
            line: ran.line,
            at: ran.at.clone(),
            account: ran.account.clone(),
            client: ran.client.clone(),
            statement,
        });
    }

    fn add(&mut self, finding: Finding) {
        self.found += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// The statements that one statement of a server may be: those of its own message, of which it is one.
fn statements(analyzer: &Analyzer, ran: &Ran) -> Vec<std::sync::Arc<Statement>> {
    let reading = Reading { standard_conforming_strings: true };
    let read = |text: &String| analyzer.analyze(text.as_bytes(), reading);
    let Some(first) = ran.texts.first().map(read) else { return Vec::new() };
    // EXECUTE comes with the text that it runs first, and its own behind.
    let runs_prepared = ran.command != "PREPARE" && first.iter().any(|one| one.verb == "PREPARE");
    match ran.texts.get(1) {
        Some(own) if runs_prepared => read(own).to_vec(),
        _ => first.to_vec(),
    }
}

fn claim(session: &mut Session, ran: &Ran, statements: &[std::sync::Arc<Statement>]) -> Found {
    let mut best = Found::Nothing;
    for one in statements {
        let found = match one.verb {
            _ if one.risks.contains(Risk::UNPARSED) => session.claim_verb(&ran.command),
            // Its EXECUTE is not written (pgaudit.log without misc).
            "PREPARE" if ran.command != "PREPARE" && statements.len() == 1 => {
                session.claim_verb("EXECUTE")
            }
            _ => session.claim(one.fingerprint),
        };
        match found {
            Found::Command => return found,
            Found::Refused => best = found,
            Found::Nothing => {}
        }
    }
    best
}

/// Whether the daemon may have sent it by itself: it reads nothing but catalogs and changes nothing but the
/// transaction and its settings, or asks for the plan of what is recorded.
fn is_own(analyzer: &Analyzer, session: &Session, statement: &Statement) -> bool {
    if mask::is_catalog_query(&statement.text) {
        return true;
    }
    if let Some(planned) = statement.text.strip_prefix(PLANS) {
        let reading = Reading { standard_conforming_strings: true };
        let planned = analyzer.analyze(planned.as_bytes(), reading);
        return planned.iter().all(|one| session.knows(one.fingerprint));
    }
    let of_catalog = |schema: &str| schema == "pg_catalog";
    statement.class() <= Class::Read
        && !statement.risks.intersects(Risk::EFFECTS)
        && statement
            .accesses
            .iter()
            .filter_map(|access| access.table.as_ref())
            .all(|table| table.schema.as_deref().is_some_and(of_catalog))
}
