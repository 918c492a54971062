//! Values that start at, or shortly before, a run of digits.

use std::ops::Range;

use super::block::{BLOCK, Block};
use super::word::iban;
use super::{Finding, Kinds, RecognizerKind};

/// The first value whose first digits stand at or after `from`, where `block` begins.
pub(super) fn next(
    text: &[u8],
    from: usize,
    mut block: Block,
    kinds: Kinds,
    hint: Kinds,
) -> Option<Finding> {
    let mut base = from;
    loop {
        let mut next = base + BLOCK;
        let mut starts = block.starts;
        while starts != 0 {
            let skip = starts.trailing_zeros() as usize;
            starts &= starts - 1;
            let start = base + skip;
            let mut run = (block.digits >> skip).trailing_ones() as usize;
            if skip + run == BLOCK {
                run += text.iter().skip(base + BLOCK).take_while(|b| b.is_ascii_digit()).count();
                next = start + run;
            }
            if let Some(found) = at_run(text, start, run, kinds, hint) {
                return Some(found);
            }
        }
        base = next;
        if base >= text.len() {
            return None;
        }
        block = Block::new(text, base);
    }
}

/// Length of the run of digits at `from`; 20 stands for anything longer than a number recognized.
fn run_at(text: &[u8], from: usize) -> usize {
    text.iter().skip(from).take(20).take_while(|b| b.is_ascii_digit()).count()
}

fn before(text: &[u8], at: usize, back: usize) -> u8 {
    at.checked_sub(back).and_then(|i| text.get(i)).copied().unwrap_or(0)
}

/// A value whose first digits are the run of `run` at `start`; most runs are turned away by their
/// length and the byte before them.
fn at_run(text: &[u8], start: usize, run: usize, kinds: Kinds, hint: Kinds) -> Option<Finding> {
    use RecognizerKind::{CardNumber, Iban, Phone, UsSsn};
    let found = |(start, end): (usize, usize), kind| Some(Finding { range: start..end, kind });
    let last = before(text, start, 1);
    if run >= 2 && last.is_ascii_alphabetic() && kinds.has(Iban) {
        if let Some(end) = iban(text, start) {
            return found((start - 2, end), Iban);
        }
    } else if last == b'+'
        && kinds.has(Phone)
        && let Some(range) = e164(text, start)
    {
        return found(range, Phone);
    }
    match run {
        3 => {
            if kinds.has(UsSsn)
                && let Some(end) = ssn_grouped(text, start)
            {
                return found((start, end), UsSsn);
            }
            let phone = if kinds.has(Phone) { nanp(text, start, hint.has(Phone)) } else { None };
            phone.and_then(|range| found(range, Phone))
        }
        4 if kinds.has(CardNumber) => card_grouped(text, start, hint.has(CardNumber))
            .and_then(|end| found((start, end), CardNumber)),
        9..=19 => bare(text, start..start + run, kinds, hint),
        _ => None,
    }
}

/// A value that is one run of digits.
fn bare(text: &[u8], range: Range<usize>, kinds: Kinds, hint: Kinds) -> Option<Finding> {
    use RecognizerKind::{CardNumber, Phone, UsAba, UsSsn};
    let value = text.get(range.clone())?;
    let hinted = |kind| kinds.has(kind) && hint.has(kind);
    let kind = match value.len() {
        9 if hinted(UsSsn) && ssn_valid(value) => UsSsn,
        9 if hinted(UsAba) && aba_valid(value) => UsAba,
        10 if hinted(Phone) && nanp_valid(value) => Phone,
        13..=19 if kinds.has(CardNumber) && card_valid(value, hint.has(CardNumber)) => CardNumber,
        _ => return None,
    };
    stands_alone(text, range.start, range.end).then_some(Finding { range, kind })
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
    let [area @ .., first, g1, g2, second, s1, s2, s3, s4]: [u8; 11] = *value;
    if first != second || !matches!(first, b'-' | b' ') {
        return None;
    }
    let [a1, a2, a3] = area;
    let whole = [a1, a2, a3, g1, g2, s1, s2, s3, s4];
    (ssn_valid(&whole) && run_at(text, start + 7) == 4).then_some(start + 11)
}

/// Area, group and serial as the Social Security Administration issues them.
fn ssn_valid(value: &[u8]) -> bool {
    let Some((area, rest)) = value.split_at_checked(3) else { return false };
    value.len() == 9
        && value.iter().all(u8::is_ascii_digit)
        && area != b"000"
        && area != b"666"
        && !area.starts_with(b"9")
        && !rest.starts_with(b"00")
        && !rest.ends_with(b"0000")
}

/// The ABA checksum (weights 3, 7, 1) and the Federal Reserve's prefixes.
fn aba_valid(value: &[u8]) -> bool {
    let sum: u32 =
        value.iter().zip([3, 7, 1].iter().cycle()).map(|(b, w)| u32::from(b - b'0') * w).sum();
    let prefix = value.iter().take(2).fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    sum.is_multiple_of(10) && sum > 0 && matches!(prefix, 0..=12 | 21..=32 | 61..=72 | 80)
}

/// The end of a card number in groups: four digits first, one separator throughout.
fn card_grouped(text: &[u8], start: usize, hinted: bool) -> Option<usize> {
    let separator = *text.get(start + 4).filter(|b| matches!(b, b' ' | b'-'))?;
    let mut number = [0u8; 19];
    let (mut len, mut at, mut best) = (0, start, None);
    loop {
        let run = run_at(text, at);
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

/// An issuer's prefix unless the column is hinted, and the Luhn digit (ISO/IEC 7812-1).
fn card_valid(value: &[u8], hinted: bool) -> bool {
    let prefix = value.iter().take(4).fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    if !hinted && !iin(prefix, value.len()) {
        return false;
    }
    let luhn: u32 = value
        .iter()
        .rev()
        .enumerate()
        .map(|(at, b)| {
            let digit = u32::from(b - b'0');
            if at.is_multiple_of(2) { digit } else { digit * 2 - if digit > 4 { 9 } else { 0 } }
        })
        .sum();
    let zero = value.iter().all(|b| *b == b'0');
    luhn.is_multiple_of(10) && !zero
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
        let run = run_at(text, at);
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
    let [exchange @ .., separator, l1, l2, l3, l4]: [u8; 8] = *rest;
    let ([a1, a2, a3], [e1, e2, e3]): ([u8; 3], _) =
        (text.get(start..start + 3)?.try_into().ok()?, exchange);
    let separated = matches!(separator, b'-' | b'.') || separator == b' ' && (hinted || bracket);
    let ok = separated
        && (bracket || hinted || (!spaced && gap == separator))
        && nanp_valid(&[a1, a2, a3, e1, e2, e3, l1, l2, l3, l4])
        && !text.get(at + 8).is_some_and(u8::is_ascii_digit);
    ok.then_some((start - usize::from(bracket), at + 8))
}

fn nanp_valid(value: &[u8]) -> bool {
    let high = |at: usize| value.get(at).is_some_and(|b| *b >= b'2');
    value.iter().all(u8::is_ascii_digit) && high(0) && high(3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The blocks lose no run: as a walk byte by byte finds.
        #[test]
        fn blocks_are_a_walk(text in "([0-9]{1,5}|[0-9]{60,70}|[-a-z +.]{0,9}|[0-9]{9}|[a-z\\\\]{1,2}[0-9]{2}|[ .)(+-]|4111111111111111|4000 0012 3456 7899|078-05-1120|\\(?[2-9]{3}[). -][2-9]{3}[ .-][0-9]{4}|\\+[0-9]{1,3}[ (][0-9]{7}|DE89370400440532013000|\\\\nDE89 3704 0044 0532 0130 00){0,40}", from in 0usize..9) {
            let kinds = (0..6u8).fold(Kinds::default(), |k, at| Kinds(k.0 | 1 << at));
            let text = text.as_bytes();
            let mut at = from;
            let want = loop {
                let Some(skip) = text.iter().skip(at).position(u8::is_ascii_digit) else { break None };
                let start = at + skip;
                let run = text.iter().skip(start).take_while(|b| b.is_ascii_digit()).count();
                if let Some(found) = at_run(text, start, run, kinds, kinds) {
                    break Some(found);
                }
                at = start + run;
            };
            prop_assert_eq!(next(text, from, Block::new(text, from), kinds, kinds), want);
        }
    }
}
