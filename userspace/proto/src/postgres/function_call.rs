//! FunctionCall: a function called by its OID, as libpq does with large objects.

use std::sync::Arc;

use types::command::{Access, Action, Analysis, CommandKind, Risk, Statement};

use super::PostgresSession;
use super::authority::{Pending, Request};
use super::expect::InFlight;
use super::frontend::MALFORMED;
use super::prepared::Bind;
use crate::reader::Reader;
use crate::sql;

/// The functions on large objects (`pg_proc.dat`): OIDs that were given once and stay.
const LARGE_OBJECTS: [(u32, &str); 20] = [
    (715, "lo_create"),
    (764, "lo_import"),
    (765, "lo_export"),
    (767, "lo_import"),
    (952, "lo_open"),
    (953, "lo_close"),
    (954, "loread"),
    (955, "lowrite"),
    (956, "lo_lseek"),
    (957, "lo_creat"),
    (958, "lo_tell"),
    (964, "lo_unlink"),
    (1004, "lo_truncate"),
    (3170, "lo_lseek64"),
    (3171, "lo_tell64"),
    (3172, "lo_truncate64"),
    (3457, "lo_from_bytea"),
    (3458, "lo_get"),
    (3459, "lo_get"),
    (3460, "lo_put"),
];

impl PostgresSession {
    pub(super) fn function_call(&mut self, frame: &[u8], body: &[u8]) -> bool {
        let mut reader = Reader::new(body);
        let read = reader.u32().and_then(|oid| Some((oid, Bind::read_call(reader.rest())?)));
        let Some((oid, call)) = read else {
            self.refuse_agent(MALFORMED, *b"08P01");
            return false;
        };
        let statement = Arc::new(statement(oid));
        let parameters = call.parameters(|_| 0);
        let id = self.ask(CommandKind::FunctionCall, Arc::clone(&statement), parameters);
        self.next_batch = self.next_batch.wrapping_add(1);
        let command = InFlight::new(id, statement, frame.len() as u64);
        self.agent.pending = Some(Pending::new(frame.len(), Request::Function, vec![command]));
        false
    }
}

/// The call of a function, of which nothing is known but for those on large objects: any other may be
/// one that a statement would be refused for.
fn statement(oid: u32) -> Statement {
    let at = LARGE_OBJECTS.binary_search_by_key(&oid, |(oid, _)| *oid);
    let known = at.ok().and_then(|at| LARGE_OBJECTS.get(at)).map(|(_, name)| *name);
    let (name, risks) = match known {
        Some(name) => (format!("pg_catalog.{name}"), sql::function_risks(name)),
        None => (oid.to_string(), Risk::UNKNOWN_FUNCTION | Risk::OPAQUE),
    };
    let text = format!("FUNCTION {name}");
    let accesses = vec![Access { action: Action::Call, table: None }];
    let risks = risks | Risk::SIDE_EFFECT;
    let mut analysis = Analysis::new("FUNCTION", text.as_str(), accesses, risks);
    let name: Arc<str> = name.into();
    if known.is_none() {
        analysis.unknown_functions.push(Arc::clone(&name));
    }
    analysis.functions.push(name);
    Statement::new(text, analysis)
}

/// Whether what a function returns may hold values of columns: all but the numbers that most of those on
/// large objects return.
pub(super) fn returns_values(statement: &Statement) -> bool {
    !statement.unknown_functions.is_empty() || statement.risks.contains(Risk::STATISTICS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called() {
        assert!(LARGE_OBJECTS.is_sorted_by_key(|(oid, _)| *oid));
        for (oid, name, risks) in [
            (952, "pg_catalog.lo_open", Risk::empty()),
            (953, "pg_catalog.lo_close", Risk::empty()),
            (954, "pg_catalog.loread", Risk::STATISTICS),
            (765, "pg_catalog.lo_export", Risk::UNSAFE_FUNCTION),
            // pg_read_file(text), by name refused for what it is.
            (2_624, "2624", Risk::UNKNOWN_FUNCTION | Risk::OPAQUE),
        ] {
            let statement = statement(oid);
            assert_eq!(&*statement.functions[0], name);
            assert_eq!(statement.risks, risks | Risk::SIDE_EFFECT, "{oid}");
            assert_eq!(statement.unknown_functions.is_empty(), name.starts_with("pg_"), "{oid}");
            assert_eq!(returns_values(&statement), [954, 2_624].contains(&oid), "{oid}");
        }
    }
}
