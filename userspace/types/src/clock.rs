//! Time as a value. Whoever needs the present takes a [`Clock`]; this crate never reads one.

/// One instant on both clocks: the wall's, for people, and the monotonic one, for order and
/// durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// Microseconds since 1970-01-01 UTC.
    pub unix_us: i64,
    /// Nanoseconds of `CLOCK_BOOTTIME`, comparable only within one boot.
    pub mono_ns: u64,
}

impl Timestamp {
    /// Microseconds from `earlier` to `self` on the monotonic clock; 0 if it is not earlier.
    pub fn us_since(self, earlier: Self) -> u64 {
        self.mono_ns.saturating_sub(earlier.mono_ns) / 1000
    }
}

/// Where the present comes from.
pub trait Clock: Send + Sync {
    /// The present.
    fn now(&self) -> Timestamp;
}
