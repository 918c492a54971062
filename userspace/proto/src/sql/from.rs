//! FROM items: tables, subqueries, joins, table functions.

use std::rc::Rc;

use pg_query::protobuf::{
    Alias, JoinExpr, LockingClause, RangeFunction, RangeSubselect, RangeTableFunc, RangeVar,
};
use pg_query::{Node, NodeEnum};
use types::command::Action;

use super::export;
use super::lineage::{Flow, Item, Relation};
use super::names;
use super::query::Visitor;

impl Visitor<'_> {
    /// Visits a FROM item and brings its relations into the innermost scope.
    pub(super) fn from(&mut self, node: &Node) {
        match &node.node {
            Some(NodeEnum::RangeVar(relation)) => self.range_var(relation),
            Some(NodeEnum::RangeSubselect(subquery)) => self.range_subselect(subquery),
            Some(NodeEnum::JoinExpr(join)) => self.join(join),
            Some(NodeEnum::RangeFunction(function)) => self.range_function(function),
            Some(NodeEnum::RangeTableFunc(table)) => self.range_table_func(table),
            Some(NodeEnum::RangeTableSample(sample)) => {
                self.facts.call(&names::path(&sample.method));
                self.probes(&sample.args);
                self.probe(sample.repeatable.as_deref());
                if let Some(relation) = &sample.relation {
                    self.from(relation);
                }
            }
            Some(NodeEnum::JsonTable(table)) => {
                let flow = self.json_table(table);
                self.facts.probe(&flow);
                self.bring(table.alias.as_ref(), "json_table", &Relation::unknown(flow));
            }
            _ => {
                self.facts.unknown();
                self.bring(None, "", &Relation::unknown(Flow::opaque()));
            }
        }
    }

    /// A `FOR UPDATE` or its like: the rows are held against writers, and the server demands UPDATE.
    pub(super) fn lock(&mut self, clause: &Node, from: &[Node]) {
        let Some(NodeEnum::LockingClause(clause)) = &clause.node else {
            return self.facts.unknown();
        };
        let LockingClause { locked_rels, strength: _, wait_policy: _ } = clause;
        let names: Vec<&str> = locked_rels
            .iter()
            .filter_map(|name| match &name.node {
                Some(NodeEnum::RangeVar(name)) => Some(name.relname.as_str()),
                _ => None,
            })
            .collect();
        for item in from {
            self.lock_item(item, &names);
        }
    }

    /// Locks what goes by one of `names`; all of it where there are none.
    fn lock_item(&mut self, item: &Node, names: &[&str]) {
        let is_meant = |alias: Option<&Alias>, name: &str| {
            names.is_empty() || names.contains(&alias.map_or(name, |alias| &alias.aliasname))
        };
        match &item.node {
            Some(NodeEnum::RangeVar(relation)) => {
                let is_query =
                    relation.schemaname.is_empty() && self.cte(&relation.relname).is_some();
                if is_meant(relation.alias.as_ref(), &relation.relname) && !is_query {
                    self.facts.relation(Action::Update, Some(relation));
                }
            }
            Some(NodeEnum::RangeSubselect(subquery)) if is_meant(subquery.alias.as_ref(), "") => {
                if let Some(NodeEnum::SelectStmt(select)) =
                    subquery.subquery.as_deref().and_then(|query| query.node.as_ref())
                {
                    for item in &select.from_clause {
                        self.lock_item(item, &[]);
                    }
                }
            }
            Some(NodeEnum::JoinExpr(join)) => {
                let names = if is_meant(join.alias.as_ref(), "") { &[] } else { names };
                for side in [&join.larg, &join.rarg].into_iter().flatten() {
                    self.lock_item(side, names);
                }
            }
            Some(NodeEnum::RangeTableSample(sample)) => {
                if let Some(relation) = &sample.relation {
                    self.lock_item(relation, names);
                }
            }
            _ => {}
        }
    }

    fn bring(&mut self, alias: Option<&Alias>, name: &str, rows: &Relation) {
        let names = alias.map(|alias| names::path(&alias.colnames)).unwrap_or_default();
        let name = alias.map_or(name, |alias| &alias.aliasname);
        self.scopes.push(Item::new(name, Rc::new(rows.renamed(&names))));
    }

    fn range_var(&mut self, relation: &RangeVar) {
        let unqualified = relation.schemaname.is_empty();
        let cte = if unqualified { self.cte(&relation.relname) } else { None };
        let rows = if let Some(rows) = cte {
            (*rows).clone()
        } else {
            self.facts.relation(Action::Select, Some(relation));
            self.brings_all |= export::is_data(relation);
            Relation::base(names::table(relation))
        };
        let alias = relation.alias.as_ref();
        if alias.is_none() && !unqualified {
            let schema = Some(relation.schemaname.clone());
            self.scopes.push(Item { schema, ..Item::new(&relation.relname, Rc::new(rows)) });
        } else {
            self.bring(alias, &relation.relname, &rows);
        }
    }

    fn range_subselect(&mut self, subquery: &RangeSubselect) {
        let RangeSubselect { lateral, subquery, alias } = subquery;
        let hidden = if *lateral { Vec::new() } else { self.scopes.take() };
        let rows = self.query(subquery.as_deref());
        self.scopes.restore(hidden);
        self.bring(alias.as_ref(), "", &rows);
    }

    fn join(&mut self, join: &JoinExpr) {
        let JoinExpr {
            jointype: _,
            is_natural,
            larg,
            rarg,
            using_clause,
            join_using_alias,
            quals,
            alias,
            rtindex: _,
        } = join;
        let before = self.scopes.take();
        self.scopes.restore(before.clone());
        let mut sides = Vec::new();
        for side in [larg, rarg].into_iter().flatten() {
            self.from(side);
            sides.push(self.scopes.len());
        }
        self.probe(quals.as_deref());
        let merged = *is_natural || !using_clause.is_empty();
        if alias.is_none() && join_using_alias.is_none() && !merged {
            return;
        }
        let mut joined = self.scopes.take();
        let mut own = joined.split_off(before.len().min(joined.len()));
        if merged {
            let left = sides.first().map_or(0, |end| end.saturating_sub(before.len()));
            self.join_by(&mut own, left, *is_natural, &names::path(using_clause));
        }
        let mut rows = Relation::default();
        for item in own.iter().filter(|item| item.primary) {
            if item.merged {
                rows.include_unknown(item.relation.all());
            } else {
                rows.include(&item.relation);
            }
        }
        self.scopes.restore(before);
        if alias.is_some() {
            self.bring(alias.as_ref(), "", &rows);
            return;
        }
        for item in own {
            self.scopes.push(item);
        }
        if let Some(alias) = join_using_alias {
            self.scopes.push(Item::secondary(&alias.aliasname, Rc::new(rows)));
        }
    }

    /// Joins by the columns of these names, or by all that both sides have: `left` of `own` are the
    /// one, the rest the other.
    fn join_by(&mut self, own: &mut [Item], left: usize, natural: bool, using: &[&str]) {
        let (left, right) = own.split_at(left.min(own.len()));
        let columns = |side: &[Item]| -> Option<Vec<String>> {
            let primary = side.iter().filter(|item| item.primary);
            let names = primary.map(|item| item.relation.names());
            Some(
                names
                    .collect::<Option<Vec<_>>>()?
                    .concat()
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            )
        };
        let mut shared = Some(using.iter().map(|&name| name.to_owned()).collect());
        if natural {
            shared = columns(left).or_else(|| columns(right));
        }
        for item in left.iter().chain(right).filter(|item| item.primary) {
            match &shared {
                Some(names) => names.iter().for_each(|name| {
                    let flow = self.scopes.may_have(&item.relation, name);
                    self.facts.probe(&flow);
                }),
                None => self.facts.probe(&item.relation.all()),
            }
        }
        for item in own {
            item.merged = true;
        }
    }

    fn range_function(&mut self, function: &RangeFunction) {
        let RangeFunction {
            lateral: _,
            ordinality: _,
            is_rowsfrom: _,
            functions,
            alias,
            coldeflist: _,
        } = function;
        let mut flow = Flow::default();
        let mut name = "";
        for function in functions {
            // Each is a list of the call and its column definitions.
            let call = match &function.node {
                Some(NodeEnum::List(list)) => list.items.first(),
                _ => Some(function),
            };
            if let Some(NodeEnum::FuncCall(call)) = call.and_then(|call| call.node.as_ref()) {
                name = names::path(&call.funcname).last().copied().unwrap_or_default();
            }
            flow.add(self.expr(call));
        }
        // The number of its rows may say what it was given.
        self.facts.probe(&flow);
        self.bring(alias.as_ref(), name, &Relation::unknown(flow));
    }

    fn range_table_func(&mut self, table: &RangeTableFunc) {
        let RangeTableFunc {
            lateral: _,
            docexpr,
            rowexpr,
            namespaces,
            columns,
            alias,
            location: _,
        } = table;
        let mut flow = self.expr(docexpr.as_deref());
        flow.add(self.expr(rowexpr.as_deref()));
        flow.add(self.exprs(namespaces));
        for column in columns {
            if let Some(NodeEnum::RangeTableFuncCol(column)) = &column.node {
                flow.add(self.expr(column.colexpr.as_deref()));
                flow.add(self.expr(column.coldefexpr.as_deref()));
            } else {
                self.facts.unknown();
            }
        }
        self.facts.probe(&flow);
        self.bring(alias.as_ref(), "xmltable", &Relation::unknown(flow));
    }
}
