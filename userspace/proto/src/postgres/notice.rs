//! The server's free texts: ErrorResponse, NoticeResponse, NotificationResponse.
//!
//! They quote values ("Key (email)=(…) already exists"), so they are masked like values.

use types::event::Notification;
use types::redact::{Quotes, Redaction, Redactor};

use super::message::{HEADER, frame};
use crate::reader::Reader;

/// What an ErrorResponse says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// SQLSTATE; five question marks where none is given.
    pub(super) code: [u8; 5],
    /// Whether the session ends with it.
    pub(super) fatal: bool,
}

/// Reads the fields of an ErrorResponse's body; `None` where they are malformed.
pub(super) fn summary(body: &[u8]) -> Option<Summary> {
    let mut summary = Summary { code: *b"?????", fatal: false };
    let mut reader = Reader::new(body);
    loop {
        match reader.u8()? {
            0 => return reader.is_empty().then_some(summary),
            b'C' => {
                if let Ok(code) = reader.cstr()?.try_into() {
                    summary.code = code;
                }
            }
            // 'V' is never localized; 'S' is all that servers before 9.6 send.
            b'S' | b'V' => summary.fatal |= matches!(reader.cstr()?, b"FATAL" | b"PANIC"),
            _ => {
                reader.cstr()?;
            }
        }
    }
}

/// Appends an ErrorResponse or NoticeResponse with its texts masked, and what may quote values
/// withheld; `None`, with nothing appended, where it is malformed.
///
/// A message about the statement's own text (class 42, with a position) quotes nothing else.
pub(super) fn relay_fields(
    original: &[u8],
    quotes: Quotes,
    redactor: &mut dyn Redactor,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let (tag, body) = (*original.first()?, original.get(HEADER..)?);
    let class = summary(body)?.code;
    let quotes = match quotes {
        Quotes::Values if class.starts_with(b"42") && is_of_the_text(body) => Quotes::Nothing,
        Quotes::Code if is_from_code(body) => Quotes::Values,
        quotes => quotes,
    };
    frame(out, tag, |out| {
        let mut reader = Reader::new(body);
        while let (Some(field @ 1..), Some(value)) = (reader.u8(), reader.cstr()) {
            out.push(field);
            match (quotes, field) {
                (Quotes::Anything, _) if !is_fixed(field) => withhold(out),
                (Quotes::Values, b'D' | b'H' | b'W' | b'q') => withhold(out),
                (Quotes::Values, b'M') => text(true, &unquoted(value), redactor, scratch, out),
                _ => text(is_free(field), value, redactor, scratch, out),
            }
        }
        out.push(0);
    });
    Some(())
}

/// Appends a NotificationResponse with its payload masked; `None`, with nothing appended, where it
/// is malformed.
pub(super) fn relay_notification(
    body: &[u8],
    redactor: &mut dyn Redactor,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Option<Notification> {
    let mut reader = Reader::new(body);
    let (process, channel, payload) = (reader.u32()?, reader.cstr()?, reader.cstr()?);
    reader.is_empty().then_some(())?;
    let mut shown = Vec::new();
    text(true, channel, redactor, scratch, &mut shown);
    frame(out, b'A', |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(&shown);
        text(true, payload, redactor, scratch, out);
    });
    let channel = String::from_utf8_lossy(shown.strip_suffix(&[0]).unwrap_or(&shown)).into_owned();
    Some(Notification { channel, process, bytes: payload.len() })
}

/// Whether a field may hold anything: all but severities, codes, positions and the names of
/// objects and source lines.
fn is_free(field: u8) -> bool {
    !matches!(
        field,
        b'S' | b'V' | b'C' | b'P' | b'p' | b'F' | b'L' | b'R' | b's' | b't' | b'c' | b'd' | b'n'
    )
}

/// Whether no code can choose a field's text: severities, the SQLSTATE, positions, source lines.
fn is_fixed(field: u8) -> bool {
    matches!(field, b'S' | b'V' | b'C' | b'P' | b'p' | b'F' | b'L' | b'R')
}

/// Whether a message has a position and no context: one with both may be about a text that the
/// statement computed.
fn is_of_the_text(body: &[u8]) -> bool {
    let (mut position, mut context) = (false, false);
    let mut reader = Reader::new(body);
    while let (Some(field @ 1..), Some(_)) = (reader.u8(), reader.cstr()) {
        position |= field == b'P';
        context |= matches!(field, b'W' | b'q' | b'p');
    }
    position && !context
}

/// Whether a message comes from within code: it has a context, and not the line of a COPY alone.
fn is_from_code(body: &[u8]) -> bool {
    let mut reader = Reader::new(body);
    while let (Some(field @ 1..), Some(value)) = (reader.u8(), reader.cstr()) {
        if field == b'W' && (!value.starts_with(b"COPY ") || value.contains(&b'\n')) {
            return true;
        }
    }
    false
}

fn withhold(out: &mut Vec<u8>) {
    out.extend_from_slice(WITHHELD);
    out.push(0);
}

/// A message without what stands between its first and last quotation mark, and without words that
/// have digits; nothing of one in another language, which quotes otherwise.
fn unquoted(message: &[u8]) -> Vec<u8> {
    if !message.is_ascii() {
        return WITHHELD.to_vec();
    }
    let (first, last) = (memchr::memchr(b'"', message), memchr::memrchr(b'"', message));
    let mut kept = message.to_vec();
    if let (Some(first), Some(last)) = (first, last) {
        kept.splice(first..=last, b"\"...\"".iter().copied());
    }
    let words: Vec<&[u8]> = kept
        .split(|byte| *byte == b' ')
        .map(|word| if word.iter().any(u8::is_ascii_digit) { b"..." } else { word })
        .collect();
    words.join(&b' ')
}

/// What stands for a text that may quote masked values.
const WITHHELD: &[u8] = b"[withheld: it may quote masked values]";

fn text(
    free: bool,
    value: &[u8],
    redactor: &mut dyn Redactor,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    scratch.clear();
    let redaction = if free { redactor.redact_text(value, scratch) } else { Redaction::Unchanged };
    match redaction {
        Redaction::Unchanged => out.extend_from_slice(value),
        Redaction::Replaced => out.extend(scratch.iter().copied().filter(|byte| *byte != 0)),
        Redaction::Null => {}
    }
    out.push(0);
}
