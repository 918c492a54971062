//! Masking: recognizers, operators and the redactor of a session.
//!
//! How a column is treated (first row that holds):
//!
//! | column | treatment |
//! |---|---|
//! | no rules in the session | `Pass` |
//! | tagged by the catalog, by lineage or by a class pattern, and a rule exists | `Mask`, strictest rule |
//! | whole row of a relation with tagged columns | `Mask`, strictest rule of the relation |
//! | origin not known, statement reads a relation with tagged columns | `Mask`, likewise |
//! | origin not known, catalog not known | `Mask`, strictest rule of all |
//! | a type that cannot hold text (numbers, times, uuid, oid, bool) | `Pass` |
//! | anything else | `Inspect` |
//!
//! A view's column has the classes of a same-named column the view reads; any other column of a
//! view that reads tagged columns has all their classes. Encoded values (base64, compressed) are
//! not recognized in `Inspect`.

mod catalog;
mod masks;
mod operator;
mod plan;
pub mod recognizer;
mod redactor;

pub use catalog::{Catalog, CatalogError, catalog_query};
pub use masks::Masks;

pub use crate::classification::RecognizerKind;

#[cfg(test)]
mod tests;
