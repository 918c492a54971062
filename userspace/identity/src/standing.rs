//! Whom an agent acts for right now, and who is to be told when that changes.
//!
//! Each start of an agent has one; that of an agent inside another rests on the outer one: it is of the same
//! person unless a token of its own says otherwise, and ends when the outer one does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use types::identity::Identity;

/// Whom one start of an agent acts for; shared by its sessions and by whoever evaluates it.
#[derive(Debug, Default)]
pub struct Standing {
    outer: Option<Arc<Standing>>,
    changes: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    held: Option<Held>,
    /// Its sessions' wakers, by a number of each one's own; as many as there are sessions at most.
    wakers: HashMap<u64, Waker>,
}

/// What holds of an agent's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It acts for these.
    For(Arc<Identity>),
    /// It acts for nobody any more; why, in a fixed word.
    Ended(&'static str),
}

impl Standing {
    /// Of an agent that was started inside another, where there is one.
    pub fn inside(outer: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { outer, ..Self::default() })
    }

    /// What holds now: ended where any around it has ended, else its own word, else the outer one's.
    pub fn held(&self) -> Held {
        let own = self.inner().held.clone();
        let outer = || self.outer.as_ref().map(|outer| outer.held());
        match own {
            Some(ended @ Held::Ended(_)) => ended,
            Some(own) => match outer() {
                Some(ended @ Held::Ended(_)) => ended,
                _ => own,
            },
            None => outer().unwrap_or_else(|| Held::For(Arc::default())),
        }
    }

    /// Whom it and all around it act for by their own words, this one first.
    pub fn all(&self) -> Vec<Arc<Identity>> {
        let mut all = Vec::new();
        if let Some(Held::For(identity)) = &self.inner().held {
            all.push(Arc::clone(identity));
        }
        // As many as agents are inside one another; cgroups are not nested without end.
        all.extend(self.outer.iter().flat_map(|outer| outer.all()));
        all
    }

    /// How often it changed; what was derived from [`Standing::held`] holds as long as this is the same.
    pub fn changes(&self) -> u64 {
        let outer = self.outer.as_ref().map_or(0, |outer| outer.changes());
        outer.wrapping_add(self.changes.load(Ordering::Acquire))
    }

    /// Changes what holds, and wakes its sessions and those of agents inside it. Answers whether it was
    /// another.
    pub fn set(&self, held: Held) -> bool {
        let mut inner = self.inner();
        if inner.held.as_ref() == Some(&held) {
            return false;
        }
        inner.held = Some(held);
        self.changes.fetch_add(1, Ordering::Release);
        for waker in inner.wakers.values() {
            waker.wake_by_ref();
        }
        true
    }

    /// Has a session woken at each change from here on, until [`Standing::forget`]; `slot` is a number of
    /// its own.
    pub fn watch(&self, slot: u64, waker: &Waker) {
        if let Some(outer) = &self.outer {
            outer.watch(slot, waker);
        }
        self.inner().wakers.insert(slot, waker.clone());
    }

    /// How many sessions follow it, those of agents inside included.
    pub fn sessions(&self) -> usize {
        self.inner().wakers.len()
    }

    /// Forgets a session that ended.
    pub fn forget(&self, slot: u64) {
        if let Some(outer) = &self.outer {
            outer.forget(slot);
        }
        self.inner().wakers.remove(&slot);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn owned_by(owner: &str) -> Held {
        Held::For(Arc::new(Identity { owner: Some(owner.into()), ..Identity::default() }))
    }

    #[test]
    fn an_inner_agent_is_of_the_outer_ones_person() {
        let outer = Standing::inside(None);
        let inner = Standing::inside(Some(Arc::clone(&outer)));
        assert_eq!(inner.held(), Held::For(Arc::default()));
        assert!(outer.set(owned_by("ada")));
        assert_eq!(inner.held(), owned_by("ada"));
        assert!(inner.set(owned_by("bob")));
        assert_eq!((outer.held(), inner.held()), (owned_by("ada"), owned_by("bob")));
        let owners: Vec<_> = inner.all().iter().map(|one| one.owner.clone().unwrap()).collect();
        assert_eq!(owners, ["bob".into(), "ada".into()] as [Arc<str>; 2]);
    }

    #[test]
    fn it_ends_with_the_outer_one_and_not_the_other_way_round() {
        let outer = Standing::inside(None);
        let inner = Standing::inside(Some(Arc::clone(&outer)));
        inner.set(owned_by("bob"));
        outer.set(Held::Ended("expired"));
        assert_eq!(inner.held(), Held::Ended("expired"));
        outer.set(owned_by("ada"));
        assert_eq!(inner.held(), owned_by("bob"));
        inner.set(Held::Ended("revoked"));
        assert_eq!(outer.held(), owned_by("ada"));
    }

    #[test]
    fn sessions_are_woken_by_each_change_of_theirs_or_around_them() {
        let outer = Standing::inside(None);
        let inner = Standing::inside(Some(Arc::clone(&outer)));
        let woken = Arc::new(Woken::default());
        let before = inner.changes();
        inner.watch(7, &Waker::from(Arc::clone(&woken)));
        outer.set(owned_by("ada"));
        assert!(!outer.set(owned_by("ada")), "as before");
        inner.set(Held::Ended("revoked"));
        assert_eq!((woken.0.load(Ordering::SeqCst), inner.changes() - before), (2, 2));
        inner.forget(7);
        outer.set(Held::Ended("revoked"));
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    }
}
