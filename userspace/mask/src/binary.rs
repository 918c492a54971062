//! Binary values in which a value to be recognized is not written as its text.

/// The longest whole part that is written out: five digits of base 10,000. A longer one is no number
/// that is recognized (a card has 19 digits).
pub(super) const NUMERIC_DIGITS_MAX: usize = 20;

/// The bytes of a length that may be letters or digits: the first is zero below 16 MiB.
pub(super) const LENGTH_BYTES: usize = 3;

/// The decimal digits of a binary `numeric` before its point, written to `to`; `None` where there are
/// too few or too many of them for any number recognized, or the value is not well formed.
///
/// PostgreSQL source, `numeric_send`: count, weight, sign, scale, then digits of base 10,000.
pub(super) fn whole_digits<'t>(
    value: &[u8],
    to: &'t mut [u8; NUMERIC_DIGITS_MAX],
) -> Option<&'t [u8]> {
    let (parts, []) = value.as_chunks::<2>() else { return None };
    let [count, weight, sign, _scale, digits @ ..] = parts else { return None };
    let is_number = usize::from(u16::from_be_bytes(*count)) == digits.len()
        && matches!(u16::from_be_bytes(*sign), 0 | 0x4000)
        && digits.iter().all(|digit| u16::from_be_bytes(*digit) < 10_000);
    let weight = usize::from(u16::from_be_bytes(*weight));
    // Up to weight 1 these are 8 digits; the shortest bare number recognized has 9.
    if !is_number || !(2..NUMERIC_DIGITS_MAX / 4).contains(&weight) {
        return None;
    }
    let digits = digits.iter().map(|digit| u16::from_be_bytes(*digit)).chain(std::iter::repeat(0));
    let mut length = 0;
    for digit in digits.take(weight + 1) {
        for place in [1_000, 100, 10, 1] {
            let decimal = b'0' + u8::try_from(digit / place % 10).ok()?;
            // Zeros at the front are not written.
            if length > 0 || decimal != b'0' {
                *to.get_mut(length)? = decimal;
                length += 1;
            }
        }
    }
    to.get(..length)
}

/// What may be a `numeric` in a binary value: all of it, and whatever stands behind its own length. Of a value
/// whose type is not known, and of arrays, rows and ranges, nothing else says where one is.
pub(super) fn numbers(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inner = value.windows(4).enumerate().filter_map(|(at, length)| {
        // Of those that may be recognized the longest has five digits of base 10,000, and more behind the
        // point: below 64 KiB in all.
        let [0, 0, high, low] = length else { return None };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        value.get(at + 4..)?.get(..length).filter(|part| part.len() >= 10)
    });
    std::iter::once(value).chain(inner)
}

/// Writes to `out` the value with `count` bytes blanked behind every run of zeros; false where that
/// hides nothing that could be part of a number.
///
/// A value within a value stands behind its length in four bytes (`array_send`, `record_send`,
/// `range_send`), whose last ones may be digits or letters and seem to belong to it. Text has no zeros,
/// so what follows them is a length, or the first of a value.
pub(super) fn without_lengths(value: &[u8], count: usize, out: &mut Vec<u8>) -> bool {
    out.clear();
    let (mut blank, mut hides) = (0, false);
    for byte in value {
        if *byte == 0 {
            blank = count;
        } else if blank > 0 {
            blank -= 1;
            hides |= byte.is_ascii_alphanumeric();
            out.push(0);
            continue;
        }
        out.push(*byte);
    }
    hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics() {
        let check = |parts: &[u16], want: Option<&str>| {
            let value: Vec<u8> = parts.iter().flat_map(|part| part.to_be_bytes()).collect();
            let mut to = [0; NUMERIC_DIGITS_MAX];
            let got = whole_digits(&value, &mut to);
            assert_eq!(got, want.map(str::as_bytes), "{parts:?}");
        };
        check(&[4, 3, 0, 0, 4111, 1111, 1111, 1111], Some("4111111111111111"));
        check(&[5, 3, 0x4000, 2, 4111, 1111, 1111, 1111, 5000], Some("4111111111111111"));
        check(&[2, 3, 0, 0, 37, 8], Some("37000800000000"));
        check(&[3, 2, 0, 0, 7, 8051, 1200], Some("780511200"));
        check(&[2, 1, 0, 0, 1234, 5678], None);
        check(&[6, 5, 0, 0, 1, 2, 3, 4, 5, 6], None);
        check(&[0, 0xffff, 0, 2], None);
        check(&[0, 2, 0xc000], None);
    }

    #[test]
    fn lengths_are_blanked() {
        let mut out = Vec::new();
        assert!(without_lengths(b"\0\0\x000078-05", 1, &mut out));
        assert_eq!(out, b"\0\0\0\x00078-05");
        assert!(!without_lengths(b"\0\0\0\x0b\xff", 2, &mut out));
    }
}
