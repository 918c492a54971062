//! Frames: where one message ends, and the few messages the session writes itself.

use types::limits::MESSAGE_BYTES_MAX;

use crate::reader::Reader;
use crate::session::Refusal;

/// Tag and length.
pub(super) const HEADER: usize = 5;

/// Messages with a bounded body: the server's own PQ_SMALL_MESSAGE_LIMIT is 10,000, an
/// authentication token may have 65,535 (PG_MAX_AUTH_TOKEN_LENGTH).
pub(super) const SMALL_BYTES_MAX: usize = 64 * 1024;

/// A text that no grammar accepts: what goes up in the place of a refused statement.
const UNGRAMMATICAL: &[u8] = b"refused by vestibule\0";

/// The prepared statement that the text above never becomes.
const NEVER_PREPARED: &[u8] = b"vestibule_refused\0";

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) tag: u8,
    /// The whole frame's length, tag included.
    pub(super) total: usize,
}

/// The head of the frame `bytes` starts with: `Ok(None)` where it is not all here, `Err` where its
/// length is impossible.
pub(super) fn header(bytes: &[u8]) -> Result<Option<Header>, BadLength> {
    let mut reader = Reader::new(bytes);
    let (Some(tag), Some(length)) = (reader.u8(), reader.u32()) else { return Ok(None) };
    // The server allows up to 1 GiB - 1 (MaxAllocSize).
    if !(4..0x4000_0000).contains(&length) {
        return Err(BadLength);
    }
    Ok(Some(Header { tag, total: length as usize + 1 }))
}

/// A frame whose length cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("impossible message length")]
pub(super) struct BadLength;

/// The longest frame of this tag that an agent may send to be held whole; `None` for those that
/// are streamed, `Some(0)` for tags that are not the agent's.
pub(super) fn held_max(tag: u8) -> Option<usize> {
    match tag {
        b'd' => None,
        b'Q' | b'P' | b'B' | b'F' => Some(MESSAGE_BYTES_MAX),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' => Some(SMALL_BYTES_MAX),
        _ => Some(0),
    }
}

/// Appends a frame whose body `write` appends.
pub(super) fn frame(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    patch_length(out, at);
}

/// Writes the length of what lies from `at` to the end into the four bytes at `at`.
pub(super) fn patch_length(out: &mut [u8], at: usize) {
    let length = u32::try_from(out.len() - at).expect("frames written here are far below 4 GiB");
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends an ErrorResponse of our own.
pub(super) fn error(out: &mut Vec<u8>, severity: &str, code: [u8; 5], text: &str, detail: &str) {
    fields(out, b'E', severity, code, (text, detail));
}

fn fields(out: &mut Vec<u8>, tag: u8, severity: &str, code: [u8; 5], (text, detail): (&str, &str)) {
    frame(out, tag, |out| {
        let fields = [
            (b'S', severity.as_bytes()),
            (b'V', severity.as_bytes()),
            (b'C', code.as_slice()),
            (b'M', text.as_bytes()),
            (b'D', detail.as_bytes()),
        ];
        for (field, value) in fields {
            if !value.is_empty() {
                out.push(field);
                // A NUL would end the field early.
                out.extend(value.iter().copied().filter(|byte| *byte != 0));
                out.push(0);
            }
        }
        out.push(0);
    });
}

/// Appends the ErrorResponse of a refusal.
pub(super) fn refusal(out: &mut Vec<u8>, severity: &str, refusal: &Refusal) {
    let Refusal { policy, message, code } = refusal;
    error(out, severity, *code, message, &format!("policy {policy}: {message}"));
}

/// Appends a NoticeResponse of our own (class 00: nothing went wrong).
pub(super) fn notice(out: &mut Vec<u8>, text: &str, detail: &str) {
    fields(out, b'N', "NOTICE", *b"00000", (text, detail));
}

/// Appends a simple Query of ours.
pub(super) fn query(out: &mut Vec<u8>, sql: &str) {
    frame(out, b'Q', |out| {
        out.extend_from_slice(sql.as_bytes());
        out.push(0);
    });
}

/// Appends a simple Query that fails by its grammar, whatever the session's state.
pub(super) fn failing_query(out: &mut Vec<u8>) {
    frame(out, b'Q', |out| out.extend_from_slice(UNGRAMMATICAL));
}

/// Appends a Parse that fails by its grammar and so leaves nothing behind.
pub(super) fn failing_parse(out: &mut Vec<u8>) {
    frame(out, b'P', |out| {
        out.extend_from_slice(NEVER_PREPARED);
        out.extend_from_slice(UNGRAMMATICAL);
        out.extend_from_slice(&[0, 0]);
    });
}

/// Appends a CopyFail: the server ends a COPY IN with an error.
pub(super) fn copy_fail(out: &mut Vec<u8>) {
    frame(out, b'f', |out| out.extend_from_slice(UNGRAMMATICAL));
}

/// Appends a call of the function with OID 0, which does not exist.
pub(super) fn failing_call(out: &mut Vec<u8>) {
    frame(out, b'F', |out| out.extend_from_slice(&[0; 10]));
}

/// Appends a Describe of a portal; `name` is without its NUL.
pub(super) fn describe_portal(out: &mut Vec<u8>, name: &[u8]) {
    frame(out, b'D', |out| {
        out.push(b'P');
        out.extend_from_slice(name);
        out.push(0);
    });
}
