//! Says which columns hold which class of data, and which recognizer finds a class in free text.
//!
//! Holds the words of `classification.toml` only: who may see a class is for the policies, finding
//! and masking values is for the other modules.

use serde::Deserialize;
use types::command::{ColumnName, TableName};
use types::redact::DataClass;

use super::blind::TokenForm;

/// Which columns hold which class of data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classification {
    /// The classes, in the file's order.
    pub classes: Vec<ClassRule>,
}

impl Classification {
    /// Parses `classification.toml`.
    ///
    /// # Errors
    ///
    /// Anything unknown, twice, empty or beyond the bounds is refused.
    pub fn parse(text: &str) -> Result<Self, ClassificationError> {
        let document: Document =
            toml::from_str(text).map_err(|e| ClassificationError::Syntax(Box::new(e)))?;
        if document.class.len() > CLASSES_MAX {
            return Err(ClassificationError::TooManyClasses);
        }
        let mut classes: Vec<ClassRule> = Vec::with_capacity(document.class.len());
        for entry in document.class {
            let rule = ClassRule::new(entry)?;
            if classes.iter().any(|c| c.name == rule.name) {
                return Err(ClassificationError::Duplicate { class: rule.name.0.to_string() });
            }
            classes.push(rule);
        }
        Ok(Self { classes })
    }

    /// The classes whose columns `column` of `table` may be among, in the file's order: a schema
    /// that is not known counts as any, and the column `*` (a whole row) as every column.
    pub fn classes_of<'a>(
        &'a self,
        table: &'a TableName,
        column: &'a str,
    ) -> impl Iterator<Item = &'a ClassRule> {
        self.classes.iter().filter(move |class| class.covers(table, column))
    }

    /// Whether values of any class get blind tokens.
    pub fn has_tokens(&self) -> bool {
        self.classes.iter().any(|class| class.tokens.is_some())
    }

    /// The rule of the class `name`.
    pub fn get(&self, name: &DataClass) -> Option<&ClassRule> {
        self.classes.iter().find(|class| class.name == *name)
    }
}

/// One class of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRule {
    /// Its name, as `DataClass::"…"` in the policies.
    pub name: DataClass,
    /// Columns that hold it.
    pub columns: Vec<ColumnPattern>,
    /// What finds it in values of other columns; `None` where only `columns` do.
    pub recognizer: Option<RecognizerKind>,
    /// How its values are written in blind tokens; `None` where they have none.
    pub tokens: Option<TokenForm>,
}

impl ClassRule {
    /// Whether one of its patterns may mean `column` of `table`.
    pub fn covers(&self, table: &TableName, column: &str) -> bool {
        self.columns.iter().any(|pattern| pattern.matches(table, column))
    }

    /// Whether one of its patterns may mean what has this name in no table at all: a member of a document.
    pub fn covers_name(&self, name: &str) -> bool {
        self.columns.iter().any(|pattern| &*pattern.column != "*" && glob(&pattern.column, name))
    }

    fn new(entry: ClassEntry) -> Result<Self, ClassificationError> {
        let ClassEntry { name, columns, recognizer, tokens } = entry;
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(word) {
            return Err(ClassificationError::Name { class: name });
        }
        if columns.len() > PATTERNS_MAX {
            return Err(ClassificationError::TooManyColumns { class: name });
        }
        let columns = columns
            .iter()
            .map(|text| ColumnPattern::parse(text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|pattern| ClassificationError::Pattern { class: name.clone(), pattern })?;
        if columns.is_empty() && recognizer.is_none() {
            return Err(ClassificationError::Nothing { class: name });
        }
        if tokens.is_some() && columns.is_empty() {
            return Err(ClassificationError::NoColumns { class: name });
        }
        Ok(Self { name: DataClass(name.into()), columns, recognizer, tokens })
    }
}

/// A recognizer of values; the names in `classification.toml` are these in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecognizerKind {
    /// A United States social security number.
    UsSsn,
    /// A payment card's number (ISO/IEC 7812-1, Luhn digit).
    CardNumber,
    /// An international bank account number (ISO 13616, mod 97).
    Iban,
    /// An American bank's routing number (ABA checksum).
    UsAba,
    /// An e-mail address.
    Email,
    /// A telephone number.
    Phone,
}

impl RecognizerKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::UsSsn, Self::CardNumber, Self::Iban, Self::UsAba, Self::Email, Self::Phone];

    /// The word in `classification.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UsSsn => "us_ssn",
            Self::CardNumber => "card_number",
            Self::Iban => "iban",
            Self::UsAba => "us_aba",
            Self::Email => "email",
            Self::Phone => "phone",
        }
    }
}

/// A pattern `[schema.]table.column` with `*` for any run of characters within a part.
///
/// Letters match in either case: a quoted `"SSN"` is no way around `customers.ssn`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPattern {
    schema: Option<Box<str>>,
    table: Box<str>,
    column: Box<str>,
}

impl ColumnPattern {
    /// Whether `column` of `table` may be meant. A schema that is not known counts as any; the
    /// column `*`, a whole row, counts as every column.
    pub fn matches(&self, table: &TableName, column: &str) -> bool {
        let schema = match (&self.schema, &table.schema) {
            (Some(pattern), Some(schema)) => glob(pattern, schema),
            _ => true,
        };
        schema && glob(&self.table, &table.name) && (column == "*" || glob(&self.column, column))
    }

    /// As [`ColumnPattern::matches`], for a column as the analysis names it.
    pub fn matches_name(&self, name: &ColumnName) -> bool {
        self.matches(&name.table, &name.column)
    }

    /// Its parts: schema (where given), table and column, each with `*` for any run of characters.
    pub fn parts(&self) -> (Option<&str>, &str, &str) {
        (self.schema.as_deref(), &self.table, &self.column)
    }

    /// Parses a pattern; the error is the pattern itself.
    fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('.').collect();
        if text.len() > 3 * (NAME_BYTES_MAX + 1)
            || parts.iter().any(|p| p.trim() != *p || p.is_empty())
        {
            return Err(text.to_owned());
        }
        let (schema, table, column) = match parts.as_slice() {
            [table, column] => (None, table, column),
            [schema, table, column] => (Some(schema), table, column),
            _ => return Err(text.to_owned()),
        };
        Ok(Self {
            schema: schema.map(|s| Box::from(*s)),
            table: Box::from(*table),
            column: Box::from(*column),
        })
    }
}

/// Why a classification is refused.
#[derive(Debug, thiserror::Error)]
pub enum ClassificationError {
    /// Not TOML, or a field that is not known.
    #[error("classification: {0}")]
    Syntax(#[source] Box<toml::de::Error>),
    /// A class's name is not `[a-z0-9_]{1,63}`.
    #[error("classification: class name {class:?} is not 1 to 63 of a-z 0-9 _")]
    Name {
        /// The name.
        class: String,
    },
    /// A class stands twice.
    #[error("classification: class `{class}` stands twice")]
    Duplicate {
        /// The class.
        class: String,
    },
    /// A column pattern is not `[schema.]table.column`.
    #[error("classification: class `{class}`: {pattern:?} is not [schema.]table.column")]
    Pattern {
        /// The class.
        class: String,
        /// The pattern.
        pattern: String,
    },
    /// A class that nothing can find.
    #[error("classification: class `{class}` has neither columns nor a recognizer")]
    Nothing {
        /// The class.
        class: String,
    },
    /// A class with tokens that no column holds.
    #[error(
        "classification: class `{class}` has tokens, and no columns whose values would get them"
    )]
    NoColumns {
        /// The class.
        class: String,
    },
    /// More classes than [`CLASSES_MAX`].
    #[error("classification: more than {CLASSES_MAX} classes")]
    TooManyClasses,
    /// More patterns in a class than [`PATTERNS_MAX`].
    #[error("classification: class `{class}` has more than {PATTERNS_MAX} column patterns")]
    TooManyColumns {
        /// The class.
        class: String,
    },
}

/// Classes of one classification: each costs one policy evaluation when a session starts, 256 ×
/// about 50 µs = 13 ms.
pub const CLASSES_MAX: usize = 256;

/// Column patterns of one class: matched once per result column; 4,096 × about 100 ns = 0.4 ms.
pub const PATTERNS_MAX: usize = 4_096;

/// A name's length: PostgreSQL's NAMEDATALEN less one.
const NAME_BYTES_MAX: usize = 63;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    class: Vec<ClassEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClassEntry {
    name: String,
    #[serde(default)]
    columns: Vec<String>,
    recognizer: Option<RecognizerKind>,
    tokens: Option<TokenForm>,
}

/// Whether `text` matches `pattern`, in which `*` stands for any run of bytes. Linear in the text
/// for each star: after a mismatch only the last star is retried.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(want) if want.eq_ignore_ascii_case(byte) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = retry else { return false };
                retry = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> TableName {
        match text.split_once('.') {
            Some((schema, name)) => TableName { schema: Some(schema.into()), name: name.into() },
            None => TableName { schema: None, name: text.into() },
        }
    }

    #[test]
    fn patterns() {
        for (pattern, name, column, want) in [
            ("*.customers.ssn", "public.customers", "ssn", true),
            ("*.customers.ssn", "customers", "ssn", true),
            ("public.customers.tax_id", "customers", "tax_id", true),
            ("public.customers.tax_id", "other.customers", "tax_id", false),
            ("customers.ssn", "x.customers", "SSN", true),
            ("customers.ssn", "x.customers", "*", true),
            ("customers.ssn", "x.accounts", "*", false),
            ("cust*.*_ssn", "custodians", "old_ssn", true),
            ("cust*.*_ssn", "custodians", "ssn", false),
            ("*.*ab*ab", "t", "xabyabab", true),
            ("*.*ab*ab", "t", "xab", false),
        ] {
            let pattern = ColumnPattern::parse(pattern).unwrap();
            assert_eq!(pattern.matches(&table(name), column), want, "{pattern:?} {name} {column}");
        }
    }

    #[test]
    fn classes_of_a_column() {
        let classification = Classification::parse(
            "[[class]]\nname = \"a\"\ncolumns = [\"t.x\"]\n\
             [[class]]\nname = \"b\"\nrecognizer = \"us_ssn\"\ncolumns = [\"s.t.*\"]\n",
        )
        .unwrap();
        let names = |name: &str, column: &str| {
            classification
                .classes_of(&table(name), column)
                .map(|c| c.name.0.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names("t", "x"), ["a", "b"]);
        assert_eq!(names("r.t", "x"), ["a"]);
        assert_eq!(names("t", "y"), ["b"]);
        assert!(names("r.u", "x").is_empty());
    }

    #[test]
    fn refused() {
        for (text, want) in [
            ("[[class]]\nname = \"a\"", "neither columns nor a recognizer"),
            ("[[class]]\nname = \"A\"\ncolumns = [\"t.x\"]", "not 1 to 63"),
            ("[[class]]\nname = \"a\"\ncolumns = [\"x\"]", "not [schema.]table.column"),
            ("[[class]]\nname = \"a\"\ncolumns = [\"a..x\"]", "not [schema.]table.column"),
            ("[[class]]\nname = \"a\"\ncolumns = [\"a.b.c.d\"]", "not [schema.]table.column"),
            ("[[class]]\nname = \"a\"\ncolums = [\"t.x\"]", "unknown field"),
            ("[[class]]\nname = \"a\"\nrecognizer = \"ssn\"", "unknown variant"),
            ("[[class]]\nname = \"a\"\ncolumns = [\"t.x\"]\ntokens = \"hash\"", "unknown variant"),
            ("[[class]]\nname = \"a\"\nrecognizer = \"iban\"\ntokens = \"exact\"", "no columns"),
            (
                "[[class]]\nname = \"a\"\nrecognizer = \"iban\"\n[[class]]\nname = \"a\"\nrecognizer = \"iban\"",
                "stands twice",
            ),
        ] {
            let message = Classification::parse(text).unwrap_err().to_string();
            assert!(message.contains(want), "{text}: {message}");
        }
    }
}
