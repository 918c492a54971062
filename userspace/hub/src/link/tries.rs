//! Which hub is tried when.

use std::time::Duration;

/// The first wait once all hubs have failed; it doubles.
const FIRST: Duration = Duration::from_millis(250);

/// The longest, so that a hub that is back has all its hosts within seconds.
const LONGEST: Duration = Duration::from_secs(10);

/// Tries at hubs, in turn.
#[derive(Debug)]
pub(super) struct Tries {
    hubs: usize,
    at: usize,
    /// In a row.
    failed: usize,
}

impl Tries {
    /// None yet; which hub is first is chance, so that hosts are spread over hubs.
    pub(super) fn new(hubs: usize) -> Self {
        let at = usize::from(random()).checked_rem(hubs).unwrap_or(0);
        Self { hubs, at, failed: 0 }
    }

    /// Which hub is next.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// This one failed.
    pub(super) fn failed(&mut self) {
        self.failed = self.failed.saturating_add(1);
        self.at = (self.at + 1).checked_rem(self.hubs).unwrap_or(0);
    }

    /// The last one was good for a while.
    pub(super) fn good(&mut self) {
        self.failed = 0;
    }

    /// Whether each has failed since one was good.
    pub(super) fn all_failed(&self) -> bool {
        self.failed >= self.hubs
    }

    /// How long it is waited before the next; half of it up to all of it, so that hosts don't come all at once.
    pub(super) fn delay(&self) -> Duration {
        let Some(rounds) = self.failed.checked_sub(self.hubs) else { return Duration::ZERO };
        let doubled = u32::try_from(rounds).unwrap_or(u32::MAX).min(16);
        let whole = FIRST.saturating_mul(1 << doubled).min(LONGEST);
        whole / 2 + whole / 2 * u32::from(random()) / u32::from(u16::MAX)
    }
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // Without it all is as right, only less spread.
    getrandom::fill(&mut bytes).ok();
    u16::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_tried_at_once_and_then_ever_less_often() {
        let mut tries = Tries::new(2);
        let first = tries.at();
        assert_eq!(tries.delay(), Duration::ZERO);
        tries.failed();
        assert_eq!(
            (tries.at(), tries.delay(), tries.all_failed()),
            (1 - first, Duration::ZERO, false)
        );
        tries.failed();
        assert!(tries.all_failed());
        for (least, most) in [(125, 250), (250, 500), (500, 1_000)] {
            let delay = tries.delay().as_millis();
            assert!((least..=most).contains(&delay), "{delay}");
            tries.failed();
        }
        for _ in 0..100 {
            tries.failed();
        }
        assert!((5_000..=10_000).contains(&tries.delay().as_millis()));
        tries.good();
        assert_eq!(tries.delay(), Duration::ZERO);
    }
}
