//! What agents used in the windows of limits: one count for each limit, agent and target.
//!
//! They are in memory; at the daemon's start `recount` counts them again from the journal.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use proto::limit::Tally;
use types::clock::Timestamp;
use types::decision::Limit;
use types::id::AgentName;

/// Windows at once: 4,096 × about 400 B = 1.6 MiB. Agents, targets and limits are configured, so
/// there are agents × targets × limits of them at the very most.
const WINDOWS_MAX: usize = 4_096;

/// The parts that a window is forgotten in. What was used counts from a twelfth to a sixth of the
/// window longer than the window lasts, and never shorter.
const SLICES: usize = 12;

/// The windows of a node.
#[derive(Debug, Default)]
pub struct Windows {
    counts: Mutex<HashMap<Key, Window>>,
    /// Since when it is not known what was used before.
    lost_at: OnceLock<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    limit: Limit,
    agent: AgentName,
    target: Arc<str>,
}

#[derive(Debug)]
struct Window {
    tally: Arc<Tally>,
    /// What was used in each slice; the current one and those before it.
    slices: [u64; SLICES + 1],
    /// Which slice of time is the current one.
    current: u64,
    /// How much of the tally the slices hold or held.
    counted: u64,
    slice_ns: u64,
}

impl Windows {
    /// What `agent` used of `limit` at `target`; `None` if there are too many windows already. It is
    /// brought to `now`, and goes on counting.
    pub(crate) fn tally(
        &self,
        limit: &Limit,
        (agent, target): (&AgentName, &Arc<str>),
        now: Timestamp,
    ) -> Option<Arc<Tally>> {
        let mut windows = self.windows();
        let key = Key { limit: limit.clone(), agent: agent.clone(), target: Arc::clone(target) };
        if windows.len() >= WINDOWS_MAX && !windows.contains_key(&key) {
            windows.retain(|_, window| window.advance(now) || Arc::strong_count(&window.tally) > 1);
            if windows.len() >= WINDOWS_MAX {
                return None;
            }
        }
        let window = match windows.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let window = free.insert(Window::new(limit, now));
                if let Some(at) = self.lost_at.get() {
                    window.used_before(limit.most, now.mono_ns.saturating_sub(at.mono_ns), now);
                }
                window
            }
        };
        window.advance(now);
        Some(Arc::clone(&window.tally))
    }

    /// Notes that `agent` used `used` of `limit` at `target` `age_ns` ago, in the time of a daemon before.
    pub(crate) fn used_before(
        &self,
        limit: &Limit,
        (agent, target): (&AgentName, &Arc<str>),
        (used, age_ns): (u64, u64),
        now: Timestamp,
    ) {
        let mut windows = self.windows();
        let key = Key { limit: limit.clone(), agent: agent.clone(), target: Arc::clone(target) };
        let is_full = windows.len() >= WINDOWS_MAX;
        match windows.entry(key) {
            Entry::Occupied(known) => known.into_mut().used_before(used, age_ns, now),
            Entry::Vacant(free) => {
                let mut window = Window::new(limit, now);
                window.used_before(used, age_ns, now);
                if window.counted > 0 && is_full {
                    drop(windows);
                    self.lose(now);
                } else if window.counted > 0 {
                    free.insert(window);
                }
            }
        }
    }

    /// Notes that it is not known what was used before `now`: what is not counted yet counts as used up.
    pub(crate) fn lose(&self, now: Timestamp) {
        // The first time counts; all are of one start.
        self.lost_at.get_or_init(|| now);
        for (key, window) in self.windows().iter_mut() {
            window.used_before(key.limit.most, 0, now);
        }
    }

    /// Brings the windows that sessions hold to `now`.
    pub(crate) fn advance(&self, now: Timestamp) {
        for window in self.windows().values_mut() {
            if Arc::strong_count(&window.tally) > 1 {
                window.advance(now);
            }
        }
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<Key, Window>> {
        // No code that can panic runs under this lock.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn new(limit: &Limit, now: Timestamp) -> Self {
        let window_ns = u64::from(limit.window_s.unwrap_or(1)) * 1_000_000_000;
        let slice_ns = window_ns / SLICES as u64;
        Self {
            tally: Arc::new(Tally::new(limit.most)),
            slices: [0; SLICES + 1],
            current: now.mono_ns / slice_ns,
            counted: 0,
            slice_ns,
        }
    }

    /// Counts what was used `age_ns` ago, if that is in the window still.
    fn used_before(&mut self, used: u64, age_ns: u64, now: Timestamp) {
        self.advance(now);
        let slice = i128::from(self.slice_ns);
        let at = i128::from(now.mono_ns) - i128::from(age_ns);
        let slices = i128::from(self.current) - at.div_euclid(slice);
        let place = usize::try_from(slices).ok().and_then(|place| self.slices.get_mut(place));
        if let Some(place) = place {
            *place += used;
            self.counted += used;
            self.tally.charge(used);
        }
    }

    /// Counts what was used since the last time as used now, and lets go of what was used before the
    /// window; true if it holds anything.
    fn advance(&mut self, now: Timestamp) -> bool {
        let used = self.tally.used();
        let mut given_back = self.counted.saturating_sub(used);
        for place in &mut self.slices {
            let less = given_back.min(*place);
            *place -= less;
            given_back -= less;
        }
        if let Some(place) = self.slices.first_mut() {
            *place += used.saturating_sub(self.counted);
        }
        self.counted = used;
        let slice = now.mono_ns / self.slice_ns;
        let passed = usize::try_from(slice.saturating_sub(self.current)).unwrap_or(usize::MAX);
        self.current = self.current.max(slice);
        for _ in 0..passed.min(SLICES + 1) {
            self.slices.rotate_right(1);
            if let Some(place) = self.slices.first_mut() {
                self.tally.raise(std::mem::take(place));
            }
        }
        self.slices.iter().any(|used| *used > 0)
    }
}

#[cfg(test)]
mod tests {
    use types::decision::Measure;
    use types::id::PolicyId;

    use super::*;

    fn limit(most: u64) -> Limit {
        let policy = PolicyId("p".into());
        Limit { policy, measure: Measure::Rows, most, window_s: Some(12) }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp { unix_us: 0, mono_ns: seconds * 1_000_000_000 + 1 }
    }

    #[test]
    fn what_was_used_comes_back_after_the_window_and_not_before() {
        let windows = Windows::default();
        let (agent, target) = ("a".parse().unwrap(), Arc::from("t"));
        let tally = |seconds| windows.tally(&limit(10), (&agent, &target), at(seconds)).unwrap();
        assert_eq!(tally(100).take(8), 8);
        assert_eq!(tally(105).take(8), 2);
        for (seconds, left) in [(106, 0), (112, 0), (113, 8), (117, 8), (119, 10), (1_000, 10)] {
            assert_eq!(tally(seconds).left(), left, "{seconds}");
        }
        // What was taken and given back never left the window.
        assert_eq!(tally(1_000).take(10), 10);
        let held = tally(1_001);
        held.give_back(10);
        assert_eq!(tally(1_100).left(), 10);
        assert_eq!(held.take(10), 10);
        windows.advance(at(1_101));
        windows.advance(at(1_114));
        assert_eq!(held.left(), 10, "a window that is held goes on");
    }

    #[test]
    fn what_was_used_before_comes_back_as_what_is_used_now() {
        let windows = Windows::default();
        let (agent, target) = ("a".parse().unwrap(), Arc::from("t"));
        let left =
            |seconds| windows.tally(&limit(10), (&agent, &target), at(seconds)).unwrap().left();
        let before = |used, seconds: u64, now| {
            let (limit, who) = (limit(10), (&agent, &target));
            windows.used_before(&limit, who, (used, seconds * 1_000_000_000), at(now));
        };
        before(5, 20, 100);
        assert_eq!(left(100), 10, "that had left the window");
        before(4, 8, 100);
        before(8, 2, 100);
        assert_eq!([100, 104, 105, 110, 111].map(left), [0, 0, 2, 2, 10]);
        // Of a machine that was up for less long than the window.
        let young = Windows::default();
        young.used_before(&limit(10), (&agent, &target), (10, 9_000_000_000), at(3));
        let left =
            |seconds| young.tally(&limit(10), (&agent, &target), at(seconds)).unwrap().left();
        assert_eq!([3, 6, 7].map(left), [0, 0, 10]);
        young.lose(at(20));
        assert_eq!([20, 32, 33].map(left), [0, 0, 10]);
        assert_eq!(young.tally(&limit(9), (&agent, &target), at(30)).unwrap().left(), 0);
        assert_eq!(young.tally(&limit(8), (&agent, &target), at(33)).unwrap().left(), 8);
    }

    #[test]
    fn no_window_is_shared_and_none_is_forgotten_in_use() {
        let windows = Windows::default();
        let (agent, other) = ("a".parse().unwrap(), "b".parse().unwrap());
        let target = Arc::from("t");
        let of = |agent, most| windows.tally(&limit(most), (agent, &target), at(1));
        assert_eq!(of(&agent, 5).unwrap().take(5), 5);
        assert_eq!(of(&other, 5).unwrap().left(), 5);
        assert_eq!(of(&agent, 6).unwrap().left(), 6);
        let held: Vec<_> = (10..).map_while(|most| of(&other, most)).collect();
        assert_eq!(held.len(), WINDOWS_MAX - 1, "what was used is kept");
        assert!(of(&agent, 7).is_none());
        assert_eq!(of(&agent, 5).unwrap().left(), 0);
        drop(held);
        assert!(of(&agent, 7).is_some());
    }
}
