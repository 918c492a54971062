//! The sessions that are open, for whoever watches over them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use types::clock::Timestamp;
use types::id::{AgentName, SessionId};
use types::identity::Identity;
use types::target::Target;

/// All open sessions of a node; as many as there may be, about 400 B each.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<BTreeMap<SessionId, Arc<Open>>>);

/// An open session.
#[derive(Debug)]
pub struct Open {
    /// When the agent connected.
    pub at: Timestamp,
    /// The agent.
    pub agent: AgentName,
    /// Which start of it.
    pub instance: Arc<str>,
    /// Agents from the outermost to this one.
    pub chain: Arc<[AgentName]>,
    /// The connecting process.
    pub tgid: u32,
    /// The agent's end.
    pub source: SocketAddr,
    /// The target's name.
    pub target: Arc<str>,
    /// The database, where one is known.
    pub database: Option<Arc<str>>,
    /// The account at the target.
    pub account: Option<Arc<str>>,
    identity: Mutex<Arc<Identity>>,
    commands: AtomicU64,
    last_us: AtomicI64,
    end: Mutex<End>,
}

/// Whether a session is to end, and who is told then.
#[derive(Debug, Default)]
struct End {
    is_wanted: bool,
    waker: Option<Waker>,
}

impl Open {
    /// A session as it opens.
    pub(crate) fn new(
        at: Timestamp,
        principal: &types::principal::Principal,
        source: SocketAddr,
        target: &Target,
    ) -> Self {
        Self {
            at,
            agent: principal.agent.clone(),
            instance: Arc::clone(&principal.instance),
            chain: Arc::clone(&principal.chain),
            tgid: principal.process.key.tgid,
            source,
            target: Arc::clone(&target.name),
            database: target.database.clone(),
            account: target.account.clone(),
            identity: Mutex::new(Arc::clone(&principal.identity)),
            commands: AtomicU64::new(0),
            last_us: AtomicI64::new(at.unix_us),
            end: Mutex::default(),
        }
    }

    /// Whether somebody wants it to end; whoever asks is woken when that is so.
    pub(crate) fn is_to_end(&self, cx: &Context<'_>) -> bool {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if !end.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            end.waker = Some(cx.waker().clone());
        }
        end.is_wanted
    }

    /// Notes a command.
    pub(crate) fn began(&self, at: Timestamp) {
        self.commands.fetch_add(1, Ordering::Relaxed);
        self.last_us.store(at.unix_us, Ordering::Relaxed);
    }

    /// Notes whom it goes on for.
    pub(crate) fn go_on_for(&self, identity: Arc<Identity>) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// Whom the agent acts for in it.
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many commands there were, and when the last one began, microseconds since 1970 UTC.
    pub fn commands(&self) -> (u64, i64) {
        (self.commands.load(Ordering::Relaxed), self.last_us.load(Ordering::Relaxed))
    }
}

impl Sessions {
    /// The open sessions in the order in which they opened, at most `most`; and how many there are.
    pub fn list(
        &self,
        most: usize,
        mut is_meant: impl FnMut(&Open) -> bool,
    ) -> (Vec<(SessionId, Arc<Open>)>, usize) {
        let open = self.open();
        let mut meant = Vec::new();
        let mut count = 0;
        for (session, one) in open.iter().filter(|(_, one)| is_meant(one)) {
            count += 1;
            if meant.len() < most {
                meant.push((*session, Arc::clone(one)));
            }
        }
        (meant, count)
    }

    /// The newest open sessions, newest first, at most `most`; and how many are open.
    pub fn newest(&self, most: usize) -> (Vec<(SessionId, Arc<Open>)>, usize) {
        let open = self.open();
        let newest = open.iter().rev().take(most).map(|(session, one)| (*session, Arc::clone(one)));
        (newest.collect(), open.len())
    }

    /// One of them.
    pub fn get(&self, session: SessionId) -> Option<Arc<Open>> {
        self.open().get(&session).map(Arc::clone)
    }

    /// Has a session end as its protocol has it; false where none is open by that id.
    pub fn end(&self, session: SessionId) -> bool {
        let Some(open) = self.get(session) else { return false };
        let mut end = open.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.is_wanted = true;
        if let Some(waker) = &end.waker {
            waker.wake_by_ref();
        }
        true
    }

    /// Enters a session.
    pub(crate) fn enter(&self, session: SessionId, open: Open) -> Arc<Open> {
        let open = Arc::new(open);
        self.open().insert(session, Arc::clone(&open));
        open
    }

    /// Forgets a session that ended.
    pub(crate) fn leave(&self, session: SessionId) {
        self.open().remove(&session);
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<Open>>> {
        // No code that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
