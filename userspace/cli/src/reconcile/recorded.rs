//! What an archive has of the sessions that a server's log names: how often each statement may be found there.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::Result;
use archive::scan::{self, Filter, ScanError};
use journal::row::{EventRow, Row, Table};

/// An archive's half of the comparison.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// By session's id.
    pub(super) sessions: HashMap<String, Session>,
    /// Accounts that agents logged in with.
    pub(super) accounts: HashSet<String>,
    /// Until when the archive tells: what was sealed last, microseconds since 1970 UTC.
    pub(super) until_us: i64,
}

/// One session's commands, by fingerprint.
#[derive(Debug, Default)]
pub(super) struct Session {
    commands: HashMap<i64, Count>,
    /// Whether its end is recorded, and so everything of it.
    pub(super) is_closed: bool,
    /// Whether the server's log has anything of it.
    pub(super) is_seen: bool,
}

/// Commands of one fingerprint that no statement of the server has been laid to yet.
#[derive(Debug, Default)]
struct Count {
    verb: String,
    /// Went through and ended well: the server must have run them.
    done: u32,
    /// Went through and ended otherwise: the server may have.
    may: u32,
    /// Were refused: the server must not have.
    refused: u32,
}

/// What a statement of the server is, by the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A recorded command.
    Command,
    /// A command that was refused.
    Refused,
    /// None.
    Nothing,
}

impl Recorded {
    /// Reads the rows of PostgreSQL sessions from `from_us` on; those of `targets` alone, where there are any.
    pub(super) fn read(archive: &Path, targets: &[String], from_us: i64) -> Result<Self> {
        let filter = Filter { from_us: Some(from_us), ..Filter::default() };
        let mut own = Self { until_us: i64::MIN, ..Self::default() };
        let is_of = |name: &str| targets.is_empty() || targets.iter().any(|target| target == name);
        for table in [Table::Events, Table::Sessions, Table::Control] {
            scan::scan(archive, table, &filter, &mut |row| {
                match row {
                    Row::Event(row)
                        if row.session.protocol == "postgresql"
                            && is_of(&row.session.target_name) =>
                    {
                        own.take(&row);
                    }
                    Row::Session(row)
                        if row.protocol == "postgresql" && is_of(&row.target_name) =>
                    {
                        own.accounts.extend(row.target_account);
                        own.sessions.entry(row.session_id).or_default().is_closed = true;
                    }
                    Row::Control(row) if row.kind == "archive.seal" => {
                        own.until_us = own.until_us.max(row.ts.0);
                    }
                    Row::Event(_) | Row::Session(_) | Row::Control(_) | Row::Recording(_) => {}
                }
                Ok::<(), ScanError>(())
            })?;
        }
        Ok(own)
    }

    fn take(&mut self, row: &EventRow) {
        self.accounts.extend(row.session.target_account.clone().map(String::from));
        let session = self.sessions.entry(row.session.session_id.to_string()).or_default();
        if !matches!(row.statement.kind.as_str(), "db.query" | "db.function") {
            return;
        }
        let count = session.commands.entry(row.statement.statement_fp).or_default();
        if count.verb.is_empty() {
            count.verb.clone_from(&row.statement.verb);
        }
        match (row.decision.as_str(), row.status.as_str()) {
            ("deny", _) | (_, "denied" | "skipped") => count.refused += 1,
            (_, "ok" | "limited") => count.done += 1,
            _ => count.may += 1,
        }
    }
}

impl Session {
    /// Lays a statement of the server to a command of this fingerprint.
    pub(super) fn claim(&mut self, fingerprint: i64) -> Found {
        self.commands.get_mut(&fingerprint).map_or(Found::Nothing, Count::claim)
    }

    /// Lays a statement whose text can't be compared to a command with this word.
    pub(super) fn claim_verb(&mut self, verb: &str) -> Found {
        let mut alike = self.commands.values_mut().filter(|count| count.verb == verb);
        alike.find(|count| count.left() > 0).map_or(Found::Nothing, Count::claim)
    }

    /// Whether a command of this fingerprint is recorded, claimed or not.
    pub(super) fn knows(&self, fingerprint: i64) -> bool {
        self.commands.contains_key(&fingerprint)
    }

    /// Commands that ended well and that no statement of the server was laid to.
    pub(super) fn unclaimed(&self) -> u64 {
        let of_server = |count: &&Count| count.verb != "EMPTY";
        self.commands.values().filter(of_server).map(|count| u64::from(count.done)).sum()
    }
}

impl Count {
    fn left(&self) -> u32 {
        self.done + self.may
    }

    fn claim(&mut self) -> Found {
        for left in [&mut self.done, &mut self.may] {
            if *left > 0 {
                *left -= 1;
                return Found::Command;
            }
        }
        if self.refused > 0 { Found::Refused } else { Found::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use journal::row::{EventSession, EventStatement, Shared};

    use super::*;

    #[test]
    fn each_command_is_claimed_once_and_refusals_are_none() {
        let mut own = Recorded::default();
        let row = |fp, decision: &'static str, status: &'static str| EventRow {
            session: Shared::new(EventSession {
                session_id: "s".into(),
                ..EventSession::default()
            }),
            statement: Shared::new(EventStatement {
                kind: "db.query".into(),
                verb: "SELECT".into(),
                statement_fp: fp,
                ..EventStatement::default()
            }),
            decision: decision.into(),
            status: status.into(),
            ..EventRow::default()
        };
        for row in [
            row(1, "allow", "ok"),
            row(1, "mask", "error"),
            row(2, "deny", "denied"),
            row(3, "allow", "ok"),
            row(4, "allow", "skipped"),
        ] {
            own.take(&row);
        }
        let session = own.sessions.get_mut("s").unwrap();
        assert_eq!(
            [1, 1, 1].map(|fp| session.claim(fp)),
            [Found::Command, Found::Command, Found::Nothing]
        );
        assert_eq!(
            [2, 4, 9].map(|fp| session.claim(fp)),
            [Found::Refused, Found::Refused, Found::Nothing]
        );
        assert!(session.knows(1) && !session.knows(9));
        assert_eq!(session.unclaimed(), 1);
        assert_eq!(
            [session.claim_verb("SELECT"), session.claim_verb("COPY")],
            [Found::Command, Found::Nothing]
        );
        assert_eq!(session.unclaimed(), 0);
    }
}
