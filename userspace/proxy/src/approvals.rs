//! This host's approvals: a [`Book`] whose every change is in the journal before anybody acts on it.
//!
//! One lock is around both, so the order of the journal is the order in which things happened. What takes
//! effect waits for a record of its own, which lies behind them in the same journal; whoever answers a
//! person waits for the [`Lsn`] that it is given.

pub(crate) mod asking;
pub mod binding;
pub(crate) mod estimate;
pub(crate) mod terms;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use approval::book::{Book, Full};
use approval::desk::{Over, Standing};
use approval::event::{Ending, Event};
use approval::request::{ApprovalRequest, Grant, Wanted};
use approval::vote::{Vote, VoteError, Voted};
use journal::record::{CONTROL_DETAIL_BYTES_MAX, Lsn};
use journal::recorder::{AppendError, Recorder};
use tokio::sync::{broadcast, watch};
use tracing::warn;
use types::approval::Coverage;
use types::clock::Clock;
use types::id::RequestId;

use self::binding::Bindings;

/// Events kept for a receiver that lags: 1,024 × about 3 KiB = 3 MiB, as they are without texts.
const EVENTS_KEPT: usize = 1_024;

/// This host's approvals.
pub struct Approvals {
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    node: Arc<str>,
    bindings: Bindings,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    events: broadcast::Sender<Arc<Event>>,
}

#[derive(Default)]
struct State {
    book: Book,
    /// Who waits for what; one session a request.
    waiting: BTreeMap<RequestId, Waker>,
    /// The record of the last event.
    last: Lsn,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It waits.
    Waits,
    /// It is granted.
    Granted,
    /// It is over without a grant: how, and the person's reason where there is one.
    Over(Ending, Option<String>),
}

/// Why nobody is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// There is no room.
    #[error(transparent)]
    Full(#[from] Full),
    /// The journal does not take it.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
}

/// Why an event did not happen: it can't be written down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// The journal does not take it.
    #[error(transparent)]
    Journal(#[from] AppendError),
    /// Its record would have this many bytes.
    #[error("a record of {0} bytes is too large")]
    TooLarge(usize),
}

impl std::fmt::Debug for Approvals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Approvals").finish_non_exhaustive()
    }
}

impl Approvals {
    /// Nothing is asked yet. What identifies commands is keyed by what derives from the masking `key`.
    pub fn new(recorder: Recorder, clock: Arc<dyn Clock>, node: &str, key: &[u8; 32]) -> Self {
        Self {
            recorder,
            clock,
            node: node.into(),
            bindings: Bindings::new(key),
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS_KEPT),
        }
    }

    /// Goes on from what the journal has, at start.
    pub fn restore(&self, book: Book) {
        self.state().book = book;
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Takes a vote, and answers what is to be durable before anybody is told of it.
    ///
    /// # Errors
    /// If it does not count, or can't be written down.
    pub fn vote(&self, id: RequestId, vote: &Vote) -> Result<(Voted, Lsn), VoteError> {
        let mut state = self.state();
        // By this host's clock, whoever's the vote came by.
        self.expire_one(&mut state, id);
        let (voted, events) = state.book.vote(id, vote)?;
        for event in events {
            self.record(&mut state, event)
                .map_err(|error| VoteError::NotRecorded(error.to_string()))?;
        }
        Ok((voted, state.last))
    }

    /// What `f` finds in the book.
    pub fn with<R>(&self, f: impl FnOnce(&Book) -> R) -> R {
        f(&self.state().book)
    }

    /// A number that grows with every event.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What happens from now on, without texts and parameters, which the book has as long as a request waits.
    /// Who lags reads the book again.
    pub fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    /// Ends what nobody answered in time; answers how many those were.
    pub fn expire(&self) -> usize {
        let mut state = self.state();
        let late = state.book.expired(self.clock.now().unix_us);
        let recorded = late.into_iter().map(|event| self.happen(&mut state, event));
        recorded.filter(|is_recorded| *is_recorded).count()
    }

    /// Ends a request, where it waits.
    pub fn end(&self, id: RequestId, how: Ending) {
        let mut state = self.state();
        if let Some(event) = state.book.end(id, how, self.clock.now().unix_us) {
            self.happen(&mut state, event);
        }
    }

    /// The host's name in requests.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What identifies commands.
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// Asks: the request waits from now on.
    ///
    /// # Errors
    /// If too many wait, or it can't be written down.
    pub fn ask(&self, request: ApprovalRequest) -> Result<(), NotAsked> {
        let mut state = self.state();
        state.book.room(&request)?;
        self.record(&mut state, Event::Requested(Box::new(request)))?;
        Ok(())
    }

    /// What became of a request; as long as it waits, `waker` is woken when that changes.
    pub fn poll(&self, id: RequestId, waker: &Waker) -> Answer {
        let mut state = self.state();
        self.expire_one(&mut state, id);
        let State { book, waiting, last: _ } = &mut *state;
        match book.standing(id) {
            Some(Standing { ended: None, .. }) => {
                let known = waiting.entry(id).or_insert_with(|| waker.clone());
                known.clone_from(waker);
                Answer::Waits
            }
            Some(Standing { ended: Some(Over { how: Ending::Granted, .. }), .. }) => {
                Answer::Granted
            }
            Some(Standing { ended: Some(Over { how, reason, at_us: _ }), .. }) => {
                Answer::Over(*how, reason.clone())
            }
            // It ended so long ago that it is not kept: what it was is in the journal.
            None => Answer::Over(Ending::Expired, None),
        }
    }

    /// Uses a grant that covers a command, if there is one; one for all of a session only if it was given since
    /// the session acts for whom it does, microseconds since 1970 UTC.
    pub fn spend(&self, wanted: &Wanted<'_>, command: u32, acts_since_us: i64) -> Option<Grant> {
        let mut state = self.state();
        let (grant, event) = state.book.spend(wanted, command, self.clock.now().unix_us)?;
        let is_others = grant.covers == Coverage::Session && grant.at_us < acts_since_us;
        (!is_others).then(|| self.used(&mut state, (grant, event))).flatten()
    }

    /// Uses the grant of a request for the command that waited, which is `wanted` as it stands now; `None`
    /// where that is not what was approved, or the grant is over.
    pub fn release(&self, id: RequestId, wanted: &Wanted<'_>) -> Option<Grant> {
        let mut state = self.state();
        let now_us = self.clock.now().unix_us;
        let (grant, event) = state.book.release(id, now_us)?;
        let is_it = grant.binding == wanted.binding && grant.covers(wanted, now_us);
        is_it.then(|| self.used(&mut state, (grant, event))).flatten()
    }

    fn used(&self, state: &mut State, (grant, event): (Grant, Event)) -> Option<Grant> {
        let recorded = self.record(state, event);
        recorded
            .inspect_err(|error| warn!(%error, "a grant can't be used"))
            .is_ok()
            .then_some(grant)
    }

    fn expire_one(&self, state: &mut State, id: RequestId) {
        let now_us = self.clock.now().unix_us;
        let is_late = |standing: &Standing| now_us >= standing.request.expires_us;
        if state.book.standing(id).is_some_and(is_late)
            && let Some(event) = state.book.end(id, Ending::Expired, now_us)
        {
            self.happen(state, event);
        }
    }

    /// Has a request end, if that can be written down. If not, the journal takes nothing more: no vote counts
    /// and nothing goes up.
    fn happen(&self, state: &mut State, event: Event) -> bool {
        let recorded = self.record(state, event);
        recorded.inspect_err(|error| warn!(%error, "the end of a request is not recorded")).is_ok()
    }

    /// Has an event happen: it is written down, then applied, then told.
    fn record(&self, state: &mut State, event: Event) -> Result<Lsn, NotRecorded> {
        let detail = event.record();
        if detail.len() > CONTROL_DETAIL_BYTES_MAX {
            // A record that is cut could not be read again.
            return Err(NotRecorded::TooLarge(detail.len()));
        }
        state.last = self.recorder.control(event.kind(), &detail)?;
        state.book.apply(&event);
        if let Event::Granted(Grant { id, .. }) | Event::Ended { request: id, .. } = &event
            && let Some(waker) = state.waiting.remove(id)
        {
            waker.wake();
        }
        // Nobody may be listening.
        let _listeners = self.events.send(Arc::new(without_texts(event)));
        self.changes.send_modify(|changes| *changes += 1);
        Ok(state.last)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic leaves a half of anything under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_texts(mut event: Event) -> Event {
    if let Event::Requested(request) = &mut event {
        (request.text, request.parameters) = (String::new(), Vec::new());
    }
    event
}
