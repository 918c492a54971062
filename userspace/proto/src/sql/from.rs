//! FROM items: tables, subqueries, joins, table functions.

use std::rc::Rc;

use pg_query::protobuf::{
    Alias, JoinExpr, RangeFunction, RangeSubselect, RangeTableFunc, RangeVar,
};
use pg_query::{Node, NodeEnum};
use types::command::Action;

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
                self.exprs(&sample.args);
                self.expr(sample.repeatable.as_deref());
                if let Some(relation) = &sample.relation {
                    self.from(relation);
                }
            }
            Some(NodeEnum::JsonTable(table)) => {
                let flow = self.json_table(table);
                self.bring(table.alias.as_ref(), "json_table", &Relation::unknown(flow));
            }
            _ => {
                self.facts.unknown();
                self.bring(None, "", &Relation::unknown(Flow::opaque()));
            }
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
            is_natural: _,
            larg,
            rarg,
            using_clause: _,
            join_using_alias,
            quals,
            alias,
            rtindex: _,
        } = join;
        let before = self.scopes.take();
        self.scopes.restore(before.clone());
        for side in [larg, rarg].into_iter().flatten() {
            self.from(side);
        }
        self.expr(quals.as_deref());
        if alias.is_none() && join_using_alias.is_none() {
            return;
        }
        let mut joined = self.scopes.take();
        let own = joined.split_off(before.len().min(joined.len()));
        let mut rows = Relation::default();
        own.iter().filter(|item| item.primary).for_each(|item| rows.include(&item.relation));
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
        self.bring(alias.as_ref(), "xmltable", &Relation::unknown(flow));
    }
}
