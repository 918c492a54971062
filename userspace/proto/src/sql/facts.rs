//! What a statement's visit has found so far.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_query::protobuf::RangeVar;
use types::command::{Access, Action, ColumnName, Copy, Output, PreparedUse, Risk, TableName};

use super::functions;
use super::lineage::Flow;
use super::met::Met;
use super::names;

/// What has been found; becomes a [`types::command::Statement`].
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) accesses: BTreeSet<Access>,
    pub(super) functions: BTreeSet<Arc<str>>,
    pub(super) unknown_functions: BTreeSet<Arc<str>>,
    pub(super) risks: Risk,
    pub(super) outputs: Option<Vec<Output>>,
    pub(super) copy: Option<Copy>,
    /// Columns whose values do something else than come out.
    pub(super) probes: BTreeSet<ColumnName>,
    /// Such columns could not be told.
    pub(super) probes_lost: bool,
    /// Columns that are written.
    pub(super) writes: BTreeSet<ColumnName>,
    pub(super) cursor: Option<Arc<str>>,
    pub(super) prepared: Option<PreparedUse>,
    /// Where the constants begin whose values made no difference to the rest of this.
    pub(super) constants: Vec<i32>,
    /// The values of constants made a difference: what looks at one sets this.
    pub(super) by_value: bool,
    /// Which values columns meet.
    pub(super) met: Met,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            accesses: BTreeSet::new(),
            functions: BTreeSet::new(),
            unknown_functions: BTreeSet::new(),
            risks: Risk::empty(),
            outputs: None,
            copy: None,
            probes: BTreeSet::new(),
            probes_lost: false,
            writes: BTreeSet::new(),
            cursor: None,
            prepared: None,
            constants: Vec::new(),
            by_value: false,
            met: Met::default(),
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

    /// Adds columns whose values do something else than come out.
    pub(super) fn probe(&mut self, flow: &Flow) {
        let (columns, lost) = flow.named();
        self.probes.extend(columns.iter().cloned());
        self.probes_lost |= lost;
    }

    /// Adds a column that is written.
    pub(super) fn write(&mut self, table: &TableName, column: &str) {
        self.writes.insert(ColumnName { table: table.clone(), column: column.into() });
    }

    /// The columns probed; where they could not be told, all of every relation.
    pub(super) fn take_probes(&mut self) -> Vec<ColumnName> {
        let mut probes = std::mem::take(&mut self.probes);
        if self.probes_lost {
            let tables = self.accesses.iter().filter_map(|access| access.table.clone());
            probes.extend(tables.map(|table| ColumnName { table, column: "*".into() }));
        }
        probes.into_iter().collect()
    }

    /// Adds a call of the function with this (possibly qualified, folded) name.
    pub(super) fn call(&mut self, path: &[&str]) {
        let Some(name) = path.last() else { return };
        let known = functions::risks(name);
        self.risks |= known;
        if known.is_empty() && functions::returns(path) == functions::Returns::Unknown {
            self.risks |= Risk::UNKNOWN_FUNCTION;
            self.unknown_functions.insert(path.join(".").to_lowercase().into());
        }
        self.functions.insert(path.join(".").to_lowercase().into());
    }

    /// Adds a call of code of the database's own, by the name of what calls it.
    pub(super) fn unknown_call(&mut self, path: &[&str]) {
        let name: Arc<str> = path.join(".").to_lowercase().into();
        self.risks |= Risk::UNKNOWN_FUNCTION;
        self.unknown_functions.insert(Arc::clone(&name));
        self.functions.insert(name);
    }
}

/// What reading a system catalog of this name gives away.
fn catalog_risks(table: &TableName) -> Risk {
    match (table.schema.as_deref(), &*table.name) {
        // Options hold passwords.
        (Some("information_schema"), "user_mapping_options" | "_pg_user_mappings") => {
            return Risk::PRIVILEGE;
        }
        (None | Some("pg_catalog"), _) => {}
        _ => return Risk::empty(),
    }
    match &*table.name {
        "pg_stats"
        | "pg_statistic"
        | "pg_statistic_ext_data"
        | "pg_stats_ext"
        | "pg_stats_ext_exprs"
        | "pg_largeobject"
        // The texts of other sessions' statements, and of what they hold open.
        | "pg_stat_activity"
        | "pg_stat_statements"
        | "pg_cursors"
        | "pg_prepared_statements" => Risk::STATISTICS,
        "pg_authid" | "pg_shadow" | "pg_user_mapping" | "pg_user_mappings" | "pg_subscription"
        | "pg_hba_file_rules" => Risk::PRIVILEGE,
        _ => Risk::empty(),
    }
}
