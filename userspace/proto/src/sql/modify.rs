//! INSERT, UPDATE, DELETE and MERGE.

use std::rc::Rc;

use pg_query::protobuf::{
    CmdType, DeleteStmt, InsertStmt, MergeStmt, MergeWhenClause, OnConflictAction,
    OnConflictClause, RangeVar, ReturningClause, UpdateStmt,
};
use pg_query::{Node, NodeEnum};
use types::command::{Action, ColumnName, Risk};

use super::lineage::{Flow, Item, Relation};
use super::names;
use super::query::Visitor;

impl Visitor<'_> {
    /// Visits an INSERT; the rows it returns.
    pub(super) fn insert(&mut self, insert: &InsertStmt) -> Relation {
        let InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = insert;
        self.scoped(with_clause.as_ref(), |visitor| {
            visitor.facts.relation(Action::Insert, relation.as_ref());
            let source = match select_stmt {
                Some(select) => visitor.inserted(relation.as_ref(), cols, select),
                None => Relation::default(),
            };
            // What is written is read again elsewhere.
            visitor.facts.probe(&source.all());
            let mut target = base(relation.as_ref());
            target.include_unknown(source.all());
            visitor.assignments(relation.as_ref(), cols, &mut target);
            let target = Rc::new(target);
            visitor.bring_target(relation.as_ref(), &target);
            if let Some(conflict) = on_conflict_clause {
                visitor.scopes.push(Item::secondary("excluded", Rc::clone(&target)));
                visitor.on_conflict(relation.as_ref(), cols, conflict);
            }
            visitor.returning(relation.as_ref(), &target, returning_clause.as_ref())
        })
    }

    /// Visits what an INSERT writes; its rows.
    fn inserted(&mut self, relation: Option<&RangeVar>, cols: &[Node], select: &Node) -> Relation {
        let Some(table) = relation.map(names::table).filter(|_| self.facts.met.is_kept()) else {
            return self.query(Some(select));
        };
        let listed = cols.iter().map(|column| match &column.node {
            Some(NodeEnum::ResTarget(column)) => column.name.clone(),
            _ => "*".to_owned(),
        });
        let names: Vec<String> = if cols.is_empty() {
            (1..=PLACES_MAX).map(|place| format!("#{place}")).collect()
        } else {
            listed.collect()
        };
        let column =
            |name: &String| ColumnName { table: table.clone(), column: name.as_str().into() };
        let columns: Vec<ColumnName> = names.iter().map(column).collect();
        // Rows that are written out are noted one by one.
        let is_written = matches!(
            &select.node,
            Some(NodeEnum::SelectStmt(values))
                if !values.values_lists.is_empty() && values.with_clause.is_none()
        );
        if is_written {
            self.into = columns;
            return self.query(Some(select));
        }
        let source = self.query(Some(select));
        for (place, column) in columns.into_iter().enumerate() {
            self.facts.met.write(&column, &source.held_at(place + 1));
        }
        source
    }

    /// Visits an UPDATE; the rows it returns.
    pub(super) fn update(&mut self, update: &UpdateStmt) -> Relation {
        let UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = update;
        self.scoped(with_clause.as_ref(), |visitor| {
            visitor.facts.relation(Action::Update, relation.as_ref());
            visitor.bring_target(relation.as_ref(), &Rc::new(base(relation.as_ref())));
            for item in from_clause {
                visitor.from(item);
            }
            let mut target = base(relation.as_ref());
            visitor.assignments(relation.as_ref(), target_list, &mut target);
            visitor.condition(where_clause.as_deref());
            visitor.returning(relation.as_ref(), &Rc::new(target), returning_clause.as_ref())
        })
    }

    /// Visits a DELETE; the rows it returns.
    pub(super) fn delete(&mut self, delete: &DeleteStmt) -> Relation {
        let DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } =
            delete;
        self.scoped(with_clause.as_ref(), |visitor| {
            visitor.facts.relation(Action::Delete, relation.as_ref());
            let target = Rc::new(base(relation.as_ref()));
            visitor.bring_target(relation.as_ref(), &target);
            for item in using_clause {
                visitor.from(item);
            }
            visitor.condition(where_clause.as_deref());
            visitor.returning(relation.as_ref(), &target, returning_clause.as_ref())
        })
    }

    /// Visits a MERGE; the rows it returns.
    pub(super) fn merge(&mut self, merge: &MergeStmt) -> Relation {
        let MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = merge;
        self.scoped(with_clause.as_ref(), |visitor| {
            visitor.bring_target(relation.as_ref(), &Rc::new(base(relation.as_ref())));
            if let Some(source) = source_relation {
                visitor.from(source);
            }
            visitor.probe(join_condition.as_deref());
            let mut target = base(relation.as_ref());
            for when in merge_when_clauses {
                match &when.node {
                    Some(NodeEnum::MergeWhenClause(when)) => {
                        visitor.merge_when(relation.as_ref(), when, &mut target);
                    }
                    _ => visitor.facts.unknown(),
                }
            }
            visitor.returning(relation.as_ref(), &Rc::new(target), returning_clause.as_ref())
        })
    }

    fn merge_when(
        &mut self,
        relation: Option<&RangeVar>,
        when: &MergeWhenClause,
        target: &mut Relation,
    ) {
        let MergeWhenClause {
            match_kind: _,
            command_type,
            r#override: _,
            condition,
            target_list,
            values,
        } = when;
        match CmdType::try_from(*command_type) {
            Ok(CmdType::CmdInsert) => self.facts.relation(Action::Insert, relation),
            Ok(CmdType::CmdDelete) => self.facts.relation(Action::Delete, relation),
            // One that does nothing is a MERGE to the server all the same, which holds the table
            // against other changes.
            Ok(CmdType::CmdUpdate | CmdType::CmdNothing) => {
                self.facts.relation(Action::Update, relation);
            }
            _ => self.facts.unknown(),
        }
        self.probe(condition.as_deref());
        self.assignments(relation, target_list, target);
        let table = relation.map(names::table).filter(|_| self.facts.met.is_kept());
        let mut inserted = Flow::default();
        for (at, value) in values.iter().enumerate() {
            let flow = self.expr(Some(value));
            if let (Some(table), Some(NodeEnum::ResTarget(column))) =
                (&table, target_list.get(at).and_then(|c| c.node.as_ref()))
            {
                let column =
                    ColumnName { table: table.clone(), column: column.name.as_str().into() };
                self.facts.met.write(&column, &flow);
            }
            inserted.add(flow);
        }
        self.facts.probe(&inserted);
        target.include_unknown(inserted);
    }

    /// Visits an ON CONFLICT: whether a row is there already says which values the columns have that it
    /// names, or where it names none, those that are written.
    fn on_conflict(
        &mut self,
        relation: Option<&RangeVar>,
        cols: &[Node],
        conflict: &OnConflictClause,
    ) {
        let OnConflictClause { action, infer, target_list, where_clause, location: _ } = conflict;
        if *action != OnConflictAction::OnconflictNothing as i32 {
            self.facts.relation(Action::Update, relation);
        }
        let mut decide: Vec<&str> = Vec::new();
        if let Some(infer) = infer {
            self.probes(&infer.index_elems);
            self.probe(infer.where_clause.as_deref());
            decide.extend(infer.index_elems.iter().filter_map(|element| match &element.node {
                Some(NodeEnum::IndexElem(element)) => Some(element.name.as_str()),
                _ => None,
            }));
        }
        if decide.is_empty() {
            decide.extend(cols.iter().filter_map(|column| match &column.node {
                Some(NodeEnum::ResTarget(column)) => Some(column.name.as_str()),
                _ => None,
            }));
        }
        if let Some(table) = relation.map(names::table) {
            if decide.is_empty() {
                decide.push("*");
            }
            for name in decide.into_iter().filter(|name| !name.is_empty()) {
                self.facts.probe(&Flow::column(&table, name));
            }
        }
        self.assignments(relation, target_list, &mut Relation::default());
        self.probe(where_clause.as_deref());
    }

    /// Visits a WHERE that decides which rows change. One that looks at no column does not decide.
    fn condition(&mut self, condition: Option<&Node>) {
        let before = self.references;
        self.probe(condition);
        if self.references == before {
            self.facts.risks |= Risk::NO_WHERE;
        }
    }

    /// Visits `column = value` pairs (or a bare column list) and adds the values to the columns.
    fn assignments(
        &mut self,
        relation: Option<&RangeVar>,
        targets: &[Node],
        target: &mut Relation,
    ) {
        let table = relation.map(names::table);
        for assigned in targets {
            let Some(NodeEnum::ResTarget(assigned)) = &assigned.node else {
                self.facts.unknown();
                continue;
            };
            if let Some(table) = &table {
                self.facts.write(table, &assigned.name);
            }
            self.exprs(&assigned.indirection);
            if let Some(value) = &assigned.val {
                let flow = self.expr(Some(value));
                self.facts.probe(&flow);
                if let Some(table) = table.as_ref().filter(|_| self.facts.met.is_kept()) {
                    let (table, column) = (table.clone(), assigned.name.as_str().into());
                    self.facts.met.write(&ColumnName { table, column }, &flow);
                }
                target.assign(&assigned.name, flow);
            }
        }
    }

    fn bring_target(&mut self, relation: Option<&RangeVar>, target: &Rc<Relation>) {
        let Some(relation) = relation else {
            self.facts.unknown();
            return;
        };
        let alias =
            relation.alias.as_ref().map_or(relation.relname.as_str(), |alias| &alias.aliasname);
        let schema = (relation.alias.is_none() && !relation.schemaname.is_empty())
            .then(|| relation.schemaname.clone());
        self.scopes.push(Item { schema, ..Item::new(alias, Rc::clone(target)) });
    }

    /// Visits a RETURNING list: it reads the changed rows, by the relation's name, `old` and `new`.
    fn returning(
        &mut self,
        relation: Option<&RangeVar>,
        target: &Rc<Relation>,
        returning: Option<&ReturningClause>,
    ) -> Relation {
        let Some(ReturningClause { options, exprs }) = returning else {
            return Relation::default();
        };
        self.facts.relation(Action::Select, relation);
        let mut items = self.scopes.take();
        // The changed rows stand where the target stood, with what was assigned to them.
        if let Some(item) = items.first_mut() {
            item.relation = Rc::clone(target);
        }
        self.scopes.restore(items);
        for name in ["old", "new"] {
            self.scopes.push(Item::secondary(name, Rc::clone(target)));
        }
        for option in options {
            match &option.node {
                Some(NodeEnum::ReturningOption(option)) => {
                    self.scopes.push(Item::secondary(&option.value, Rc::clone(target)));
                }
                _ => self.facts.unknown(),
            }
        }
        self.targets(exprs)
    }
}

/// Places of columns that values are looked for at where an INSERT from a query names none.
const PLACES_MAX: usize = 256;

fn base(relation: Option<&RangeVar>) -> Relation {
    relation.map_or_else(
        || Relation::unknown(Flow::opaque()),
        |relation| Relation::base(names::table(relation)),
    )
}
