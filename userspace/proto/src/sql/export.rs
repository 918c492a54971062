//! Whether a query brings all rows of a relation, as far as its form tells.
//!
//! A WHERE that looks at a column, a LIMIT and a summary in one row make it another; whether they
//! leave many rows or few is not for the text to say. Limits (`@limit`) count.

use pg_query::protobuf::RangeVar;
use pg_query::{Node, NodeEnum};

use super::names;

/// Aggregates that bring one value out of many; those that bring the many in one (`array_agg`, …) are
/// not here.
const SUMMARIES: [&str; 19] = [
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "every",
    "max",
    "min",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "sum",
    "var_pop",
    "var_samp",
    "variance",
    "regr_count",
];

/// Whether a relation holds data, and no definitions.
pub(super) fn is_data(relation: &RangeVar) -> bool {
    !matches!(relation.schemaname.as_str(), "pg_catalog" | "information_schema")
}

/// Whether a LIMIT or FETCH FIRST limits anything.
pub(super) fn is_limit(count: Option<&Node>) -> bool {
    match count.and_then(|node| node.node.as_ref()) {
        None => false,
        Some(NodeEnum::AConst(constant)) => !constant.isnull,
        Some(_) => true,
    }
}

/// Whether every output is a summary, so that one row comes, or one for each group.
pub(super) fn is_summary(targets: &[Node]) -> bool {
    !targets.is_empty()
        && targets.iter().all(|target| {
            let Some(NodeEnum::ResTarget(target)) = &target.node else { return false };
            let value = target.val.as_deref().and_then(|value| value.node.as_ref());
            let Some(NodeEnum::FuncCall(call)) = value else { return false };
            let path = names::path(&call.funcname);
            let name = match path.as_slice() {
                [name] | ["pg_catalog", name] => *name,
                _ => return false,
            };
            call.over.is_none() && SUMMARIES.contains(&name)
        })
}
