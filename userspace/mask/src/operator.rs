//! Writes what stands in for a value, valid for its type and format.

use hmac::Mac;
use types::redact::{Format, Operator, Redaction, Treatment};

use super::masks::{Masks, Rule};
use super::stand_in;

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
    /// makes; `is_own`: of a value of a column, as it is, which may not be NULL.
    pub(super) fn whole(
        &self,
        rule: &Rule,
        operator: Operator,
        is_own: bool,
        treatment: Treatment,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Redaction {
        let Treatment { kind: _, type_oid, modifier, format } = treatment;
        let before = out.len();
        match (shape(type_oid, format), operator) {
            (_, Operator::Null) => return Redaction::Null,
            (Shape::Text, Operator::Replace) => Self::word(rule, type_oid, modifier, out),
            (Shape::Text, Operator::Hash) => self.hash(value, width(type_oid, modifier), out),
            (Shape::Text, Operator::Partial) | (Shape::Xml, Operator::Hash) => {
                self.part(rule, value, out);
            }
            (Shape::Xml, Operator::Replace | Operator::Partial) => {
                out.extend_from_slice(&rule.word);
            }
            (Shape::Json { versioned }, _) => {
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
            (Shape::Bytes, _) if is_own => self.bytes(rule, operator, format, value, out),
            (_, Operator::Hash)
                if is_own && self.number(type_oid, modifier, format, value, out) => {}
            _ if is_own && stand_in::put(type_oid, format, value, out) => {}
            _ => return Redaction::Null,
        }
        fit(type_oid, modifier, before, out);
        Redaction::Replaced
    }

    /// The word of a rule, or as many stars as there is room for.
    fn word(rule: &Rule, type_oid: u32, modifier: i32, out: &mut Vec<u8>) {
        match width(type_oid, modifier) {
            Some(room) if room < rule.word.len() => out.resize(out.len() + room, b'*'),
            _ => out.extend_from_slice(&rule.word),
        }
    }

    /// A hash, with what says that it is one where there is room for that, too.
    fn hash(&self, value: &[u8], room: Option<usize>, out: &mut Vec<u8>) {
        if room.is_none_or(|room| room >= HASH_WORD.len() + 2 * HASH_BYTES) {
            out.extend_from_slice(HASH_WORD);
        }
        self.digest(value).iter().take(HASH_BYTES).for_each(|byte| hex(*byte, out));
    }

    fn number(
        &self,
        type_oid: u32,
        modifier: i32,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let digest = self.digest(value);
        let (head, _) = digest.split_at(8);
        let hash = head.try_into().map_or(0, u64::from_be_bytes);
        stand_in::put_number(type_oid, modifier, format, hash, out)
    }

    fn bytes(
        &self,
        rule: &Rule,
        operator: Operator,
        format: Format,
        value: &[u8],
        out: &mut Vec<u8>,
    ) {
        let digest = self.digest(value);
        let shown = match operator {
            Operator::Hash => digest.get(..HASH_BYTES).unwrap_or_default(),
            _ => &rule.word,
        };
        if format == Format::Binary {
            out.extend_from_slice(shown);
        } else {
            out.extend_from_slice(b"\\x");
            for byte in shown {
                hex(*byte, out);
            }
        }
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
                self.hash(value, None, out);
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

/// What stands before a hash, and how much of it is shown.
const HASH_WORD: &[u8] = b"hash:";
const HASH_BYTES: usize = 8;

/// The characters that a text of a type may have, where it says how many: `varchar(n)`, `char(n)`, `name`.
pub(super) fn width(type_oid: u32, modifier: i32) -> Option<usize> {
    match type_oid {
        NAME => Some(63),
        BPCHAR | VARCHAR | BPCHAR_ARRAY | VARCHAR_ARRAY => {
            usize::try_from(modifier.checked_sub(4)?).ok().filter(|room| *room > 0)
        }
        _ => None,
    }
}

/// Cuts what was appended from `before` on to what its type takes; `char(n)` is filled up, as the server
/// does.
pub(super) fn fit(type_oid: u32, modifier: i32, before: usize, out: &mut Vec<u8>) {
    let Some(room) = width(type_oid, modifier) else { return };
    let written = out.get(before..).unwrap_or_default();
    let Ok(text) = std::str::from_utf8(written) else {
        // In another encoding a character has a byte or more.
        return out.truncate(before + room);
    };
    if let Some((cut, _)) = text.char_indices().nth(room) {
        return out.truncate(before + cut);
    }
    let count = text.chars().count();
    if type_oid == BPCHAR {
        out.resize(out.len() + room - count, b' ');
    }
}

// OIDs of `pg_type.dat`.
const NAME: u32 = 19;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const BPCHAR_ARRAY: u32 = 1014;
const VARCHAR_ARRAY: u32 = 1015;

/// Keeps separators and the last four letters or digits, where there are more than four.
fn partial(text: &str, out: &mut Vec<u8>) {
    let total = text.chars().filter(|c| c.is_alphanumeric()).count();
    let hidden = if total <= 4 { total } else { total - 4 };
    let mut seen = 0;
    let mut shown = |c: char| {
        let counts = c.is_alphanumeric();
        seen += usize::from(counts);
        let keep = if counts { seen > hidden } else { c.is_ascii_punctuation() || c == ' ' };
        if keep { c } else { '*' }
    };
    if text.is_ascii() {
        // A byte each, and room is made once.
        out.extend(text.bytes().map(|byte| u8::try_from(shown(char::from(byte))).unwrap_or(b'*')));
    } else {
        for c in text.chars() {
            out.extend_from_slice(shown(c).encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    for nibble in [byte >> 4, byte & 15] {
        out.push(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_kept_alike_of_ascii_and_of_other_texts() {
        let part = |text: &str| {
            let mut out = Vec::new();
            partial(text, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (text, shown) in [
            ("4111 1111 1111 1234", "**** **** **** 1234"),
            ("123-45-6789", "***-**-6789"),
            ("a.b@c.de", "*.b@c.de"),
            ("1234", "****"),
            ("a\tb\u{7f}cdef", "****cdef"),
            ("", ""),
        ] {
            assert_eq!(part(text), shown);
            // A letter before it that is none of ASCII is hidden, where there are five or more, and changes nothing else.
            let wide = part(&format!("é{text}wxyz"));
            let narrow = part(&format!("e{text}wxyz"));
            assert_eq!(wide, narrow, "{text:?}");
        }
    }
}
