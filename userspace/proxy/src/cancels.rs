//! Which session a cancel key is of, and whether there is something to cancel.
//!
//! Agents are given keys of ours; a cancel request arrives on a connection of its own and names one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use identity::standing::Standing;
use proto::postgres::{CancelKey, IssuedKey};
use types::addr::OrigDst;
use types::id::{AgentName, SessionId};
use types::principal::Principal;

use crate::tls::TargetTls;

/// The keys of a node's open sessions: no more than there may be sessions.
#[derive(Debug, Default)]
pub struct Cancels(Mutex<Known>);

/// By target and server's process; several servers behind one address may have the same.
type Known = HashMap<(OrigDst, u32), Vec<Arc<Cancellable>>>;

/// A session that can be cancelled.
#[derive(Debug)]
pub(crate) struct Cancellable {
    keys: IssuedKey,
    agent: AgentName,
    instance: Arc<str>,
    /// Which session.
    pub(crate) session: SessionId,
    standing: Arc<Standing>,
    /// How its server is reached, and so whoever cancels it.
    pub(crate) way: Way,
    activity: AtomicU64,
    held: Mutex<Held>,
}

/// Whether a command of the session waits for people.
#[derive(Debug, Default)]
enum Held {
    /// None does.
    #[default]
    No,
    /// One does; who is to know when it is cancelled.
    Waits(Waker),
    /// It is cancelled.
    Withdrawn,
}

/// How a session's server is reached.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// In clear.
    Plain,
    /// With TLS, verified like this as the server of this name.
    Tls(TargetTls, Arc<str>),
}

/// A session's entry, for as long as it is open.
#[derive(Debug)]
pub(crate) struct Registered {
    cancels: Arc<Cancels>,
    addr: OrigDst,
    entry: Arc<Cancellable>,
}

/// Why a cancel request is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotYours {
    /// No open session at this target has the key.
    #[error("the cancel key is of no open session at this target")]
    Unknown,
    /// Another agent, or another instance of it, has the session.
    #[error("the cancel key is of another agent's session")]
    Other,
}

impl Cancels {
    /// Enters a session's keys.
    pub(crate) fn register(
        self: &Arc<Self>,
        addr: OrigDst,
        keys: IssuedKey,
        (principal, session, way): (&Principal, SessionId, Way),
        standing: Arc<Standing>,
    ) -> Registered {
        let place = (addr, keys.own.process);
        let entry = Arc::new(Cancellable {
            keys,
            agent: principal.agent.clone(),
            instance: Arc::clone(&principal.instance),
            session,
            standing,
            way,
            activity: AtomicU64::new(0),
            held: Mutex::default(),
        });
        self.known().entry(place).or_default().push(Arc::clone(&entry));
        Registered { cancels: Arc::clone(self), addr, entry }
    }

    /// The session that a cancel request of `principal`'s at `addr` names.
    pub(crate) fn find(
        &self,
        addr: OrigDst,
        asked: &CancelKey,
        principal: &Principal,
    ) -> Result<Arc<Cancellable>, NotYours> {
        let known = self.known();
        let at = known.get(&(addr, asked.process)).map(Vec::as_slice).unwrap_or_default();
        let entry = at.iter().find(|entry| entry.keys.own.is(asked)).ok_or(NotYours::Unknown)?;
        let is_own = entry.agent == principal.agent && entry.instance == principal.instance;
        if is_own { Ok(Arc::clone(entry)) } else { Err(NotYours::Other) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No code that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cancellable {
    /// The key that the server knows.
    pub(crate) fn real(&self) -> &CancelKey {
        &self.keys.real
    }

    /// Whom the session acts for.
    pub(crate) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Whether the key goes to its server inside TLS or not at all.
    pub(crate) fn needs_tls(&self) -> bool {
        matches!(self.way, Way::Tls(..))
    }

    /// The run of commands that is being answered; `None` while the session is idle.
    pub(crate) fn run(&self) -> Option<u64> {
        let activity = self.activity.load(Ordering::Acquire);
        (activity % 2 == 1).then_some(activity)
    }

    /// Cancels a command that waits for people; `false` where none does.
    pub(crate) fn withdraw(&self) -> bool {
        let mut held = self.held();
        let is_held = !matches!(*held, Held::No);
        if is_held && let Held::Waits(waker) = std::mem::replace(&mut *held, Held::Withdrawn) {
            waker.wake();
        }
        is_held
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Odd while it is busy, and another number each time.
    fn note(&self, is_busy: bool) {
        let activity = self.activity.load(Ordering::Relaxed);
        if (activity % 2 == 1) != is_busy {
            // The session's own worker alone writes it.
            self.activity.store(activity.wrapping_add(1), Ordering::Release);
        }
    }
}

impl Registered {
    /// Notes that a command waits for people; whether it was cancelled. The task is woken when it is.
    pub(crate) fn is_withdrawn(&self, cx: &Context<'_>) -> bool {
        let mut held = self.entry.held();
        let is_withdrawn = matches!(*held, Held::Withdrawn);
        if !is_withdrawn {
            *held = Held::Waits(cx.waker().clone());
        }
        is_withdrawn
    }

    /// Notes that none waits any more.
    pub(crate) fn goes_on(&self) {
        *self.entry.held() = Held::No;
    }

    /// Notes whether there is something to cancel.
    pub(crate) fn note(&self, is_busy: bool) {
        self.entry.note(is_busy);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let place = (self.addr, self.entry.keys.own.process);
        let mut known = self.cancels.known();
        if let Some(entries) = known.get_mut(&place) {
            entries.retain(|entry| !Arc::ptr_eq(entry, &self.entry));
            if entries.is_empty() {
                known.remove(&place);
            }
        }
    }
}
