//! From a SQL string to what it does: statements, actions, resources, risks, lineage.
//!
//! Text is read with PostgreSQL's own grammar and judged by the tree alone; no catalog is asked, so
//! views, functions and `search_path` are the caller's to resolve. Whatever the analysis does not
//! know is `Unknown` and opaque, never harmless. Deep nesting parses only on threads with 64 MiB of stack.

mod cache;
mod copy;
mod ddl;
mod drops;
mod execute;
mod export;
mod expression;
mod facts;
mod from;
mod functions;
mod json;
mod lineage;
mod met;
mod modify;
mod names;
mod normalize;
mod query;
pub mod secrets;
mod set;
mod shape;
mod shown;
mod statement;
mod unnamed;
mod utility;

#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use types::command::{Risk, Statement};
use types::limits::STATEMENT_CACHE_TEXT_MAX;

use cache::Cache;
pub(crate) use execute::executing;
use shape::Shape;

/// How the server reads text right now; part of the cache key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// `standard_conforming_strings`, as the server last reported it.
    pub standard_conforming_strings: bool,
}

/// Takes SQL strings apart, and remembers; shared by all sessions of a node.
#[derive(Debug)]
pub struct Analyzer {
    /// By text.
    texts: Cache,
    /// By shape: of the first text that had it.
    shapes: Cache,
    /// Whether which values columns meet is kept.
    keeps_values: bool,
}

impl Analyzer {
    /// An analyzer with an empty cache.
    pub fn new() -> Self {
        Self { texts: Cache::new(), shapes: Cache::new(), keeps_values: false }
    }

    /// One that also says which values columns meet ([`types::command::Comparisons`]).
    pub fn keeping_values() -> Self {
        Self { keeps_values: true, ..Self::new() }
    }

    /// The statements of `text`, in order; never empty. What does not parse is one statement with
    /// `Risk::UNPARSED`; an empty string is one with verb `EMPTY`.
    pub fn analyze(&self, text: &[u8], reading: Reading) -> Arc<[Arc<Statement>]> {
        if let Some(known) = self.texts.get(text, reading) {
            return known;
        }
        let short = text.len() <= STATEMENT_CACHE_TEXT_MAX;
        let shape = short.then(|| Shape::of(text)).flatten();
        let alike = shape.as_ref().and_then(|shape| self.alike(text, shape, reading));
        let statements = alike.unwrap_or_else(|| {
            let read = statement::read(text, reading, self.keeps_values);
            if let Some(shape) = shape.filter(|shape| read.is_of_shape(text, shape)) {
                self.shapes.put(&shape.text, reading, &read.statements);
            }
            read.statements
        });
        self.texts.put(text, reading, &statements);
        statements
    }

    /// The statement that `text` is, where one of its shape is known.
    fn alike(&self, text: &[u8], shape: &Shape, reading: Reading) -> Option<Arc<[Arc<Statement>]>> {
        let known = self.shapes.get(&shape.text, reading)?;
        let [known] = &*known else { return None };
        let alike: Arc<[_]> = Arc::new([statement::alike(known, text)?]);
        debug_assert_eq!(
            alike,
            statement::read(text, reading, self.keeps_values).statements,
            "of one shape"
        );
        Some(alike)
    }
}

/// The plain constants of a text, in order: what [`types::command::ValueAt::Plain`] counts. Strings are without their
/// quotes.
pub fn plain_constants(text: &str) -> Vec<&str> {
    Shape::of(text.as_bytes()).map(|shape| shape.values(text)).unwrap_or_default()
}

/// What makes calling a function of the server's own, of this name, dangerous.
pub(crate) fn function_risks(name: &str) -> Risk {
    functions::risks(name)
}

impl Default for Analyzer {
    fn default() -> Self {
        Self::new()
    }
}
