//! Finds secrets in text by what stands before them: header and key names, authentication schemes,
//! the prefixes of well-known tokens. A value may begin in one text and end in a later one.
//!
//! Best effort: a secret under a name of no meaning, or encoded, is not found.

use types::secret_words::{self, TOKENS};

/// What ends a secret's value that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// The end of the line.
    Line,
    /// White space or a delimiter.
    Word,
    /// This quote, if no backslash stands before it.
    Quote(u8),
    /// So many closing brackets.
    Bracket(u16),
    /// These characters.
    Text(&'static str),
}

/// What stands in for a secret.
const STAND_IN: &str = "[secret]";

/// `text` with secrets replaced. `open` says what ends the value that an earlier text left open, and
/// becomes that of the one that this text leaves open.
pub(super) fn replace(text: &str, open: &mut Option<Open>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    let mut value = open.take().map(|open| (0, open)).or_else(|| find(text, 0));
    while let Some((start, open_value)) = value {
        out.push_str(text.get(from..start).unwrap_or_default());
        out.push_str(STAND_IN);
        match end(text.as_bytes(), start, open_value) {
            Ok(end) => from = end,
            Err(still) => {
                *open = Some(still);
                return out;
            }
        }
        value = find(text, from);
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// Where the next secret's value begins, and what ends it.
fn find(text: &str, from: usize) -> Option<(usize, Open)> {
    let bytes = text.as_bytes();
    let key = private_key(text, from);
    let mut at = from;
    while at < key.unwrap_or(bytes.len()) {
        let starts = is_word(byte(bytes, at)) && (at == from || !is_word(byte(bytes, at - 1)));
        let length = if starts { word(bytes, at) } else { 0 };
        let here = text.get(at..at + length).filter(|word| !word.is_empty());
        if let Some(found) = here.and_then(|here| value_of(text, at, here)) {
            return Some(found);
        }
        at += length.max(1);
    }
    key.map(|at| (at, Open::Text("-----END")))
}

/// Where the next private key begins (RFC 7468): after the line that says so.
fn private_key(text: &str, from: usize) -> Option<usize> {
    let label = text.get(from..)?.match_indices(PRIVATE_KEY).map(|(at, _)| from + at);
    let mut begins = label.filter(|at| {
        let before = text.get(..*at).unwrap_or_default();
        let label = before.rsplit("-----").next().unwrap_or_default();
        label.starts_with("BEGIN") && label.len() < before.len()
    });
    begins.next().map(|at| at + PRIVATE_KEY.len())
}

/// The value that the word at `at` announces, or is.
fn value_of(text: &str, at: usize, word: &str) -> Option<(usize, Open)> {
    let bytes = text.as_bytes();
    let after = at + word.len();
    let rest = text.get(after..)?;
    if [&TOKENS[..], &PREFIXES].iter().any(|begin| secret_words::begins(word, begin, 8)) {
        return Some((at, Open::Word));
    }
    if SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) {
        let token = rest.strip_prefix(' ')?;
        let token = token.get(..end(token.as_bytes(), 0, Open::Word).unwrap_or(token.len()))?;
        let is_token = |b: u8| b.is_ascii_digit() || b.is_ascii_uppercase();
        return (token.len() >= 6 && token.bytes().any(is_token))
            .then_some((after + 1, Open::Word));
    }
    if let Some(authority) = rest.strip_prefix("://") {
        let length = authority.find(['/', '?', '#', ' ', '"', '\'', '\r', '\n']);
        let authority = authority.get(..length.unwrap_or(authority.len()))?;
        let (account, _) = authority.rsplit_once('@')?;
        let (user, _) = account.split_once(':')?;
        return Some((after + 3 + user.len() + 1, Open::Text("@")));
    }
    if !is_key(word) {
        return None;
    }
    let begins_line = at == 0 || byte(bytes, at - 1) == b'\n';
    let quoted = at > 0 && matches!(byte(bytes, at - 1), b'"' | b'\'');
    let value = if let Some(rest) = rest.strip_prefix('>') {
        let value = text.len() - rest.len();
        return (at > 0 && byte(bytes, at - 1) == b'<').then_some((value, Open::Text("<")));
    } else if let Some(value) = part(text, at, rest) {
        return Some((value, Open::Text("\r\n--")));
    } else {
        value_after(rest, begins_line && !quoted)
    };
    let (skipped, open) = value?;
    let value = rest.get(skipped..)?;
    let counts = word.len() >= 6 && word.get(word.len() - 6..)?.eq_ignore_ascii_case("tokens");
    // "max_tokens": 100 is no secret.
    let is_count = counts && value.starts_with(|c: char| c.is_ascii_digit());
    (!is_count).then_some((after + skipped, open))
}

/// What follows a key: where its value begins, and what ends it.
fn value_after(rest: &str, is_header: bool) -> Option<(usize, Open)> {
    let unquoted = rest.trim_start_matches(['\\', '"', '\'', ']']);
    let separator = unquoted.trim_start_matches([' ', '\t']);
    let value = separator.trim_start_matches([':', '=', '>']);
    let separated = value.len() < separator.len();
    if separated && is_header && separator.starts_with(':') && unquoted.len() == rest.len() {
        return Some((rest.len() - value.len(), Open::Line));
    }
    let value = value.trim_start_matches([' ', '\t', '\r', '\n']);
    let skipped = rest.len() - value.len();
    match value.as_bytes() {
        // As in SQL: PASSWORD 'x'.
        [quote @ (b'"' | b'\''), ..] if separated || skipped > 0 => {
            Some((skipped + 1, Open::Quote(*quote)))
        }
        [b'\\', b'"', ..] if separated => Some((skipped + 2, Open::Text("\\\""))),
        [b'[' | b'{', ..] if separated => Some((skipped, Open::Bracket(0))),
        _ if separated => Some((skipped, Open::Word)),
        _ => None,
    }
}

/// Where the content begins of a form's part (RFC 7578) whose name is the word at `at`.
fn part(text: &str, at: usize, rest: &str) -> Option<usize> {
    let named = text.get(..at)?.ends_with("name=\"") && rest.starts_with('"');
    let blank = rest.find("\r\n\r\n").filter(|_| named)?;
    Some(text.len() - rest.len() + blank + 4)
}

/// Where a value that begins, or goes on, at `from` ends; else what still ends it.
fn end(text: &[u8], from: usize, open: Open) -> Result<usize, Open> {
    let rest = text.get(from..).unwrap_or_default();
    let found = match open {
        Open::Line => rest.iter().position(|byte| *byte == b'\n').map(|at| {
            // The carriage return stays with its line feed.
            at - usize::from(at > 0 && byte(rest, at - 1) == b'\r')
        }),
        Open::Word => rest
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || b",;&\"'<>)]}\\".contains(byte)),
        Open::Quote(quote) => unescaped(rest, quote),
        Open::Text(text) => rest.windows(text.len()).position(|window| window == text.as_bytes()),
        Open::Bracket(depth) => match brackets(rest, depth) {
            Ok(end) => Some(end),
            Err(depth) => return Err(Open::Bracket(depth)),
        },
    };
    found.map(|at| from + at).ok_or(open)
}

fn unescaped(text: &[u8], quote: u8) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|byte| {
        let ends = *byte == quote && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })
}

/// After the bracket that closes `depth` of them, or the first one opened here; else how many are
/// open.
fn brackets(text: &[u8], mut depth: u16) -> Result<usize, u16> {
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' if !escaped => in_string = !in_string,
            b'[' | b'{' if !in_string => depth = depth.saturating_add(1),
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        escaped = *byte == b'\\' && !escaped;
        if depth == 0 {
            return Ok(at + 1);
        }
    }
    Err(depth)
}

/// Whether a name is that of a secret.
fn is_key(word: &str) -> bool {
    let plain = secret_words::plain(word);
    secret_words::is_name(&plain)
        || NAMES.iter().any(|name| plain.contains(name))
        || SHORT_NAMES.contains(&plain.as_str())
}

fn word(text: &[u8], at: usize) -> usize {
    text.get(at..).unwrap_or_default().iter().take_while(|byte| is_word(**byte)).count()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
}

/// The byte at a place; 0 beyond the end.
fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or_default()
}

/// Parts of names in requests, beside the common ones ([`secret_words`]).
const NAMES: [&str; 9] = [
    "authorization",
    "authenticate",
    "xauth",
    "cookie",
    "sessionid",
    "sessionkey",
    "assertion",
    "signature",
    "jwt",
];

/// Whole names, likewise.
const SHORT_NAMES: [&str; 5] = ["auth", "pin", "sid", "sig", "session"];

/// Authentication schemes (RFC 7235) whose token follows.
const SCHEMES: [&str; 3] = ["bearer", "basic", "negotiate"];

/// How tokens begin, beside the common ones.
const PREFIXES: [&str; 5] = ["xoxa-", "xoxs-", "sk-", "AIza", "hvs."];

/// How the lines end between which a private key stands.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, masked: &str) {
        let mut open = None;
        assert_eq!(replace(text, &mut open), masked);
    }

    #[test]
    fn headers_to_the_end_of_the_line() {
        check(
            "GET / HTTP/1.1\r\nAuthorization: Basic YTpi\r\nAccept: */*\r\nCookie: a=1; b=2\r\n\r\nbody",
            "GET / HTTP/1.1\r\nAuthorization:[secret]\r\nAccept: */*\r\nCookie:[secret]\r\n\r\nbody",
        );
        check(
            "X-Api-Key: q\nset-cookie: s=1; Path=/\n",
            "X-Api-Key:[secret]\nset-cookie:[secret]\n",
        );
    }

    #[test]
    fn values_of_keys() {
        for (text, masked) in [
            (r#"{"password":"hun\"ter2","user":"jo"}"#, r#"{"password":"[secret]","user":"jo"}"#),
            (r#"{"access_token": null, "n": 1}"#, r#"{"access_token": [secret], "n": 1}"#),
            (r#"{"tokens": ["a]", {"b": 1}], "n": 1}"#, r#"{"tokens": [secret], "n": 1}"#),
            (r#"{"max_tokens": 100, "n": 1}"#, r#"{"max_tokens": 100, "n": 1}"#),
            ("user=jo&pass=x%20y&n=1", "user=jo&pass=[secret]&n=1"),
            ("/cb?code=1&client_secret=abc HTTP/1.1", "/cb?code=1&client_secret=[secret] HTTP/1.1"),
            ("ALTER ROLE jo PASSWORD 'x''y'", "ALTER ROLE jo PASSWORD '[secret]''y'"),
            ("<a><password>x y</password></a>", "<a><password>[secret]</password></a>"),
            (
                r#"{"body":"{\"token\":\"abc\",\"n\":1}"}"#,
                r#"{"body":"{\"token\":\"[secret]\",\"n\":1}"}"#,
            ),
            ("postgres://jo:p:w@host/db", "postgres://jo:[secret]@host/db"),
            (
                "form-data; name=\"pwd\"\r\n\r\nx\r\n--b",
                "form-data; name=\"pwd\"\r\n\r\n[secret]\r\n--b",
            ),
        ] {
            check(text, masked);
        }
    }

    #[test]
    fn tokens_by_their_looks() {
        for (text, masked) in [
            ("use Bearer abc123.def/+=, then", "use Bearer [secret], then"),
            ("it bears basic resemblance", "it bears basic resemblance"),
            ("x eyJhbGciOiJIUzI1NiJ9.e30.sig y", "x [secret] y"),
            ("k=ghp_0123456789abcdef", "k=[secret]"),
            ("risk-based sk-learn", "risk-based sk-learn"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n",
                "-----BEGIN RSA PRIVATE KEY-----[secret]-----END RSA PRIVATE KEY-----\n",
            ),
        ] {
            check(text, masked);
        }
    }

    #[test]
    fn a_secret_goes_on_in_the_next_text() {
        for (texts, masked) in [
            (["Cookie: a=", "b; c\r\nHost: x"], ["Cookie:[secret]", "[secret]\r\nHost: x"]),
            ([r#"{"pwd":"a\"b"#, r#"c","n":1}"#], [r#"{"pwd":"[secret]"#, r#"[secret]","n":1}"#]),
            (["token=[[1,", "2]] end"], ["token=[secret]", "[secret] end"]),
            (["plain", " text"], ["plain", " text"]),
        ] {
            let mut open = None;
            assert_eq!(texts.map(|text| replace(text, &mut open)), masked);
            assert_eq!(open, None);
        }
    }
}
