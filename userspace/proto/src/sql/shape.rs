//! The shape of a text: what is left of it once its plain constants are taken out.
//!
//! Texts that differ in such constants alone mean the same to the analysis, so it is done once for
//! all of them. A shape is taken from texts only whose tokens are plain to see; any doubt, and the
//! text has none.

/// Stands for an integer in a shape, and for a string. Texts that have a shape hold neither.
const INTEGER: u8 = 1;
const STRING: u8 = 2;

/// More digits may be more than an `int4`, which the grammar reads as another kind of constant.
const DIGITS_MAX: usize = 9;

/// A text without its plain constants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The text with one byte for each constant.
    pub(super) text: Vec<u8>,
    /// Where the constants begin, in order.
    pub(super) constants: Vec<usize>,
}

impl Shape {
    /// The shape of `text`; `None` where it has no constants or is not plain: comments, quoted
    /// names, dollars, backslashes, doubled quotes, strings with a prefix, and outside of strings
    /// anything but ASCII.
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        let mut shape = Self { text: Vec::with_capacity(text.len()), constants: Vec::new() };
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let rest = text.get(at..)?;
            let before = at.checked_sub(1).and_then(|before| text.get(before)).copied();
            let (taken, mark) = match byte {
                b'\'' if before.is_some_and(|before| in_word(before) || before == b'&') => {
                    return None;
                }
                b'\'' => (string(rest)?, Some(STRING)),
                b'0'..=b'9' => {
                    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let after = rest.get(digits).copied();
                    let apart = |byte: u8| !in_word(byte) && byte != b'.';
                    let plain = before.is_none_or(apart) && after.is_none_or(apart);
                    (digits, (plain && digits <= DIGITS_MAX).then_some(INTEGER))
                }
                b'-' | b'/' if is_comment(rest) => return None,
                b'"' | b'$' | b'\\' => return None,
                b' '..=b'~' | b'\t' | b'\n' | b'\r' => (1, None),
                _ => return None,
            };
            match mark {
                Some(mark) => {
                    shape.constants.push(at);
                    shape.text.push(mark);
                }
                None => shape.text.extend_from_slice(rest.get(..taken)?),
            }
            at += taken;
        }
        (!shape.constants.is_empty()).then_some(shape)
    }

    /// A text of this shape, with the same integer and the same string everywhere.
    pub(super) fn text_of(&self, integer: &str, string: &str) -> Vec<u8> {
        let mut text = Vec::new();
        for byte in &self.text {
            match *byte {
                INTEGER => text.extend_from_slice(integer.as_bytes()),
                STRING => text.extend_from_slice(string.as_bytes()),
                byte => text.push(byte),
            }
        }
        text
    }

    /// The constants of `text`, which has this shape; strings without their quotes.
    pub(super) fn values<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let value = |begin: &usize| {
            let rest = text.get(*begin..).unwrap_or_default();
            if let Some(inside) = rest.strip_prefix('\'') {
                return inside.split('\'').next().unwrap_or_default();
            }
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default()
        };
        self.constants.iter().map(value).collect()
    }

    /// Where the constant that begins at `place` stands among those of this shape, and whether a minus sign
    /// belongs to it.
    pub(super) fn at(&self, text: &[u8], place: i32) -> Option<(usize, bool)> {
        let (begin, is_negative) = begin(text, place)?;
        Some((self.constants.binary_search(&begin).ok()?, is_negative))
    }

    /// Whether constants that begin at `places` are all of them. A negative number's begins with
    /// its sign.
    pub(super) fn holds_only(&self, text: &[u8], places: &[i32]) -> bool {
        let mut begins: Vec<usize> = Vec::with_capacity(places.len());
        for place in places {
            let Some((begin, _)) = begin(text, *place) else { return false };
            begins.push(begin);
        }
        self.constants.iter().all(|constant| begins.contains(constant))
    }
}

/// Where a constant begins behind its sign, and whether it has one.
fn begin(text: &[u8], place: i32) -> Option<(usize, bool)> {
    let place = usize::try_from(place).ok()?;
    if text.get(place) != Some(&b'-') {
        return Some((place, false));
    }
    let sign = text.get(place + 1..).unwrap_or_default();
    Some((place + 1 + sign.iter().take_while(|byte| byte.is_ascii_whitespace()).count(), true))
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// Bytes of the string that begins here, quotes included; `None` where it is not plain.
fn string(rest: &[u8]) -> Option<usize> {
    let inside = rest.get(1..)?;
    let end = memchr::memchr3(b'\'', b'\\', 0, inside)?;
    let is_plain = inside.get(end) == Some(&b'\'') && inside.get(end + 1) != Some(&b'\'');
    is_plain.then_some(end + 2)
}

fn is_comment(rest: &[u8]) -> bool {
    rest.starts_with(b"--") || rest.starts_with(b"/*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Option<String> {
        let shape = Shape::of(text.as_bytes())?;
        let shown = |byte: u8| match byte {
            INTEGER => '0',
            STRING => '\'',
            byte => char::from(byte),
        };
        Some(shape.text.into_iter().map(shown).collect())
    }

    #[test]
    fn plain_constants_are_taken_out() {
        for (text, left) in [
            ("SELECT a FROM t WHERE b = 17", "SELECT a FROM t WHERE b = 0"),
            ("SELECT 1,-2,'x' , 'é--\"$'", "SELECT 0,-0,' , '"),
            ("SELECT t1.c2 FROM t1 LIMIT 10", "SELECT t1.c2 FROM t1 LIMIT 0"),
            ("SELECT 1.5, .5, 5., 1e3, 0x1F, 1_000, 7", "SELECT 1.5, .5, 5., 1e3, 0x1F, 1_000, 0"),
            ("SELECT 1234567890, 123456789", "SELECT 1234567890, 0"),
        ] {
            assert_eq!(shape(text).as_deref(), Some(left), "{text}");
        }
    }

    #[test]
    fn what_is_not_plain_has_no_shape() {
        for text in [
            "SELECT a",
            "SELECT $1, 2",
            "SELECT \"a\", 2",
            "SELECT 2 -- b",
            "SELECT 2 /* b */",
            "SELECT 'it''s'",
            "SELECT 'a\\'",
            "SELECT E'a', 2",
            "SELECT U&'a', 2",
            "SELECT $$a$$, 2",
            "SELECT 'a",
            "SELECT é, 2",
            "SELECT 2\0",
            "SELECT 'a\0'",
        ] {
            assert_eq!(shape(text), None, "{text}");
        }
    }
}
