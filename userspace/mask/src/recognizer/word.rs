//! Values with letters: IBANs and e-mail addresses.

use std::ops::Range;

/// The end of an IBAN (ISO 13616) whose check digits stand at `digits`, two letters before them.
pub(super) fn iban(text: &[u8], digits: usize) -> Option<usize> {
    let start = digits.checked_sub(2)?;
    let in_word =
        start.checked_sub(1).and_then(|i| text.get(i)).is_some_and(u8::is_ascii_alphanumeric);
    let escape = start.checked_sub(2).and_then(|i| text.get(i)) == Some(&b'\\');
    if in_word && !escape {
        return None;
    }
    let country =
        [text.get(start)?.to_ascii_uppercase(), text.get(start + 1)?.to_ascii_uppercase()];
    let want = length(country)?;
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
fn length(country: [u8; 2]) -> Option<usize> {
    Some(match &country {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FI" | b"FO" | b"GL" | b"NL" | b"FK" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"XK" | b"MN" => 20,
        b"CH" | b"HR" | b"LI" | b"LV" | b"HN" => 21,
        b"BG" | b"BH" | b"CR" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"TL" | b"SO" | b"OM" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG"
        | b"NI" => 24,
        b"LY" | b"PT" | b"ST" => 25,
        b"IS" | b"TR" => 26,
        b"BI" | b"DJ" | b"FR" | b"GR" | b"IT" | b"MC" | b"MR" | b"SM" => 27,
        b"AL" | b"AZ" | b"BY" | b"CY" | b"DO" | b"GT" | b"HU" | b"LB" | b"PL" | b"SV" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
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
    let local = |b: &&u8| LOCAL.get(usize::from(**b)).is_some_and(|is_local| *is_local);
    let head = text.get(from..sign)?;
    let back = head.iter().rev().take(64).take_while(local).count();
    // The limit of 64 (RFC 5321 §4.5.3.1.1) may fall inside a character of UTF-8: take it whole.
    let cut = head.iter().rev().skip(back.saturating_sub(1)).take(4);
    let back = back + cut.take_while(|b| **b & 0xc0 == 0x80).count();
    let back = back.min(head.len());
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

/// What a local part is written with: letters, digits, what is not ASCII, and some signs.
const LOCAL: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0u8);
    loop {
        let sign = matches!(
            byte,
            b'.' | b'_'
                | b'%'
                | b'+'
                | b'-'
                | b'!'
                | b'#'
                | b'$'
                | b'&'
                | b'*'
                | b'/'
                | b'='
                | b'?'
                | b'^'
                | b'`'
                | b'{'..=b'~'
        );
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte >= 0x80 || sign;
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};
