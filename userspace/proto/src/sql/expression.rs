//! Expressions: what they call, which queries they hold, and where their values come from.

use pg_query::protobuf::{
    AExpr, AExprKind, AIndirection, ColumnRef, FuncCall, SubLink, SubLinkType, TypeName, WindowDef,
};
use pg_query::{Node, NodeEnum};

use super::functions::{self, Returns};
use super::lineage::Flow;
use super::names;
use super::query::Visitor;
use super::shown::{self, Size};

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
            NodeEnum::AExpr(operation) => self.operation(operation),
            NodeEnum::TypeCast(cast) => {
                let mut flow = self.expr(cast.arg.as_deref());
                if !cast.type_name.as_ref().is_some_and(takes_any_text) || flow.may_overflow() {
                    self.facts.probe(&flow);
                }
                if let Some(name) = &cast.type_name {
                    flow.add(self.cast_to(name, cast.arg.as_deref()));
                }
                flow.derived()
            }
            NodeEnum::CollateClause(collate) => self.expr(collate.arg.as_deref()),
            NodeEnum::BoolExpr(bool) => self.decided(|visitor| visitor.exprs(&bool.args)).judged(),
            NodeEnum::NullTest(test) => self.null_test(test.arg.as_deref()),
            NodeEnum::BooleanTest(test) => {
                self.decided(|visitor| visitor.expr(test.arg.as_deref()))
            }
            NodeEnum::CaseExpr(case) => {
                let compared = self.probed(case.arg.as_deref());
                let whens = case.args.iter().map(|when| self.case_when(when, &compared));
                let results = whens.fold(Flow::default(), Flow::with);
                results.with(self.expr(case.defresult.as_deref()))
            }
            NodeEnum::CoalesceExpr(coalesce) => self.exprs(&coalesce.args),
            NodeEnum::MinMaxExpr(extreme) => {
                let each = extreme.args.iter().map(|arg| self.expr(Some(arg))).collect();
                self.sized(Size::Varies, each)
            }
            NodeEnum::RowExpr(row) => self.gathered(&row.args),
            NodeEnum::AArrayExpr(array) => self.gathered(&array.elements),
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
            NodeEnum::AConst(constant) => {
                self.facts.constants.push(constant.location);
                self.facts.met.constant(constant)
            }
            NodeEnum::ParamRef(parameter) => self.facts.met.parameter(parameter.number),
            NodeEnum::SqlvalueFunction(_) | NodeEnum::SetToDefault(_) => Flow::default(),
            other => self.clause(other),
        }
    }

    /// Parts that are expressions only in some clause.
    fn clause(&mut self, node: &NodeEnum) -> Flow {
        match node {
            NodeEnum::ResTarget(target) => {
                self.exprs(&target.indirection).with(self.expr(target.val.as_deref()))
            }
            NodeEnum::SortBy(sort) => {
                self.operator(&sort.use_op);
                self.expr(sort.node.as_deref())
            }
            NodeEnum::WindowDef(window) => self.window(window),
            NodeEnum::GroupingSet(set) => self.exprs(&set.content),
            NodeEnum::IndexElem(element) => self.expr(element.expr.as_deref()),
            NodeEnum::PartitionElem(element) => self.expr(element.expr.as_deref()),
            NodeEnum::StatsElem(element) => self.expr(element.expr.as_deref()),
            NodeEnum::AIndices(indices) => {
                self.probe(indices.lidx.as_deref());
                self.probe(indices.uidx.as_deref());
                Flow::default()
            }
            NodeEnum::XmlExpr(xml) => self
                .decided(|visitor| visitor.exprs(&xml.named_args).with(visitor.exprs(&xml.args))),
            NodeEnum::XmlSerialize(xml) => {
                self.decided(|visitor| visitor.expr(xml.expr.as_deref()))
            }
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

    /// Visits an expression whose result, or whether it has one, says more of its values than a
    /// mask hides; where it comes from all the same.
    pub(super) fn decided(&mut self, visit: impl FnOnce(&mut Self) -> Flow) -> Flow {
        let flow = visit(self).derived();
        self.facts.probe(&flow);
        flow
    }

    /// Visits a branch of a CASE over a value that was visited already; where its result comes from.
    fn case_when(&mut self, when: &Node, over: &Flow) -> Flow {
        let Some(NodeEnum::CaseWhen(when)) = &when.node else { return self.expr(Some(when)) };
        let compared = self.probed(when.expr.as_deref());
        self.facts.met.compare(over, &compared);
        self.expr(when.result.as_deref())
    }

    /// An operator. Putting texts together neither fails nor loses a value; any other may.
    fn operation(&mut self, operation: &AExpr) -> Flow {
        let AExpr { kind, name, lexpr, rexpr, .. } = operation;
        let (left, right) = (self.expr(lexpr.as_deref()), self.expr(rexpr.as_deref()));
        let is_written = matches!(
            AExprKind::try_from(*kind),
            Ok(AExprKind::AexprOp | AExprKind::AexprOpAny | AExprKind::AexprOpAll)
        );
        let own = if is_written { self.operator(name) } else { Flow::default() };
        let joins = *kind == AExprKind::AexprOp as i32
            && matches!(names::path(name).as_slice(), ["||"] | ["pg_catalog", "||"]);
        if joins {
            return self.sized(Size::Adds, vec![left, right]);
        }
        if !self.compare_rows(lexpr.as_deref(), rexpr.as_deref()) {
            self.facts.met.compare(&left, &right);
        }
        let computes = is_written
            && *kind == AExprKind::AexprOp as i32
            && matches!(names::path(name).last(), Some(&("+" | "-" | "*" | "/" | "%" | "^")));
        let flow = self.decided(|_| left.with(right).with(own));
        if computes { flow } else { flow.judged() }
    }

    /// Notes what rows that are compared hold of columns and of values, place by place; false where they are not so
    /// written.
    fn compare_rows(&mut self, left: Option<&Node>, right: Option<&Node>) -> bool {
        if !self.facts.met.is_kept() {
            return true;
        }
        let (Some(left), Some(right)) = (left.and_then(row), right) else { return false };
        let rows: Vec<&[Node]> = match &right.node {
            Some(NodeEnum::List(list)) => match list.items.iter().map(row).collect() {
                Some(rows) => rows,
                None => return false,
            },
            _ => match row(right) {
                Some(row) => vec![row],
                None => return false,
            },
        };
        let are_plain = rows.iter().all(|row| {
            row.len() == left.len() && row.iter().chain(left).all(|part| is_plain(Some(part)))
        });
        if !are_plain {
            return false;
        }
        for row in rows {
            for (one, other) in left.iter().zip(row) {
                let (one, other) = (self.part(Some(one)), self.part(Some(other)));
                self.facts.met.compare(&one, &other);
            }
        }
        true
    }

    /// A part of a row for which [`is_plain`] holds, which was visited already.
    fn part(&mut self, node: Option<&Node>) -> Flow {
        match node.and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::ColumnRef(column)) => self.column(column),
            Some(NodeEnum::AConst(constant)) => self.facts.met.constant(constant),
            Some(NodeEnum::ParamRef(parameter)) => self.facts.met.parameter(parameter.number),
            Some(NodeEnum::TypeCast(cast)) => self.part(cast.arg.as_deref()),
            _ => Flow::default(),
        }
    }

    /// Values that are put together to a row or an array.
    pub(super) fn gathered(&mut self, nodes: &[Node]) -> Flow {
        let each = nodes.iter().map(|node| self.expr(Some(node))).collect();
        self.sized(Size::Grows, each)
    }

    /// What becomes of the lengths of values; where these come from together. If whether the result is too
    /// large may depend on what the values are, they are probed.
    pub(super) fn sized(&mut self, size: Size, each: Vec<Flow>) -> Flow {
        let varying = each.iter().filter(|flow| flow.varies()).count();
        let mut flow = each.into_iter().fold(Flow::default(), Flow::with);
        let fails = match size {
            Size::Keeps | Size::Pads => false,
            Size::Adds => flow.may_overflow() || varying > 1,
            Size::Varies => flow.grown(),
            Size::Grows => flow.varies(),
            Size::Multiplies => true,
        };
        if fails {
            self.overflows = true;
            self.facts.probe(&flow);
        }
        flow.sized(
            matches!(size, Size::Varies | Size::Multiplies),
            matches!(size, Size::Grows | Size::Pads | Size::Multiplies),
        );
        flow
    }

    /// Whether there is a value: of a column that is not hidden by its mask, of anything computed
    /// it may say what the value is.
    fn null_test(&mut self, argument: Option<&Node>) -> Flow {
        if is_column(argument) {
            self.expr(argument);
            return Flow::default();
        }
        self.decided(|visitor| visitor.expr(argument))
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
                        .fold(Flow::default(), |flow, (relation, _)| flow.with(relation.all()));
                }
                [name] => (None, *name),
                [.., schema, name] => (Some(*schema), *name),
            };
            return self
                .scopes
                .relation(schema, name)
                .map_or_else(Flow::lost, |relation| relation.all());
        }
        match path.as_slice() {
            [name] => self.scopes.unqualified(name),
            [table, name] => self.qualified(None, table, name),
            [.., schema, table, name] => self.qualified(Some(schema), table, name),
            [] => Flow::lost(),
        }
    }

    fn qualified(&mut self, schema: Option<&str>, table: &str, name: &str) -> Flow {
        match self.scopes.relation(schema, table) {
            Some(relation) => self.scopes.qualified(&relation, name),
            None => Flow::lost(),
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
        let mut fields = indirection.iter().filter_map(names::string).peekable();
        let plain = fields.peek().is_some() && fields.clone().count() == indirection.len();
        for field in fields {
            self.facts.risks |= functions::risks(field);
        }
        let flow = self.expr(arg.as_deref()).derived();
        if !plain {
            // Whether there is such an element may say what the array holds.
            self.facts.probe(&flow);
        }
        flow
    }

    fn sublink(&mut self, sublink: &SubLink) -> Flow {
        let SubLink {
            xpr: _,
            sub_link_type,
            sub_link_id: _,
            testexpr,
            oper_name,
            subselect,
            location: _,
        } = sublink;
        let test = self.expr(testexpr.as_deref());
        let rows = self.query(subselect.as_deref()).all();
        self.facts.met.compare(&test, &rows);
        let flow = test.with(rows).with(self.operator(oper_name));
        match SubLinkType::try_from(*sub_link_type) {
            Ok(SubLinkType::ExistsSublink) => Flow::default(),
            Ok(
                SubLinkType::ExprSublink
                | SubLinkType::ArraySublink
                | SubLinkType::MultiexprSublink,
            ) => flow,
            _ => self.decided(|_| flow).judged(),
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
        self.probes(partition_clause);
        self.probes(order_clause);
        self.probe(start_offset.as_deref());
        self.probe(end_offset.as_deref());
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
            agg_distinct,
            func_variadic: _,
            funcformat: _,
            location: _,
        } = call;
        let path = names::path(funcname);
        self.facts.call(&path);
        if path.last() == Some(&"set_config") {
            self.facts.risks |= self.set_config(args.first());
        }
        // By a name it is given, or that a condition compares with.
        self.facts.by_value |= path.last() == Some(&"set_config");
        let constants = self.facts.constants.len();
        let each: Vec<Flow> = args.iter().map(|arg| self.expr(Some(arg))).collect();
        // What a function is given may be looked at (`shown`).
        self.facts.constants.truncate(constants);
        let counts = matches!(path.as_slice(), ["count"] | ["pg_catalog", "count"]);
        for (at, flow) in each.iter().enumerate() {
            let shown = if counts {
                !agg_distinct && is_column(args.get(at))
            } else {
                shown::keeps(&path, args, at) && !agg_distinct
            };
            if !shown {
                self.facts.probe(flow);
            }
        }
        if path.last().is_some_and(|name| functions::compares(name)) {
            for (at, one) in each.iter().enumerate() {
                for other in each.iter().skip(at + 1) {
                    self.facts.met.compare(one, other);
                }
            }
        }
        let mut flow = self.sized(shown::size(&path, args), each);
        let order = self.exprs(agg_order);
        self.facts.probe(&order);
        // `percentile_disc(0.5) WITHIN GROUP (ORDER BY x)` returns what it orders by.
        if *agg_within_group {
            flow.add(order);
        }
        self.probe(agg_filter.as_deref());
        if let Some(over) = over {
            self.window(over);
        }
        match functions::returns(&path) {
            Returns::Arguments => flow,
            Returns::Nothing => Flow::default(),
            Returns::Unknown => flow.with(Flow::opaque()),
        }
    }
}

/// The parts of a row that is written as one.
fn row(node: &Node) -> Option<&[Node]> {
    match &node.node {
        Some(NodeEnum::RowExpr(row)) => Some(&row.args),
        _ => None,
    }
}

/// Whether it is a column or a value, however it is cast: of those nothing but where they come from is found by looking
/// at them once more.
fn is_plain(node: Option<&Node>) -> bool {
    match node.and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::ColumnRef(_) | NodeEnum::AConst(_) | NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => is_plain(cast.arg.as_deref()),
        _ => false,
    }
}

/// Whether `node` is a column by its name, or a whole row.
fn is_column(node: Option<&Node>) -> bool {
    matches!(node.and_then(|node| node.node.as_ref()), Some(NodeEnum::ColumnRef(_)))
}

/// Whether a cast to this type takes any text, and so never fails.
fn takes_any_text(name: &TypeName) -> bool {
    let path = names::path(&name.names);
    let [.., last] = path.as_slice() else { return false };
    name.array_bounds.is_empty()
        && path.iter().rev().skip(1).all(|schema| *schema == "pg_catalog")
        && matches!(*last, "text" | "varchar" | "bpchar" | "name")
}
