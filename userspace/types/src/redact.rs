//! Masking as the protocol sessions see it: a treatment for each column, applied to each value.

use std::sync::Arc;

use crate::command::Analysis;

/// A class of sensitive data, as policy names it: `us_ssn`, `card_number`, …
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataClass(pub Arc<str>);

/// What replaces a masked value (Presidio's operators).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// A fixed word.
    Replace,
    /// All but the last four characters.
    Partial,
    /// A keyed hash: equal values stay equal, and say nothing else.
    Hash,
    /// SQL NULL.
    Null,
}

impl Operator {
    /// The word in policies and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Partial => "partial",
            Self::Hash => "hash",
            Self::Null => "null",
        }
    }

    /// How strict it is: of several that apply, the highest wins.
    pub fn strictness(self) -> u8 {
        match self {
            Self::Partial => 0,
            Self::Hash => 1,
            Self::Replace => 2,
            Self::Null => 3,
        }
    }
}

/// One class, and how it is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskRule {
    /// What is masked.
    pub class: DataClass,
    /// How.
    pub operator: Operator,
}

/// How many values of one class were masked in one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskCount {
    /// The class.
    pub class: DataClass,
    /// Values masked.
    pub count: u64,
}

/// How a value is written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The server's text form.
    Text,
    /// The type's binary form.
    Binary,
}

/// One result column as the server describes it (PostgreSQL `RowDescription`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the result.
    pub name: Vec<u8>,
    /// The base table's OID, 0 where the column is not a plain one.
    pub table_oid: u32,
    /// The column's attribute number in it; 0 with an OID means the whole row.
    pub attnum: i16,
    /// The type's OID.
    pub type_oid: u32,
    /// The type's modifier (`atttypmod`): for `varchar(n)` and `char(n)` n + 4; -1 where it has none.
    pub modifier: i32,
    /// How values come.
    pub format: Format,
}

/// What to do with a column's values; small and `Copy`, kept per prepared statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// The kind of treatment.
    pub kind: TreatmentKind,
    /// The column's type.
    pub type_oid: u32,
    /// The type's modifier, as [`Column::modifier`].
    pub modifier: i32,
    /// How values come.
    pub format: Format,
}

/// Kinds of treatment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreatmentKind {
    /// Cannot hold anything sensitive: relayed unseen.
    Pass,
    /// Searched by the recognizers.
    Inspect,
    /// Masked whole; the number is the redactor's own rule index.
    Mask(u16),
}

/// What became of a value.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redaction {
    /// Nothing: relay the value as it came; `out` was not touched.
    Unchanged,
    /// The new value was appended to `out`; it is valid for the column's type and format.
    Replaced,
    /// The value is SQL NULL now; `out` was not touched.
    Null,
}

/// What a text of the server's own making may hold of masked values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// None, but such as are recognized.
    Nothing,
    /// None, but what code that it sets off (triggers, rules) says: `Values` in messages from within such.
    Code,
    /// Values where the server's messages quote them.
    Values,
    /// Anything anywhere: code of somebody else's may have written it.
    Anything,
}

/// Applies a session's masks. Implemented by `policy`, called by the sessions of `proto`.
///
/// One per session; calls come from one task at a time. NULL values are never passed in.
pub trait Redactor: Send {
    /// Appends one treatment for each of `columns`, the result of `statement`, to `treatments`.
    fn plan(&mut self, statement: &Analysis, columns: &[Column], treatments: &mut Vec<Treatment>);

    /// As [`Redactor::plan`], for the columns of a COPY TO STDOUT, which have no description on the wire: `count`
    /// columns of unknown type, in `format`, named by `statement.copy` and the catalog.
    fn plan_copy(
        &mut self,
        statement: &Analysis,
        count: usize,
        format: Format,
        treatments: &mut Vec<Treatment>,
    );

    /// Masks one value.
    fn redact(&mut self, treatment: Treatment, value: &[u8], out: &mut Vec<u8>) -> Redaction;

    /// Whether nothing is recognized in `text`, nor in any of the parts that tabs, commas, line feeds
    /// and double quotes divide it into. False where that is not known, and where there is a
    /// backslash, with which a value may be written in other bytes.
    fn is_clean(&mut self, _text: &[u8]) -> bool {
        false
    }

    /// Masks one piece of a value too large to hold, in place and without changing its length.
    /// `Mask` fills all of it; `Inspect` fills what the recognizers find inside this piece. The
    /// caller overlaps pieces by [`crate::limits::RECOGNIZER_SPAN_MAX`] bytes.
    fn fill(&mut self, treatment: Treatment, piece: &mut [u8]);

    /// What texts that the server makes about `statement` (errors, notices) may hold of masked
    /// values, in forms that nothing recognizes.
    fn quotes(&mut self, statement: &Analysis) -> Quotes;

    /// Masks free text of the server's own making (error and notice texts, notifications).
    fn redact_text(&mut self, text: &[u8], out: &mut Vec<u8>) -> Redaction;

    /// Whether the database has a function of its own of this name, in lower case: a call of that name may be
    /// of it, whatever the server has.
    fn has_function(&self, name: &str) -> bool;

    /// The counts since the last call, one per class; empty if nothing was masked.
    fn take_counts(&mut self) -> Vec<MaskCount>;
}
