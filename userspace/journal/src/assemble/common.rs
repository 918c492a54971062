//! What rows of a session and of a statement have in common, made once for those that come one behind the other.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use types::command::CommandKind;
use types::identity::Identity;

use crate::assemble::fill;
use crate::decode::{KEPT_BYTES_MAX, STATEMENTS_MAX};
use crate::imported;
use crate::record::{BegunCommand, DecisionEntry, OpenedSession, StatementEntry};
use crate::row::{EventSession, EventStatement, Shared};
use crate::segment::SegmentHeader;

/// A session's, by identity and decision: the last two, as one that reads and writes has. One is 4 KiB, with its canonical form:
/// 80 MiB of ten thousand sessions'.
#[derive(Debug, Default)]
pub(super) struct Commons([Option<Common>; 2]);

#[derive(Debug)]
struct Common {
    identity: u32,
    decision: Arc<DecisionEntry>,
    row: Shared<EventSession>,
}

impl Commons {
    /// What the row of a command of this identity and decision shares.
    pub(super) fn of(
        &mut self,
        segment: &SegmentHeader,
        opened: &OpenedSession,
        (number, identity): (u32, &Identity),
        decision: &Arc<DecisionEntry>,
    ) -> &Shared<EventSession> {
        let is_it = |common: &Common| common.identity == number && common.decision == *decision;
        let [last, other] = &mut self.0;
        if !last.as_ref().is_some_and(is_it) {
            std::mem::swap(last, other);
        }
        if !last.as_ref().is_some_and(is_it) {
            let of_identity = other.as_ref().filter(|common| common.identity == number);
            let mut row = match of_identity {
                Some(common) => EventSession::clone(&common.row),
                None => fill::session_part(segment, opened, identity),
            };
            fill::put_decision(&mut row, decision);
            if imported::is_import(&segment.node) {
                imported::mark_event_session(&mut row);
            }
            let (decision, row) = (Arc::clone(decision), Shared::new(row));
            *last = Some(Common { identity: number, decision, row });
        }
        &last.as_ref().expect("it is there, or was put there").row
    }
}

/// Statements', by fingerprint: less than 16 KiB each with its canonical form, at most 16 MiB; one more, and it begins anew.
#[derive(Debug, Default)]
pub(super) struct Statements(FxHashMap<i64, Statement>);

#[derive(Debug)]
struct Statement {
    kind: CommandKind,
    entry: Arc<StatementEntry>,
    columns: Arc<Vec<String>>,
    row: Shared<EventStatement>,
}

impl Statements {
    /// What the row of a command of this statement shares.
    pub(super) fn of(
        &mut self,
        segment: &SegmentHeader,
        begun: &BegunCommand,
    ) -> Shared<EventStatement> {
        let BegunCommand { kind, statement: entry, columns, .. } = begun;
        // What the decoder knows is the same one.
        if let Some(known) = self.0.get(&entry.fingerprint)
            && known.kind == *kind
            && Arc::ptr_eq(&known.entry, entry)
            && Arc::ptr_eq(&known.columns, columns)
        {
            return known.row.clone();
        }
        let mut row = fill::statement_part(*kind, entry, columns);
        if imported::is_import(&segment.node) {
            imported::mark_event_statement(&mut row);
        }
        let row = Shared::new(row);
        if is_short(entry, columns) {
            if self.0.len() >= STATEMENTS_MAX {
                self.0.clear();
            }
            let (entry, columns) = (Arc::clone(entry), Arc::clone(columns));
            let known = Statement { kind: *kind, entry, columns, row: row.clone() };
            self.0.insert(known.entry.fingerprint, known);
        }
        row
    }
}

/// Whether the decoder keeps it.
fn is_short(entry: &StatementEntry, columns: &[String]) -> bool {
    let StatementEntry { normalized, accesses, .. } = entry;
    let objects = accesses.iter().filter_map(|access| access.object.as_ref());
    let bytes: usize = objects.chain(columns).map(String::len).sum();
    normalized.len() + bytes <= KEPT_BYTES_MAX
}
