//! Where the digits are: one bit per byte, eight bytes at a time in an ordinary register.

/// Bytes of one block: one bit each in a `u64`.
pub(super) const BLOCK: usize = 64;

/// Which bytes of `block` (its first [`BLOCK`] at most) are ASCII digits; bit 0 is the first byte.
pub(super) fn mask(block: &[u8]) -> u64 {
    let (words, tail) = block.as_chunks::<8>();
    let any = words.iter().take(8).fold(0, |any, word| any | digits(u64::from_le_bytes(*word)));
    if any == 0 && words.len() >= 8 {
        return 0;
    }
    let mut mask = 0;
    let mut shift = 0;
    for word in words.iter().take(8) {
        mask |= gather(digits(u64::from_le_bytes(*word))) << shift;
        shift += 8;
    }
    if shift < 64 && !tail.is_empty() {
        mask |= gather(digits(padded(tail))) << shift;
    }
    mask
}

/// Whether `text` has a digit, and whether it has an `@`.
pub(super) fn contains(text: &[u8]) -> (bool, bool) {
    let (words, tail) = text.as_chunks::<8>();
    let last = padded(tail);
    let (mut digit, mut sign) = (digits(last), signs(last));
    for word in words {
        let word = u64::from_le_bytes(*word);
        digit |= digits(word);
        sign |= signs(word);
    }
    (digit != 0, sign != 0)
}

/// Up to seven bytes, and zeros behind them.
fn padded(tail: &[u8]) -> u64 {
    tail.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The high bit of each byte that is a digit. Bytes are compared without a carry into the next:
/// after the exclusive or, digits are 0 to 9, and adding 0x76 to seven bits sets the eighth from 10 on.
fn digits(word: u64) -> u64 {
    let word = word ^ (ONES * 0x30);
    !(((word & LOW) + ONES * 0x76) | word) & HIGH
}

/// The high bit of each byte that is `@`.
fn signs(word: u64) -> u64 {
    let word = word ^ (ONES * 0x40);
    !(((word & LOW) + LOW) | word) & HIGH
}

/// The high bits of eight bytes, side by side: the product moves bit 8·i to 56 + i.
fn gather(high: u64) -> u64 {
    (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

const ONES: u64 = 0x0101_0101_0101_0101;
const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const HIGH: u64 = 0x8080_8080_8080_8080;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_the_digits(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            let want = text.iter().take(BLOCK).enumerate();
            let want = want.fold(0, |m, (at, b)| m | u64::from(b.is_ascii_digit()) << at);
            prop_assert_eq!(mask(&text), want);
            let want = (text.iter().any(u8::is_ascii_digit), text.contains(&b'@'));
            prop_assert_eq!(contains(&text), want);
        }
    }
}
