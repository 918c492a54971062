//! Secrets in heads, for the record: which bytes of a head are values that log in, or hold something that does.
//!
//! A field is one by its name (`Authorization`, `Cookie`, what has `token`, `secret`, `session` or `key` in it), or by what is
//! in it (a token as they are issued, `user:pw@`, `password=`); a parameter of the query likewise. A secret under
//! a name of no meaning that looks like none is not found.

use std::ops::Range;

use types::secret_words;

use super::head;
use super::target::{decoded, has_issued};
use crate::sql::secrets::is_in;

/// What a section of a message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// A line of its own: a request's, or an answer's with its status.
    Line,
    /// A field.
    Field,
}

/// Places of what is secret in a section of a message, in order; none where it can't be read.
pub(super) fn find(section: &[u8], first: First) -> Option<Vec<Range<usize>>> {
    let mut found = Vec::new();
    if section == b"\r\n" {
        return Some(found);
    }
    let mut at = 0;
    for (number, line) in head::lines(section).ok()?.enumerate() {
        if number == 0 && first == First::Line {
            target(line, at, &mut found);
        } else {
            let (name, value) = head::field(line).ok()?;
            if !value.is_empty() && is_secret(name, value) {
                // Blanks around a value tell nothing of it; the colon is behind its name.
                let blanks = line.get(name.len() + 1..)?;
                let before = blanks.len() - blanks.trim_ascii_start().len();
                let start = at + name.len() + 1 + before;
                found.push(start..start + value.len());
            }
        }
        at += line.len() + 2;
    }
    Some(found)
}

/// Whether a field's value is a secret.
fn is_secret(name: &[u8], value: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    is_named(&name) || {
        let value = String::from_utf8_lossy(value);
        let has_scheme = SCHEMES.iter().any(|scheme| {
            value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        has_scheme || is_in(&value) || has_issued(&decoded(&value)) || has_named(&value)
    }
}

/// Schemes of credentials (RFC 7617, RFC 6750), which belong into a field of that name.
const SCHEMES: [&str; 2] = ["basic ", "bearer "];

/// Whether a field's name is a secret's.
fn is_named(name: &str) -> bool {
    let plain = secret_words::plain(name);
    let parts: Vec<&str> = name.split(['-', '_', '.']).collect();
    let is = |part: &str, word: &str| part.eq_ignore_ascii_case(word);
    let is_key = parts.last().is_some_and(|last| is(last, "key"));
    secret_words::is_name(&plain)
        || WORDS.iter().any(|word| plain.contains(word))
        || parts.iter().any(|part| is(part, "auth"))
        || is_key && !PLAIN_KEYS.contains(&&*plain)
}

/// What names of fields hold that log in.
const WORDS: [&str; 5] = ["authorization", "authenticationinfo", "cookie", "session", "signature"];

/// Keys that open nothing.
const PLAIN_KEYS: [&str; 2] = ["idempotencykey", "secwebsocketkey"];

/// Whether a value names something in it that is a secret: a URL's query, or fields of a field.
fn has_named(value: &str) -> bool {
    let ends = |c: char| matches!(c, '?' | '&' | ';' | ',' | '#' | ' ');
    value.split(ends).filter_map(|one| one.split_once('=')).any(|(name, value)| {
        !value.is_empty() && secret_words::is_name(&secret_words::plain(&decoded(name)))
    })
}

/// Places of what is secret in a request's target, as the line in words has them left out; an answer's line has none.
fn target(line: &[u8], at: usize, found: &mut Vec<Range<usize>>) {
    let Some(begin) = line.iter().position(|byte| *byte == b' ') else { return };
    let end = line.iter().rposition(|byte| *byte == b' ').unwrap_or(line.len()).max(begin + 1);
    let text = line.get(begin + 1..end).unwrap_or_default();
    if line.starts_with(b"HTTP/") {
        return;
    }
    let at = at + begin + 1;
    let path_end = text.iter().position(|byte| *byte == b'?').unwrap_or(text.len());
    let (path, query) = text.split_at(path_end);
    let each = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    for (range, part) in parts(path, b"/") {
        let part = each(part);
        if has_issued(&decoded(&part)) || is_in(&part) {
            found.push(at + range.start..at + range.end);
        }
    }
    for (range, part) in parts(query, b"?&;") {
        let part = each(part);
        let (name, value) = part.split_once('=').unwrap_or((&part, ""));
        let is_named = secret_words::is_name(&secret_words::plain(&decoded(name)));
        let start = at + path_end + range.start;
        if has_issued(&decoded(name)) {
            found.push(start..at + path_end + range.end);
        } else if !value.is_empty() && (is_named || has_issued(&decoded(value)) || is_in(value)) {
            // Of what is no UTF-8 the lossy text's lengths are not the bytes': the name's end is looked for there.
            let bytes = query.get(range.clone()).unwrap_or_default();
            let equals = bytes.iter().position(|byte| *byte == b'=').map_or(0, |at| at + 1);
            found.push(start + equals..at + path_end + range.end);
        }
    }
}

/// What stands between these bytes, where it is anything.
fn parts<'b>(bytes: &'b [u8], ends: &[u8]) -> impl Iterator<Item = (Range<usize>, &'b [u8])> {
    let mut at = 0;
    let all = bytes.split(move |byte| ends.contains(byte)).map(move |part| {
        let start = at;
        at += part.len() + 1;
        (start..start + part.len(), part)
    });
    all.filter(|(_, part)| !part.is_empty())
}
