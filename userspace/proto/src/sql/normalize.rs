//! Text without its values: constants become `$n`, comments and superfluous space go.
//!
//! Works on the scanner's tokens and so for every kind of statement, utility statements included.
//! Names and keywords are kept as written; a quoted name is a name, whatever is in it.

use std::fmt::Write;

use pg_query::protobuf::{ScanToken, Token};

/// `text` with each constant replaced by a numbered placeholder (numbers go on after the highest
/// parameter in the text), or `None` if it does not scan.
pub(super) fn normalize(text: &str) -> Option<String> {
    let tokens = tokens(text)?;
    let mut next = tokens.iter().filter_map(|token| parameter(text, token)).max().unwrap_or(0);
    let mut normalized = String::with_capacity(text.len());
    let mut end = 0;
    for token in &tokens {
        let word = word(text, token)?;
        let apart = std::mem::replace(&mut end, token.end) != token.start;
        match Token::try_from(token.token) {
            Ok(Token::SqlComment | Token::CComment) => {
                end = -1;
            }
            Ok(kind) if is_constant(kind) => {
                next += 1;
                space(&mut normalized, apart);
                write!(normalized, "${next}").ok()?;
            }
            Ok(_) => {
                space(&mut normalized, apart);
                normalized.push_str(word);
            }
            Err(_) => return None,
        }
    }
    Some(normalized)
}

/// The tokens of `text`, comments included, or `None` if it does not scan.
pub(super) fn tokens(text: &str) -> Option<Vec<ScanToken>> {
    // `scan_tokens` 18.1 makes a slice of a null pointer where there are none.
    if text.bytes().all(|byte| matches!(byte, b' ' | b'\t'..=b'\r')) {
        return Some(Vec::new());
    }
    pg_query::scan_tokens(text).ok()
}

fn space(text: &mut String, apart: bool) {
    if apart && !text.is_empty() {
        text.push(' ');
    }
}

fn is_constant(kind: Token) -> bool {
    matches!(
        kind,
        Token::Sconst
            | Token::Usconst
            | Token::Bconst
            | Token::Xconst
            | Token::Iconst
            | Token::Fconst
    )
}

fn parameter(text: &str, token: &ScanToken) -> Option<u32> {
    if token.token != Token::Param as i32 {
        return None;
    }
    word(text, token)?.strip_prefix('$')?.parse().ok()
}

fn word<'a>(text: &'a str, token: &ScanToken) -> Option<&'a str> {
    text.get(usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?)
}
