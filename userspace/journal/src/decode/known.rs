//! Statements and decisions that came before: the same bytes again are not taken apart again.

use std::sync::Arc;

use crate::codec::{Cursor, Malformed};
use crate::record::{DecisionEntry, StatementEntry};

/// Statements kept at once. With their columns, in bytes and taken apart, one is less than 20 KiB: at most 20 MiB of them.
pub(crate) const STATEMENTS_MAX: usize = 1024;

/// Decisions kept at once, a policy set's usual ones: at most 1 MiB of them.
const DECISIONS_MAX: usize = 64;

/// What is longer comes seldom and is not kept.
pub(crate) const KEPT_BYTES_MAX: usize = 4096;

/// What begins of commands had in common.
#[derive(Debug, Default)]
pub struct Known {
    pub(super) statements: Slots<StatementEntry>,
    pub(super) columns: Slots<Vec<String>>,
    pub(super) decisions: Slots<DecisionEntry>,
}

impl Known {
    /// With room; the default one keeps nothing.
    pub fn new() -> Self {
        Self {
            statements: Slots::new(STATEMENTS_MAX),
            columns: Slots::new(STATEMENTS_MAX),
            decisions: Slots::new(DECISIONS_MAX),
        }
    }
}

/// What was read of bytes, each in the one slot that it can be in.
#[derive(Debug)]
pub(super) struct Slots<T>(Vec<Option<Read<T>>>);

#[derive(Debug)]
struct Read<T> {
    bytes: Box<[u8]>,
    of: Arc<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Slots<T> {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| None).collect())
    }

    /// What `read` makes of what comes next, which `mark` stands for. It says itself where it ends, so that bytes which begin with
    /// those of before are the same.
    pub(super) fn read(
        &mut self,
        mark: u64,
        cursor: &mut Cursor<'_>,
        read: impl FnOnce(&mut Cursor<'_>) -> Result<T, Malformed>,
    ) -> Result<Arc<T>, Malformed> {
        let slot = slot(mark, self.0.len()).and_then(|at| self.0.get_mut(at));
        if let Some(Some(known)) = &slot
            && cursor.skip(&known.bytes)
        {
            return Ok(Arc::clone(&known.of));
        }
        let before = cursor.rest();
        let of = Arc::new(read(cursor)?);
        let bytes = before.get(..before.len() - cursor.rest().len()).unwrap_or_default();
        if let Some(slot) = slot.filter(|_| bytes.len() <= KEPT_BYTES_MAX) {
            *slot = Some(Read { bytes: bytes.into(), of: Arc::clone(&of) });
        }
        Ok(of)
    }
}

/// Where in `count` slots what has this mark is; `None` where there are none.
pub(crate) fn slot(mark: u64, count: usize) -> Option<usize> {
    let count = u64::try_from(count).ok()?;
    usize::try_from(mark.checked_rem(count)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_is_the_same_and_anything_else_is_read() {
        let mut slots = Slots::new(4);
        let mut read = |mark, bytes: &[u8]| {
            let mut cursor = Cursor::new(bytes);
            let text = slots.read(mark, &mut cursor, |cursor| Ok(cursor.str()?.to_owned()));
            text.map(|text| (text, cursor.rest().len()))
        };
        let (first, left) = read(5, b"\0\0\0\x02abc").unwrap();
        assert_eq!((first.as_str(), left), ("ab", 1));
        let (again, left) = read(5, b"\0\0\0\x02abde").unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(left, 2);
        // Another one of the same slot, a longer one that begins alike, and one that ends early.
        assert_eq!(read(9, b"\0\0\0\x02xy").unwrap().0.as_str(), "xy");
        assert_eq!(read(5, b"\0\0\0\x03abc").unwrap().0.as_str(), "abc");
        assert!(read(5, b"\0\0\0\x03ab").is_err());
        let long = [&4_097_u32.to_be_bytes()[..], &[b'x'; 4097]].concat();
        let [one, other] = [read(6, &long).unwrap().0, read(6, &long).unwrap().0];
        assert!(!Arc::ptr_eq(&one, &other));
    }
}
