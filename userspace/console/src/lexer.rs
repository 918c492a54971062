//! SQL taken into words for their colours, on the server: pages have no script for it.
//!
//! It decides nothing. Whatever it is given comes out whole and in order, of a server's grammar or not.

/// What a piece of a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A word of the language.
    Keyword,
    /// Any other word.
    Name,
    /// A name in double quotes.
    Quoted,
    /// A string, whichever way it is quoted.
    Text,
    /// A number.
    Number,
    /// A comment, which the server does not read.
    Comment,
    /// `$1`.
    Parameter,
    /// Whatever else: signs and blanks.
    Sign,
}

impl Class {
    /// Its class in the style sheet; none where it has no colour of its own.
    pub(crate) fn style(self) -> Option<&'static str> {
        match self {
            Self::Keyword => Some("k"),
            Self::Quoted => Some("q"),
            Self::Text => Some("s"),
            Self::Number => Some("n"),
            Self::Comment => Some("c"),
            Self::Parameter => Some("p"),
            Self::Name | Self::Sign => None,
        }
    }
}

/// The pieces of a statement, in order; together they are the statement.
pub(crate) fn pieces(sql: &str) -> impl Iterator<Item = (Class, &str)> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let (class, bytes) = first(rest)?;
        let (piece, after) = rest.split_at_checked(bytes.max(1)).unwrap_or((rest, ""));
        rest = after;
        Some((class, piece))
    })
}

/// The first piece, and how many bytes it has.
fn first(rest: &str) -> Option<(Class, usize)> {
    let c = rest.chars().next()?;
    Some(match c {
        '-' if rest.starts_with("--") => (Class::Comment, rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => (Class::Comment, block_comment(rest)),
        '\'' => (Class::Text, quoted(rest, 1, '\'', false)),
        'e' | 'E' if rest.get(1..2) == Some("'") => (Class::Text, quoted(rest, 2, '\'', true)),
        'b' | 'B' | 'x' | 'X' | 'n' | 'N' if rest.get(1..2) == Some("'") => {
            (Class::Text, quoted(rest, 2, '\'', false))
        }
        'u' | 'U' if rest.get(1..3) == Some("&'") => (Class::Text, quoted(rest, 3, '\'', false)),
        'u' | 'U' if rest.get(1..3) == Some("&\"") => (Class::Quoted, quoted(rest, 3, '"', false)),
        '"' => (Class::Quoted, quoted(rest, 1, '"', false)),
        '$' => dollar(rest),
        '0'..='9' => {
            (Class::Number, end(rest, |c| c.is_ascii_alphanumeric() || c == '.' || c == '_'))
        }
        c if is_word_start(c) => {
            let bytes = end(rest, |c| is_word_start(c) || c.is_ascii_digit() || c == '$');
            let word = rest.get(..bytes).unwrap_or_default();
            (if is_keyword(word) { Class::Keyword } else { Class::Name }, bytes)
        }
        c if c.is_whitespace() => (Class::Sign, end(rest, char::is_whitespace)),
        c => (Class::Sign, c.len_utf8()),
    })
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

/// Where what goes on as long as `is_in` ends.
fn end(rest: &str, is_in: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !is_in(c)).unwrap_or(rest.len())
}

/// Where a quoted piece ends whose text begins at `from`: behind a quote that is not doubled, or escaped.
fn quoted(rest: &str, from: usize, quote: char, escapes: bool) -> usize {
    let mut chars = rest.char_indices().skip_while(|(at, _)| *at < from).peekable();
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + c.len_utf8();
        }
    }
    rest.len()
}

/// Comments nest (PostgreSQL documentation, 4.1.5).
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    let bytes = rest.as_bytes();
    while let Some(pair) = bytes.get(at..at + 2) {
        match pair {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return at + 2,
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

/// `$1`, or a string between two `$tag$`.
fn dollar(rest: &str) -> (Class, usize) {
    let after = rest.get(1..).unwrap_or_default();
    if after.starts_with(|c: char| c.is_ascii_digit()) {
        return (Class::Parameter, 1 + end(after, |c| c.is_ascii_digit()));
    }
    let tag = end(after, |c| is_word_start(c) || c.is_ascii_digit());
    if !after.get(tag..).unwrap_or_default().starts_with('$') {
        return (Class::Sign, 1);
    }
    let open = tag + 2;
    let (fence, text) = rest.split_at_checked(open).unwrap_or((rest, ""));
    let bytes = text.find(fence).map_or(rest.len(), |at| open + at + fence.len());
    (Class::Text, bytes)
}

fn is_keyword(word: &str) -> bool {
    let upper = word.to_ascii_uppercase();
    KEYWORDS.binary_search(&upper.as_str()).is_ok()
}

/// Words that structure a statement, sorted; names of types and functions are none.
const KEYWORDS: &[&str] = &[
    "ADD",
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CALL",
    "CASCADE",
    "CASE",
    "CAST",
    "CHECK",
    "COLLATE",
    "COLUMN",
    "COMMIT",
    "CONCURRENTLY",
    "CONFLICT",
    "CONSTRAINT",
    "COPY",
    "CREATE",
    "CROSS",
    "CURRENT",
    "CURSOR",
    "DATABASE",
    "DECLARE",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISABLE",
    "DISTINCT",
    "DO",
    "DROP",
    "ELSE",
    "ENABLE",
    "END",
    "EXCEPT",
    "EXECUTE",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FETCH",
    "FILTER",
    "FIRST",
    "FOR",
    "FOREIGN",
    "FROM",
    "FULL",
    "FUNCTION",
    "GRANT",
    "GROUP",
    "HAVING",
    "IF",
    "ILIKE",
    "IN",
    "INDEX",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTO",
    "IS",
    "JOIN",
    "KEY",
    "LAST",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCK",
    "MATERIALIZED",
    "MERGE",
    "NATURAL",
    "NOT",
    "NOTHING",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "ONLY",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "OWNER",
    "PARTITION",
    "POLICY",
    "PREPARE",
    "PRIMARY",
    "PROCEDURE",
    "REFERENCES",
    "RENAME",
    "RESET",
    "RETURNING",
    "REVOKE",
    "RIGHT",
    "ROLE",
    "ROLLBACK",
    "ROW",
    "SCHEMA",
    "SELECT",
    "SET",
    "SHOW",
    "TABLE",
    "THEN",
    "TO",
    "TRIGGER",
    "TRUE",
    "TRUNCATE",
    "UNION",
    "UNIQUE",
    "UPDATE",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WITH",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(sql: &str, expected: &[(Class, &str)]) {
        let found: Vec<_> = pieces(sql).filter(|(_, piece)| !piece.trim().is_empty()).collect();
        assert_eq!(found, expected, "{sql}");
    }

    #[test]
    fn words_are_what_they_are() {
        use Class::{Comment, Keyword, Name, Number, Parameter, Quoted, Sign, Text};
        check(
            "DELETE FROM t WHERE a='it''s' AND b = $12",
            &[
                (Keyword, "DELETE"),
                (Keyword, "FROM"),
                (Name, "t"),
                (Keyword, "WHERE"),
                (Name, "a"),
                (Sign, "="),
                (Text, "'it''s'"),
                (Keyword, "AND"),
                (Name, "b"),
                (Sign, "="),
                (Parameter, "$12"),
            ],
        );
        check("1.5e3 -- x'\nselect", &[(Number, "1.5e3"), (Comment, "-- x'"), (Keyword, "select")]);
        check("/* a /* b */ c */x", &[(Comment, "/* a /* b */ c */"), (Name, "x")]);
        check(r"E'a\'b' E'\\'", &[(Text, r"E'a\'b'"), (Text, r"E'\\'")]);
        check("$$it's$$ $f$ $$ $f$;", &[(Text, "$$it's$$"), (Text, "$f$ $$ $f$"), (Sign, ";")]);
        check(
            r#""a""b" U&"x" u&'y'"#,
            &[(Quoted, r#""a""b""#), (Quoted, r#"U&"x""#), (Text, "u&'y'")],
        );
        // What does not end goes to the end.
        check("'abc", &[(Text, "'abc")]);
        check("/* a", &[(Comment, "/* a")]);
        check("$x$ a", &[(Text, "$x$ a")]);
        check("a$b $", &[(Name, "a$b"), (Sign, "$")]);
        check("p\u{430}y", &[(Name, "p\u{430}y")]);
    }

    #[test]
    fn keywords_are_found() {
        assert!(KEYWORDS.is_sorted());
        assert!(is_keyword("select") && is_keyword("Delete") && !is_keyword("transfers"));
    }

    proptest! {
        #[test]
        fn nothing_is_lost(sql in "[-/*'\"$a-cE1\\\\ \n\u{202e}é;&U]{0,60}") {
            let whole: String = pieces(&sql).map(|(_, piece)| piece).collect();
            prop_assert_eq!(whole, sql);
        }
    }
}
