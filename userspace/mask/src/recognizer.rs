//! Finds sensitive values in text: candidates by digit runs and `@`, then checksums and shapes.
//!
//! One pass, no allocation. Letters outside ASCII and digits of other scripts are not read; names
//! and addresses have no recognizer, only column patterns.

mod block;
mod number;
mod word;

use std::ops::Range;

use self::block::{BLOCK, Block};
use super::RecognizerKind;

/// A value found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where, in bytes.
    pub range: Range<usize>,
    /// What.
    pub kind: RecognizerKind,
}

/// A set of recognizers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Whether `kind` is in the set.
    pub fn has(self, kind: RecognizerKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// The set of `kind` alone.
    #[must_use]
    pub const fn only(kind: RecognizerKind) -> Self {
        Self(1 << kind as u8)
    }

    /// The set with `kind`.
    #[must_use]
    pub fn with(self, kind: RecognizerKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What a column's name suggests it holds; enables the weak forms (bare nine digits, …).
    pub fn hinted_by(name: &[u8]) -> Self {
        let has = |word: &[u8]| name.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
        let words: [(&[u8], RecognizerKind); 13] = [
            (b"ssn", RecognizerKind::UsSsn),
            (b"social", RecognizerKind::UsSsn),
            (b"taxid", RecognizerKind::UsSsn),
            (b"tax_id", RecognizerKind::UsSsn),
            (b"taxpayer", RecognizerKind::UsSsn),
            (b"card", RecognizerKind::CardNumber),
            (b"iban", RecognizerKind::Iban),
            (b"routing", RecognizerKind::UsAba),
            (b"aba_", RecognizerKind::UsAba),
            (b"mail", RecognizerKind::Email),
            (b"phone", RecognizerKind::Phone),
            (b"mobile", RecognizerKind::Phone),
            (b"fax", RecognizerKind::Phone),
        ];
        let found = words.iter().filter(|(word, _)| has(word));
        let set = found.fold(Self::default(), |set, (_, kind)| set.with(*kind));
        let aba = name.eq_ignore_ascii_case(b"aba")
            || name.last_chunk().is_some_and(|end: &[u8; 4]| end.eq_ignore_ascii_case(b"_aba"));
        if aba { set.with(RecognizerKind::UsAba) } else { set }
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set as bits, for [`Kinds::from_bits`].
    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits; unknown ones are dropped.
    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits & 0x3f)
    }
}

/// Yields the values of `kinds` in `text`, in order and without overlap; `hint` enables weak forms.
pub fn find(text: &[u8], kinds: Kinds, hint: Kinds) -> Findings<'_> {
    Findings { text, scan: Scan::new(kinds, hint) }
}

/// The iterator of [`find`].
#[derive(Clone, Debug)]
pub struct Findings<'t> {
    text: &'t [u8],
    scan: Scan,
}

impl Iterator for Findings<'_> {
    type Item = Finding;

    fn next(&mut self) -> Option<Finding> {
        self.scan.next(self.text)
    }
}

/// A search's place in a text it does not hold, so that what was found may be overwritten.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    kinds: Kinds,
    hint: Kinds,
    started: bool,
    end: usize,
    number: Option<Finding>,
    email: Option<Range<usize>>,
}

impl Scan {
    pub(super) fn new(kinds: Kinds, hint: Kinds) -> Self {
        Self { kinds, hint, started: false, end: 0, number: None, email: None }
    }

    /// The next value in `text`, which is the same at every call but for what was found before.
    pub(super) fn next(&mut self, text: &[u8]) -> Option<Finding> {
        if !self.started {
            self.start(text);
        }
        loop {
            let mut found = self.advance(text)?;
            found.range.start = found.range.start.max(self.end);
            if !found.range.is_empty() {
                self.end = found.range.end;
                return Some(found);
            }
        }
    }

    fn start(&mut self, text: &[u8]) {
        self.started = true;
        if text.len() < SHORTEST
            || text.len() < SHORTEST_BARE && text.iter().all(u8::is_ascii_digit)
        {
            return;
        }
        let block = Block::new(text, 0);
        let is_long = text.len() > BLOCK;
        if block.starts != 0 || is_long {
            self.number = number::next(text, 0, block, self.kinds, self.hint);
        }
        if (block.signs != 0 || is_long) && self.kinds.has(RecognizerKind::Email) {
            self.email = word::next_email(text, 0);
        }
    }

    fn advance(&mut self, text: &[u8]) -> Option<Finding> {
        let email_first = match (&self.number, &self.email) {
            (Some(number), Some(email)) => email.start <= number.range.start,
            (number, _) => number.is_none(),
        };
        if email_first {
            let range = self.email.take()?;
            self.email = word::next_email(text, range.end);
            return Some(Finding { range, kind: RecognizerKind::Email });
        }
        let found = self.number.take()?;
        let end = found.range.end;
        self.number = number::next(text, end, Block::new(text, end), self.kinds, self.hint);
        Some(found)
    }
}

/// The shortest value of any kind: `a@b.co`.
const SHORTEST: usize = 6;

/// The shortest of digits alone.
const SHORTEST_BARE: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Kinds = Kinds(0x3f);

    fn check(text: &str, hint: Kinds, want: &[(&str, RecognizerKind)]) {
        let found: Vec<_> =
            find(text.as_bytes(), ALL, hint).map(|f| (&text[f.range.clone()], f.kind)).collect();
        assert_eq!(found, want, "{text}");
    }

    #[test]
    fn strong_forms() {
        use RecognizerKind::{CardNumber, Email, Iban, Phone, UsSsn};
        for (text, value, kind) in [
            ("ssn 078-05-1120.", "078-05-1120", UsSsn),
            ("ssn_078 05 1120", "078 05 1120", UsSsn),
            ("2024-01-05 078-05-1120", "078-05-1120", UsSsn),
            ("4111111111111111", "4111111111111111", CardNumber),
            ("x 4111-1111-1111-1111,", "4111-1111-1111-1111", CardNumber),
            ("3782 822463 10005", "3782 822463 10005", CardNumber),
            ("DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 00", Iban),
            ("to gb82west12345698765432!", "gb82west12345698765432", Iban),
            ("<jo.doe+x@example.com>", "jo.doe+x@example.com", Email),
            ("call +1 (415) 555-2671 now", "+1 (415) 555-2671", Phone),
            ("415-555-2671", "415-555-2671", Phone),
            ("(415) 555-2671", "(415) 555-2671", Phone),
        ] {
            check(text, Kinds::default(), &[(value, kind)]);
        }
    }

    #[test]
    fn weak_forms_need_the_hint() {
        for (text, kind) in [
            ("078051120", RecognizerKind::UsSsn),
            ("021000021", RecognizerKind::UsAba),
            ("4155552671", RecognizerKind::Phone),
        ] {
            check(text, Kinds::default(), &[]);
            check(text, Kinds::default().with(kind), &[(text, kind)]);
        }
    }

    #[test]
    fn not_sensitive() {
        for text in [
            "000-12-3456",
            "666-12-3456",
            "900-12-3456",
            "123-00-4567",
            "123-45-0000",
            "1078-05-1120",
            "078-05-11201",
            "078-05 1120",
            "4111111111111112",
            "9111111111111111",
            "2024-01-05 12:30:15.123456+00",
            "2024-01-05T12:30:15Z",
            "20240105123015",
            "123e4567-e89b-12d3-a456-426614174000",
            "1,234,567.89",
            "12345678.90",
            "0.4111111111111111",
            "DE88370400440532013000",
            "user@",
            "@example.com",
            "a@b",
            "",
            "12",
            "{}",
        ] {
            check(text, Kinds::default(), &[]);
        }
    }
}
