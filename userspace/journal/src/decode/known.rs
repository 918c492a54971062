//! Statements and decisions that came before: the same bytes again are not taken apart again.

use std::sync::Arc;

use rustc_hash::FxHashMap;

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
    pub(super) statements: Kept<StatementEntry>,
    pub(super) columns: Kept<Vec<String>>,
    pub(super) decisions: Kept<DecisionEntry>,
}

impl Known {
    /// With room; the default one keeps nothing.
    pub fn new() -> Self {
        Self {
            statements: Kept::new(STATEMENTS_MAX),
            columns: Kept::new(STATEMENTS_MAX),
            decisions: Kept::new(DECISIONS_MAX),
        }
    }
}

/// What was read of bytes, by what stands for it.
#[derive(Debug)]
pub(super) struct Kept<T> {
    most: usize,
    read: FxHashMap<u64, Read<T>>,
}

#[derive(Debug)]
struct Read<T> {
    bytes: Box<[u8]>,
    of: Arc<T>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T> Kept<T> {
    /// Keeps at most so many; one more, and it begins anew.
    fn new(most: usize) -> Self {
        Self { most, read: FxHashMap::default() }
    }

    /// What `read` makes of what comes next, which `mark` stands for. It says itself where it ends, so that bytes which begin with
    /// those of before are the same.
    pub(super) fn read(
        &mut self,
        mark: u64,
        cursor: &mut Cursor<'_>,
        read: impl FnOnce(&mut Cursor<'_>) -> Result<T, Malformed>,
    ) -> Result<Arc<T>, Malformed> {
        if let Some(known) = self.read.get(&mark)
            && cursor.skip(&known.bytes)
        {
            return Ok(Arc::clone(&known.of));
        }
        let before = cursor.rest();
        let of = Arc::new(read(cursor)?);
        let bytes = before.get(..before.len() - cursor.rest().len()).unwrap_or_default();
        if bytes.len() <= KEPT_BYTES_MAX && self.most > 0 {
            if self.read.len() >= self.most {
                self.read.clear();
            }
            self.read.insert(mark, Read { bytes: bytes.into(), of: Arc::clone(&of) });
        }
        Ok(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_is_the_same_and_anything_else_is_read() {
        let mut kept = Kept::new(4);
        let mut read = |mark, bytes: &[u8]| {
            let mut cursor = Cursor::new(bytes);
            let text = kept.read(mark, &mut cursor, |cursor| Ok(cursor.str()?.to_owned()));
            text.map(|text| (text, cursor.rest().len()))
        };
        let (first, left) = read(5, b"\0\0\0\x02abc").unwrap();
        assert_eq!((first.as_str(), left), ("ab", 1));
        let (again, left) = read(5, b"\0\0\0\x02abde").unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(left, 2);
        // Another one that the same stands for, a longer one that begins alike, and one that ends early.
        assert_eq!(read(5, b"\0\0\0\x02xy").unwrap().0.as_str(), "xy");
        assert_eq!(read(5, b"\0\0\0\x03abc").unwrap().0.as_str(), "abc");
        assert!(read(5, b"\0\0\0\x03ab").is_err());
        let long = [&4_097_u32.to_be_bytes()[..], &[b'x'; 4097]].concat();
        let [one, other] = [read(6, &long).unwrap().0, read(6, &long).unwrap().0];
        assert!(!Arc::ptr_eq(&one, &other));
        // One more than there is room for.
        let one = read(1, b"\0\0\0\x01a").unwrap().0;
        for mark in 2..5 {
            assert_eq!(read(mark, b"\0\0\0\x01a").unwrap().0.as_str(), "a");
        }
        assert!(!Arc::ptr_eq(&one, &read(1, b"\0\0\0\x01a").unwrap().0));
    }
}
