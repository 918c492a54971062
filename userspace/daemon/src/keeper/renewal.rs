//! When a token is to be had anew: at two thirds of its life, and where that fails, again until it is there.

use types::clock::Timestamp;

/// The longest pause between two attempts, in seconds: an issuer that is back is asked within a minute.
const PAUSE_S_MAX: u64 = 60;

/// When a token is to be had anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    due_us: i64,
    failures: u32,
}

impl Renewal {
    /// Of one that is not there yet: at once.
    pub(super) const AT_ONCE: Self = Self { due_us: i64::MIN, failures: 0 };

    /// Of one that was had now: at two thirds of what is left of it, which leaves a minute for others to try where it
    /// lives three.
    pub(super) fn of(expires_s: i64, now: Timestamp) -> Self {
        let left_us = expires_s.saturating_mul(1_000_000).saturating_sub(now.unix_us).max(0);
        let due_us = now.unix_us.saturating_add(left_us / 3 * 2).max(now.unix_us + 1_000_000);
        Self { due_us, failures: 0 }
    }

    /// Whether it is time.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.due_us <= now.unix_us
    }

    /// It could not be had: the next attempt is after 1, 2, 4 … s, [`PAUSE_S_MAX`] at most.
    pub(super) fn failed(&mut self, now: Timestamp) {
        let pause_s = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX).min(PAUSE_S_MAX);
        self.failures = self.failures.saturating_add(1);
        let pause_us = i64::try_from(pause_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        self.due_us = now.unix_us.saturating_add(pause_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp { unix_us: seconds * 1_000_000, ..Timestamp::default() }
    }

    #[test]
    fn it_is_due_at_two_thirds_and_never_without_a_pause() {
        let renewal = Renewal::of(700, at(100));
        assert!(!renewal.is_due(at(499)) && renewal.is_due(at(500)));
        let over = Renewal::of(50, at(100));
        assert!(!over.is_due(at(100)) && over.is_due(at(101)));
        assert!(Renewal::AT_ONCE.is_due(at(0)));
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let mut renewal = Renewal::AT_ONCE;
        for (n, pause_s) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            renewal.failed(at(1000));
            assert!(
                !renewal.is_due(at(1000 + pause_s - 1)) && renewal.is_due(at(1000 + pause_s)),
                "{n}"
            );
        }
        for _ in 0..100 {
            renewal.failed(at(1000));
        }
        assert!(renewal.is_due(at(1060)));
    }
}
