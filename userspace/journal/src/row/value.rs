//! Column types and values: the few that every reader of Parquet knows.

use std::sync::Arc;

use types::id::SequenceNumber;

use super::Text;
use super::shared::{Common, Shared};

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether a value may be absent.
    pub nullable: bool,
    /// Its Parquet field id; never reused.
    pub field_id: i32,
    /// Which part of a row it is in.
    pub part: Part,
}

/// The parts of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// No other row has it.
    Own,
    /// Rows of a session share it.
    Session,
    /// Rows of a statement share it.
    Statement,
}

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BOOLEAN.
    Bool,
    /// INT.
    I32,
    /// BIGINT.
    I64,
    /// TIMESTAMP, microseconds, UTC.
    Ts,
    /// STRING.
    Str,
    /// BINARY.
    Bytes,
    /// LIST of STRING.
    StrList,
    /// LIST of STRUCT of entity STRING and count BIGINT.
    MaskList,
}

impl Kind {
    /// Its word, for programs that share no code with this one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Ts => "ts",
            Self::Str => "str",
            Self::Bytes => "bytes",
            Self::StrList => "strings",
            Self::MaskList => "masks",
        }
    }
}

/// An instant: microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Micros(pub i64);

/// How many values of one class were masked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    /// The class: `pan`, `iban`, `email`, …
    pub entity: String,
    /// How many.
    pub count: i64,
}

/// One column's value in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Absent.
    Null,
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::I32`].
    I32(i32),
    /// Of [`Kind::I64`].
    I64(i64),
    /// Of [`Kind::Ts`].
    Ts(Micros),
    /// Of [`Kind::Str`].
    Str(&'a str),
    /// Of [`Kind::Bytes`].
    Bytes(&'a [u8]),
    /// Of [`Kind::StrList`].
    StrList(&'a [String]),
    /// Of [`Kind::MaskList`].
    MaskList(&'a [Masked]),
}

impl Value<'_> {
    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::I32(_) | Self::I64(_) | Self::Ts(_) => 8,
            Self::Str(it) => 4 + it.len(),
            Self::Bytes(it) => 4 + it.len(),
            Self::StrList(items) => items.iter().fold(4, |bytes, item| bytes + 4 + item.len()),
            Self::MaskList(items) => 4 + 16 * items.len(),
        }
    }
}

/// A [`Value`] that owns what it holds.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue {
    /// Absent.
    Null,
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::I32`].
    I32(i32),
    /// Of [`Kind::I64`].
    I64(i64),
    /// Of [`Kind::Ts`].
    Ts(Micros),
    /// Of [`Kind::Str`].
    Str(String),
    /// Of [`Kind::Bytes`].
    Bytes(Vec<u8>),
    /// Of [`Kind::StrList`].
    StrList(Vec<String>),
    /// Of [`Kind::MaskList`].
    MaskList(Vec<Masked>),
}

#[cfg(test)]
impl OwnedValue {
    /// A value of the column's type; different for different `n` but for booleans' parity.
    pub(crate) fn sample(column: &Column, n: usize) -> Self {
        let int = i32::try_from(n).unwrap();
        let text = "x".repeat(n);
        match column.kind {
            Kind::Bool => Self::Bool(n % 2 == 1),
            Kind::I32 => Self::I32(int),
            Kind::I64 => Self::I64(i64::from(int)),
            Kind::Ts => Self::Ts(Micros(i64::from(int))),
            Kind::Str => Self::Str(text),
            Kind::Bytes => Self::Bytes(text.into_bytes()),
            Kind::StrList => Self::StrList(vec![text]),
            Kind::MaskList => Self::MaskList(vec![Masked { entity: text, count: 1 }]),
        }
    }
}

/// What takes rows apart, one column behind the other.
pub trait Columns<'a> {
    /// The next column's values: each row's, or those of the parts that were new.
    fn column(&mut self, values: impl Iterator<Item = Value<'a>>);

    /// Takes each row's `part` that rows share, before the columns come; returns those that are new.
    fn parts<T: Common>(
        &mut self,
        part: Part,
        rows: impl Iterator<Item = &'a Shared<T>>,
    ) -> Vec<&'a T>;
}

/// A type that a column's values have in a row's struct.
pub trait Field: Sized {
    /// The column's type.
    const KIND: Kind;
    /// Whether the column may be null.
    const NULLABLE: bool = false;
    /// The value.
    fn value(&self) -> Value<'_>;
    /// Itself from a value; `None` if that is of another type.
    fn from_value(value: OwnedValue) -> Option<Self>;
}

macro_rules! field {
    ($type:ty, $kind:ident, |$it:ident| $borrow:expr) => {
        impl Field for $type {
            const KIND: Kind = Kind::$kind;
            fn value(&self) -> Value<'_> {
                let $it = self;
                Value::$kind($borrow)
            }
            fn from_value(value: OwnedValue) -> Option<Self> {
                if let OwnedValue::$kind(it) = value { Some(it) } else { None }
            }
        }
    };
}

field!(bool, Bool, |it| *it);
field!(i32, I32, |it| *it);
field!(i64, I64, |it| *it);
field!(Micros, Ts, |it| *it);
field!(String, Str, |it| it);
field!(Vec<u8>, Bytes, |it| it);
field!(Vec<String>, StrList, |it| it);
field!(Vec<Masked>, MaskList, |it| it);

impl Field for Text {
    const KIND: Kind = Kind::Str;

    fn value(&self) -> Value<'_> {
        Value::Str(self)
    }

    fn from_value(value: OwnedValue) -> Option<Self> {
        String::from_value(value).map(Self::from)
    }
}

/// Texts that many rows have.
impl Field for Arc<[String]> {
    const KIND: Kind = Kind::StrList;

    fn value(&self) -> Value<'_> {
        Value::StrList(self)
    }

    fn from_value(value: OwnedValue) -> Option<Self> {
        Vec::from_value(value).map(Self::from)
    }
}

impl Field for SequenceNumber {
    const KIND: Kind = Kind::I64;

    fn value(&self) -> Value<'_> {
        Value::I64(i64::try_from(self.0).unwrap_or(i64::MAX))
    }

    fn from_value(value: OwnedValue) -> Option<Self> {
        i64::from_value(value).and_then(|seq| u64::try_from(seq).ok()).map(Self)
    }
}

impl<T: Field> Field for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;

    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, Field::value)
    }

    fn from_value(value: OwnedValue) -> Option<Self> {
        match value {
            OwnedValue::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}
