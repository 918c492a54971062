//! PREPARE, EXECUTE and DEALLOCATE in SQL: an EXECUTE is decided, masked and recorded as what it runs.
//!
//! Names are the protocol's own: what Parse made, EXECUTE runs, and what PREPARE made, Bind binds. Prepared
//! statements are not transactional: a rollback takes none back. Code that is not seen (a function of the
//! database's own) may prepare, too; behind it no name counts for EXECUTE until it is prepared again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use types::command::{PreparedUse, Risk, Statement};
use types::limits::PREPARED_MAX;

use super::expect::InFlight;
use super::names::{Change, Held, Lookup};
use super::prepared::Prepared;
use super::{HELD_BYTES_MAX, PostgresSession};
use crate::sql;

/// A change of a name that a command makes where it succeeds.
#[derive(Debug)]
pub(super) struct NameChange {
    name: Arc<str>,
    change: Change,
    value: Option<Arc<Prepared>>,
}

impl PostgresSession {
    /// The statements of one message, by what the database has of its own, each EXECUTE as what it runs; one of
    /// a name that is not known stays as it is. `None` where that depends on an answer that is due.
    pub(super) fn resolve(
        &mut self,
        statements: &Arc<[Arc<Statement>]>,
    ) -> Option<Arc<[Arc<Statement>]>> {
        if !statements.iter().any(|one| executes(one) || self.calls_own(one)) {
            return Some(Arc::clone(statements));
        }
        // What the statements before it in the message make of a name; if they fail, it does not run.
        let mut said: HashMap<&str, Option<&Arc<Statement>>> = HashMap::new();
        let mut lost = false;
        let mut resolved = Vec::with_capacity(statements.len());
        for statement in statements.iter() {
            let mut done = Arc::clone(statement);
            match &statement.prepared {
                Some(PreparedUse::Executes { name, .. }) => {
                    let run = match said.get(&**name) {
                        Some(said) => said.map(Arc::clone),
                        None if lost => None,
                        None => match self.statements.get(name.as_bytes(), self.agent.segment) {
                            Lookup::Known(prepared) => Some(prepared)
                                .filter(|one| one.generation == self.generation)
                                .map(|one| Arc::clone(&one.statement)),
                            Lookup::Unknown => None,
                            Lookup::Wait => {
                                self.agent.waiting = true;
                                return None;
                            }
                        },
                    };
                    if let Some(known) = run.and_then(|run| sql::executing(statement, &run)) {
                        done = known;
                    }
                }
                Some(PreparedUse::Prepares { name, statement }) => {
                    said.insert(name, Some(statement));
                }
                Some(PreparedUse::Deallocates(Some(name))) => drop(said.insert(name, None)),
                Some(PreparedUse::Deallocates(None)) => {
                    said.clear();
                    lost = true;
                }
                None => {}
            }
            let done = self.known_here(done);
            if hides(&done) {
                said.clear();
                lost = true;
            }
            resolved.push(done);
        }
        Some(resolved.into())
    }

    /// One statement likewise.
    pub(super) fn resolve_one(&mut self, statement: Arc<Statement>) -> Option<Arc<Statement>> {
        if !executes(&statement) {
            return Some(self.known_here(statement));
        }
        let all: Arc<[Arc<Statement>]> = Arc::new([statement]);
        self.resolve(&all)?.first().cloned()
    }

    /// Notes what a command that goes up makes of prepared statements.
    pub(super) fn foresee_names(&mut self, command: &mut InFlight) {
        let segment = self.agent.segment;
        if hides(&command.statement) {
            self.generation += 1;
        }
        let (name, value) = match &command.statement.prepared {
            Some(PreparedUse::Prepares { name, statement }) => {
                let held = Held::new(&self.held, statement.text.len());
                let full = self.statements.len() + self.portals.len() >= PREPARED_MAX
                    || self.held.load(Ordering::Relaxed) > HELD_BYTES_MAX;
                let prepared =
                    Prepared::new(Arc::clone(statement), Box::default(), held, self.generation);
                // Of one that is not kept nothing is known, and it is refused.
                (name, (!full).then(|| Arc::new(prepared)))
            }
            Some(PreparedUse::Deallocates(Some(name))) => (name, None),
            _ => return,
        };
        let name = Arc::clone(name);
        let change = self.statements.change(name.as_bytes(), segment, value.clone());
        command.change = Some(Box::new(NameChange { name, change, value }));
    }

    /// Keeps or drops the change that a command was to make.
    pub(super) fn settle_name(&mut self, change: NameChange, made: bool) {
        let NameChange { name, change, value } = change;
        if made {
            self.statements.confirm(name.as_bytes(), change, value);
        } else {
            self.statements.drop_change(name.as_bytes(), change);
        }
    }
}

fn executes(statement: &Arc<Statement>) -> bool {
    matches!(statement.prepared, Some(PreparedUse::Executes { .. }))
}

/// Whether a statement may run what is not seen.
fn hides(statement: &Statement) -> bool {
    let hidden = Risk::OPAQUE | Risk::UNKNOWN_FUNCTION | Risk::UNPARSED;
    statement.risks.intersects(hidden) || statement.verb == "FUNCTION"
}

/// Whether a statement runs another, whose rows its own description may not be of.
pub(super) fn is_execute(statement: &Statement) -> bool {
    statement.verb == "EXECUTE"
}
