//! What was done to a journal, as far as its bytes tell.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::frame::{CHAIN_BYTES, HEADER_BYTES, Header};
use crate::reader::{Fault, ReadError};
use crate::record::{BODY_BYTES_MAX, Lsn};
use crate::segment;

/// A kind of damage that no crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// A whole sector of zeros, or more, where a record was; it starts there in the file.
    Zeroed(u64),
    /// Bytes are not those that were written.
    Changed,
    /// The file ends where more was written.
    CutOff,
    /// Files are missing that held these records.
    Missing {
        /// The first.
        from: Lsn,
        /// The last.
        to: Lsn,
    },
    /// The file is another segment of the log under this one's name: it begins with this record.
    Misplaced(Lsn),
    /// Checksums are right, the chain is not: its hashes were changed, or it was written again by other means.
    Rewritten,
}

impl Display for Harm {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeroed(offset) => write!(f, "a block of zeros stands at byte {offset}"),
            Self::Changed => f.write_str("bytes were changed"),
            Self::CutOff => f.write_str("the file is cut off, though more was written behind it"),
            Self::Missing { from, to } => {
                write!(
                    f,
                    "records {} to {} are missing before it: a segment file is gone",
                    from.0, to.0
                )
            }
            Self::Misplaced(lsn) => write!(
                f,
                "the file is not the one of this name: it begins with record {}, files were exchanged",
                lsn.0
            ),
            Self::Rewritten => f.write_str(
                "the chain of hashes does not follow: bytes were changed, or it was written again",
            ),
        }
    }
}

/// Names damage that a reader found; what can't be read any more is called changed.
pub(super) fn name(damage: &ReadError) -> Harm {
    match damage.fault {
        Fault::Order if damage.offset == 0 => match segment::peek(&damage.segment) {
            Ok(Some(header)) => Harm::Misplaced(header.first_lsn),
            _ => Harm::Changed,
        },
        Fault::Chain | Fault::Link | Fault::Order | Fault::Kind => Harm::Rewritten,
        Fault::CutOff => Harm::CutOff,
        Fault::Io(_) | Fault::Header | Fault::Crc | Fault::Malformed(_) => {
            zeros(damage).ok().flatten().map_or(Harm::Changed, Harm::Zeroed)
        }
    }
}

/// Where a sector of zeros begins in the frame that starts at the damage, which is one only where a record
/// has none by itself: longer than it, or at its head.
fn zeros(damage: &ReadError) -> io::Result<Option<u64>> {
    let mut file = File::open(&damage.segment)?;
    file.seek(SeekFrom::Start(damage.offset))?;
    let mut bytes = Vec::new();
    let frame_max = HEADER_BYTES + BODY_BYTES_MAX + CHAIN_BYTES;
    file.take(u64::try_from(frame_max).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    let own = bytes.first_chunk().and_then(Header::parse).map_or(HEADER_BYTES, |h| h.frame_bytes());
    // To the next sector's beginning.
    let skip = usize::try_from(damage.offset.next_multiple_of(SECTOR_BYTES) - damage.offset);
    let head = bytes.get(..HEADER_BYTES).is_some_and(|head| head.iter().all(|b| *b == 0));
    if head {
        return Ok(Some(damage.offset));
    }
    let skip = skip.unwrap_or(0);
    let sectors = bytes.get(skip..own.min(bytes.len())).unwrap_or_default();
    let sector = usize::try_from(SECTOR_BYTES).unwrap_or(512);
    let at = sectors
        .chunks(sector)
        .position(|sector| sector.len() >= ZEROS_TELLING && sector.iter().all(|b| *b == 0));
    Ok(at.and_then(|at| u64::try_from(skip + at * sector).ok()).map(|at| damage.offset + at))
}

/// What a disk writes at once.
const SECTOR_BYTES: u64 = 512;

/// Zeros in a row at a sector's beginning that no record of ours has: its integers have eight bytes.
const ZEROS_TELLING: usize = 64;
