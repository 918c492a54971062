//! Bytes as text.

/// Two lower-case hexadecimal digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
    text
}

/// 32 bytes from what [`hex`] writes; `None` where it is anything else.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let pairs = text.as_bytes().as_chunks::<2>().0;
    for (byte, pair) in out.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    (hex(&out) == text).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::{hex, unhex};

    #[test]
    fn two_digits_a_byte() {
        assert_eq!(hex(&[0x00, 0x0a, 0xf0, 0xff]), "000af0ff");
        assert_eq!(hex(&[]), "");
    }

    #[test]
    fn what_was_written_comes_back_and_nothing_else_does() {
        let bytes = std::array::from_fn(|at| u8::try_from(at * 7).unwrap());
        let text = hex(&bytes);
        assert_eq!(unhex(&text), Some(bytes));
        for other in [&text[..62], &text.to_uppercase(), &text.replace('7', "x"), ""] {
            assert_eq!(unhex(other), None, "{other}");
        }
    }
}
