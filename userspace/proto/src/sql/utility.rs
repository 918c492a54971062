//! Statements by kind.

use pg_query::Node;

use super::facts::Facts;

/// Visits a whole statement; its verb.
pub(super) fn top(facts: &mut Facts, _node: Option<&Node>) -> &'static str {
    facts.unknown();
    "UNKNOWN"
}
