//! What others can cause without end is recorded, but not so often that they fill the disk.

use std::sync::{Mutex, PoisonError};

use types::clock::Timestamp;

/// Records of one kind in one second; at about 250 B a row, 20 are 430 MB a day at the
/// very worst. The others are counted in the next one that is.
const RECORDED_PER_SECOND: u32 = 20;

const SECOND_NS: u64 = 1_000_000_000;

/// How many came in the current second.
#[derive(Debug, Default)]
pub struct Sparing(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    second: u64,
    recorded: u32,
    unrecorded: u64,
}

impl Sparing {
    /// Whether one at `now` is to be recorded: if so, how many before it were not.
    pub(crate) fn record(&self, now: Timestamp) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let second = now.mono_ns / SECOND_NS;
        if window.second != second {
            window.second = second;
            window.recorded = 0;
        }
        if window.recorded == RECORDED_PER_SECOND {
            window.unrecorded += 1;
            return None;
        }
        window.recorded += 1;
        Some(std::mem::take(&mut window.unrecorded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_recorded() {
        let sparing = Sparing::default();
        let at = |second: u64| Timestamp { unix_us: 0, mono_ns: second * SECOND_NS };
        let recorded = (0..1_000).filter_map(|_| sparing.record(at(7))).count();
        assert_eq!(recorded, 20);
        assert_eq!(sparing.record(at(8)), Some(980));
        assert_eq!(sparing.record(at(8)), Some(0));
    }
}
