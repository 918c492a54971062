//! The frame: `len u32 | crc32c u32 | lsn u64 | seq u64 | kind u16 | ver u16`, the body of `len`
//! bytes, and the chain value after this frame (32 bytes). Integers are big-endian.
//!
//! The CRC finds torn and rotten frames; `chain_n = SHA-256(chain_{n-1} || header without crc ||
//! body)` finds changed ones. The CRC covers what the chain covers.

use sha2::{Digest, Sha256};

use crate::record::{BODY_BYTES_MAX, Lsn};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 28;

/// Bytes of a chain value.
pub const CHAIN_BYTES: usize = 32;

/// The version of frames and bodies written now. In 3 there is more at the end of begins and ends than
/// in 2, in 4 more than in 3, in 5 than in 4, in 6 than in 5, in 7 than in 6; all are read as well.
pub const VERSION: u16 = 7;

/// Whether frames of a version are understood.
pub(crate) fn is_known(version: u16) -> bool {
    matches!(version, 2..=VERSION)
}

/// A chain value.
pub type Chain = [u8; CHAIN_BYTES];

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A segment's first frame.
    Segment,
    /// [`crate::record::Frame::SessionOpen`].
    SessionOpen,
    /// [`crate::record::Frame::Begin`].
    Begin,
    /// [`crate::record::Frame::End`].
    End,
    /// [`crate::record::Frame::SessionClose`].
    SessionClose,
    /// [`crate::record::Frame::Control`].
    Control,
    /// [`crate::record::Frame::Identity`].
    Identity,
    /// [`crate::record::Frame::Chunk`].
    Chunk,
    /// A forward-secure seal ([`crate::sealing`]): no row, and no place of its own.
    Seal,
}

impl FrameKind {
    /// How many rows a frame of this kind yields.
    pub fn rows(self) -> u64 {
        match self {
            Self::Segment | Self::SessionOpen | Self::Identity | Self::Begin | Self::Seal => 0,
            Self::SessionClose | Self::Control | Self::Chunk => 1,
            Self::End => 2,
        }
    }

    fn code(self) -> u16 {
        match self {
            Self::Segment => 1,
            Self::SessionOpen => 2,
            Self::Begin => 3,
            Self::End => 4,
            Self::SessionClose => 5,
            Self::Control => 6,
            Self::Identity => 7,
            Self::Chunk => 8,
            Self::Seal => 9,
        }
    }

    fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::Segment,
            2 => Self::SessionOpen,
            3 => Self::Begin,
            4 => Self::End,
            5 => Self::SessionClose,
            6 => Self::Control,
            7 => Self::Identity,
            8 => Self::Chunk,
            9 => Self::Seal,
            _ => return None,
        })
    }
}

/// A frame's header, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body.
    pub body_bytes: usize,
    /// CRC-32C of the header after the CRC field's place is left out, and the body.
    pub crc: u32,
    /// The frame's place; for segment headers, carried frames and seals, the next ordinary frame's.
    pub lsn: Lsn,
    /// Sequence number of the first row this frame yields or would yield.
    pub seq: u64,
    /// What it holds.
    pub kind: FrameKind,
    /// A copy of an earlier segment's frame; yields no row and has no place of its own.
    pub carried: bool,
    /// The first frame of a commit: when it was written, all before it was durable.
    pub group: bool,
}

/// Set in the kind of a carried frame.
const CARRIED: u16 = 1 << 15;

/// Set in the kind of a commit's first frame.
const GROUP: u16 = 1 << 14;

impl Header {
    /// Takes a header apart; `None` where no writer wrote it.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let (lsn, rest) = rest.split_first_chunk::<8>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let (version, _) = rest.split_first_chunk::<2>()?;
        let body_bytes = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let kind = u16::from_be_bytes(*kind);
        let known = is_known(u16::from_be_bytes(*version))
            && (1..=BODY_BYTES_MAX).contains(&body_bytes)
            && u64::from_be_bytes(*lsn) > 0;
        if !known {
            return None;
        }
        Some(Self {
            body_bytes,
            crc: u32::from_be_bytes(*crc),
            lsn: Lsn(u64::from_be_bytes(*lsn)),
            seq: u64::from_be_bytes(*seq),
            kind: FrameKind::from_code(kind & !(CARRIED | GROUP))?,
            carried: kind & CARRIED != 0,
            group: kind & GROUP != 0,
        })
    }

    /// Bytes of the whole frame.
    pub fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes + CHAIN_BYTES
    }

    /// How many rows the frame yields.
    pub fn rows(&self) -> u64 {
        if self.carried { 0 } else { self.kind.rows() }
    }

    /// Whether the frame counts in the order of frames.
    pub fn is_counted(&self) -> bool {
        !self.carried && !matches!(self.kind, FrameKind::Segment | FrameKind::Seal)
    }
}

/// The chain value before a journal's first frame.
pub fn genesis(node: &str, epoch: u32) -> Chain {
    let mut hash = Sha256::new();
    hash.update(b"vestibule/journal/v1\0");
    hash.update(node.as_bytes());
    hash.update(epoch.to_be_bytes());
    hash.finalize().into()
}

/// CRC-32C and chain value of a frame given without its CRC and chain.
pub(crate) fn digest(previous: &Chain, header: &[u8; HEADER_BYTES], body: &[u8]) -> (u32, Chain) {
    let (len, rest) = header.split_at(4);
    let (_, after_crc) = rest.split_at(4);
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(len), after_crc), body);
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(len);
    hash.update(after_crc);
    hash.update(body);
    (crc, hash.finalize().into())
}

/// Appends a frame whose CRC and chain are left zero for [`seal`]; on error `out` is unchanged.
pub(crate) fn put_frame(
    out: &mut Vec<u8>,
    kind: FrameKind,
    carried: bool,
    (lsn, seq): (Lsn, u64),
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), BodyTooLarge> {
    let start = out.len();
    let flags = if carried { CARRIED } else { 0 };
    let numbers = (u128::from(lsn.0) << 64) | u128::from(seq);
    let kind = (u32::from(kind.code() | flags) << 16) | u32::from(VERSION);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&numbers.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    let body_start = out.len();
    body(out);
    let body_bytes = out.len() - body_start;
    let len = u32::try_from(body_bytes).ok().filter(|_| body_bytes <= BODY_BYTES_MAX);
    let (Some(len), Some(field)) = (len, out.get_mut(start..start + 4)) else {
        out.truncate(start);
        return Err(BodyTooLarge(body_bytes));
    };
    field.copy_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&[0; CHAIN_BYTES]);
    Ok(())
}

/// Fills in what [`put_frame`] left: the group mark, the CRC and the chain, which moves on.
/// `None` where `frame` is not one whole frame.
pub(crate) fn seal(frame: &mut [u8], group: bool, chain: &mut Chain) -> Option<()> {
    let (header, rest) = frame.split_first_chunk_mut::<HEADER_BYTES>()?;
    let (body, tail) = rest.split_last_chunk_mut::<CHAIN_BYTES>()?;
    let [.., kind_high, _, _, _] = header;
    let mark = u8::try_from(GROUP >> 8).expect("the mark is in the high byte");
    // It may be there from an attempt that failed.
    *kind_high = if group { *kind_high | mark } else { *kind_high & !mark };
    let (crc, next) = digest(chain, header, body);
    let [_, _, _, _, crc_field @ ..] = header;
    crc_field.first_chunk_mut::<4>()?.copy_from_slice(&crc.to_be_bytes());
    *tail = next;
    *chain = next;
    Some(())
}

/// A body over [`BODY_BYTES_MAX`]; it has this many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyTooLarge(pub(crate) usize);

#[cfg(test)]
mod tests {
    use types::hex::hex;

    use super::*;

    /// The values were computed by a separate program from the description above.
    #[test]
    fn golden_frame() {
        let mut chain = genesis("node-1", 1);
        assert_eq!(hex(&chain), GENESIS);
        let mut out = Vec::new();
        put_frame(&mut out, FrameKind::Control, false, (Lsn(1), 0), |out| {
            out.extend_from_slice(b"body");
        })
        .unwrap();
        seal(&mut out, true, &mut chain).unwrap();
        assert_eq!(hex(&out), FRAME);
        let header = Header::parse(out.first_chunk().unwrap()).unwrap();
        assert!(header.group && !header.carried);
        assert_eq!((header.lsn, header.rows(), header.frame_bytes()), (Lsn(1), 1, out.len()));
        assert!(out.ends_with(&chain));
    }

    #[test]
    fn a_body_too_large_leaves_no_trace() {
        let mut out = b"before".to_vec();
        let large = |out: &mut Vec<u8>| out.resize(out.len() + BODY_BYTES_MAX + 1, 1);
        let answer = put_frame(&mut out, FrameKind::Begin, false, (Lsn(1), 0), large);
        assert_eq!(answer, Err(BodyTooLarge(BODY_BYTES_MAX + 1)));
        assert_eq!(out, b"before");
    }

    const GENESIS: &str = "c024cae72308415040f983b04ab8bfba017983b97e453d9d00dda1d02e811006";
    const FRAME: &str = "00000004b936eee20000000000000001000000000000000040060007626f6479\
         e06a05ecc6113c366b978c42cba31d2b3b2c23854112f802fcccb7e0935107af";
}
