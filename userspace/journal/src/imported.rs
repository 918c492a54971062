//! The mark of what was imported: it was read from a capture, nobody intercepted or decided it.
//!
//! It goes by the log's own name, which its checkpoints are signed with and every row has: a row of a log that is
//! called so can't be without the mark, nor have it in any other.

use crate::row::{
    ControlRow, EventRow, EventSession, EventStatement, RecordingRow, Row, SessionRow, Table, Text,
};

/// What the name of a node begins with that is no node but an import. No host may be called so.
pub const NODE_PREFIX: &str = "import.";

/// What stands before the kinds of imported commands and records, and the streams of their texts.
pub const KIND_PREFIX: &str = "import.";

/// What stands where it would say how well an agent is held (`assurance`).
pub const TRUST: &str = "imported";

/// What stands for the decision on an imported command.
pub const DECISION: &str = "none";

/// Whether the rows of a node of this name are imported.
pub fn is_import(node: &str) -> bool {
    node.starts_with(NODE_PREFIX)
}

/// The column of a table that has the mark.
pub fn column(table: Table) -> &'static str {
    match table {
        Table::Events | Table::Control => "kind",
        Table::Sessions => "assurance",
        Table::Recordings => "stream",
    }
}

/// Whether a value of that column is the mark.
pub fn is_mark(table: Table, value: &str) -> bool {
    match table {
        Table::Events | Table::Control | Table::Recordings => value.starts_with(KIND_PREFIX),
        Table::Sessions => value == TRUST,
    }
}

/// Marks what is a row's own, and takes out what nobody saw; what event rows share is marked where it is made.
pub(crate) fn mark(row: &mut Row) {
    match row {
        Row::Event(row) => mark_event(row),
        Row::Session(row) => mark_session(row),
        Row::Control(row) => mark_control(row),
        Row::Recording(row) => mark_recording(row),
    }
}

/// Marks what a command's row shares with others of its session.
pub(crate) fn mark_event_session(row: &mut EventSession) {
    row.assurance = TRUST.into();
    row.boot_id = Text::default();
    (row.cgroup_id, row.pid, row.uid_os) = (None, None, None);
    row.policy_digest = Text::default();
}

/// Marks what it shares with others of its statement.
pub(crate) fn mark_event_statement(row: &mut EventStatement) {
    row.kind = format!("{KIND_PREFIX}{}", row.kind).into();
}

/// Marks what is a command's own, and takes out what nobody saw.
fn mark_event(row: &mut EventRow) {
    row.decision = DECISION.into();
    row.mono_ns = 0;
    row.decided_us = None;
    // OCSF 1.8: observed, logged.
    (row.action_id, row.disposition_id) = (3, 17);
}

/// Marks a session, and takes out what nobody saw.
fn mark_session(row: &mut SessionRow) {
    TRUST.clone_into(&mut row.assurance);
    (row.mono_ns, row.boot_id) = (0, String::new());
    (row.process_comm, row.cgroup_id, row.pid, row.process_start_ns) = (None, None, None, None);
    (row.uid_os, row.gid_os) = (None, None);
    (row.netns_cookie, row.socket_cookie) = (None, None);
}

/// Marks a record of the import itself.
fn mark_control(row: &mut ControlRow) {
    if !row.kind.starts_with(KIND_PREFIX) {
        row.kind.insert_str(0, KIND_PREFIX);
    }
}

/// Marks texts.
fn mark_recording(row: &mut RecordingRow) {
    row.stream = format!("{KIND_PREFIX}{}", row.stream).into();
}
