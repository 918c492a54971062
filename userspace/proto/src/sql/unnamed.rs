//! What runs code without naming a function: operators and casts.
//!
//! The server's own operators and types are listed (`pg_operator`, `pg_type` of 15, and what 16 to 18 added);
//! any other may be the database's own, and reads and writes what its function does.

use pg_query::protobuf::{TypeName, a_const};
use pg_query::{Node, NodeEnum};

use super::lineage::Flow;
use super::names;
use super::query::Visitor;

impl Visitor<'_> {
    /// Notes an operator that is used; what its result comes from beside its operands.
    pub(super) fn operator(&mut self, name: &[Node]) -> Flow {
        match names::path(name).as_slice() {
            [] => Flow::default(),
            [name] | ["pg_catalog", name] if OPERATORS.binary_search(name).is_ok() => {
                Flow::default()
            }
            path => {
                self.facts.unknown_call(path);
                Flow::opaque()
            }
        }
    }

    /// Notes a cast of a value; what its result comes from beside it. It is a call of the function that has
    /// the type's name, but for constants of the text, which the type itself reads.
    pub(super) fn cast_to(&mut self, name: &TypeName, value: Option<&Node>) -> Flow {
        let path = names::path(&name.names);
        let is_known = match path.as_slice() {
            [name] | ["pg_catalog", name] => {
                TYPES.binary_search(&name.strip_prefix('_').unwrap_or(name)).is_ok()
            }
            ["information_schema", _] => true,
            _ => false,
        };
        if is_known || is_read(value) {
            return Flow::default();
        }
        self.facts.unknown_call(&path);
        Flow::opaque()
    }
}

/// Whether a value is a text of the statement or a parameter, however it is cast between texts: no cast
/// function runs, the type's input does.
fn is_read(value: Option<&Node>) -> bool {
    match value.and_then(|value| value.node.as_ref()) {
        Some(NodeEnum::AConst(constant)) => {
            constant.isnull || matches!(constant.val, None | Some(a_const::Val::Sval(_)))
        }
        Some(NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => {
            let to = cast.type_name.as_ref().map(|name| names::path(&name.names));
            let is_text = matches!(
                to.as_deref(),
                Some(
                    ["text" | "varchar" | "unknown"]
                        | ["pg_catalog", "text" | "varchar" | "unknown"]
                )
            );
            is_text && is_read(cast.arg.as_deref())
        }
        Some(NodeEnum::AArrayExpr(array)) => array.elements.iter().all(|one| is_read(Some(one))),
        _ => false,
    }
}

/// The server's own operators.
const OPERATORS: &[&str] = &[
    "!!", "!~", "!~*", "!~~", "!~~*", "#", "##", "#-", "#>", "#>>", "%", "&", "&&", "&<", "&<|",
    "&>", "*", "*<", "*<=", "*<>", "*=", "*>", "*>=", "+", "-", "->", "->>", "-|-", "/", "<",
    "<->", "<<", "<<=", "<<|", "<=", "<>", "<@", "<^", "=", ">", ">=", ">>", ">>=", ">^", "?",
    "?#", "?&", "?-", "?-|", "?|", "?||", "@", "@-@", "@>", "@?", "@@", "@@@", "^", "^@", "|",
    "|&>", "|/", "|>>", "||", "||/", "~", "~*", "~<=~", "~<~", "~=", "~>=~", "~>~", "~~", "~~*",
];

/// The server's own types; `_` before a name is an array of it.
const TYPES: &[&str] = &[
    "aclitem",
    "any",
    "anyarray",
    "anycompatible",
    "anycompatiblearray",
    "anycompatiblemultirange",
    "anycompatiblenonarray",
    "anycompatiblerange",
    "anyelement",
    "anyenum",
    "anymultirange",
    "anynonarray",
    "anyrange",
    "bit",
    "bool",
    "box",
    "bpchar",
    "bytea",
    "char",
    "cid",
    "cidr",
    "circle",
    "cstring",
    "date",
    "datemultirange",
    "daterange",
    "event_trigger",
    "fdw_handler",
    "float4",
    "float8",
    "gtsvector",
    "index_am_handler",
    "inet",
    "int2",
    "int2vector",
    "int4",
    "int4multirange",
    "int4range",
    "int8",
    "int8multirange",
    "int8range",
    "internal",
    "interval",
    "json",
    "jsonb",
    "jsonpath",
    "language_handler",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "name",
    "numeric",
    "nummultirange",
    "numrange",
    "oid",
    "oid8",
    "oidvector",
    "path",
    "pg_attribute",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_class",
    "pg_ddl_command",
    "pg_dependencies",
    "pg_lsn",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
    "pg_proc",
    "pg_snapshot",
    "pg_type",
    "point",
    "polygon",
    "record",
    "refcursor",
    "regclass",
    "regcollation",
    "regconfig",
    "regdatabase",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
    "table_am_handler",
    "text",
    "tid",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "trigger",
    "tsm_handler",
    "tsmultirange",
    "tsquery",
    "tsrange",
    "tstzmultirange",
    "tstzrange",
    "tsvector",
    "txid_snapshot",
    "unknown",
    "uuid",
    "varbit",
    "varchar",
    "void",
    "xid",
    "xid8",
    "xml",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        for table in [OPERATORS, TYPES] {
            assert!(table.is_sorted(), "binary search needs order: {table:?}");
        }
    }
}
