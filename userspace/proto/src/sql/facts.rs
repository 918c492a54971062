//! What a statement's visit has found so far.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_query::protobuf::RangeVar;
use types::command::{Access, Action, Copy, Output, Risk, TableName};

use super::functions;
use super::names;

/// What has been found; becomes a [`types::command::Statement`].
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) accesses: BTreeSet<Access>,
    pub(super) functions: BTreeSet<Arc<str>>,
    pub(super) risks: Risk,
    pub(super) outputs: Option<Vec<Output>>,
    pub(super) copy: Option<Copy>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            accesses: BTreeSet::new(),
            functions: BTreeSet::new(),
            risks: Risk::empty(),
            outputs: None,
            copy: None,
        }
    }
}

impl Facts {
    /// Adds an action on the database as a whole.
    pub(super) fn database(&mut self, action: Action) {
        self.accesses.insert(Access { action, table: None });
    }

    /// Adds an action on the relation that a statement names.
    pub(super) fn relation(&mut self, action: Action, relation: Option<&RangeVar>) {
        self.table(action, relation.map(names::table));
    }

    /// Adds an action on a relation.
    pub(super) fn table(&mut self, action: Action, table: Option<TableName>) {
        if let Some(table) = &table {
            self.risks |= catalog_risks(table);
        }
        self.accesses.insert(Access { action, table });
    }

    /// Adds a definition of, or a change to, an object.
    pub(super) fn ddl(&mut self, relation: Option<&RangeVar>) {
        self.risks |= Risk::DDL;
        self.relation(Action::Ddl, relation);
    }

    /// Adds a change of who may do what.
    pub(super) fn privilege(&mut self, relation: Option<&RangeVar>) {
        self.risks |= Risk::PRIVILEGE;
        self.relation(Action::Privilege, relation);
    }

    /// Adds a form the analysis does not know: the worst is assumed.
    pub(super) fn unknown(&mut self) {
        self.risks |= Risk::OPAQUE;
        self.database(Action::Unknown);
    }

    /// Adds a call of the function with this (possibly qualified, folded) name.
    pub(super) fn call(&mut self, path: &[&str]) {
        let Some(name) = path.last() else { return };
        let known = functions::risks(name);
        self.risks |= known;
        if known.is_empty() && functions::returns(path) == functions::Returns::Unknown {
            self.risks |= Risk::UNKNOWN_FUNCTION;
        }
        self.functions.insert(path.join(".").to_lowercase().into());
    }
}

/// What reading a system catalog of this name gives away.
fn catalog_risks(table: &TableName) -> Risk {
    if table.schema.as_deref().is_some_and(|schema| schema != "pg_catalog") {
        return Risk::empty();
    }
    match &*table.name {
        "pg_stats"
        | "pg_statistic"
        | "pg_statistic_ext_data"
        | "pg_stats_ext"
        | "pg_stats_ext_exprs"
        | "pg_largeobject" => Risk::STATISTICS,
        "pg_authid" | "pg_shadow" | "pg_user_mapping" | "pg_user_mappings" | "pg_subscription"
        | "pg_hba_file_rules" => Risk::PRIVILEGE,
        _ => Risk::empty(),
    }
}
