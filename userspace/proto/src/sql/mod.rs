//! From a SQL string to what it does: statements, actions, resources, risks, lineage.

use std::sync::Arc;

use types::command::Statement;

/// How the server reads text right now; part of the cache key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// `standard_conforming_strings`, as the server last reported it.
    pub standard_conforming_strings: bool,
}

/// Takes SQL strings apart, and remembers; shared by all sessions of a node.
#[derive(Debug)]
pub struct Analyzer {}

impl Analyzer {
    /// The statements of `text`, in order; never empty. What does not parse is one statement with
    /// `Risk::UNPARSED`; an empty string is one with verb `EMPTY`.
    pub fn analyze(&self, _text: &[u8], _reading: Reading) -> Arc<[Arc<Statement>]> {
        unreachable!("placeholder until the module lands")
    }
}
