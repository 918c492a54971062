//! SET, RESET and what a setting's name means.

use pg_query::protobuf::{AExprKind, BoolExprType, VariableSetKind, VariableSetStmt};
use pg_query::{Node, NodeEnum};
use types::command::{Action, Risk};

use super::names;
use super::query::Visitor;

/// What setting a parameter of unknown name may do.
pub(super) const ANY: Risk = Risk::REINTERPRETS.union(Risk::PRIVILEGE);

/// What setting this parameter does, and the action it is, where that is more than `Session`
/// (PostgreSQL documentation, chapter 20).
pub(super) fn setting(name: &str) -> (Risk, Option<Action>) {
    match name.to_ascii_lowercase().as_str() {
        "role" | "session_authorization" => (Risk::PRIVILEGE, Some(Action::Privilege)),
        "session_replication_role" => (ANY, Some(Action::Privilege)),
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

    /// What a call of `set_config` with this name does.
    pub(super) fn set_config(&self, name: Option<&Node>) -> Risk {
        let given = name.and_then(names::string);
        let looked_up = || name.filter(|name| is_name(name)).and(self.setting.as_deref());
        given.or_else(looked_up).map_or(ANY, |name| setting(name).0)
    }
}

/// The one setting that rows of `pg_settings` can be about: pg_dump sets one that not every version
/// has by `SELECT set_config(name, …) FROM pg_settings WHERE name = '…'`.
pub(super) fn only_setting(from: &[Node], condition: Option<&Node>) -> Option<String> {
    let [Node { node: Some(NodeEnum::RangeVar(view)) }] = from else { return None };
    let is_renamed = view.alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty());
    if view.relname != "pg_settings"
        || !matches!(view.schemaname.as_str(), "" | "pg_catalog")
        || is_renamed
    {
        return None;
    }
    fixed_name(condition?)
}

/// What `name` equals wherever the condition holds.
fn fixed_name(condition: &Node) -> Option<String> {
    match condition.node.as_ref()? {
        NodeEnum::BoolExpr(all) if all.boolop == BoolExprType::AndExpr as i32 => {
            all.args.iter().find_map(fixed_name)
        }
        // `= ANY`, `IN` and `IS DISTINCT FROM` have this name too.
        NodeEnum::AExpr(equal)
            if equal.kind == AExprKind::AexprOp as i32 && names::path(&equal.name) == ["="] =>
        {
            let (left, right) = (equal.lexpr.as_deref()?, equal.rexpr.as_deref()?);
            let value =
                if is_name(left) { right } else { Some(left).filter(|_| is_name(right))? };
            names::string(value).map(str::to_owned)
        }
        _ => None,
    }
}

/// Whether this is the column `name`.
fn is_name(node: &Node) -> bool {
    let Some(NodeEnum::ColumnRef(column)) = &node.node else { return false };
    matches!(names::path(&column.fields).as_slice(), ["name"] | [_, "name"])
}
