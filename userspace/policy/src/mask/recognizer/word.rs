//! Values with letters: IBANs and e-mail addresses.

use std::ops::Range;

/// The end of an IBAN (ISO 13616) whose check digits stand at `digits`, two letters before them.
pub(super) fn iban(text: &[u8], digits: usize) -> Option<usize> {
    let start = digits.checked_sub(2)?;
    let in_word =
        start.checked_sub(1).and_then(|i| text.get(i)).is_some_and(u8::is_ascii_alphanumeric);
    let escape = start.checked_sub(2).and_then(|i| text.get(i)) == Some(&b'\\');
    let country =
        [text.get(start)?.to_ascii_uppercase(), text.get(start + 1)?.to_ascii_uppercase()];
    let want = usize::from(length(country)?);
    if in_word && !escape {
        return None;
    }
    let mut value = [0u8; 34];
    let (mut len, mut at, mut gap) = (0, start, false);
    while len < want {
        let byte = *text.get(at)?;
        if byte.is_ascii_alphanumeric() {
            *value.get_mut(len)? = byte.to_ascii_uppercase();
            len += 1;
            gap = false;
        } else if gap || !matches!(byte, b' ' | b'-') {
            return None;
        } else {
            gap = true;
        }
        at += 1;
    }
    let (head, tail) = value.get(..len)?.split_at_checked(4)?;
    let rest = tail.iter().chain(head).fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    (rest == 1 && !text.get(at).is_some_and(u8::is_ascii_alphanumeric)).then_some(at)
}

/// An IBAN's length by country (the SWIFT registry).
fn length(country: [u8; 2]) -> Option<u8> {
    const LENGTHS: &[(u8, &str)] = &[
        (15, "NO"),
        (16, "BE"),
        (18, "DKFIFOGLNLFKSD"),
        (19, "MKSI"),
        (20, "ATBAEEKZLTLUXKMN"),
        (21, "CHHRLILVHN"),
        (22, "BGBHCRDEGBGEIEMERSVAOM"),
        (23, "AEGIILIQTLSO"),
        (24, "ADCZESMDPKROSASESKTNVGNI"),
        (25, "LYPTST"),
        (26, "ISTR"),
        (27, "BIDJFRGRITMCMRSM"),
        (28, "ALAZBYCYDOGTHULBPLSV"),
        (29, "BREGPSQAUA"),
        (30, "JOKWMUYE"),
        (31, "MTSC"),
        (32, "LC"),
        (33, "RU"),
    ];
    let found = LENGTHS.iter().find(|(_, names)| names.as_bytes().chunks(2).any(|c| c == country));
    found.map(|(length, _)| *length)
}

/// The first e-mail address whose `@` stands at or after `from`.
pub(super) fn next_email(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    loop {
        let sign = at + memchr::memchr(b'@', text.get(at..)?)?;
        if let Some(range) = email(text, sign, from) {
            return Some(range);
        }
        at = sign + 1;
    }
}

fn email(text: &[u8], sign: usize, from: usize) -> Option<Range<usize>> {
    let local =
        |b: &&u8| b.is_ascii_alphanumeric() || **b >= 0x80 || b"._%+-!#$&*/=?^`{|}~".contains(b);
    let back = text.get(from..sign)?.iter().rev().take(64).take_while(local).count();
    let domain = |b: &&u8| b.is_ascii_alphanumeric() || **b >= 0x80 || matches!(**b, b'.' | b'-');
    let name = text.get(sign + 1..)?;
    let name = name.get(..name.iter().take(253 - 64).take_while(domain).count())?;
    let end = name.iter().rposition(u8::is_ascii_alphanumeric)? + 1;
    let name = name.get(..end)?;
    let dot = name.iter().rposition(|b| *b == b'.')?;
    let top = name.get(dot + 1..)?;
    (back > 0 && dot > 0 && top.len() >= 2 && top.iter().any(u8::is_ascii_alphabetic))
        .then_some(sign - back..sign + 1 + end)
}
