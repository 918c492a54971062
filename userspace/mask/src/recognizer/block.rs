//! Where numbers may start: one bit per byte, sixteen bytes at a time.
//!
//! Most runs of digits (times, amounts, identifiers, hexadecimal) are turned away here, by what stands
//! around them, without a branch for each.

use wide::u8x16;

/// Bytes of one block: one bit each in a `u64`.
pub(super) const BLOCK: usize = 64;

/// What is to be seen in up to [`BLOCK`] bytes of a text; bit 0 is the first of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// ASCII digits.
    pub(super) digits: u64,
    /// First digits of runs that may be a value's first.
    pub(super) starts: u64,
    /// Each `@`.
    pub(super) signs: u64,
}

impl Block {
    /// The block that begins at `from`.
    #[inline]
    pub(super) fn new(text: &[u8], from: usize) -> Self {
        let rest = text.get(from..).unwrap_or_default();
        let bytes = rest.get(..BLOCK).unwrap_or(rest);
        let mut block = Self::default();
        lanes(bytes, |at, lane| {
            block.digits |= among(lane, b'0', 10) << at;
            block.signs |= bits(lane, b'@') << at;
        });
        if block.digits != 0 {
            block.starts = block.starts(bytes, from > 0, rest.len() > BLOCK);
        }
        block
    }

    /// Runs of three or four digits with a separator behind them (telephone and social security
    /// numbers, cards in groups), of nine and more, after `+`, and of two behind a country's two
    /// letters (an IBAN). What depends on bytes outside of the block counts as if it were so.
    fn starts(self, bytes: &[u8], has_before: bool, has_behind: bool) -> u64 {
        let (mut letters, mut separators, mut pluses, mut escapes) = (0, 0, 0, 0);
        lanes(bytes, |at, lane| {
            letters |= among(lane | u8x16::splat(0x20), b'a', 26) << at;
            separators |= (bits(lane, b' ') | bits(lane, b'-')) << at;
            separators |= (bits(lane, b'.') | bits(lane, b')')) << at;
            pluses |= bits(lane, b'+') << at;
            escapes |= bits(lane, b'\\') << at;
        });
        let one = self.digits;
        let two = one & one >> 1;
        let (three, four) = (two & one >> 2, two & two >> 2);
        let nine = four & four >> 4 & one >> 8;
        let grouped = three & separators >> 3 | four & separators >> 4;
        // The letters begin a word, or stand behind an escape (`\n`).
        let begins = !((one | letters) << 3) | escapes << 4;
        let iban = two & letters << 1 & letters << 2 & begins;
        let mut may = nine | grouped | iban | pluses << 1;
        if has_before {
            may |= 0xf;
        }
        if has_behind {
            may |= u64::MAX << (BLOCK - 8);
        }
        may & one & !(one << 1)
    }
}

/// Hands over all of `bytes`, with where each sixteen of them begin; the last may overlap others.
#[inline]
fn lanes(bytes: &[u8], mut each: impl FnMut(usize, u8x16)) {
    let (whole, rest) = bytes.as_chunks::<LANE>();
    for (number, lane) in whole.iter().enumerate() {
        each(number * LANE, u8x16::new(*lane));
    }
    if rest.is_empty() {
        return;
    }
    match bytes.last_chunk::<LANE>() {
        Some(lane) => each(bytes.len() - LANE, u8x16::new(*lane)),
        None => each(0, u8x16::new(padded(bytes))),
    }
}

/// Fewer than sixteen bytes, and zeros behind them.
#[inline]
fn padded(bytes: &[u8]) -> [u8; LANE] {
    let word = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(head), Some(tail)) => {
            let tail = u128::from(u64::from_le_bytes(*tail)) << (8 * (bytes.len() - 8));
            u128::from(u64::from_le_bytes(*head)) | tail
        }
        _ => bytes.iter().rev().fold(0, |word, byte| word << 8 | u128::from(*byte)),
    };
    word.to_le_bytes()
}

/// Which bytes are one of the `count` from `first` on.
#[inline]
fn among(lane: u8x16, first: u8, count: u8) -> u64 {
    let offset = lane - u8x16::splat(first);
    let is_below = offset.min(u8x16::splat(count - 1)).simd_eq(offset);
    u64::from(is_below.to_bitmask())
}

/// Which bytes are `byte`.
#[inline]
fn bits(lane: u8x16, byte: u8) -> u64 {
    u64::from(lane.simd_eq(u8x16::splat(byte)).to_bitmask())
}

const LANE: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_the_bytes(text in proptest::collection::vec(any::<u8>(), 0..80), from in 0usize..20) {
            let bytes = text.iter().skip(from).take(BLOCK).enumerate();
            let which = |is: fn(u8) -> bool| {
                bytes.clone().fold(0, |bits, (at, b)| bits | u64::from(is(*b)) << at)
            };
            let block = Block::new(&text, from);
            prop_assert_eq!(block.digits, which(|b| b.is_ascii_digit()));
            prop_assert_eq!(block.signs, which(|b| b == b'@'));
            prop_assert_eq!(block.starts & !block.digits, 0);
        }
    }
}
