//! One session's view of whom its agent acts for: looked at before each command, and told of changes.

use std::sync::Arc;
use std::task::{Context, Waker};

use identity::standing::{Held, Standing};
use types::identity::Identity;

/// Why an identity ended whose token holds no more.
pub(crate) const EXPIRED: &str = "expired";

/// Follows one agent's standing for one session.
#[derive(Debug)]
pub struct Follower {
    standing: Arc<Standing>,
    /// The session's number among those that are told: its socket's cookie, which no other has.
    key: u64,
    seen: u64,
    /// When the token ends that the identity is from, microseconds since 1970 UTC.
    until_us: i64,
    watched: Option<Waker>,
}

impl Follower {
    /// Follows `standing` from where its count of changes was `seen`, and it held `identity`.
    pub fn new(standing: Arc<Standing>, key: u64, seen: u64, identity: &Identity) -> Self {
        Self { standing, key, seen, until_us: until_us(identity), watched: None }
    }

    /// What it follows.
    pub(crate) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Follows another standing from here on; answers what holds of it.
    pub(crate) fn turn_to(&mut self, standing: Arc<Standing>) -> Held {
        let seen = standing.changes();
        let held = standing.held();
        let identity = match &held {
            Held::For(identity) => Arc::clone(identity),
            Held::Ended(_) => Arc::default(),
        };
        let watched = self.watched.take();
        *self = Self::new(standing, self.key, seen, &identity);
        if let Some(waker) = watched {
            // What was followed before has forgotten it.
            self.standing.watch(self.key, &waker);
            self.watched = Some(waker);
        }
        held
    }

    /// What holds, where that may be something else than when it was last asked.
    pub fn changed(&mut self, unix_us: i64) -> Option<Held> {
        let changes = self.standing.changes();
        if changes != self.seen {
            self.seen = changes;
            let held = self.standing.held();
            if let Held::For(identity) = &held {
                self.until_us = until_us(identity);
            }
            return Some(held);
        }
        (unix_us >= self.until_us).then_some(Held::Ended(EXPIRED))
    }

    /// Has the session's task woken at each change.
    pub fn watch(&mut self, cx: &Context<'_>) {
        if self.watched.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            return;
        }
        self.standing.watch(self.key, cx.waker());
        self.watched = Some(cx.waker().clone());
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.standing.forget(self.key);
    }
}

fn until_us(identity: &Identity) -> i64 {
    let expires = identity.subject.as_ref().map(|subject| subject.token.expires_s);
    expires.map_or(i64::MAX, |seconds| seconds.saturating_mul(1_000_000))
}
