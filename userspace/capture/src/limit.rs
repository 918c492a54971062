//! What reading a capture may hold.

/// A block of a capture file: a packet of the largest snapshot length that libpcap takes (256 KiB) fits, and so do lists
/// of names of 16 MiB.
pub(crate) const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a file is read by: 1 MiB at a time.
pub(crate) const READ_BYTES: usize = 1024 * 1024;

/// Interfaces of one section of a capture: 65,536 × 24 B = 1.5 MiB.
pub(crate) const INTERFACES_MAX: usize = 65_536;

/// Connections followed at once; a further one ends that which was quiet for longest. With [`HISTORY_BYTES`] in both
/// directions: 4,096 × 2 × 8 KiB = 64 MiB.
pub(crate) const CONNECTIONS_MAX: usize = 4_096;

/// What of the delivered bytes of one direction is kept to hold what is sent again against.
pub(crate) const HISTORY_BYTES: usize = 8 * 1024;

/// Bytes of one direction that wait for what is before them: a receive window of Linux at its default largest (6 MiB).
pub(crate) const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The same of all connections together; beyond it the one that asks for more has a gap.
pub(crate) const ALL_PENDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pieces of one direction that wait: as many bytes of bookkeeping (about 100 B each) as 6 MiB are in segments of 1,460 B.
pub(crate) const PENDING_PIECES_MAX: usize = 8_192;

/// Segments of a connection after which what its receiver has acknowledged, and the capture has not, does not come any
/// more: packets overtake one another by a few places.
pub(crate) const GAP_SEGMENTS: u32 = 256;

/// Bytes that a session may be given that it does not ask for: what a client sends ahead without an answer.
pub(crate) const AHEAD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What of a connection is kept until it is known what it speaks: a startup packet is 10,000 B at most.
pub(crate) const PREFACE_BYTES_MAX: usize = 16 * 1024;
