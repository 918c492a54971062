//! Expressions: what they call, which queries they hold, and where their values come from.

use pg_query::protobuf::{AIndirection, ColumnRef, FuncCall, SubLink, SubLinkType, WindowDef};
use pg_query::{Node, NodeEnum};

use super::functions::{self, Returns};
use super::lineage::Flow;
use super::names;
use super::query::Visitor;
use super::set;

/// The stack left at which a visit continues on a new one.
const STACK_RED_ZONE: usize = 256 * 1024;
/// The size of that new one.
const STACK_MORE: usize = 16 * 1024 * 1024;

impl Visitor<'_> {
    /// Visits expressions; where their values together come from.
    pub(super) fn exprs(&mut self, nodes: &[Node]) -> Flow {
        nodes.iter().fold(Flow::default(), |flow, node| flow.with(self.expr(Some(node))))
    }

    /// Visits an expression; where its value comes from. None has no value.
    pub(super) fn expr(&mut self, node: Option<&Node>) -> Flow {
        let Some(node) = node else {
            return Flow::default();
        };
        match &node.node {
            Some(node) => stacker::maybe_grow(STACK_RED_ZONE, STACK_MORE, || self.value(node)),
            None => Flow::default(),
        }
    }

    fn value(&mut self, node: &NodeEnum) -> Flow {
        match node {
            NodeEnum::ColumnRef(column) => self.column(column),
            NodeEnum::FuncCall(call) => self.call(call),
            NodeEnum::SubLink(sublink) => self.sublink(sublink),
            NodeEnum::AIndirection(row) => self.indirection(row),
            NodeEnum::AExpr(operation) => {
                self.expr(operation.lexpr.as_deref()).with(self.expr(operation.rexpr.as_deref()))
            }
            NodeEnum::TypeCast(cast) => self.expr(cast.arg.as_deref()),
            NodeEnum::CollateClause(collate) => self.expr(collate.arg.as_deref()),
            NodeEnum::BoolExpr(bool) => self.exprs(&bool.args),
            NodeEnum::NullTest(test) => self.expr(test.arg.as_deref()),
            NodeEnum::BooleanTest(test) => self.expr(test.arg.as_deref()),
            NodeEnum::CaseExpr(case) => self
                .expr(case.arg.as_deref())
                .with(self.exprs(&case.args))
                .with(self.expr(case.defresult.as_deref())),
            NodeEnum::CaseWhen(when) => {
                self.expr(when.expr.as_deref()).with(self.expr(when.result.as_deref()))
            }
            NodeEnum::CoalesceExpr(coalesce) => self.exprs(&coalesce.args),
            NodeEnum::MinMaxExpr(extreme) => self.exprs(&extreme.args),
            NodeEnum::RowExpr(row) => self.exprs(&row.args),
            NodeEnum::AArrayExpr(array) => self.exprs(&array.elements),
            NodeEnum::List(list) => self.exprs(&list.items),
            NodeEnum::NamedArgExpr(argument) => self.expr(argument.arg.as_deref()),
            NodeEnum::MultiAssignRef(assigned) => self.expr(assigned.source.as_deref()),
            NodeEnum::GroupingFunc(grouping) => {
                self.exprs(&grouping.args);
                Flow::default()
            }
            NodeEnum::CurrentOfExpr(_) => {
                self.references += 1;
                Flow::default()
            }
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::SetToDefault(_) => Flow::default(),
            other => self.clause(other),
        }
    }

    /// Parts that are expressions only in some clause.
    fn clause(&mut self, node: &NodeEnum) -> Flow {
        match node {
            NodeEnum::ResTarget(target) => {
                self.exprs(&target.indirection).with(self.expr(target.val.as_deref()))
            }
            NodeEnum::SortBy(sort) => self.expr(sort.node.as_deref()),
            NodeEnum::WindowDef(window) => self.window(window),
            NodeEnum::GroupingSet(set) => self.exprs(&set.content),
            NodeEnum::IndexElem(element) => self.expr(element.expr.as_deref()),
            NodeEnum::PartitionElem(element) => self.expr(element.expr.as_deref()),
            NodeEnum::StatsElem(element) => self.expr(element.expr.as_deref()),
            NodeEnum::AIndices(indices) => {
                self.expr(indices.lidx.as_deref()).with(self.expr(indices.uidx.as_deref()))
            }
            NodeEnum::XmlExpr(xml) => self.exprs(&xml.named_args).with(self.exprs(&xml.args)),
            NodeEnum::XmlSerialize(xml) => self.expr(xml.expr.as_deref()),
            NodeEnum::String(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::BitString(_)
            | NodeEnum::TypeName(_)
            | NodeEnum::AStar(_) => Flow::default(),
            other => self.json(other).unwrap_or_else(|| {
                self.facts.unknown();
                Flow::opaque()
            }),
        }
    }

    fn column(&mut self, column: &ColumnRef) -> Flow {
        self.references += 1;
        let path = names::path(&column.fields);
        let is_star = column
            .fields
            .last()
            .is_some_and(|field| matches!(field.node, Some(NodeEnum::AStar(_))));
        if is_star {
            let (schema, name) = match path.as_slice() {
                [] => {
                    let star = self.scopes.star();
                    return star
                        .iter()
                        .fold(Flow::default(), |flow, relation| flow.with(relation.all()));
                }
                [name] => (None, *name),
                [.., schema, name] => (Some(*schema), *name),
            };
            return self
                .scopes
                .relation(schema, name)
                .map_or_else(Flow::opaque, |relation| relation.all());
        }
        match path.as_slice() {
            [name] => self.scopes.unqualified(name),
            [table, name] => self.qualified(None, table, name),
            [.., schema, table, name] => self.qualified(Some(schema), table, name),
            [] => Flow::opaque(),
        }
    }

    fn qualified(&mut self, schema: Option<&str>, table: &str, name: &str) -> Flow {
        match self.scopes.relation(schema, table) {
            Some(relation) => self.scopes.qualified(&relation, name),
            None => Flow::opaque(),
        }
    }

    /// `(row).field`, `array[index]`.
    fn indirection(&mut self, row: &AIndirection) -> Flow {
        let AIndirection { arg, indirection } = row;
        self.exprs(indirection);
        if let Some(NodeEnum::ColumnRef(column)) = arg.as_deref().and_then(|arg| arg.node.as_ref())
            && let [table] = names::path(&column.fields).as_slice()
            && column.fields.len() == 1
            && let Some(field) = indirection.first().and_then(names::string)
            && self.scopes.relation(None, table).is_some()
        {
            self.references += 1;
            return self.qualified(None, table, field);
        }
        // `(row).f` may also mean `f(row)`.
        for field in indirection.iter().filter_map(names::string) {
            self.facts.risks |= functions::risks(field);
        }
        self.expr(arg.as_deref())
    }

    fn sublink(&mut self, sublink: &SubLink) -> Flow {
        let SubLink {
            xpr: _,
            sub_link_type,
            sub_link_id: _,
            testexpr,
            oper_name: _,
            subselect,
            location: _,
        } = sublink;
        let test = self.expr(testexpr.as_deref());
        let rows = self.query(subselect.as_deref()).all();
        if *sub_link_type == SubLinkType::ExistsSublink as i32 {
            Flow::default()
        } else {
            test.with(rows)
        }
    }

    /// Visits a window; it has no value.
    pub(super) fn window(&mut self, window: &WindowDef) -> Flow {
        let WindowDef {
            name: _,
            refname: _,
            partition_clause,
            order_clause,
            frame_options: _,
            start_offset,
            end_offset,
            location: _,
        } = window;
        self.exprs(partition_clause);
        self.exprs(order_clause);
        self.expr(start_offset.as_deref());
        self.expr(end_offset.as_deref());
        Flow::default()
    }

    /// Visits a function call; where its result comes from.
    pub(super) fn call(&mut self, call: &FuncCall) -> Flow {
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location: _,
        } = call;
        let path = names::path(funcname);
        self.facts.call(&path);
        if path.last() == Some(&"set_config") {
            let (risks, _) =
                args.first().and_then(names::string).map_or((set::ANY, None), set::setting);
            self.facts.risks |= risks;
        }
        let mut flow = self.exprs(args);
        let order = self.exprs(agg_order);
        // `percentile_disc(0.5) WITHIN GROUP (ORDER BY x)` returns what it orders by.
        if *agg_within_group {
            flow.add(order);
        }
        self.expr(agg_filter.as_deref());
        if let Some(over) = over {
            self.window(over);
        }
        match functions::returns(&path) {
            Returns::Arguments => flow,
            Returns::Nothing => Flow::default(),
            Returns::Unknown => Flow::opaque(),
        }
    }
}
