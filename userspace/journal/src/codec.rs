//! The byte forms of everything in a frame's body: big-endian integers, `u32`-counted strings and
//! lists, a presence byte before what may be absent. Writes never fail; reads are all checked.

use std::net::{IpAddr, SocketAddr};

use types::clock::Timestamp;

/// Appends a `u8`.
pub(crate) fn put_u8(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

/// Appends a `u16`.
pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a `u32`.
pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a `u64`.
pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends both clocks.
pub(crate) fn put_timestamp(out: &mut Vec<u8>, at: Timestamp) {
    out.extend_from_slice(&at.unix_us.to_be_bytes());
    put_u64(out, at.mono_ns);
}

/// Appends counted bytes, at most `max` of them.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let kept = bytes.get(..max).unwrap_or(bytes);
    put_count(out, kept.len());
    out.extend_from_slice(kept);
}

/// Appends a counted string, cut to at most `max` bytes between two characters.
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str, max: usize) {
    let kept = if text.len() <= max { text } else { cut(text, max) };
    put_count(out, kept.len());
    out.extend_from_slice(kept.as_bytes());
}

/// Appends a presence byte, and what is present.
pub(crate) fn put_opt<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    put_u8(out, u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// Appends a count and at most `max` items.
pub(crate) fn put_list<T>(
    out: &mut Vec<u8>,
    items: &[T],
    max: usize,
    mut put: impl FnMut(&mut Vec<u8>, &T),
) {
    let kept = items.get(..max).unwrap_or(items);
    put_count(out, kept.len());
    for item in kept {
        put(out, item);
    }
}

/// Appends an address: 4 or 6, its octets, its port. IPv6 scope and flow are not kept.
pub(crate) fn put_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => {
            put_u8(out, 4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            put_u8(out, 6);
            out.extend_from_slice(&ip.octets());
        }
    }
    put_u16(out, addr.port());
}

/// The longest beginning of `text` of at most `max` bytes that ends between two characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_u32(out, u32::try_from(count).expect("every count is cut to a limit far below 2^32"));
}

/// A body ended early, or holds a value that no writer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame body: {0}")]
pub struct Malformed(pub &'static str);

/// Reads a body from its start; every read is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed("ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed("ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A `u8`.
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// A `u16`.
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A `u32`.
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A `u64`.
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// An `i64`.
    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A presence byte or truth value.
    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("flag is neither 0 nor 1")),
        }
    }

    /// Both clocks.
    pub(crate) fn timestamp(&mut self) -> Result<Timestamp, Malformed> {
        Ok(Timestamp { unix_us: self.i64()?, mono_ns: self.u64()? })
    }

    /// Counted bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u32()?;
        self.take(usize::try_from(count).map_err(|_| Malformed("count too large"))?)
    }

    /// A counted string.
    pub(crate) fn str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("text is not UTF-8"))
    }

    /// What a presence byte announces.
    pub(crate) fn opt<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.flag()? { Ok(Some(read(self)?)) } else { Ok(None) }
    }

    /// A counted list. Memory grows with what is really there, never with the count alone.
    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// An address.
    pub(crate) fn addr(&mut self) -> Result<SocketAddr, Malformed> {
        let ip = match self.u8()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return Err(Malformed("address family")),
        };
        Ok(SocketAddr::new(ip, self.u16()?))
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Reads `bytes`, where they come next.
    pub(crate) fn skip(&mut self, bytes: &[u8]) -> bool {
        let rest = self.0.strip_prefix(bytes);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Whether all was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses bytes that nothing read.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("bytes left over")) }
    }
}
