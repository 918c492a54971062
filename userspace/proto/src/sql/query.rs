//! Queries: SELECT, VALUES, set operations, and the WITH that may precede any statement.

use std::rc::Rc;

use pg_query::protobuf::{
    CommonTableExpr, ResTarget, SelectStmt, SetOperation, WithClause, a_const,
};
use pg_query::{Node, NodeEnum};
use types::command::ColumnName;

use super::facts::Facts;
use super::lineage::{Flow, Relation, Scopes};
use super::{export, names, set};

/// The stack left at which a visit continues on a new one.
const STACK_RED_ZONE: usize = 256 * 1024;
/// The size of that new one.
const STACK_MORE: usize = 16 * 1024 * 1024;

/// Walks a statement's tree, adds to the facts, and follows values to their columns.
#[derive(Debug)]
pub(super) struct Visitor<'f> {
    pub(super) facts: &'f mut Facts,
    pub(super) scopes: Scopes,
    /// Column references seen so far; tells a condition on rows from a constant.
    pub(super) references: usize,
    /// The setting that the rows of the query in hand are about, where they are about one.
    pub(super) setting: Option<String>,
    /// Whether what was visited of the current query brings all rows of a relation.
    pub(super) brings_all: bool,
    /// Whether values were put together that may be too large or not by what they are.
    pub(super) overflows: bool,
    /// Into which columns the VALUES that come next are written.
    pub(super) into: Vec<ColumnName>,
    ctes: Vec<Cte>,
}

/// A WITH query's name in scope.
#[derive(Debug)]
struct Cte {
    name: String,
    relation: Rc<Relation>,
    used: bool,
    brings_all: bool,
}

impl<'f> Visitor<'f> {
    /// A visitor that adds to `facts`.
    pub(super) fn new(facts: &'f mut Facts) -> Self {
        Self {
            facts,
            scopes: Scopes::default(),
            references: 0,
            setting: None,
            brings_all: false,
            overflows: false,
            into: Vec::new(),
            ctes: Vec::new(),
        }
    }

    /// Visits a SELECT, VALUES, INSERT, UPDATE, DELETE or MERGE; the rows it returns. Anything else
    /// is unknown.
    pub(super) fn query(&mut self, node: Option<&Node>) -> Relation {
        stacker::maybe_grow(STACK_RED_ZONE, STACK_MORE, || {
            match node.and_then(|node| node.node.as_ref()) {
                Some(NodeEnum::SelectStmt(select)) => self.select(select),
                Some(NodeEnum::InsertStmt(insert)) => self.insert(insert),
                Some(NodeEnum::UpdateStmt(update)) => self.update(update),
                Some(NodeEnum::DeleteStmt(delete)) => self.delete(delete),
                Some(NodeEnum::MergeStmt(merge)) => self.merge(merge),
                _ => {
                    self.facts.unknown();
                    Relation::unknown(Flow::opaque())
                }
            }
        })
    }

    /// Visits a SELECT, VALUES or set operation; the rows it returns.
    pub(super) fn select(&mut self, select: &SelectStmt) -> Relation {
        stacker::maybe_grow(STACK_RED_ZONE, STACK_MORE, || {
            self.scoped(select.with_clause.as_ref(), |visitor| visitor.select_body(select))
        })
    }

    /// Visits the parts of a statement with its WITH queries, and a level for its relations, in scope.
    pub(super) fn scoped<T>(
        &mut self,
        with: Option<&WithClause>,
        visit: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let outer = self.ctes.len();
        if let Some(with) = with {
            self.with(with);
        }
        self.scopes.open();
        let visited = visit(self);
        self.scopes.close();
        self.ctes.truncate(outer);
        visited
    }

    fn select_body(&mut self, select: &SelectStmt) -> Relation {
        let SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause: _,
            op,
            all,
            larg,
            rarg,
        } = select;
        let outer = std::mem::take(&mut self.brings_all);
        let rows = if *op > SetOperation::SetopNone as i32 {
            let mut side =
                |side: Option<&SelectStmt>| side.map(|side| self.select(side)).unwrap_or_default();
            let (left, right) = (side(larg.as_deref()), side(rarg.as_deref()));
            if !(*all && *op == SetOperation::SetopUnion as i32) {
                // How many rows are left says which are equal.
                self.facts.probe(&left.all());
                self.facts.probe(&right.all());
            }
            left.union(&right)
        } else if values_lists.is_empty() {
            for item in from_clause {
                self.from(item);
            }
            for clause in locking_clause {
                self.lock(clause, from_clause);
            }
            let before = self.references;
            self.probe(where_clause.as_deref());
            let is_chosen = self.references > before || export::is_summary(target_list);
            self.brings_all &= !is_chosen;
            let about = set::only_setting(from_clause, where_clause.as_deref());
            let outer = std::mem::replace(&mut self.setting, about);
            let rows = self.targets(target_list);
            self.setting = outer;
            rows
        } else {
            self.values(values_lists)
        };
        self.brings_all &= !export::is_limit(limit_count.as_deref());
        self.brings_all |= outer;
        for condition in [having_clause, limit_offset, limit_count] {
            self.probe(condition.as_deref());
        }
        self.by_output(sort_clause, &rows, true);
        self.by_output(group_clause, &rows, false);
        self.exprs(window_clause);
        // A bare DISTINCT is a list of one empty node.
        if distinct_clause.iter().any(|node| node.node.is_none()) {
            self.facts.probe(&rows.all());
        } else {
            self.by_output(distinct_clause, &rows, true);
        }
        if let Some(into) = into_clause {
            self.facts.probe(&rows.all());
            self.facts.ddl(into.rel.as_ref());
        }
        rows
    }

    /// Visits what rows are ordered or grouped by: a number is an output's place, a name may be an
    /// output's; where `first`, it is that before it is a relation's column.
    fn by_output(&mut self, clause: &[Node], rows: &Relation, first: bool) {
        for node in clause {
            let flow = match &node.node {
                Some(NodeEnum::SortBy(sort)) => {
                    self.operator(&sort.use_op);
                    self.by_output(
                        sort.node.as_deref().map(std::slice::from_ref).unwrap_or_default(),
                        rows,
                        first,
                    );
                    continue;
                }
                Some(NodeEnum::GroupingSet(set)) => {
                    self.by_output(&set.content, rows, first);
                    continue;
                }
                Some(NodeEnum::AConst(constant)) => match &constant.val {
                    Some(a_const::Val::Ival(place)) => {
                        rows.position(usize::try_from(place.ival).unwrap_or_default())
                    }
                    _ => continue,
                },
                Some(NodeEnum::ColumnRef(column)) => {
                    let path = names::path(&column.fields);
                    let named = match path.as_slice() {
                        [name] => rows.named(name),
                        _ => None,
                    };
                    match named {
                        Some(flow) if first => flow,
                        Some(flow) => flow.with(self.expr(Some(node)).unsure()),
                        None => self.expr(Some(node)),
                    }
                }
                _ => self.expr(Some(node)),
            };
            self.facts.probe(&flow);
        }
    }

    /// Visits an expression whose value decides something and does not come out.
    pub(super) fn probe(&mut self, node: Option<&Node>) {
        self.probed(node);
    }

    /// Likewise; where its value comes from.
    pub(super) fn probed(&mut self, node: Option<&Node>) -> Flow {
        let brings_all = self.brings_all;
        let flow = self.expr(node);
        self.brings_all = brings_all;
        self.facts.probe(&flow);
        flow
    }

    /// Visits expressions likewise.
    pub(super) fn probes(&mut self, nodes: &[Node]) {
        let flow = self.exprs(nodes);
        self.facts.probe(&flow);
    }

    /// Visits an output list; the rows it makes.
    pub(super) fn targets(&mut self, targets: &[Node]) -> Relation {
        let mut rows = Relation::default();
        for target in targets {
            let Some(NodeEnum::ResTarget(target)) = &target.node else {
                self.facts.unknown();
                rows.include_unknown(Flow::opaque());
                continue;
            };
            if !self.star(target, &mut rows) {
                let flow = self.expr(target.val.as_deref());
                let name = if target.name.is_empty() {
                    column_name(target.val.as_deref())
                } else {
                    Some(target.name.clone())
                };
                rows.push(name, flow);
            }
        }
        rows
    }

    /// Adds what `*`, `t.*` or `(row).*` stands for to `rows`, if `target` is one.
    fn star(&mut self, target: &ResTarget, rows: &mut Relation) -> bool {
        let is_star = |node: Option<&Node>| {
            matches!(node.and_then(|node| node.node.as_ref()), Some(NodeEnum::AStar(_)))
        };
        match target.val.as_deref().and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::ColumnRef(column)) if is_star(column.fields.last()) => {
                self.references += 1;
                match names::path(&column.fields).as_slice() {
                    [] => self.scopes.star().iter().for_each(|(relation, merged)| {
                        if *merged {
                            rows.include_unknown(relation.all());
                        } else {
                            rows.include(relation);
                        }
                    }),
                    [.., schema, name] => self.include(Some(schema), name, rows),
                    [name] => self.include(None, name, rows),
                }
                true
            }
            Some(NodeEnum::AIndirection(row)) if is_star(row.indirection.last()) => {
                let flow = self.expr(row.arg.as_deref());
                rows.include_unknown(flow);
                true
            }
            _ => false,
        }
    }

    fn include(&mut self, schema: Option<&str>, name: &str, rows: &mut Relation) {
        match self.scopes.relation(schema, name) {
            Some(relation) => rows.include(&relation),
            None => rows.include_unknown(Flow::lost()),
        }
    }

    fn values(&mut self, lists: &[Node]) -> Relation {
        let into = std::mem::take(&mut self.into);
        let mut columns: Vec<Flow> = Vec::new();
        for list in lists {
            let Some(NodeEnum::List(list)) = &list.node else {
                self.facts.unknown();
                continue;
            };
            for (i, value) in list.items.iter().enumerate() {
                let mut flow = self.expr(Some(value));
                if let Some(column) = into.get(i) {
                    self.facts.met.write(column, &flow);
                    flow = flow.judged();
                }
                match columns.get_mut(i) {
                    Some(column) => column.add(flow),
                    None => columns.push(flow),
                }
            }
        }
        let mut rows = Relation::default();
        for (i, flow) in columns.into_iter().enumerate() {
            rows.push(Some(format!("column{}", i + 1)), flow);
        }
        rows
    }

    /// The rows of the WITH query of this name, if one is in scope.
    pub(super) fn cte(&mut self, name: &str) -> Option<Rc<Relation>> {
        let cte = self.ctes.iter_mut().rev().find(|cte| cte.name == name)?;
        cte.used = true;
        self.brings_all |= cte.brings_all;
        Some(Rc::clone(&cte.relation))
    }

    fn with(&mut self, with: &WithClause) {
        let queries = || {
            with.ctes.iter().filter_map(|node| match &node.node {
                Some(NodeEnum::CommonTableExpr(cte)) => Some(&**cte),
                _ => None,
            })
        };
        if queries().count() != with.ctes.len() {
            self.facts.unknown();
        }
        let first = self.ctes.len();
        if with.recursive {
            for query in queries() {
                self.bind(query, Relation::unknown(Flow::opaque().with(Flow::repeated())));
            }
        }
        for (i, query) in queries().enumerate() {
            let outer = std::mem::take(&mut self.brings_all);
            if with.recursive {
                self.recursive(query, first + i);
            } else {
                let rows = self.cte_rows(query);
                self.bind(query, rows);
            }
            let brings_all = std::mem::replace(&mut self.brings_all, outer);
            if let Some(own) = self.ctes.get_mut(first + i) {
                own.brings_all = brings_all;
            }
        }
    }

    /// Visits a query that may name itself. What it reads from itself came out of one of its own
    /// columns, so then each column may hold what any of them holds.
    fn recursive(&mut self, query: &CommonTableExpr, index: usize) {
        if let Some(own) = self.ctes.get_mut(index) {
            own.relation = Rc::new(Relation::unknown(Flow::repeated()));
            own.used = false;
        }
        let overflowed = std::mem::take(&mut self.overflows);
        let mut rows = self.cte_rows(query);
        if let Some(own) = self.ctes.get_mut(index) {
            if own.used {
                rows = rows.blended();
                if self.overflows {
                    self.facts.probe(&rows.all());
                }
            }
            own.relation = Rc::new(rows);
        }
        self.overflows |= overflowed;
    }

    fn bind(&mut self, query: &CommonTableExpr, rows: Relation) {
        let name = query.ctename.clone();
        self.ctes.push(Cte { name, relation: Rc::new(rows), used: false, brings_all: false });
    }

    fn cte_rows(&mut self, query: &CommonTableExpr) -> Relation {
        let rows = self.query(query.ctequery.as_deref());
        let mut rows = rows.renamed(&names::path(&query.aliascolnames));
        if let Some(cycle) = &query.cycle_clause {
            self.expr(cycle.cycle_mark_value.as_deref());
            self.expr(cycle.cycle_mark_default.as_deref());
        }
        if query.cycle_clause.is_some() || query.search_clause.is_some() {
            let all = rows.all();
            rows.include_unknown(all);
        }
        rows
    }
}

/// The name an output column without an alias gets, where that is certain.
fn column_name(value: Option<&Node>) -> Option<String> {
    let last = |nodes: &[Node]| names::path(nodes).last().map(|&name| name.to_owned());
    match value?.node.as_ref()? {
        NodeEnum::ColumnRef(column) => last(&column.fields),
        NodeEnum::FuncCall(call) => last(&call.funcname),
        _ => None,
    }
}
