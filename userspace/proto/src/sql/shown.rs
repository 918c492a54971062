//! Functions through which a masked value may go on its way to a masked output.
//!
//! Such a function neither fails, nor answers NULL, nor makes more or fewer rows, whatever the value
//! is: what it is called with shows in nothing but its result, which is masked. Every other function
//! that is given a masked column probes it.

use pg_query::protobuf::a_const;
use pg_query::{Node, NodeEnum};

use super::names;

/// What a call makes of the lengths of its arguments. A result of more than a gigabyte is an error: where
/// that may depend on what a value is and not on how long it is, the error says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// Nothing, or always the same.
    Keeps,
    /// A result whose length depends on what they are, and is no greater.
    Varies,
    /// As long as they are together.
    Adds,
    /// As long as is asked for, whatever they are.
    Pads,
    /// A result of any length.
    Grows,
    /// A result of any length, which depends on what they are.
    Multiplies,
}

/// What a call makes of the lengths of its arguments.
pub(super) fn size(path: &[&str], args: &[Node]) -> Size {
    let name = match path {
        [name] | ["pg_catalog", name] => *name,
        _ => return Size::Multiplies,
    };
    match name {
        "btrim" | "ltrim" | "rtrim" | "split_part" | "translate" | "max" | "min" => Size::Varies,
        "replace" => match args {
            [_, from, to] => match (names::string(from), names::string(to)) {
                (Some(from), Some(to)) if to.len() <= from.len() => Size::Varies,
                _ => Size::Multiplies,
            },
            _ => Size::Multiplies,
        },
        "concat" | "concat_ws" | "overlay" => Size::Adds,
        "lpad" | "rpad" => Size::Pads,
        "ascii" | "bit_length" | "char_length" | "character_length" | "length" | "md5"
        | "octet_length" | "sha224" | "sha256" | "sha384" | "sha512" | "to_hex" | "initcap"
        | "lower" | "upper" | "reverse" | "left" | "right" | "substr" | "substring"
        | "convert_to" | "any_value" | "first_value" | "last_value" | "nth_value" | "lag"
        | "lead" => Size::Keeps,
        _ => Size::Grows,
    }
}

/// Whether the argument at a place of a call shows in nothing but its result.
pub(super) fn keeps(path: &[&str], args: &[Node], at: usize) -> bool {
    let name = match path {
        [name] | ["pg_catalog", name] => *name,
        _ => return false,
    };
    if args.iter().any(|arg| matches!(arg.node, Some(NodeEnum::NamedArgExpr(_)))) {
        return false;
    }
    if ANY.binary_search(&name).is_ok() {
        return true;
    }
    match name {
        // Beside text, `substring` takes patterns; those find something or not.
        "substring" => at == 0 && args.iter().skip(1).all(is_integer),
        // Another encoding may lack a character.
        "convert_to" => {
            at == 0
                && args.get(1).and_then(names::string).is_some_and(|to| {
                    to.eq_ignore_ascii_case("utf8") || to.eq_ignore_ascii_case("utf-8")
                })
        }
        "json_build_object" | "jsonb_build_object" => at % 2 == 1,
        "json_object_agg" | "jsonb_object_agg" => at == 1,
        // A `*` takes a number from the arguments.
        "format" => at > 0 && args.first().is_some_and(is_plain_format),
        _ => at == 0 && FIRST.binary_search(&name).is_ok(),
    }
}

fn is_integer(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::AConst(constant)) if matches!(constant.val, Some(a_const::Val::Ival(_))))
}

fn is_plain_format(node: &Node) -> bool {
    names::string(node).is_some_and(|text| !text.contains('*'))
}

/// Any argument may be masked.
const ANY: &[&str] = &[
    "any_value",
    "array_agg",
    "concat",
    "concat_ws",
    "first_value",
    "json_agg",
    "json_build_array",
    "jsonb_agg",
    "jsonb_build_array",
    "last_value",
    "max",
    "min",
    "row_to_json",
    "string_agg",
    "to_json",
    "to_jsonb",
];

/// The first argument alone may be.
const FIRST: &[&str] = &[
    "array_to_json",
    "array_to_string",
    "ascii",
    "bit_length",
    "btrim",
    "char_length",
    "character_length",
    "encode",
    "initcap",
    "lag",
    "lead",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "nth_value",
    "octet_length",
    "overlay",
    "quote_literal",
    "quote_nullable",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "split_part",
    "substr",
    "to_hex",
    "translate",
    "upper",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        for table in [ANY, FIRST] {
            assert!(table.is_sorted(), "binary search needs order: {table:?}");
        }
    }
}
