//! A checked cursor over bytes: the only way untrusted input is read.
//!
//! Every read answers `None` where the input ends first; nothing here can panic or copy.

/// A cursor over borrowed bytes; integers are big-endian, as on PostgreSQL's wire.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next two bytes, signed.
    pub fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next four bytes, signed.
    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// The next eight bytes, signed.
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// The bytes up to the next NUL, which is read too.
    pub fn cstr(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(0, self.rest)?;
        let text = self.bytes(end)?;
        self.u8()?;
        Some(text)
    }

    /// A value behind its signed length: `Some(None)` for -1, SQL NULL.
    pub fn value(&mut self) -> Option<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Some(None),
            length => self.bytes(usize::try_from(length).ok()?).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_where_the_input_ends() {
        let mut reader = Reader::new(b"\x00\x00\x00\x02abname\0x");
        assert_eq!(reader.value(), Some(Some(b"ab".as_slice())));
        assert_eq!(reader.cstr(), Some(b"name".as_slice()));
        assert_eq!(reader.cstr(), None, "no NUL");
        assert_eq!(reader.u16(), None, "one byte left");
        assert_eq!(reader.u8(), Some(b'x'));
        assert!(reader.is_empty());
        assert_eq!(Reader::new(&[0xff; 4]).value(), Some(None));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xfe]).value(), None, "-2 is no length");
        assert_eq!(Reader::new(&[0x7f, 0xff, 0xff, 0xff]).value(), None);
    }
}
