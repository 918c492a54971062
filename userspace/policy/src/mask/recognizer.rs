//! Finds sensitive values in text: candidates by digit runs and `@`, then checksums and shapes.
//!
//! One pass, no allocation. Letters outside ASCII and digits of other scripts are not read; names
//! and addresses have no recognizer, only column patterns.

mod number;
mod word;

use std::ops::Range;

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
        let words: [(&[u8], RecognizerKind); 11] = [
            (b"ssn", RecognizerKind::UsSsn),
            (b"social", RecognizerKind::UsSsn),
            (b"tax", RecognizerKind::UsSsn),
            (b"card", RecognizerKind::CardNumber),
            (b"iban", RecognizerKind::Iban),
            (b"routing", RecognizerKind::UsAba),
            (b"aba", RecognizerKind::UsAba),
            (b"mail", RecognizerKind::Email),
            (b"phone", RecognizerKind::Phone),
            (b"mobile", RecognizerKind::Phone),
            (b"fax", RecognizerKind::Phone),
        ];
        let found = words.iter().filter(|(word, _)| has(word));
        found.fold(Self::default(), |set, (_, kind)| set.with(*kind))
    }
}

/// Yields the values of `kinds` in `text`, in order and without overlap; `hint` enables weak forms.
pub fn find(text: &[u8], kinds: Kinds, hint: Kinds) -> Findings<'_> {
    let mut findings = Findings { text, kinds, hint, end: 0, number: None, email: None };
    findings.number = if may_hold_number(text) { findings.next_number(0) } else { None };
    findings.email =
        if kinds.has(RecognizerKind::Email) { word::next_email(text, 0) } else { None };
    findings
}

/// The iterator of [`find`].
#[derive(Clone, Debug)]
pub struct Findings<'t> {
    text: &'t [u8],
    kinds: Kinds,
    hint: Kinds,
    end: usize,
    number: Option<Finding>,
    email: Option<Range<usize>>,
}

impl Findings<'_> {
    fn next_number(&self, from: usize) -> Option<Finding> {
        number::next(self.text, from, self.kinds, self.hint)
    }

    fn advance(&mut self) -> Option<Finding> {
        let email_first = match (&self.number, &self.email) {
            (Some(number), Some(email)) => email.start <= number.range.start,
            (number, _) => number.is_none(),
        };
        if email_first {
            let range = self.email.take()?;
            self.email = word::next_email(self.text, range.end);
            return Some(Finding { range, kind: RecognizerKind::Email });
        }
        let found = self.number.take()?;
        self.number = self.next_number(found.range.end);
        Some(found)
    }
}

impl Iterator for Findings<'_> {
    type Item = Finding;

    fn next(&mut self) -> Option<Finding> {
        loop {
            let mut found = self.advance()?;
            found.range.start = found.range.start.max(self.end);
            if !found.range.is_empty() {
                self.end = found.range.end;
                return Some(found);
            }
        }
    }
}

/// Whether seven digits stand within two neighbouring blocks of 32 bytes: every number recognized
/// has at least that many (an IBAN of Malta has the fewest), none longer than 34 characters.
fn may_hold_number(text: &[u8]) -> bool {
    let mut before = 0;
    for block in text.chunks(32) {
        let digits: u8 = block.iter().map(|b| u8::from(b.wrapping_sub(b'0') < 10)).sum();
        if before + digits >= 7 {
            return true;
        }
        before = digits;
    }
    false
}

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
