//! Whether damage at the end of the last segment is a crash's.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::frame::{CHAIN_BYTES, HEADER_BYTES, Header, digest};
use crate::reader::ReadError;
use crate::record::Lsn;

/// Whether damage is what a crash leaves: nothing behind it that was written after it was durable.
pub(super) fn is_torn(path: &Path, damage: &ReadError) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(damage.offset))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    // A torn frame's own body is the agent's bytes: nothing in it is taken for a frame.
    let own = rest
        .first_chunk()
        .and_then(Header::parse)
        .filter(|header| header.lsn == damage.lsn)
        .map_or(1, |header| header.frame_bytes());
    // What is preallocated is zeros, and no frame begins with one.
    let used = rest.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    if has_altered_length(rest.get(..own.min(used)).unwrap_or_default(), damage.lsn) {
        return Ok(false);
    }
    for at in own..used {
        let later = rest.get(at..).unwrap_or_default();
        let Some(raw) = later.first_chunk::<HEADER_BYTES>() else { break };
        let proof = Header::parse(raw)
            .filter(|header| header.group && header.lsn >= damage.lsn)
            .filter(|header| {
                let body = later.get(HEADER_BYTES..HEADER_BYTES + header.body_bytes);
                body.is_some_and(|body| digest(&[0; 32], raw, body).0 == header.crc)
            });
        if proof.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the frame at the beginning is whole but for its length, which would hide what follows:
/// where the next frame begins, the length that ends there fits the checksum. A torn frame's has no
/// end.
fn has_altered_length(bytes: &[u8], lsn: Lsn) -> bool {
    let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else { return false };
    let Some(header) = Header::parse(raw) else { return false };
    let fits = |at: usize| {
        let next = bytes.get(at..)?.first_chunk().and_then(Header::parse)?;
        let body = bytes.get(HEADER_BYTES..at.checked_sub(CHAIN_BYTES)?)?;
        let mut mended = *raw;
        mended
            .first_chunk_mut::<4>()?
            .copy_from_slice(&u32::try_from(body.len()).ok()?.to_be_bytes());
        // A seal's is the next frame's too.
        let is_next = next.lsn == Lsn(lsn.0.wrapping_add(1)) || next.lsn == lsn;
        Some(is_next && digest(&[0; 32], &mended, body).0 == header.crc)
    };
    (HEADER_BYTES + CHAIN_BYTES..bytes.len()).any(|at| fits(at) == Some(true))
}
