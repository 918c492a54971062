//! The one place that reads the system's clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use types::clock::{Clock, Timestamp};

/// The system's clocks: `CLOCK_REALTIME` for people, `CLOCK_BOOTTIME` for order.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // By the C library: tests of what years do put another time in its place (libfaketime).
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let wall = SystemTime::now();
        let unix_us = wall
            .duration_since(UNIX_EPOCH)
            .map_or_else(|before| -micros(before.duration()), micros);
        let mono = clock_gettime(ClockId::Boottime);
        let mono_s = u64::try_from(mono.tv_sec).unwrap_or(0);
        Timestamp {
            unix_us,
            mono_ns: mono_s
                .saturating_mul(1_000_000_000)
                .saturating_add(u64::try_from(mono.tv_nsec).unwrap_or(0)),
        }
    }
}

fn micros(since: Duration) -> i64 {
    let whole = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    whole.saturating_mul(1_000_000).saturating_add(i64::from(since.subsec_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_forward() {
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(second.mono_ns > first.mono_ns);
        // 2020-01-01: the wall clock is microseconds, not something else.
        assert!(first.unix_us > 1_577_836_800_000_000 && first.unix_us < 16_000_000_000_000_000);
    }
}
