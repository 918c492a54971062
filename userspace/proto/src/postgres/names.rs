//! What the server holds under a name, followed ahead of its answers.
//!
//! A Parse or Bind may fail, and then the name still means what it meant. So a change is tentative
//! until its answer: within the same run of messages up to Sync it may be relied upon (if it fails,
//! the server skips what follows), beyond it nothing is known until the answer is here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Prepared statements or portals by name.
#[derive(Debug)]
pub(super) struct Names<T> {
    /// What the empty name stands for: what most statements and portals have.
    unnamed: Option<Entry<T>>,
    entries: HashMap<Box<[u8]>, Entry<T>>,
    next_change: u64,
}

#[derive(Debug)]
struct Entry<T> {
    confirmed: Option<Arc<T>>,
    tentative: Option<Tentative<T>>,
    /// Changes before this one no longer count: something else may hold the name.
    forgotten_before: u64,
}

#[derive(Debug)]
struct Tentative<T> {
    change: Change,
    segment: u64,
    value: Option<Arc<T>>,
}

/// One change of a name, to be confirmed or dropped by its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change(u64);

/// What a name means now.
#[derive(Debug)]
pub(super) enum Lookup<T> {
    /// This.
    Known(Arc<T>),
    /// Nothing that is known here.
    Unknown,
    /// That depends on an answer which is due.
    Wait,
}

impl<T> Names<T> {
    pub(super) fn new() -> Self {
        Self { unnamed: None, entries: HashMap::new(), next_change: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() + usize::from(self.unnamed.is_some())
    }

    /// What `name` means to a message of `segment`.
    pub(super) fn get(&self, name: &[u8], segment: u64) -> Lookup<T> {
        if name.len() > ENCODED_MAX && !name.is_ascii() {
            return Lookup::Unknown;
        }
        let Some(entry) = self.entry(key(name)) else { return Lookup::Unknown };
        let value = match &entry.tentative {
            Some(tentative) if tentative.segment != segment => return Lookup::Wait,
            Some(tentative) => &tentative.value,
            None => &entry.confirmed,
        };
        value.as_ref().map_or(Lookup::Unknown, |value| Lookup::Known(Arc::clone(value)))
    }

    /// Notes that `name` is to become `value` (`None`: is to be closed). An older change may still
    /// be open: its answer comes first, and stands if this one fails.
    pub(super) fn change(&mut self, name: &[u8], segment: u64, value: Option<Arc<T>>) -> Change {
        let change = Change(self.next_change);
        self.next_change += 1;
        let tentative = Some(Tentative { change, segment, value });
        let name = key(name);
        if let Some(entry) = self.entry_mut(name) {
            entry.tentative = tentative;
            return change;
        }
        let entry = Entry { confirmed: None, tentative, forgotten_before: 0 };
        if name.is_empty() {
            self.unnamed = Some(entry);
        } else {
            self.entries.insert(name.into(), entry);
        }
        change
    }

    /// The server made the change.
    pub(super) fn confirm(&mut self, name: &[u8], change: Change, value: Option<Arc<T>>) {
        let Some(entry) = self.entry_mut(key(name)) else { return };
        entry.confirmed = value.filter(|_| change.0 >= entry.forgotten_before);
        self.settle(name, change);
    }

    /// The server did not make the change.
    pub(super) fn drop_change(&mut self, name: &[u8], change: Change) {
        self.settle(name, change);
    }

    /// Every name for which `which` holds may mean something else from here on.
    pub(super) fn forget(&mut self, which: impl Fn(&[u8]) -> bool) {
        let now = self.next_change;
        self.retain(|name, entry| {
            if !which(name) {
                return true;
            }
            entry.confirmed = None;
            entry.forgotten_before = now;
            if let Some(tentative) = &mut entry.tentative {
                tentative.value = None;
            }
            entry.tentative.is_some()
        });
    }

    /// Every name for which `which` holds is gone, but for what is in flight.
    pub(super) fn remove(&mut self, which: impl Fn(&[u8]) -> bool) {
        self.retain(|name, entry| {
            if !which(name) {
                return true;
            }
            entry.confirmed = None;
            entry.tentative.is_some()
        });
    }

    fn settle(&mut self, name: &[u8], change: Change) {
        let name = key(name);
        let Some(entry) = self.entry_mut(name) else { return };
        if entry.tentative.as_ref().is_some_and(|open| open.change == change) {
            entry.tentative = None;
        }
        if entry.tentative.is_none() && entry.confirmed.is_none() {
            if name.is_empty() {
                self.unnamed = None;
            } else {
                self.entries.remove(name);
            }
        }
    }

    fn entry(&self, key: &[u8]) -> Option<&Entry<T>> {
        if key.is_empty() { self.unnamed.as_ref() } else { self.entries.get(key) }
    }

    fn entry_mut(&mut self, key: &[u8]) -> Option<&mut Entry<T>> {
        if key.is_empty() { self.unnamed.as_mut() } else { self.entries.get_mut(key) }
    }

    /// Keeps those entries of which `keeps` says so.
    fn retain(&mut self, keeps: impl Fn(&[u8], &mut Entry<T>) -> bool) {
        self.unnamed.take_if(|entry| !keeps(b"", entry));
        if !self.entries.is_empty() {
            self.entries.retain(|name, entry| keeps(name, entry));
        }
    }
}

/// The most bytes of a name that count (`NAMEDATALEN` - 1): to the server longer ones that begin alike are one.
pub(super) const NAME_BYTES: usize = 63;

/// The server cuts a name in its own encoding, in which a byte of the agent's may be three; of a longer one that is
/// not ASCII it is not known where.
const ENCODED_MAX: usize = NAME_BYTES / 3;

/// What the server keeps of a name.
fn key(name: &[u8]) -> &[u8] {
    name.get(..NAME_BYTES).unwrap_or(name)
}

/// Bytes held by prepared statements and portals, counted while they live.
#[derive(Debug)]
pub(super) struct Held {
    gauge: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// Counts `bytes` on `gauge` until dropped.
    pub(super) fn new(gauge: &Arc<AtomicUsize>, bytes: usize) -> Self {
        gauge.fetch_add(bytes, Ordering::Relaxed);
        Self { gauge: Arc::clone(gauge), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &Names<u8>, segment: u64) -> Option<u8> {
        match names.get(b"a", segment) {
            Lookup::Known(value) => Some(*value),
            Lookup::Unknown => None,
            Lookup::Wait => Some(255),
        }
    }

    #[test]
    fn a_failed_change_leaves_the_name_as_it_was() {
        let mut names = Names::new();
        let first = names.change(b"a", 0, Some(Arc::new(1)));
        assert_eq!(known(&names, 0), Some(1));
        assert_eq!(known(&names, 1), Some(255), "not answered yet");
        names.confirm(b"a", first, Some(Arc::new(1)));
        assert_eq!(known(&names, 1), Some(1));
        let second = names.change(b"a", 1, Some(Arc::new(2)));
        assert_eq!(known(&names, 1), Some(2));
        names.drop_change(b"a", second);
        assert_eq!(known(&names, 2), Some(1));
    }

    #[test]
    fn names_are_cut_as_the_server_cuts_them() {
        let mut names = Names::new();
        let long = [b'a'; 63];
        let change = names.change(&[&long, b"x".as_slice()].concat(), 0, Some(Arc::new(1)));
        names.confirm(&[&long, b"x".as_slice()].concat(), change, Some(Arc::new(1)));
        for same in [long.to_vec(), [&long, b"y".as_slice()].concat()] {
            assert!(matches!(names.get(&same, 1), Lookup::Known(value) if *value == 1));
        }
        let other = "é".repeat(11);
        let change = names.change(other.as_bytes(), 0, Some(Arc::new(2)));
        names.confirm(other.as_bytes(), change, Some(Arc::new(2)));
        assert!(matches!(names.get(other.as_bytes(), 1), Lookup::Unknown), "cut who knows where");
    }

    #[test]
    fn forgetting_covers_what_is_in_flight() {
        let mut names = Names::new();
        let change = names.change(b"a", 0, Some(Arc::new(1)));
        names.forget(|_| true);
        assert_eq!(known(&names, 0), None);
        names.confirm(b"a", change, Some(Arc::new(1)));
        assert_eq!(known(&names, 0), None);
        assert_eq!(names.len(), 0);
    }
}
