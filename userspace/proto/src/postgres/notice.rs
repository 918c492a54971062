//! The server's free texts: ErrorResponse, NoticeResponse, NotificationResponse.
//!
//! They quote values ("Key (email)=(…) already exists"), so they are masked like values.

use types::redact::{Redaction, Redactor};

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

/// Appends an ErrorResponse or NoticeResponse with its texts masked; `None`, with nothing
/// appended, where it is malformed.
pub(super) fn relay_fields(
    original: &[u8],
    redactor: &mut dyn Redactor,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let (tag, body) = (*original.first()?, original.get(HEADER..)?);
    summary(body)?;
    frame(out, tag, |out| {
        let mut reader = Reader::new(body);
        while let (Some(field @ 1..), Some(value)) = (reader.u8(), reader.cstr()) {
            out.push(field);
            text(is_free(field), value, redactor, scratch, out);
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
) -> Option<()> {
    let mut reader = Reader::new(body);
    let (process, channel, payload) = (reader.array::<4>()?, reader.cstr()?, reader.cstr()?);
    reader.is_empty().then_some(())?;
    frame(out, b'A', |out| {
        out.extend_from_slice(&process);
        text(true, channel, redactor, scratch, out);
        text(true, payload, redactor, scratch, out);
    });
    Some(())
}

/// Whether a field may hold anything: all but severities, codes, positions and the names of
/// objects and source lines.
fn is_free(field: u8) -> bool {
    !matches!(
        field,
        b'S' | b'V' | b'C' | b'P' | b'p' | b'F' | b'L' | b'R' | b's' | b't' | b'c' | b'd' | b'n'
    )
}

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
