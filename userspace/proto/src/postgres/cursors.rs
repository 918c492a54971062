//! Cursors made by SQL: whose rows a FETCH brings.
//!
//! A name counts only while it is certain what it means: from the end of its DECLARE until anything
//! that may have closed it or made it anew. Of what is not known here, every value is masked.

use std::collections::HashMap;
use std::sync::Arc;

use types::command::{Risk, Statement};
use types::limits::PREPARED_MAX;

use super::expect::InFlight;
use super::limited::Under;
use crate::limit::{Limited, Limits};

/// The cursors that are open.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    declared: HashMap<Arc<str>, Declared>,
    /// The version of the catalog that masks go by.
    pub(super) catalog: u64,
}

/// An open cursor.
#[derive(Debug)]
struct Declared {
    statement: Arc<Statement>,
    limited: Option<Limited>,
    /// The catalog's version when it was declared. One that outlives its transaction has the rows of
    /// then: what relations have become since says nothing of them.
    catalog: u64,
}

impl Cursors {
    /// The statement whose rows `statement` brings: its cursor's for a FETCH, else its own.
    pub(super) fn source(&self, statement: &Arc<Statement>) -> Arc<Statement> {
        let cursor = self.read_by(statement).filter(|cursor| cursor.catalog == self.catalog);
        Arc::clone(cursor.map_or(statement, |cursor| &cursor.statement))
    }

    /// The limits that a command is under by its cursor alone.
    pub(super) fn limits_of(&self, command: &InFlight) -> Option<Under> {
        let limited = self.read_by(&command.statement)?.limited.clone()?;
        Some(Under { limited, started: None })
    }

    /// A command under `limits`, and under its cursor's if it is a FETCH.
    pub(super) fn limited(&self, command: &InFlight, limits: Limits) -> Under {
        let limited = Limited::new(limits, Arc::default());
        let cursor = self.read_by(&command.statement).and_then(|cursor| cursor.limited.as_ref());
        let limited = match cursor {
            Some(cursor) => limited.reads(cursor),
            None => limited,
        };
        Under { limited, started: None }
    }

    fn read_by(&self, statement: &Statement) -> Option<&Declared> {
        let name = statement.cursor.as_ref().filter(|_| statement.verb == "FETCH")?;
        self.declared.get(name)
    }

    /// Notes that the server ran a statement.
    pub(super) fn ran(&mut self, statement: &Arc<Statement>, limited: Option<Limited>) {
        let hidden = Risk::OPAQUE | Risk::UNKNOWN_FUNCTION | Risk::UNPARSED;
        if matches!(statement.verb, "CLOSE" | "DISCARD") || statement.risks.intersects(hidden) {
            self.declared.clear();
        }
        if let ("DECLARE", Some(name)) = (statement.verb, &statement.cursor) {
            // Cursors that are not known are masked: it is safe to forget them all.
            if self.declared.len() >= PREPARED_MAX {
                self.declared.clear();
            }
            let declared =
                Declared { statement: Arc::clone(statement), limited, catalog: self.catalog };
            self.declared.insert(Arc::clone(name), declared);
        }
    }

    /// Notes that a portal of this name may be made or closed.
    pub(super) fn forget(&mut self, name: &[u8]) {
        self.declared.retain(|declared, _| declared.as_bytes() != name);
    }
}
