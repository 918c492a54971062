//! What a file's rows say beyond their leaves: by what it is judged whether all is there, and whether it was done as it had
//! to be.

use std::collections::{BTreeMap, HashMap};

use arrow_array::Int64Array;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use journal::row::Table;
use serde::{Deserialize, Serialize};

use super::columns::Strings;
use crate::key::Rotation;
use crate::{holds, retention};

/// What one file says. Of a file with as many rows as there may be ahead (8 Mi) each with a session of its own it has
/// 8 Mi × 100 B; of one as nodes write them, a few thousand sessions.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Commands by session.
    pub(super) commands: HashMap<String, u64>,
    /// The policies that commands were decided by: digest, and the first of them.
    pub(super) digests: BTreeMap<String, u64>,
    /// Commands that went on because people approved.
    pub(super) approved: Vec<Approved>,
    /// Sessions that closed.
    pub(super) sessions: Vec<Closed>,
    /// Records of the node that are looked at, as they lie.
    pub(super) records: Vec<Record>,
}

/// One of them, by itself: what is taken from files in which rows of many logs and steps are beside one another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Fact {
    /// Commands of a session, the first of them, and how many.
    Commands(u64, String, u64),
    /// Policies that a command was decided by.
    Digest(u64, String),
    Approved(Approved),
    Closed(Closed),
    Record(Record),
}

impl Fact {
    /// The record that says it.
    pub(super) fn seq(&self) -> u64 {
        match self {
            Self::Commands(seq, ..)
            | Self::Digest(seq, _)
            | Self::Approved(Approved { seq, .. })
            | Self::Closed(Closed { seq, .. })
            | Self::Record(Record { seq, .. }) => *seq,
        }
    }
}

impl Facts {
    /// Each by itself; of commands the first is `first`, as all of one session are taken together.
    pub(super) fn each(self, first: u64, each: &mut dyn FnMut(Fact)) {
        let Self { commands, digests, approved, sessions, records } = self;
        let commands = commands.into_iter().map(|(one, count)| Fact::Commands(first, one, count));
        let digests = digests.into_iter().map(|(digest, seq)| Fact::Digest(seq, digest));
        let rows = approved.into_iter().map(Fact::Approved);
        let rows = rows.chain(sessions.into_iter().map(Fact::Closed));
        for fact in commands.chain(digests).chain(rows).chain(records.into_iter().map(Fact::Record))
        {
            each(fact);
        }
    }

    /// Adds one.
    pub(super) fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Commands(_, session, count) => {
                *self.commands.entry(session).or_default() += count;
            }
            Fact::Digest(seq, digest) => {
                let first = self.digests.entry(digest).or_insert(seq);
                *first = (*first).min(seq);
            }
            Fact::Approved(one) => self.approved.push(one),
            Fact::Closed(one) => self.sessions.push(one),
            Fact::Record(one) => self.records.push(one),
        }
    }
}

/// A command that people approved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Approved {
    pub(super) seq: u64,
    /// Of which request; absent where the row does not say.
    pub(super) request: Option<String>,
    /// `sub@issuer`, `, ` between them.
    pub(super) approvers: String,
    /// Whom the agent acts for, `sub@issuer`.
    pub(super) person: Option<String>,
    /// Somebody let it through in an emergency.
    pub(super) is_emergency: bool,
}

/// A session that closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Closed {
    pub(super) seq: u64,
    pub(super) session: String,
    pub(super) opened_us: i64,
    /// Commands that it says it had.
    pub(super) declared: i64,
}

/// A record of the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) ts_us: i64,
    pub(super) kind: String,
    pub(super) detail: String,
}

/// The kinds of records that are looked at.
const KINDS: [&str; 14] = [
    "heartbeat",
    "log.start",
    "daemon.stop",
    "approval.requested",
    "approval.granted",
    "policy.loaded",
    "policy.text",
    "archive.retention",
    "archive.dispose_refused",
    retention::DISPOSED,
    holds::SET,
    holds::RELEASE_ASKED,
    holds::RELEASED,
    Rotation::KIND,
];

/// Adds what a batch says; a column that is not there says nothing.
pub(super) fn gather(table: Table, batch: &RecordBatch, facts: &mut Facts) {
    let columns = Columns { batch };
    let Some(seqs) = columns.numbers("seq") else { return };
    let seq = |row: usize| u64::try_from(seqs.value(row)).unwrap_or(0);
    match table {
        Table::Events => events(&columns, &seq, facts),
        Table::Sessions => sessions(&columns, &seq, facts),
        Table::Control => control(&columns, &seq, facts),
        Table::Recordings => {}
    }
}

fn events(columns: &Columns<'_>, seq: &dyn Fn(usize) -> u64, facts: &mut Facts) {
    let (Some(sessions), Some(digests), Some(decisions)) =
        (columns.texts("session_id"), columns.texts("policy_digest"), columns.texts("decision"))
    else {
        return;
    };
    let optional = ["approval_id", "approver_id", "actor_sub", "actor_idp"];
    let [requests, approvers, subs, idps] = optional.map(|name| columns.texts(name));
    let text = |column: Option<Strings<'_>>, row: usize| {
        column.and_then(|column| column.get(row)).map(str::to_owned)
    };
    for row in 0..columns.batch.num_rows() {
        let session = sessions.value(row);
        match facts.commands.get_mut(session) {
            Some(count) => *count += 1,
            None => drop(facts.commands.insert(session.to_owned(), 1)),
        }
        let digest = digests.value(row);
        if !facts.digests.contains_key(digest) {
            facts.digests.insert(digest.to_owned(), seq(row));
        }
        let is_emergency = decisions.value(row) == "break_glass";
        if is_emergency || decisions.value(row) == "approved" {
            let person = text(subs, row).zip(text(idps, row));
            facts.approved.push(Approved {
                seq: seq(row),
                request: text(requests, row),
                approvers: text(approvers, row).unwrap_or_default(),
                person: person.map(|(sub, idp)| format!("{sub}@{idp}")),
                is_emergency,
            });
        }
    }
}

fn sessions(columns: &Columns<'_>, seq: &dyn Fn(usize) -> u64, facts: &mut Facts) {
    let (Some(ids), Some(declared), Some(opened)) = (
        columns.texts("session_id"),
        columns.numbers("events_declared"),
        columns.times("opened_at"),
    ) else {
        return;
    };
    for row in 0..columns.batch.num_rows() {
        facts.sessions.push(Closed {
            seq: seq(row),
            session: ids.value(row).to_owned(),
            opened_us: opened.value(row),
            declared: declared.value(row),
        });
    }
}

fn control(columns: &Columns<'_>, seq: &dyn Fn(usize) -> u64, facts: &mut Facts) {
    let (Some(kinds), Some(details), Some(times)) =
        (columns.texts("kind"), columns.texts("detail"), columns.times("ts"))
    else {
        return;
    };
    for row in (0..columns.batch.num_rows()).filter(|row| KINDS.contains(&kinds.value(*row))) {
        facts.records.push(Record {
            seq: seq(row),
            ts_us: times.value(row),
            kind: kinds.value(row).to_owned(),
            detail: details.value(row).to_owned(),
        });
    }
}

/// A batch's columns, by name and type.
struct Columns<'b> {
    batch: &'b RecordBatch,
}

impl<'b> Columns<'b> {
    fn texts(&self, name: &str) -> Option<Strings<'b>> {
        Strings::of(self.batch.column_by_name(name)?)
    }

    fn numbers(&self, name: &str) -> Option<&'b Int64Array> {
        self.batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()
    }

    fn times(
        &self,
        name: &str,
    ) -> Option<&'b arrow_array::PrimitiveArray<TimestampMicrosecondType>> {
        self.batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>()
    }
}
