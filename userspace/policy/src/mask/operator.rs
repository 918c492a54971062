//! Writes what stands in for a value, valid for its type and format.

use hmac::Mac;
use types::redact::{Format, Operator, Redaction};

use super::masks::{Masks, Rule};

/// How values of a type are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Any text is a valid value.
    Text,
    /// JSON text; the binary form of `jsonb` has a version byte before it.
    Json { versioned: bool },
    /// `uuid`.
    Uuid,
    /// `bytea`.
    Bytes,
    /// `xml`.
    Xml,
    /// An array of a text type.
    TextArray,
    /// An integer: holds digits only.
    Integer,
    /// Cannot hold text.
    Plain,
    /// Anything else: numbers with a fraction, other arrays, composites, enumerations, ranges,
    /// types of extensions (`citext`), and binary values of types not known. Nothing but NULL is
    /// known to be valid. (A domain's columns are described with its base type's OID.)
    Other,
}

/// The shape of a type, by its OID in `pg_type.dat`; 0 (not known, COPY) is text where the format is.
pub(super) fn shape(type_oid: u32, format: Format) -> Shape {
    match type_oid {
        0 if format == Format::Text => Shape::Text,
        19 | 25 | 705 | 1042 | 1043 | 2275 => Shape::Text,
        114 => Shape::Json { versioned: false },
        3802 => Shape::Json { versioned: format == Format::Binary },
        142 => Shape::Xml,
        2950 => Shape::Uuid,
        17 => Shape::Bytes,
        1003 | 1009 | 1014 | 1015 if format == Format::Text => Shape::TextArray,
        20 | 21 | 23 => Shape::Integer,
        16 | 18 | 26 | 700 | 701 | 790 | 1082 | 1083 | 1114 | 1184 | 1186 | 1266 => Shape::Plain,
        _ => Shape::Other,
    }
}

impl Masks {
    /// Appends the stand-in for the whole of `value` that `operator`, the rule's or a stricter one,
    /// makes.
    pub(super) fn whole(
        &self,
        rule: &Rule,
        operator: Operator,
        shape: Shape,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Redaction {
        match (shape, operator) {
            (Shape::Text, Operator::Replace) => out.extend_from_slice(&rule.word),
            (Shape::Text, Operator::Partial) | (Shape::Text | Shape::Xml, Operator::Hash) => {
                self.part(rule, value, out);
            }
            (Shape::Xml, Operator::Replace | Operator::Partial) => {
                out.extend_from_slice(&rule.word);
            }
            (Shape::Json { versioned }, Operator::Replace | Operator::Partial | Operator::Hash) => {
                if versioned {
                    out.push(1);
                }
                out.push(b'"');
                if operator == Operator::Hash {
                    self.part(rule, value, out);
                } else {
                    out.extend_from_slice(&rule.word);
                }
                out.push(b'"');
            }
            (Shape::Uuid, Operator::Hash) => {
                let digest = self.digest(value);
                let (head, _) = digest.split_at(16);
                if format == Format::Binary {
                    out.extend_from_slice(head);
                } else {
                    for (at, byte) in head.iter().enumerate() {
                        if matches!(at, 4 | 6 | 8 | 10) {
                            out.push(b'-');
                        }
                        hex(*byte, out);
                    }
                }
            }
            _ => return Redaction::Null,
        }
        Redaction::Replaced
    }

    /// Appends the stand-in for a piece of text; `Null` writes the word, a piece cannot be NULL.
    pub(super) fn part(&self, rule: &Rule, value: &[u8], out: &mut Vec<u8>) {
        match rule.operator {
            Operator::Replace | Operator::Null => out.extend_from_slice(&rule.word),
            Operator::Partial => match std::str::from_utf8(value) {
                Ok(text) => partial(text, out),
                Err(_) => out.extend_from_slice(&rule.word),
            },
            Operator::Hash => {
                out.extend_from_slice(b"hash:");
                self.digest(value).iter().take(8).for_each(|byte| hex(*byte, out));
            }
        }
    }

    /// HMAC-SHA-256 of a value under the node's key.
    fn digest(&self, value: &[u8]) -> [u8; 32] {
        let mut mac = self.hmac.clone();
        mac.update(value);
        mac.finalize().into_bytes().into()
    }
}

/// Keeps separators and the last four letters or digits, where there are more than four.
fn partial(text: &str, out: &mut Vec<u8>) {
    let total = text.chars().filter(|c| c.is_alphanumeric()).count();
    let hidden = if total <= 4 { total } else { total - 4 };
    let mut seen = 0;
    for c in text.chars() {
        seen += usize::from(c.is_alphanumeric());
        let keep =
            if c.is_alphanumeric() { seen > hidden } else { c.is_ascii_punctuation() || c == ' ' };
        out.extend_from_slice(if keep { c } else { '*' }.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    for nibble in [byte >> 4, byte & 15] {
        out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    }
}
