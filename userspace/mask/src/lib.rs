//! Masking: recognizers, operators and the redactor of a session.
//!
//! Does no I/O and reads no clock. Which masks there are is for `policy`.
//!
//! How a column is treated (first row that holds):
//!
//! | column | treatment |
//! |---|---|
//! | no rules in the session | `Pass` |
//! | tagged by the catalog, by lineage or by a class pattern, and a rule exists | `Mask`, strictest rule |
//! | whole row of a relation with tagged columns | `Mask`, strictest rule of the relation |
//! | origin not known, statement may read what it does not name (unknown functions, other cursors) | `Mask`, strictest rule of all |
//! | origin not known, statement reads a relation with tagged columns | `Mask`, strictest rule of the relation |
//! | origin not known, catalog not known | `Mask`, strictest rule of all |
//! | a type that cannot hold text (numbers, times, uuid, oid, bool) | `Pass` |
//! | its name, or the name of a column it comes from, suggests a class | `Inspect`, weak forms and integers too |
//! | anything else | `Inspect` |
//!
//! A mask that keeps something of a value (`partial`, `hash`) holds for the column's own values only:
//! what is computed from them is replaced, else `left`, `reverse` and the column together say all.
//! What a statement does with them but show them is a probe ([`Masks::probed`]), for policy to decide.
//!
//! Lineage by the text counts besides the server's own description, never instead of it.
//!
//! A view's columns have the classes of what flows into them ([`Catalog::resolve_views`]); where
//! that is not known, all classes of what the view reads.
//!
//! What replaces a value is valid for its type, its format and its length (`varchar(n)`, `char(n)`). A
//! classified column's own values stay other than NULL, so that `NOT NULL` holds in a masked copy: numbers
//! become 0, times the epoch, arrays and ranges empty. NULL is what is computed from them where that is no
//! text, and what has a type of which no value is known: enumerations, composites, types of extensions such
//! as `citext`, binary values of types not known. Encoded values (base64, compressed, JSON escapes) are not
//! recognized in `Inspect`; numbers inside binary values of any type are.

mod binary;
pub mod blind;
mod catalog;
pub mod classification;
mod free_text;
mod masks;
mod nested;
mod operator;
mod plan;
pub mod recognizer;
mod redactor;
mod secret;
mod stand_in;
mod stream;

pub use catalog::{Catalog, CatalogError, catalog_query, is_catalog_query};
pub use free_text::FreeText;
pub use masks::Masks;
pub use secret::Open;
pub use stream::{Form, TextStream};

pub use classification::RecognizerKind;

#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;
