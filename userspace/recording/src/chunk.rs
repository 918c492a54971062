//! One chunk: entries, compressed (zstd, RFC 8878) where that makes them shorter, sealed with AES-256-GCM (NIST SP 800-38D).
//!
//! The nonce is the chunk's number in 12 bytes, big-endian. A key is one session's and is in memory only, so no number
//! comes twice under it. What is authenticated beside: `vestibule/chunk/v1\0`, then node (u16 length, bytes), epoch
//! (u32), session (16 bytes), stream (u16 length, bytes), chunk (u32) and codec (u16 length, bytes): a chunk opens
//! nowhere but in its place.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use types::id::SessionId;
use types::limits::RECORDING_CHUNK_BYTES_MAX;

/// The codec's name where entries are compressed.
pub const ZSTD: &str = "zstd";

/// The codec's name where they are not.
pub const RAW: &str = "raw";

/// Chunks of one session at most: the archive's column is an i32. 2³¹ × 64 KiB is 128 TiB.
pub const CHUNKS_MAX: u32 = i32::MAX.cast_unsigned();

/// Where a chunk belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The node.
    pub node: &'a str,
    /// The log's epoch.
    pub epoch: u32,
    /// The session.
    pub session: SessionId,
    /// The session's stream: its protocol's name.
    pub stream: &'a str,
    /// The chunk's number, from 0.
    pub chunk: u32,
}

/// Why a chunk can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key is another one's, the bytes were altered, or the chunk stood elsewhere.
    #[error("chunk {0} does not open: altered, moved from where it belongs, or of another key")]
    Refused(u32),
    /// Its nonce is not its number's.
    #[error("chunk {0} has another nonce than its number's")]
    Nonce(u32),
    /// How it is compressed is not known.
    #[error("chunk {0}: no codec `{1}` is known")]
    Codec(u32, String),
    /// What is inside can't be decompressed, or is longer than any chunk.
    #[error("chunk {0} can't be decompressed")]
    Compression(u32),
}

/// The key of one session's chunks.
pub(crate) fn key(dek: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, dek).expect("the key has AES-256's length"))
}

/// A chunk's nonce.
pub fn nonce(chunk: u32) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    if let Some(number) = nonce.last_chunk_mut() {
        *number = chunk.to_be_bytes();
    }
    nonce
}

/// Appends what of a place is the same in all of a session's chunks.
pub(crate) fn put_session(
    out: &mut Vec<u8>,
    (node, epoch): (&str, u32),
    session: SessionId,
    stream: &str,
) {
    out.extend_from_slice(b"vestibule/chunk/v1\0");
    put_text(out, node);
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(session.as_bytes());
    put_text(out, stream);
}

/// Appends what differs.
pub(crate) fn put_chunk(out: &mut Vec<u8>, chunk: u32, codec: &str) {
    out.extend_from_slice(&chunk.to_be_bytes());
    put_text(out, codec);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // Nodes, streams and codecs are names; whatever is longer is no name of ours and opens nothing.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Seals `bytes` in place.
pub(crate) fn seal(
    key: &LessSafeKey,
    chunk: u32,
    aad: &[u8],
    bytes: &mut Vec<u8>,
) -> Result<(), aws_lc_rs::error::Unspecified> {
    let nonce = Nonce::assume_unique_for_key(nonce(chunk));
    key.seal_in_place_append_tag(nonce, Aad::from(aad), bytes)
}

/// The entries of a sealed chunk, as [`crate::entry::read`] takes them apart.
pub fn open(
    dek: &[u8; 32],
    place: Place<'_>,
    (codec, its_nonce): (&str, &[u8]),
    sealed: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let Place { node, epoch, session, stream, chunk } = place;
    if its_nonce != nonce(chunk) {
        return Err(OpenError::Nonce(chunk));
    }
    let mut aad = Vec::new();
    put_session(&mut aad, (node, epoch), session, stream);
    put_chunk(&mut aad, chunk, codec);
    let nonce = Nonce::assume_unique_for_key(nonce(chunk));
    let mut bytes = sealed.to_vec();
    let opened = key(dek).open_in_place(nonce, Aad::from(&aad), &mut bytes);
    let plain = opened.map_err(|_| OpenError::Refused(chunk))?;
    match codec {
        RAW => Ok(plain.to_vec()),
        ZSTD => zstd::bulk::decompress(plain, RECORDING_CHUNK_BYTES_MAX)
            .map_err(|_| OpenError::Compression(chunk)),
        other => Err(OpenError::Codec(chunk, other.to_owned())),
    }
}
