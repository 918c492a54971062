//! Limits of a statement as a session keeps them, and what the statements of a window used together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use types::decision::{Limit, Measure};
use types::event::WindowUse;

use crate::session::Refusal;

/// program_limit_exceeded: one statement reached its limit; the same statement will again.
const STATEMENT: [u8; 5] = *b"54000";

/// configuration_limit_exceeded: the window's limit is reached; later there is room again.
const WINDOW: [u8; 5] = *b"53400";

/// The limits under which a statement goes up.
#[derive(Clone, Debug)]
pub struct Limits(Arc<[Bound]>);

/// One limit, and where its window's statements are counted.
#[derive(Clone, Debug)]
pub struct Bound {
    /// The limit.
    pub limit: Limit,
    /// What its window's statements use; `None` for a limit of one statement.
    pub window: Option<Arc<Tally>>,
}

impl Limits {
    /// Limits that hold together; `None` if there are none.
    pub fn new(bounds: Vec<Bound>) -> Option<Self> {
        (!bounds.is_empty()).then(|| Self(bounds.into()))
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bound> {
        self.0.iter()
    }
}

impl PartialEq for Limits {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Limits {}

/// What the agent is told where it reaches `limit`.
pub fn refusal(limit: &Limit) -> Refusal {
    let Limit { policy, measure, most, window_s } = limit;
    let most = match measure {
        Measure::Rows => format!("{most} rows"),
        Measure::Bytes => format!("{most} bytes"),
        Measure::Time => format!("{} ms", most / 1_000),
    };
    let (code, place) = match window_s {
        None => (STATEMENT, "in one statement".to_owned()),
        Some(window) => (WINDOW, format!("in {window} s")),
    };
    let message = format!("limit reached: no more than {most} {place}");
    Refusal { policy: Arc::clone(&policy.0), message: message.into(), code }
}

/// What the statements of a window used. Sessions take from it on every thread; whoever keeps the
/// window raises it as what was used long ago leaves the window.
#[derive(Debug)]
pub struct Tally {
    used: AtomicU64,
    ceiling: AtomicU64,
}

impl Tally {
    /// Nothing of `most` is used.
    pub fn new(most: u64) -> Self {
        Self { used: AtomicU64::new(0), ceiling: AtomicU64::new(most) }
    }

    /// Takes up to `wanted`; answers how much there was.
    pub fn take(&self, wanted: u64) -> u64 {
        let mut taken = 0;
        let take = |used: u64| {
            taken = wanted.min(self.ceiling.load(Ordering::Acquire).saturating_sub(used));
            (taken > 0).then(|| used + taken)
        };
        match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
            Ok(_) => taken,
            Err(_) => 0,
        }
    }

    /// Gives back of what was taken what was not used.
    pub fn give_back(&self, unused: u64) {
        self.used.fetch_sub(unused, Ordering::AcqRel);
    }

    /// Notes what was used already, be it more than there was.
    pub fn charge(&self, used: u64) {
        self.used.fetch_add(used, Ordering::AcqRel);
    }

    /// How much there is.
    pub fn left(&self) -> u64 {
        self.ceiling.load(Ordering::Acquire).saturating_sub(self.used())
    }

    /// How much was ever used.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Lets as much more be used: that much left the window.
    pub fn raise(&self, by: u64) {
        self.ceiling.fetch_add(by, Ordering::AcqRel);
    }
}

/// What one statement used so far: a portal or cursor over all of its fetches.
#[derive(Debug, Default)]
pub(crate) struct Used {
    rows: AtomicU64,
    bytes: AtomicU64,
    us: AtomicU64,
}

impl Used {
    fn of(&self, measure: Measure) -> &AtomicU64 {
        match measure {
            Measure::Rows => &self.rows,
            Measure::Bytes => &self.bytes,
            Measure::Time => &self.us,
        }
    }
}

/// One statement under its limits, and under those of the cursor that it reads.
#[derive(Clone, Debug)]
pub(crate) struct Limited {
    limits: Limits,
    used: Arc<Used>,
    cursor: Option<(Limits, Arc<Used>)>,
    /// What this very command used.
    own: Arc<Used>,
}

impl Limited {
    /// A statement under `limits`, of which it used `used`.
    pub(crate) fn new(limits: Limits, used: Arc<Used>) -> Self {
        Self { limits, used, cursor: None, own: Arc::default() }
    }

    /// The same, with a cursor's limits beside its own; they may be already, or be its own.
    pub(crate) fn reads(mut self, cursor: &Self) -> Self {
        if Arc::ptr_eq(&self.used, &cursor.used) {
            return self;
        }
        self.cursor = Some((cursor.limits.clone(), Arc::clone(&cursor.used)));
        self
    }

    /// The same, counted with what else counts in `used`.
    pub(crate) fn counted_in(mut self, used: &Arc<Used>) -> Self {
        self.used = Arc::clone(used);
        self
    }

    /// Takes of `measure` what there is, no more than `wanted`; with the limit that says so if that is
    /// less. [`Limited::settle`] ends it.
    pub(crate) fn take(&self, measure: Measure, wanted: u64) -> (u64, Option<&Limit>) {
        let (mut most, mut by) = (wanted, None);
        for (bound, used) in self.bounds(measure) {
            let left = match &bound.window {
                Some(window) => window.take(wanted),
                None => bound.limit.most.saturating_sub(used.of(measure).load(Ordering::Relaxed)),
            };
            if left < most {
                self.give_back(measure, most - left, bound);
                (most, by) = (left, Some(&bound.limit));
            } else if let Some(window) = &bound.window {
                window.give_back(left - most);
            }
        }
        (most, by)
    }

    /// Ends a [`Limited::take`] that gave `taken`, of which `used` was used.
    pub(crate) fn settle(&self, measure: Measure, taken: u64, used: u64) {
        for (bound, _) in self.bounds(measure) {
            if let Some(window) = &bound.window {
                window.give_back(taken.saturating_sub(used));
            }
        }
        self.note(measure, used);
    }

    /// How many microseconds more it may run that runs for `ran` now, and the limit that says so;
    /// `None` without a limit on time.
    pub(crate) fn time_left(&self, ran: u64) -> Option<(u64, &Limit)> {
        let left = |(bound, used): (&'_ Bound, &Used)| match &bound.window {
            Some(window) => window.left(),
            None => bound.limit.most.saturating_sub(used.us.load(Ordering::Relaxed)),
        };
        let all =
            self.bounds(Measure::Time).map(|one| (left(one).saturating_sub(ran), &one.0.limit));
        all.min_by_key(|(left, _)| *left)
    }

    /// Notes that it ran for `us`.
    pub(crate) fn ran(&self, us: u64) {
        for (bound, _) in self.bounds(Measure::Time) {
            if let Some(window) = &bound.window {
                window.charge(us);
            }
        }
        self.note(Measure::Time, us);
    }

    /// What the command used of windows; `None` if it is under none.
    pub(crate) fn used_of_windows(&self) -> Option<Box<WindowUse>> {
        let own = self.limits.iter();
        let bounds = own.chain(self.cursor.iter().flat_map(|(limits, _)| limits.iter()));
        let mut policies = Vec::new();
        for bound in bounds.filter(|bound| bound.window.is_some()) {
            if !policies.contains(&bound.limit.policy) {
                policies.push(bound.limit.policy.clone());
            }
        }
        let used = |measure| self.own.of(measure).load(Ordering::Relaxed);
        let (rows, bytes, us) = (used(Measure::Rows), used(Measure::Bytes), used(Measure::Time));
        (!policies.is_empty()).then(|| Box::new(WindowUse { policies, rows, bytes, us }))
    }

    fn note(&self, measure: Measure, used: u64) {
        self.own.of(measure).fetch_add(used, Ordering::Relaxed);
        self.used.of(measure).fetch_add(used, Ordering::Relaxed);
        if let Some((_, of_cursor)) = &self.cursor {
            of_cursor.of(measure).fetch_add(used, Ordering::Relaxed);
        }
    }

    /// Gives back `unused` to the windows before `last`.
    fn give_back(&self, measure: Measure, unused: u64, last: &Bound) {
        for (bound, _) in self.bounds(measure).take_while(|(bound, _)| !std::ptr::eq(*bound, last))
        {
            if let Some(window) = &bound.window {
                window.give_back(unused);
            }
        }
    }

    /// Its bounds on `measure`; a window that is its cursor's too counts once.
    fn bounds(&self, measure: Measure) -> impl Iterator<Item = (&Bound, &Used)> {
        let own = self.limits.iter().map(|bound| (bound, &*self.used));
        let is_own = |window: &Arc<Tally>| {
            let windows = self.limits.iter().filter_map(|bound| bound.window.as_ref());
            windows.into_iter().any(|own| Arc::ptr_eq(own, window))
        };
        let of_cursor = self
            .cursor
            .iter()
            .flat_map(|(limits, used)| limits.iter().map(move |bound| (bound, &**used)));
        let of_cursor =
            of_cursor.filter(move |(bound, _)| !bound.window.as_ref().is_some_and(is_own));
        own.chain(of_cursor).filter(move |(bound, _)| bound.limit.measure == measure)
    }
}

#[cfg(test)]
mod tests {
    use types::id::PolicyId;

    use super::*;

    fn bound(measure: Measure, most: u64, window: Option<&Arc<Tally>>) -> Bound {
        let window_s = window.map(|_| 60);
        let limit = Limit { policy: PolicyId("p".into()), measure, most, window_s };
        Bound { limit, window: window.cloned() }
    }

    #[test]
    fn the_least_of_several_is_given_and_no_window_loses_any() {
        let (wide, narrow) = (Arc::new(Tally::new(1_000)), Arc::new(Tally::new(7)));
        let bounds = vec![
            bound(Measure::Rows, 1_000, Some(&wide)),
            bound(Measure::Rows, 10, None),
            bound(Measure::Rows, 7, Some(&narrow)),
            bound(Measure::Bytes, 1, None),
        ];
        let limited = Limited::new(Limits::new(bounds).unwrap(), Arc::default());
        let (taken, by) = limited.take(Measure::Rows, 100);
        assert_eq!((taken, by.unwrap().most), (7, 7));
        assert_eq!((wide.used(), narrow.used()), (7, 7));
        limited.settle(Measure::Rows, taken, 5);
        assert_eq!((wide.used(), narrow.used()), (5, 5));
        narrow.raise(100);
        let (taken, by) = limited.take(Measure::Rows, 100);
        assert_eq!((taken, by.unwrap().most), (5, 10));
        limited.settle(Measure::Rows, taken, 5);
        assert_eq!((wide.used(), narrow.used(), wide.left()), (10, 10, 990));
        assert_eq!(limited.take(Measure::Rows, 1).0, 0);
    }

    #[test]
    fn a_cursor_counts_over_its_fetches_and_its_window_once() {
        let window = Arc::new(Tally::new(100));
        let limits = |most| {
            let rows = bound(Measure::Rows, most, None);
            Limits::new(vec![rows, bound(Measure::Rows, 100, Some(&window))]).unwrap()
        };
        let cursor = Limited::new(limits(10), Arc::default());
        for want in [6, 4, 0] {
            let fetch = Limited::new(limits(8), Arc::default()).reads(&cursor);
            let (taken, _) = fetch.take(Measure::Rows, 6);
            assert_eq!(taken, want);
            fetch.settle(Measure::Rows, taken, taken);
        }
        assert_eq!(window.used(), 10);
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let window = Arc::new(Tally::new(10_000));
        let taken: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..5_000).map(|_| window.take(3)).sum::<u64>()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, window.left()), (10_000, 0));
    }
}
