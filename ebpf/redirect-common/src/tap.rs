//! What the TLS taps and the daemon share. The taps have an object and maps of their own, which
//! are never pinned: they end with the daemon. [`crate::map::ENROLLED`] alone is shared.

/// A call of libssl under way: which thread, and where its stack stood, so that a TLS connection
/// inside another one's is told apart.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallKey {
    /// Thread group id << 32 | thread id, in the initial pid namespace.
    pub pid_tgid: u64,
    /// The stack pointer after the return.
    pub stack: u64,
}

/// What a call was given.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Nearest enrolled cgroup at or above the caller's.
    pub enrolled: u64,
    /// The `SSL` object.
    pub connection: u64,
    /// The caller's buffer.
    pub buffer: u64,
    /// Where the function leaves the count; 0 if it returns it.
    pub count: u64,
    /// [`SENT`] or [`RECEIVED`].
    pub direction: u32,
    /// Zero.
    pub pad: u32,
}

/// What precedes the plaintext in [`EVENTS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// `CLOCK_BOOTTIME` of the return, nanoseconds.
    pub at_ns: u64,
    /// `group_leader->start_boottime` of the process, nanoseconds; 0 if it can't be read.
    pub start_ns: u64,
    /// Nearest enrolled cgroup at or above the caller's.
    pub enrolled: u64,
    /// The `SSL` object's address in the process.
    pub connection: u64,
    /// Bytes of plaintext that the call moved.
    pub bytes: u64,
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Thread id, likewise.
    pub tid: u32,
    /// [`SENT`] or [`RECEIVED`].
    pub direction: u32,
    /// Bytes of plaintext after this head, [`DATA_MAX`] at most; 0 if they can't be read.
    pub copied: u32,
}

/// `SSL_write`, `SSL_write_ex`.
pub const SENT: u32 = 1;
/// `SSL_read`, `SSL_read_ex`.
pub const RECEIVED: u32 = 2;

/// In the attach cookie of the entry program, beside the direction: the fourth argument says where
/// the function leaves the count.
pub const COUNT_POINTER: u64 = 0x100;

/// Bytes copied of one call. A TLS record holds 16 KiB; the head of a request or an answer is
/// within the first four.
pub const DATA_MAX: usize = 4096;
/// Calls that moved no more than this take a small place in the ring.
pub const SMALL_MAX: usize = 512;

/// Ring of a [`Head`] and its plaintext: 4 MiB are 1,000 large calls or 7,000 small ones between
/// two looks of the daemon (100 ms). A call that finds no room is counted in [`LOST`].
pub const EVENTS: &str = "EVENTS";
/// Bytes of [`EVENTS`].
pub const EVENTS_BYTES: u32 = 4 * 1024 * 1024;
/// Hash, [`CallKey`] to [`Call`].
pub const CALLS: &str = "CALLS";
/// Threads inside of libssl at once: (16 + 40 + 64 bytes) x 16,384 = 2 MiB. Full: the call is
/// counted in [`LOST`] and not seen.
pub const MAX_CALLS: u32 = 16_384;
/// Array of counts per processor, by [`LOST_RING`] and [`LOST_CALLS`].
pub const LOST: &str = "LOST";
/// Index: calls that found no room in [`EVENTS`].
pub const LOST_RING: u32 = 0;
/// Index: calls that found no room in [`CALLS`].
pub const LOST_CALLS: u32 = 1;

const _: () = assert!(size_of::<CallKey>() == 16);
const _: () = assert!(size_of::<Call>() == 40);
const _: () = assert!(size_of::<Head>() == 56);

#[cfg(feature = "user")]
mod user {
    use super::{Call, CallKey, Head};

    // SAFETY: integers only, no implicit padding (the sizes asserted are the sums of the fields).
    unsafe impl aya::Pod for CallKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Call {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Head {}
}
