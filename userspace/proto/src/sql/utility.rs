//! Statements by kind: queries, session control, and what runs other statements or the server.
//!
//! Every kind the grammar knows is named in one of the matches; a kind that is not is unknown.

use pg_query::protobuf::{
    CreateTableAsStmt, DiscardMode, ExplainStmt, ObjectType, SelectStmt, TransactionStmtKind,
    VacuumStmt,
};
use pg_query::{Node, NodeEnum};
use types::command::{Access, Action, Output, PreparedUse, Risk};

use super::facts::Facts;
use super::lineage::{Flow, Relation};
use super::query::Visitor;

/// Visits a whole statement; its verb.
pub(super) fn top(facts: &mut Facts, node: Option<&Node>) -> &'static str {
    let verb = Visitor::new(facts).statement(node);
    if facts.accesses.is_empty() {
        // A query that names no table.
        facts.database(Action::Select);
    }
    verb
}

impl Visitor<'_> {
    /// Visits a statement of any kind; its verb.
    pub(super) fn statement(&mut self, node: Option<&Node>) -> &'static str {
        let Some(node) = node else {
            self.facts.unknown();
            return "UNKNOWN";
        };
        stacker::maybe_grow(256 * 1024, 16 * 1024 * 1024, || {
            let kind = node.node.as_ref();
            let verb = kind.and_then(|kind| {
                self.rows(node, kind)
                    .or_else(|| self.session(kind))
                    .or_else(|| self.run(kind))
                    .or_else(|| self.server(kind))
                    .or_else(|| self.privileges(kind))
                    .or_else(|| self.define_relation(kind))
                    .or_else(|| self.define_code(kind))
                    .or_else(|| self.define_other(kind))
                    .or_else(|| self.alter_any(kind))
            });
            verb.unwrap_or_else(|| {
                self.facts.unknown();
                "UNKNOWN"
            })
        })
    }

    /// Statements that read or change rows.
    fn rows(&mut self, node: &Node, kind: &NodeEnum) -> Option<&'static str> {
        let (verb, returns) = match kind {
            NodeEnum::SelectStmt(select) => {
                (select_verb(select), first(select).into_clause.is_none())
            }
            NodeEnum::InsertStmt(insert) => ("INSERT", insert.returning_clause.is_some()),
            NodeEnum::UpdateStmt(update) => ("UPDATE", update.returning_clause.is_some()),
            NodeEnum::DeleteStmt(delete) => ("DELETE", delete.returning_clause.is_some()),
            NodeEnum::MergeStmt(merge) => ("MERGE", merge.returning_clause.is_some()),
            NodeEnum::CopyStmt(copy) => {
                self.copy(copy);
                return Some("COPY");
            }
            NodeEnum::TruncateStmt(truncate) => {
                self.facts.risks |= Risk::NO_WHERE;
                self.relations(Action::Delete, &truncate.relations);
                return Some("TRUNCATE");
            }
            _ => return None,
        };
        let rows = self.query(Some(node));
        self.facts.outputs = returns.then(|| rows.outputs());
        if returns && matches!(kind, NodeEnum::SelectStmt(_)) {
            self.export();
        }
        Some(verb)
    }

    /// Notes that the rows that were visited come out.
    pub(super) fn export(&mut self) {
        if self.brings_all {
            self.facts.risks |= Risk::FULL_EXPORT;
        }
    }

    /// Session and transaction control.
    fn session(&mut self, kind: &NodeEnum) -> Option<&'static str> {
        let verb = match kind {
            NodeEnum::TransactionStmt(transaction) => transaction_verb(transaction.kind),
            NodeEnum::VariableSetStmt(set) => return Some(self.set(set)),
            NodeEnum::VariableShowStmt(_) => "SHOW",
            NodeEnum::ListenStmt(_) => "LISTEN",
            NodeEnum::UnlistenStmt(_) => "UNLISTEN",
            NodeEnum::NotifyStmt(_) => {
                self.facts.risks |= Risk::SIDE_EFFECT;
                "NOTIFY"
            }
            NodeEnum::DiscardStmt(discard) => {
                if discard.target == DiscardMode::DiscardAll as i32 {
                    self.facts.risks |= Risk::REINTERPRETS;
                    self.facts.prepared = Some(PreparedUse::Deallocates(None));
                }
                "DISCARD"
            }
            NodeEnum::DeallocateStmt(deallocate) => {
                let name = Some(deallocate.name.as_str()).filter(|_| !deallocate.isall);
                let name = name.filter(|name| !name.is_empty()).map(Into::into);
                self.facts.prepared = Some(PreparedUse::Deallocates(name));
                "DEALLOCATE"
            }
            NodeEnum::ClosePortalStmt(_) => "CLOSE",
            NodeEnum::ConstraintsSetStmt(_) => "SET CONSTRAINTS",
            NodeEnum::FetchStmt(fetch) if fetch.ismove => "MOVE",
            _ => return None,
        };
        self.facts.database(Action::Session);
        Some(verb)
    }

    /// Statements that run, prepare or explain others.
    fn run(&mut self, kind: &NodeEnum) -> Option<&'static str> {
        Some(match kind {
            NodeEnum::FetchStmt(fetch) => {
                self.facts.cursor = Some(fetch.portalname.as_str().into());
                self.facts.database(Action::Select);
                "FETCH"
            }
            NodeEnum::ExplainStmt(explain) => {
                self.explain(explain);
                "EXPLAIN"
            }
            NodeEnum::PrepareStmt(prepare) => {
                self.nested(prepare.query.as_deref());
                "PREPARE"
            }
            NodeEnum::ExecuteStmt(execute) => {
                // What it runs was said by another text: the session may know it.
                for argument in &execute.params {
                    let flow = self.probed(Some(argument));
                    self.facts.met.argument(&flow);
                }
                self.facts.prepared = Some(PreparedUse::Executes {
                    name: execute.name.as_str().into(),
                    runs: true,
                    is_opaque: self.facts.risks.contains(Risk::OPAQUE),
                });
                self.facts.risks |= Risk::OPAQUE;
                self.facts.database(Action::Call);
                "EXECUTE"
            }
            NodeEnum::DeclareCursorStmt(declare) => {
                let rows = self.query(declare.query.as_deref());
                self.facts.outputs = Some(rows.outputs());
                self.export();
                self.facts.cursor = Some(declare.portalname.as_str().into());
                "DECLARE"
            }
            NodeEnum::CallStmt(call) => {
                if let Some(call) = &call.funccall {
                    let flow = self.call(call);
                    self.facts.probe(&flow);
                }
                self.facts.database(Action::Call);
                "CALL"
            }
            NodeEnum::DoStmt(_) => {
                self.facts.risks |= Risk::OPAQUE;
                self.facts.database(Action::Call);
                "DO"
            }
            NodeEnum::CreateTableAsStmt(create) => self.create_table_as(create),
            _ => return None,
        })
    }

    /// Statements that run the server itself.
    fn server(&mut self, kind: &NodeEnum) -> Option<&'static str> {
        let verb = match kind {
            NodeEnum::LockStmt(lock) => {
                // What every SELECT takes (lockdefs.h, `AccessShareLock`).
                let is_readers = lock.mode == 1;
                let action = if is_readers { Action::Select } else { Action::Admin };
                self.relations(action, &lock.relations);
                return Some("LOCK");
            }
            NodeEnum::VacuumStmt(vacuum) => return Some(self.vacuum(vacuum)),
            NodeEnum::ClusterStmt(cluster) => {
                self.facts.relation(Action::Admin, cluster.relation.as_ref());
                return Some("CLUSTER");
            }
            NodeEnum::ReindexStmt(reindex) => {
                self.facts.relation(Action::Admin, reindex.relation.as_ref());
                return Some("REINDEX");
            }
            NodeEnum::CheckPointStmt(_) => "CHECKPOINT",
            NodeEnum::AlterSystemStmt(alter) => {
                if let Some(set) = &alter.setstmt {
                    self.set(set);
                }
                "ALTER SYSTEM"
            }
            NodeEnum::LoadStmt(_) => {
                self.facts.risks |= Risk::UNSAFE_FUNCTION;
                "LOAD"
            }
            _ => return None,
        };
        self.facts.database(Action::Admin);
        Some(verb)
    }

    /// Visits a statement that is part of another: what it returns is not what the whole returns.
    pub(super) fn nested(&mut self, node: Option<&Node>) -> &'static str {
        let verb = self.statement(node);
        if self.facts.accesses.is_empty() {
            self.facts.database(Action::Select);
        }
        self.facts.outputs = None;
        self.facts.copy = None;
        verb
    }

    /// EXPLAIN plans, and so reads; EXPLAIN ANALYZE runs. Either shows constants of the statement.
    fn explain(&mut self, explain: &ExplainStmt) {
        self.nested(explain.query.as_deref());
        self.facts.risks -= Risk::FULL_EXPORT;
        // Plans show constants of the text, names and numbers of rows; what decides those is a probe.
        let unknown = Risk::OPAQUE | Risk::UNKNOWN_FUNCTION;
        let shown = if self.facts.risks.intersects(unknown) {
            Output::Opaque
        } else {
            Output::Columns(Vec::new())
        };
        self.facts.outputs = Some(vec![shown]);
        if explain.options.iter().any(is_analyze) {
            return;
        }
        self.facts.risks -= Risk::NO_WHERE | Risk::DDL;
        if let Some(PreparedUse::Executes { runs, .. }) = &mut self.facts.prepared {
            *runs = false;
        }
        let planned = std::mem::take(&mut self.facts.accesses);
        self.facts.accesses = planned
            .into_iter()
            .map(|Access { action, table }| match action {
                Action::Unknown | Action::Session => Access { action, table },
                _ => Access { action: Action::Select, table },
            })
            .collect();
    }

    fn create_table_as(&mut self, create: &CreateTableAsStmt) -> &'static str {
        let CreateTableAsStmt { query, into, objtype, is_select_into, if_not_exists: _ } = create;
        let rows = self.query_or_execute(query.as_deref());
        self.facts.probe(&rows.all());
        self.facts.ddl(into.as_ref().and_then(|into| into.rel.as_ref()));
        match ObjectType::try_from(*objtype) {
            Ok(ObjectType::ObjectMatview) => "CREATE MATERIALIZED VIEW",
            _ if *is_select_into => "SELECT INTO",
            _ => "CREATE TABLE AS",
        }
    }

    /// Visits what a table is made from: a query, or the EXECUTE of a prepared one.
    fn query_or_execute(&mut self, query: Option<&Node>) -> Relation {
        if matches!(query.and_then(|node| node.node.as_ref()), Some(NodeEnum::ExecuteStmt(_))) {
            self.nested(query);
            return Relation::unknown(Flow::opaque());
        }
        let rows = self.query(query);
        if self.facts.accesses.is_empty() {
            self.facts.database(Action::Select);
        }
        rows
    }

    fn vacuum(&mut self, vacuum: &VacuumStmt) -> &'static str {
        let VacuumStmt { options: _, rels, is_vacuumcmd } = vacuum;
        if rels.is_empty() {
            self.facts.database(Action::Admin);
        }
        for relation in rels {
            match &relation.node {
                Some(NodeEnum::VacuumRelation(vacuumed)) => {
                    self.facts.relation(Action::Admin, vacuumed.relation.as_ref());
                }
                _ => self.facts.unknown(),
            }
        }
        if *is_vacuumcmd { "VACUUM" } else { "ANALYZE" }
    }

    /// Adds an action on each of the named relations.
    pub(super) fn relations(&mut self, action: Action, relations: &[Node]) {
        for relation in relations {
            match &relation.node {
                Some(NodeEnum::RangeVar(relation)) => self.facts.relation(action, Some(relation)),
                _ => self.facts.unknown(),
            }
        }
    }
}

/// The leftmost SELECT of a set operation, where INTO stands.
fn first(mut select: &SelectStmt) -> &SelectStmt {
    while let Some(left) = &select.larg {
        select = left;
    }
    select
}

fn select_verb(select: &SelectStmt) -> &'static str {
    let first = first(select);
    if first.into_clause.is_some() {
        "SELECT INTO"
    } else if first.values_lists.is_empty() {
        "SELECT"
    } else {
        "VALUES"
    }
}

/// Whether an EXPLAIN option makes it run the statement. One that is set to something other than a
/// plain "off" does.
fn is_analyze(option: &Node) -> bool {
    let Some(NodeEnum::DefElem(option)) = &option.node else {
        return true;
    };
    if option.defname != "analyze" {
        return false;
    }
    match option.arg.as_deref().and_then(|arg| arg.node.as_ref()) {
        Some(NodeEnum::String(word)) => {
            !["off", "false"].iter().any(|off| word.sval.eq_ignore_ascii_case(off))
        }
        Some(NodeEnum::Boolean(on)) => on.boolval,
        Some(NodeEnum::Integer(on)) => on.ival != 0,
        _ => true,
    }
}

fn transaction_verb(kind: i32) -> &'static str {
    match TransactionStmtKind::try_from(kind).unwrap_or(TransactionStmtKind::Undefined) {
        TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart => "BEGIN",
        TransactionStmtKind::TransStmtCommit => "COMMIT",
        TransactionStmtKind::TransStmtRollback => "ROLLBACK",
        TransactionStmtKind::TransStmtSavepoint => "SAVEPOINT",
        TransactionStmtKind::TransStmtRelease => "RELEASE",
        TransactionStmtKind::TransStmtRollbackTo => "ROLLBACK TO",
        TransactionStmtKind::TransStmtPrepare => "PREPARE TRANSACTION",
        TransactionStmtKind::TransStmtCommitPrepared => "COMMIT PREPARED",
        TransactionStmtKind::TransStmtRollbackPrepared => "ROLLBACK PREPARED",
        TransactionStmtKind::Undefined => "UNKNOWN",
    }
}
