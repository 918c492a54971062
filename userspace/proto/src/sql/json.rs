//! SQL/JSON expressions and JSON_TABLE.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    JsonAggConstructor, JsonBehavior, JsonFuncExpr, JsonKeyValue, JsonTable, JsonTableColumn,
    JsonValueExpr,
};

use super::lineage::Flow;
use super::query::Visitor;
use super::shown::Size;

impl Visitor<'_> {
    /// Visits an SQL/JSON expression; where its value comes from. None if `node` is not one.
    pub(super) fn json(&mut self, node: &NodeEnum) -> Option<Flow> {
        Some(match node {
            NodeEnum::JsonValueExpr(value) => self.json_value(Some(value)),
            NodeEnum::JsonArgument(argument) => self.json_value(argument.val.as_deref()),
            NodeEnum::JsonKeyValue(pair) => self.json_pair(Some(pair)),
            NodeEnum::JsonIsPredicate(test) => {
                self.decided(|visitor| visitor.expr(test.expr.as_deref()))
            }
            NodeEnum::JsonParseExpr(parse) => {
                self.decided(|visitor| visitor.json_value(parse.expr.as_deref()))
            }
            NodeEnum::JsonScalarExpr(scalar) => self.expr(scalar.expr.as_deref()),
            NodeEnum::JsonSerializeExpr(serialize) => self.json_value(serialize.expr.as_deref()),
            NodeEnum::JsonObjectConstructor(object) => self.gathered(&object.exprs),
            NodeEnum::JsonArrayConstructor(array) => self.gathered(&array.exprs),
            NodeEnum::JsonArrayQueryConstructor(array) => self.query(array.query.as_deref()).all(),
            NodeEnum::JsonObjectAgg(aggregate) => {
                self.json_aggregate(aggregate.constructor.as_deref());
                let pair = self.json_pair(aggregate.arg.as_deref());
                self.sized(Size::Grows, vec![pair])
            }
            NodeEnum::JsonArrayAgg(aggregate) => {
                self.json_aggregate(aggregate.constructor.as_deref());
                let value = self.json_value(aggregate.arg.as_deref());
                self.sized(Size::Grows, vec![value])
            }
            NodeEnum::JsonBehavior(behavior) => self.json_behavior(Some(behavior)),
            NodeEnum::JsonFuncExpr(function) => {
                self.decided(|visitor| visitor.json_function(function))
            }
            _ => return None,
        })
    }

    /// Visits a JSON_TABLE; where its columns come from.
    pub(super) fn json_table(&mut self, table: &JsonTable) -> Flow {
        let JsonTable {
            context_item,
            pathspec,
            passing,
            columns,
            on_error,
            alias: _,
            lateral: _,
            location: _,
        } = table;
        let mut flow = self.json_value(context_item.as_deref());
        flow.add(self.expr(pathspec.as_deref().and_then(|path| path.string.as_deref())));
        flow.add(self.exprs(passing));
        flow.add(self.json_behavior(on_error.as_deref()));
        self.json_columns(columns, &mut flow);
        flow
    }

    fn json_columns(&mut self, columns: &[pg_query::Node], flow: &mut Flow) {
        for column in columns {
            let Some(NodeEnum::JsonTableColumn(column)) = &column.node else {
                self.facts.unknown();
                continue;
            };
            let JsonTableColumn { pathspec, columns, on_empty, on_error, .. } = &**column;
            flow.add(self.expr(pathspec.as_deref().and_then(|path| path.string.as_deref())));
            flow.add(self.json_behavior(on_empty.as_deref()));
            flow.add(self.json_behavior(on_error.as_deref()));
            self.json_columns(columns, flow);
        }
    }

    fn json_function(&mut self, function: &JsonFuncExpr) -> Flow {
        let JsonFuncExpr { context_item, pathspec, passing, on_empty, on_error, .. } = function;
        let mut flow = self.json_value(context_item.as_deref());
        flow.add(self.expr(pathspec.as_deref()));
        flow.add(self.exprs(passing));
        flow.add(self.json_behavior(on_empty.as_deref()));
        flow.add(self.json_behavior(on_error.as_deref()));
        flow
    }

    fn json_value(&mut self, value: Option<&JsonValueExpr>) -> Flow {
        let Some(JsonValueExpr { raw_expr, formatted_expr, format: _ }) = value else {
            return Flow::default();
        };
        self.expr(raw_expr.as_deref()).with(self.expr(formatted_expr.as_deref()))
    }

    fn json_pair(&mut self, pair: Option<&JsonKeyValue>) -> Flow {
        let Some(JsonKeyValue { key, value }) = pair else {
            return Flow::default();
        };
        // A key may be NULL, or there twice: an error.
        let key = self.decided(|visitor| visitor.expr(key.as_deref()));
        key.with(self.json_value(value.as_deref()))
    }

    fn json_behavior(&mut self, behavior: Option<&JsonBehavior>) -> Flow {
        self.expr(behavior.and_then(|behavior| behavior.expr.as_deref()))
    }

    fn json_aggregate(&mut self, aggregate: Option<&JsonAggConstructor>) {
        let Some(JsonAggConstructor { output: _, agg_filter, agg_order, over, location: _ }) =
            aggregate
        else {
            return;
        };
        self.probe(agg_filter.as_deref());
        self.probes(agg_order);
        if let Some(over) = over {
            self.window(over);
        }
    }
}
