//! Text of no known protocol, as the TLS taps observe it: every recognizer's values and secrets are
//! replaced, whoever asks; what is no text is not kept at all.

use std::sync::Arc;

use super::Open;
use super::masks::Masks;
use super::secret;

/// Masks free text.
#[derive(Clone, Debug)]
pub struct FreeText {
    masks: Arc<Masks>,
}

impl Default for FreeText {
    /// Replaces what any recognizer finds by the name of its class, and secrets by `[secret]`.
    fn default() -> Self {
        Self { masks: Masks::replacing_all() }
    }
}

impl FreeText {
    /// A piece of a stream, masked; none if it is no text. `truncated` says that what follows it in
    /// the stream will not be seen. `open` belongs to the stream: whether a secret is under way.
    ///
    /// Numbers and addresses at either end, which may go on in the next piece, are masked, too.
    pub fn mask(&self, piece: &[u8], truncated: bool, open: &mut Option<Open>) -> Option<String> {
        let text = text(piece)?;
        let text = secret::replace(text, open);
        if truncated && open.is_none() {
            // A secret may begin in what is not seen.
            *open = Some(Open::Word);
        }
        let mut text = self.masks.redact_literals(&text).into_owned();
        mask_edge(&mut text, Edge::Start);
        mask_edge(&mut text, Edge::End);
        Some(text)
    }
}

/// The text that a piece is, without parts of characters at its ends; none if it has control
/// characters other than white space, or is not UTF-8.
fn text(piece: &[u8]) -> Option<&str> {
    let is_continuation = |byte: &&u8| **byte & 0xc0 == 0x80;
    let cut = piece.iter().take(3).take_while(is_continuation).count();
    let piece = piece.get(cut..)?;
    let text = match str::from_utf8(piece) {
        Ok(text) => text,
        // The last character goes on in the next piece.
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(piece.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let is_text = |c: char| !c.is_control() || matches!(c, '\t' | '\r' | '\n');
    text.chars().all(is_text).then_some(text)
}

/// An end of a piece.
#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

/// Masks what may be part of a number or an address across this edge: up to [`EDGE_BYTES`] of what
/// those are written with, if it has four digits or an `@`.
fn mask_edge(text: &mut String, edge: Edge) {
    let belongs = |byte: &&u8| byte.is_ascii_alphanumeric() || b" -._+()@".contains(byte);
    let run = match edge {
        Edge::Start => text.bytes().take(EDGE_BYTES).take_while(|byte| belongs(&byte)).count(),
        Edge::End => text.bytes().rev().take(EDGE_BYTES).take_while(|byte| belongs(&byte)).count(),
    };
    let range = match edge {
        Edge::Start => 0..run,
        Edge::End => text.len() - run..text.len(),
    };
    let part = text.get(range.clone()).unwrap_or_default();
    let is_part = part.bytes().filter(u8::is_ascii_digit).count() >= 4 || part.contains('@');
    if is_part {
        let hide = |c: char| if c.is_ascii_alphanumeric() { '*' } else { c };
        let masked: String = part.chars().map(hide).collect();
        text.replace_range(range, &masked);
    }
}

/// The longest number recognized, with its separators (an IBAN, 34 characters and a separator after
/// each).
const EDGE_BYTES: usize = 68;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&[u8]], masked: &[Option<&str>]) {
        let free = FreeText::default();
        let mut open = None;
        let seen: Vec<_> = pieces.iter().map(|p| free.mask(p, false, &mut open)).collect();
        let seen: Vec<_> = seen.iter().map(Option::as_deref).collect();
        assert_eq!(seen, masked);
    }

    #[test]
    fn values_and_secrets_are_masked() {
        check(
            &[b"POST /x HTTP/1.1\r\nAuthorization: Bearer abc\r\n\r\n{\"ssn\":\"078-05-1120\",\"to\":\"jo@example.com\"}"],
            &[Some("POST /x HTTP/1.1\r\nAuthorization:[secret]\r\n\r\n{\"ssn\":\"[us_ssn]\",\"to\":\"[email]\"}")],
        );
    }

    #[test]
    fn a_value_cut_in_two_is_seen_in_neither() {
        check(
            &[b"card: 4111 1111 ", b"1111 1111, thanks"],
            &[Some("card: **** **** "), Some("**** ****, thanks")],
        );
        check(&[b"to jo@exam", b"ple.com"], &[Some("** **@****"), Some("ple.com")]);
        check(&[b"the answer is 42"], &[Some("the answer is 42")]);
    }

    #[test]
    fn what_is_no_text_is_not_kept() {
        check(
            &[
                b"\x00\x00\x12\x04\x00",
                b"\xff\xfe",
                "Gr\u{fc}".as_bytes(),
                b"Gr\xc3",
                b"\xbc\xc3\x9fe",
            ],
            &[None, None, Some("Gr\u{fc}"), Some("Gr"), Some("\u{df}e")],
        );
    }

    #[test]
    fn after_what_is_not_seen_the_first_word_is_masked() {
        let free = FreeText::default();
        let mut open = None;
        assert_eq!(free.mask(b"begins", true, &mut open).as_deref(), Some("begins"));
        assert_eq!(free.mask(b"cret, ends", false, &mut open).as_deref(), Some("[secret], ends"));
    }
}
