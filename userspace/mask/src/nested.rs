//! Values found inside structured text: where replacing them leaves it valid.

use types::redact::Redaction;

use super::masks::Masks;
use super::recognizer::{Kinds, find};

/// Whether every value found stands within one JSON string, and does not start inside an escape.
pub(super) fn inside_strings(value: &[u8], kinds: Kinds, hint: Kinds) -> bool {
    let (mut at, mut inside, mut escaped) = (0, false, false);
    for found in find(value, kinds, hint) {
        for byte in value.get(at..found.range.start).unwrap_or_default() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if inside => escaped = true,
                b'"' => inside = !inside,
                _ => {}
            }
        }
        let part = value.get(found.range.clone()).unwrap_or_default();
        let after_u = value.get(found.range.start.saturating_sub(6)..found.range.start);
        let escape = escaped || after_u.is_some_and(|b| b.windows(2).any(|w| w == b"\\u"));
        if !inside || escape || part.contains(&b'"') || part.contains(&b'\\') {
            return false;
        }
        at = found.range.end;
    }
    true
}

/// Whether every value found in XML stands between tags, and holds and follows no reference.
pub(super) fn outside_markup(value: &[u8], kinds: Kinds, hint: Kinds) -> bool {
    let (mut at, mut tag) = (0, false);
    for found in find(value, kinds, hint) {
        for byte in value.get(at..found.range.start).unwrap_or_default() {
            tag = *byte == b'<' || tag && *byte != b'>';
        }
        let part = value.get(found.range.clone()).unwrap_or_default();
        let head = value.get(found.range.start.saturating_sub(16)..found.range.start);
        let reference = head.is_some_and(|h| h.contains(&b'&')) || part.contains(&b'&');
        if tag || reference {
            return false;
        }
        at = found.range.end;
    }
    true
}

/// Appends a text array's literal (PostgreSQL documentation §8.15.6) with values replaced element
/// by element, each in as many characters as there is room for. NULL where the literal is not well formed.
pub(super) fn array(
    masks: &Masks,
    value: &[u8],
    hint: Kinds,
    room: Option<usize>,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
    mut count: impl FnMut(u16),
) -> Redaction {
    // Without escapes an element's bytes are its value, and what divides them is part of no value.
    let is_plain = memchr::memchr(b'\\', value).is_none();
    if is_plain && find(value, masks.kinds, hint).next().is_none() {
        return Redaction::Unchanged;
    }
    let (begin, mut at, mut changed) = (out.len(), 0, false);
    while let Some(byte) = value.get(at) {
        let rest = value.get(at..).unwrap_or_default();
        let length = match byte {
            b'{' | b'}' | b',' => {
                out.push(*byte);
                at += 1;
                continue;
            }
            b'"' => quoted(rest, scratch),
            _ => {
                let end = rest.iter().position(|b| b"{},\"".contains(b)).unwrap_or(rest.len());
                scratch.clear();
                scratch.extend_from_slice(rest.get(..end).unwrap_or_default());
                Some(end)
            }
        };
        let Some(length) = length else {
            out.truncate(begin);
            return Redaction::Null;
        };
        // The replaced element is written behind where its quoted form starts, then escaped there.
        let start = out.len();
        if masks.replace_found(scratch, hint, out, &mut count) {
            changed = true;
            scratch.clear();
            scratch.extend(out.drain(start..));
            if let Some(room) = room {
                let text = std::str::from_utf8(scratch).ok();
                let cut = text.map(|text| text.char_indices().nth(room).map(|(cut, _)| cut));
                scratch.truncate(cut.unwrap_or(Some(room)).unwrap_or(scratch.len()));
            }
            out.push(b'"');
            for byte in scratch.iter() {
                if matches!(byte, b'"' | b'\\') {
                    out.push(b'\\');
                }
                out.push(*byte);
            }
            out.push(b'"');
        } else {
            out.extend_from_slice(rest.get(..length).unwrap_or_default());
        }
        at += length;
    }
    if changed {
        return Redaction::Replaced;
    }
    out.truncate(begin);
    Redaction::Unchanged
}

/// Reads the quoted element `rest` starts with into `to`; its length with both quotes, if it ends.
fn quoted(rest: &[u8], to: &mut Vec<u8>) -> Option<usize> {
    to.clear();
    let mut bytes = rest.iter().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => to.push(*bytes.next()?.1),
            _ => to.push(*byte),
        }
    }
    None
}
