//! Values that start at, or shortly before, a run of digits.

use super::word::iban;
use super::{Finding, Kinds, RecognizerKind};

/// The first value at or after `from`.
pub(super) fn next(text: &[u8], from: usize, kinds: Kinds, hint: Kinds) -> Option<Finding> {
    let mut at = from;
    while let Some(start) = next_digit(text, at) {
        let run = digits(text, start);
        if let Some(found) = at_run(text, start, run, kinds, hint) {
            return Some(found);
        }
        at = start + run;
    }
    None
}

fn next_digit(text: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let block = text.get(from..)?;
        if block.is_empty() {
            return None;
        }
        let block = block.get(..32).unwrap_or(block);
        let any = block.iter().fold(0u8, |n, b| n | u8::from(b.wrapping_sub(b'0') < 10));
        if any != 0 {
            return block.iter().position(u8::is_ascii_digit).map(|at| from + at);
        }
        from += block.len();
    }
}

/// Length of the run of digits at `from`.
fn digits(text: &[u8], from: usize) -> usize {
    text.iter().skip(from).take_while(|b| b.is_ascii_digit()).count()
}

fn before(text: &[u8], at: usize, back: usize) -> u8 {
    at.checked_sub(back).and_then(|i| text.get(i)).copied().unwrap_or(0)
}

fn at_run(text: &[u8], start: usize, run: usize, kinds: Kinds, hint: Kinds) -> Option<Finding> {
    use RecognizerKind::{CardNumber, Iban, Phone, UsAba, UsSsn};
    let found = |start: usize, end: usize, kind| Some(Finding { range: start..end, kind });
    if kinds.has(Iban)
        && before(text, start, 1).is_ascii_alphabetic()
        && let Some(end) = iban(text, start)
    {
        return found(start - 2, end, Iban);
    }
    if kinds.has(Phone)
        && let Some((from, end)) = e164(text, start)
    {
        return found(from, end, Phone);
    }
    if run == 3 {
        if kinds.has(UsSsn)
            && let Some(end) = ssn_grouped(text, start)
        {
            return found(start, end, UsSsn);
        }
        if kinds.has(Phone)
            && let Some((from, end)) = nanp(text, start, hint.has(Phone))
        {
            return found(from, end, Phone);
        }
        return None;
    }
    if run == 4
        && kinds.has(CardNumber)
        && let Some(end) = card_grouped(text, start, hint.has(CardNumber))
    {
        return found(start, end, CardNumber);
    }
    let end = start + run;
    if run < 9 || run > 19 || !stands_alone(text, start, end) {
        return None;
    }
    let value = text.get(start..end)?;
    let hinted = |kind| kinds.has(kind) && hint.has(kind);
    match run {
        9 if hinted(UsSsn) && ssn_valid(value) => found(start, end, UsSsn),
        9 if hinted(UsAba) && aba_valid(value) => found(start, end, UsAba),
        10 if hinted(Phone) && nanp_valid(value) => found(start, end, Phone),
        13..=19 if kinds.has(CardNumber) && card_valid(value, hint.has(CardNumber)) => {
            found(start, end, CardNumber)
        }
        _ => None,
    }
}

/// Whether a bare run is no part of a longer word, a hexadecimal string or a decimal fraction. A
/// letter after a backslash is an escape (`\n`), not a word.
fn stands_alone(text: &[u8], start: usize, end: usize) -> bool {
    let (last, last2) = (before(text, start, 1), before(text, start, 2));
    let fraction = last == b'.' && last2.is_ascii_digit();
    let word = last.is_ascii_alphanumeric() && last2 != b'\\';
    !fraction && !word && !text.get(end).is_some_and(u8::is_ascii_alphanumeric)
}

/// The end of `ddd-dd-dddd` or `ddd dd dddd` at `start`.
fn ssn_grouped(text: &[u8], start: usize) -> Option<usize> {
    let value: &[u8; 11] = text.get(start..start + 11)?.try_into().ok()?;
    let [a, b, c, s, d, e, t, f, g, h, i] = *value;
    let whole = [a, b, c, d, e, f, g, h, i];
    let ok =
        s == t && (s == b'-' || s == b' ') && ssn_valid(&whole) && digits(text, start + 7) == 4;
    ok.then_some(start + 11)
}

/// Area, group and serial as the Social Security Administration issues them.
fn ssn_valid(value: &[u8]) -> bool {
    let [a, b, c, d, e, f, g, h, i] = value else { return false };
    value.iter().all(u8::is_ascii_digit)
        && [*a, *b, *c] != *b"000"
        && [*a, *b, *c] != *b"666"
        && *a != b'9'
        && [*d, *e] != *b"00"
        && [*f, *g, *h, *i] != *b"0000"
}

/// The ABA checksum (weights 3, 7, 1) and the Federal Reserve's prefixes.
fn aba_valid(value: &[u8]) -> bool {
    let sum: u32 =
        value.iter().zip([3, 7, 1].iter().cycle()).map(|(b, w)| u32::from(b - b'0') * w).sum();
    let prefix = value.iter().take(2).fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    sum % 10 == 0 && sum > 0 && matches!(prefix, 0..=12 | 21..=32 | 61..=72 | 80)
}

/// The end of a card number in groups: four digits first, one separator throughout.
fn card_grouped(text: &[u8], start: usize, hinted: bool) -> Option<usize> {
    let separator = *text.get(start + 4).filter(|b| matches!(b, b' ' | b'-'))?;
    let mut number = [0u8; 19];
    let (mut len, mut at, mut best) = (0, start, None);
    loop {
        let run = digits(text, at);
        if run == 0 || len + run > 19 {
            return best;
        }
        for (to, from) in number.iter_mut().skip(len).zip(text.iter().skip(at).take(run)) {
            *to = *from;
        }
        len += run;
        at += run;
        if len >= 13 && card_valid(number.get(..len)?, hinted) {
            best = Some(at);
        }
        if run < 3 || text.get(at) != Some(&separator) {
            return best;
        }
        at += 1;
    }
}

/// The Luhn digit (ISO/IEC 7812-1), and an issuer's prefix unless the column is hinted.
fn card_valid(value: &[u8], hinted: bool) -> bool {
    let luhn: u32 = value
        .iter()
        .rev()
        .enumerate()
        .map(|(at, b)| {
            let digit = u32::from(b - b'0');
            if at % 2 == 0 { digit } else { digit * 2 - if digit > 4 { 9 } else { 0 } }
        })
        .sum();
    let prefix = value.iter().take(4).fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    let zero = value.iter().all(|b| *b == b'0');
    luhn % 10 == 0 && !zero && (hinted || iin(prefix, value.len()))
}

fn iin(prefix: u32, len: usize) -> bool {
    match prefix {
        4000..=4999 => matches!(len, 13 | 16 | 19),
        5100..=5599 | 2221..=2720 => len == 16,
        3400..=3499 | 3700..=3799 => len == 15,
        3000..=3059 | 3600..=3699 | 3800..=3999 => (14..=19).contains(&len),
        3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 | 8100..=8199 => (16..=19).contains(&len),
        5000..=5099 | 5600..=5899 | 6000..=6999 => (13..=19).contains(&len),
        _ => false,
    }
}

/// A number in international form whose first digits stand at `start`.
fn e164(text: &[u8], start: usize) -> Option<(usize, usize)> {
    if before(text, start, 1) != b'+' || text.get(start) == Some(&b'0') {
        return None;
    }
    let (mut at, mut count, mut end) = (start, 0, start);
    loop {
        let run = digits(text, at);
        if run == 0 || count + run > 15 {
            break;
        }
        count += run;
        end = at + run;
        let gap = text.iter().skip(end).take(2);
        at = end + gap.take_while(|b| matches!(b, b' ' | b'-' | b'.' | b'(' | b')')).count();
        if at == end {
            break;
        }
    }
    (count >= 8 && !text.get(end).is_some_and(u8::is_ascii_digit)).then_some((start - 1, end))
}

/// A North American number whose area code stands at `start`.
fn nanp(text: &[u8], start: usize, hinted: bool) -> Option<(usize, usize)> {
    let bracket = before(text, start, 1) == b'(' && text.get(start + 3) == Some(&b')');
    let mut at = start + 3 + usize::from(bracket);
    let gap = *text.get(at)?;
    let spaced = gap == b' ';
    if matches!(gap, b' ' | b'-' | b'.') {
        at += 1;
    } else if !bracket {
        return None;
    }
    let rest: &[u8; 8] = text.get(at..at + 8)?.try_into().ok()?;
    let [a, b, c, separator, d, e, f, g] = *rest;
    let [x, y, z] = text.get(start..start + 3)?.try_into().ok()?;
    let separated = matches!(separator, b'-' | b'.') || separator == b' ' && (hinted || bracket);
    let ok = separated
        && (bracket || hinted || (!spaced && gap == separator))
        && nanp_valid(&[x, y, z, a, b, c, d, e, f, g])
        && !text.get(at + 8).is_some_and(u8::is_ascii_digit);
    ok.then_some((start - usize::from(bracket), at + 8))
}

fn nanp_valid(value: &[u8]) -> bool {
    let high = |at: usize| value.get(at).is_some_and(|b| *b >= b'2');
    value.iter().all(u8::is_ascii_digit) && high(0) && high(3)
}
