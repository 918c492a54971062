//! Cursors made by SQL: whose rows a FETCH brings.
//!
//! A name counts only while it is certain what it means: from the end of its DECLARE until anything
//! that may have closed it or made it anew. Of what is not known here, every value is masked.

use std::collections::HashMap;
use std::sync::Arc;

use types::command::{Risk, Statement};
use types::limits::PREPARED_MAX;

/// The cursors that are open.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    declared: HashMap<Arc<str>, Arc<Statement>>,
}

impl Cursors {
    /// The statement whose rows `statement` brings: its cursor's for a FETCH, else its own.
    pub(super) fn source(&self, statement: &Arc<Statement>) -> Arc<Statement> {
        let cursor = statement.cursor.as_ref().filter(|_| statement.verb == "FETCH");
        Arc::clone(cursor.and_then(|name| self.declared.get(name)).unwrap_or(statement))
    }

    /// Notes that the server ran a statement.
    pub(super) fn ran(&mut self, statement: &Arc<Statement>) {
        let hidden = Risk::OPAQUE | Risk::UNKNOWN_FUNCTION | Risk::UNPARSED;
        if matches!(statement.verb, "CLOSE" | "DISCARD") || statement.risks.intersects(hidden) {
            self.declared.clear();
        }
        if let ("DECLARE", Some(name)) = (statement.verb, &statement.cursor) {
            // Cursors that are not known are masked: it is safe to forget them all.
            if self.declared.len() >= PREPARED_MAX {
                self.declared.clear();
            }
            self.declared.insert(Arc::clone(name), Arc::clone(statement));
        }
    }

    /// Notes that a portal of this name may be made or closed.
    pub(super) fn forget(&mut self, name: &[u8]) {
        self.declared.retain(|declared, _| declared.as_bytes() != name);
    }
}
