//! Calls by a name that both the server and the database have a function of.
//!
//! Which of them is meant depends on types and on `search_path`, which the text does not tell: the database's
//! own counts, about which nothing is known.

use std::sync::Arc;

use types::command::{Analysis, Statement};

use super::PostgresSession;

/// The last analysis that was found to call such a function, and what it is then: prepared statements run
/// many times, and what follows from an analysis is kept by it.
#[derive(Debug)]
pub(super) struct Called {
    epoch: u64,
    before: Arc<Analysis>,
    after: Arc<Analysis>,
}

impl PostgresSession {
    /// Whether a statement calls a function that may be the database's own.
    pub(super) fn calls_own(&self, statement: &Statement) -> bool {
        statement.functions.iter().any(|name| self.redactor.has_function(name))
    }

    /// A statement by what its database has of its own.
    pub(super) fn known_here(&mut self, statement: Arc<Statement>) -> Arc<Statement> {
        if !self.calls_own(&statement) {
            return statement;
        }
        let (epoch, before) = (self.epoch, &statement.analysis);
        let after = match &self.called {
            Some(called) if called.epoch == epoch && Arc::ptr_eq(&called.before, before) => {
                Arc::clone(&called.after)
            }
            _ => {
                let own = before.functions.iter().filter(|name| self.redactor.has_function(name));
                let own: Vec<Arc<str>> = own.cloned().collect();
                let after = Arc::new(before.calling(&own));
                let (before, kept) = (Arc::clone(before), Arc::clone(&after));
                self.called = Some(Called { epoch, before, after: kept });
                after
            }
        };
        Arc::new(Statement { text: Arc::clone(&statement.text), analysis: after })
    }
}
