//! SET, RESET and what a setting's name means.

use pg_query::protobuf::{VariableSetKind, VariableSetStmt};
use types::command::{Action, Risk};

use super::query::Visitor;

/// What setting a parameter of unknown name may do.
pub(super) const ANY: Risk = Risk::REINTERPRETS.union(Risk::PRIVILEGE);

/// What setting this parameter does, and the action it is, where that is more than `Session`
/// (PostgreSQL documentation, chapter 20).
pub(super) fn setting(name: &str) -> (Risk, Option<Action>) {
    match name.to_ascii_lowercase().as_str() {
        "role" | "session_authorization" => (Risk::PRIVILEGE, Some(Action::Privilege)),
        "session_replication_role" => (ANY, Some(Action::Privilege)),
        "row_security" => (Risk::PRIVILEGE, None),
        "client_encoding"
        | "names"
        | "standard_conforming_strings"
        | "search_path"
        | "schema"
        | "backslash_quote"
        | "transform_null_equals"
        | "quote_all_identifiers"
        | "array_nulls"
        | "xmloption"
        | "xml option"
        | "all" => (Risk::REINTERPRETS, None),
        "local_preload_libraries"
        | "session_preload_libraries"
        | "dynamic_library_path"
        | "jit_provider" => (Risk::UNSAFE_FUNCTION, Some(Action::Admin)),
        _ => (Risk::empty(), None),
    }
}

impl Visitor<'_> {
    /// Visits a SET or RESET; its verb.
    pub(super) fn set(&mut self, set: &VariableSetStmt) -> &'static str {
        let VariableSetStmt { kind, name, args: _, jumble_args: _, is_local: _, location: _ } = set;
        let kind = VariableSetKind::try_from(*kind).unwrap_or(VariableSetKind::Undefined);
        let (risks, action) = match kind {
            VariableSetKind::VarResetAll => (Risk::REINTERPRETS, None),
            // SET TRANSACTION and SET SESSION CHARACTERISTICS.
            VariableSetKind::VarSetMulti
                if name.starts_with("TRANSACTION") || name.starts_with("SESSION CHAR") =>
            {
                (Risk::empty(), None)
            }
            VariableSetKind::Undefined => (ANY.union(Risk::OPAQUE), Some(Action::Unknown)),
            _ => setting(name),
        };
        self.facts.risks |= risks;
        self.facts.database(action.unwrap_or(Action::Session));
        match (kind, name.as_str()) {
            (VariableSetKind::VarReset | VariableSetKind::VarResetAll, _) => "RESET",
            (_, "role") => "SET ROLE",
            (_, "session_authorization") => "SET SESSION AUTHORIZATION",
            (VariableSetKind::VarSetMulti, _) => "SET TRANSACTION",
            _ => "SET",
        }
    }
}
