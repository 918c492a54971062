//! Names out of the tree.

use std::sync::Arc;

use pg_query::protobuf::{RangeVar, a_const};
use pg_query::{Node, NodeEnum};
use types::command::TableName;

/// A relation's name as the statement gives it.
pub(super) fn table(relation: &RangeVar) -> TableName {
    let schema = (!relation.schemaname.is_empty()).then(|| relation.schemaname.as_str().into());
    TableName { schema, name: relation.relname.as_str().into() }
}

/// The relation that a list of name parts stands for: the last is its name, the one before its schema.
pub(super) fn table_of_path(path: &[&str]) -> Option<TableName> {
    let (name, qualifiers) = path.split_last()?;
    Some(TableName { schema: qualifiers.last().map(|&schema| schema.into()), name: (*name).into() })
}

/// The strings among `nodes`; a list within counts as its items.
pub(super) fn path(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().flat_map(parts).collect()
}

/// The strings that `node` consists of.
pub(super) fn parts(node: &Node) -> Vec<&str> {
    match &node.node {
        Some(NodeEnum::String(string)) => vec![&string.sval],
        Some(NodeEnum::List(list)) => list.items.iter().filter_map(string).collect(),
        Some(NodeEnum::TypeName(name)) => name.names.iter().filter_map(string).collect(),
        _ => Vec::new(),
    }
}

/// The string that `node` is, as a bare string or as a constant.
pub(super) fn string(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(string)) => Some(&string.sval),
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(a_const::Val::Sval(string)) => Some(&string.sval),
            _ => None,
        },
        _ => None,
    }
}

/// A shared copy of the strings among `nodes`.
pub(super) fn shared(nodes: &[Node]) -> Vec<Arc<str>> {
    nodes.iter().filter_map(string).map(Arc::from).collect()
}
