//! What a session's driver does about authentication and cancel requests, beside relaying.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use identity::standing::Standing;
use proto::postgres::{PostgresSession, ScramKeys};
use types::command::CommandKind;
use types::decision::{Decision, Effect};
use types::id::PolicyId;

use crate::bearer::TokenPassword;
use crate::cancels::{Cancellable, Registered, Way};
use crate::credentials::{Candidates, Loaded, Unusable, cancel_key};
use crate::door::Door;
use crate::ephemeral::{EphemeralRule, Failed, Guest, Wanted};
use crate::ledger::Ledger;

/// The authentication of one session, and what it cancels or is cancelled by.
pub(crate) struct Login<'d> {
    candidates: Candidates,
    way: Way,
    credential: Option<Result<Arc<Loaded>, Unusable>>,
    guest: GuestState<'d>,
    deriving: Option<Deriving<'d>>,
    registered: Option<Registered>,
    cancelling: Option<(Arc<Cancellable>, u64)>,
}

/// A role that is made for the session.
enum GuestState<'d> {
    /// None is.
    None,
    /// It has a name.
    Named(Guest, Arc<EphemeralRule>),
    /// The server is asked for it; nothing goes up meanwhile.
    Making(Pin<Box<dyn Future<Output = Result<Guest, Failed>> + 'd>>),
    /// It is there, as long as this is.
    There(#[expect(dead_code, reason = "dropping it has the role dropped")] Guest),
}

type Deriving<'d> = Pin<Box<dyn Future<Output = Option<Arc<ScramKeys>>> + 'd>>;

impl<'d> Login<'d> {
    /// With what the session may be authenticated, and how its server is reached.
    pub(crate) fn new(candidates: Candidates, way: Way) -> Self {
        Self {
            candidates,
            way,
            credential: None,
            guest: GuestState::None,
            deriving: None,
            registered: None,
            cancelling: None,
        }
    }

    /// Whether agents that ask for some role are asked for a token.
    pub(crate) fn asks_for_tokens(&self) -> bool {
        self.candidates.ask_for_tokens()
    }

    /// What an agent is asked for that asks for this role.
    pub(crate) fn token_password(&self, role: &str) -> Option<TokenPassword> {
        self.candidates.token_password(role)
    }

    /// Before a session's opening is decided: chooses its credential and gives it a cancel key.
    pub(crate) fn open(
        &mut self,
        session: &mut PostgresSession,
        door: &Arc<Door>,
        ledger: &mut Ledger<'_>,
    ) {
        let Some(startup) = session.startup() else { return };
        self.credential = self.candidates.of(&startup.user);
        if let Some(Ok(maker)) = &self.credential
            && let Some(rule) = maker.ephemeral().cloned()
        {
            let wanted = Wanted {
                agent: &ledger.principal().agent,
                session: ledger.session(),
                netns_cookie: ledger.accepted().netns_cookie,
                target: ledger.target(),
                database: &startup.database,
                way: &self.way,
            };
            self.credential = Some(Guest::new(door, maker, &rule, &wanted).map(|guest| {
                let loaded = Arc::clone(guest.loaded());
                self.guest = GuestState::Named(guest, rule);
                loaded
            }));
        }
        let used = self.credential.as_ref().and_then(|found| found.as_deref().ok());
        ledger.bind(&startup.database, &startup.user, used);
        match used.map(Loaded::injection) {
            Some(Ok(injection)) => session.inject(injection),
            Some(Err(unusable)) => self.credential = Some(Err(unusable)),
            None => {}
        }
        if let Some(key) = cancel_key() {
            session.set_cancel_key(key);
        }
    }

    /// Has the role that the session logs in with made, once its opening is allowed.
    pub(crate) fn admit(&mut self) {
        self.guest = match std::mem::replace(&mut self.guest, GuestState::None) {
            GuestState::Named(guest, rule) => GuestState::Making(Box::pin(guest.make(rule))),
            other => other,
        };
    }

    /// Whether nothing may go up yet.
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self.guest, GuestState::Making(_))
    }

    /// What more stands against a command than policy: a credential that can't be used, a cancel
    /// request for a session of somebody else's.
    pub(crate) fn restrict(
        &mut self,
        kind: CommandKind,
        session: &mut PostgresSession,
        (decision, door): (Decision, &Door),
        ledger: &Ledger<'_>,
    ) -> Decision {
        if !decision.is_allow() {
            return decision;
        }
        if kind == CommandKind::Connect && matches!(self.credential, Some(Err(Unusable))) {
            let why = "the credential for this target can't be used; the daemon's log says why";
            return refused(&decision, "credential", why);
        }
        let (CommandKind::Cancel, Some(asked)) = (kind, session.cancel_request()) else {
            return decision;
        };
        match door.cancels.find(ledger.target().addr, asked, ledger.principal()) {
            Err(not_yours) => refused(&decision, "cancel-key", &not_yours.to_string()),
            // The session came up after this connection's way was chosen.
            Ok(found) if found.needs_tls() && matches!(self.way, Way::Plain) => refused(
                &decision,
                "cancel-key",
                "the session is inside TLS, its key is not sent in clear",
            ),
            // It is no matter of the server's.
            Ok(found) if found.withdraw() => {
                ledger.cancelled(found.session, "withdrawn");
                decision
            }
            Ok(found) => {
                // Nothing is to be cancelled: a late request would hit what comes next.
                let run = found.run();
                let what = if run.is_some() { "forwarded" } else { "nothing to cancel" };
                ledger.cancelled(found.session, what);
                if let Some(run) = run {
                    session.forward_cancel(found.real().clone());
                    self.cancelling = Some((found, run));
                }
                decision
            }
        }
    }

    /// Takes what the session has to say of its login, and notes whether it is busy.
    pub(crate) fn settle(
        &mut self,
        session: &mut PostgresSession,
        door: &'d Door,
        (ledger, standing): (&Ledger<'_>, &Arc<Standing>),
    ) {
        if let Some(wanted) = session.keys_wanted()
            && let Some(Ok(loaded)) = &self.credential
        {
            if let Some(keys) = loaded.keys_for(&wanted) {
                session.set_keys(&keys);
            } else {
                let keys = door.credentials.keys(Arc::clone(loaded), wanted);
                self.deriving = Some(Box::pin(keys));
            }
        }
        match (&self.registered, session.issued_key()) {
            (Some(registered), _) => registered.note(session.is_busy()),
            (None, Some(keys)) => {
                let who = (ledger.principal(), ledger.session(), self.way.clone());
                let addr = ledger.target().addr;
                let standing = Arc::clone(standing);
                let registered = door.cancels.register(addr, keys.clone(), who, standing);
                self.registered = Some(registered);
            }
            (None, None) => {}
        }
    }

    /// Notes that a command of the session waits for people; whether the agent cancelled it.
    pub(crate) fn is_withdrawn(&self, cx: &Context<'_>) -> bool {
        self.registered.as_ref().is_some_and(|registered| registered.is_withdrawn(cx))
    }

    /// Notes that none waits any more.
    pub(crate) fn goes_on(&self) {
        if let Some(registered) = &self.registered {
            registered.goes_on();
        }
    }

    /// Gives the session the keys that were computed, or lets it go on with its role; ready when it did.
    pub(crate) fn poll(&mut self, session: &mut PostgresSession, cx: &mut Context<'_>) -> Poll<()> {
        if let GuestState::Making(making) = &mut self.guest
            && let Poll::Ready(made) = making.as_mut().poll(cx)
        {
            self.guest = made.map_or(GuestState::None, GuestState::There);
            if matches!(self.guest, GuestState::None) {
                session.abandon_login("no role could be made for the session");
            }
            return Poll::Ready(());
        }
        let Some(deriving) = &mut self.deriving else { return Poll::Pending };
        let Poll::Ready(keys) = deriving.as_mut().poll(cx) else { return Poll::Pending };
        self.deriving = None;
        // Without keys the login goes nowhere and the server ends it.
        if let Some(keys) = keys {
            session.set_keys(&keys);
        }
        Poll::Ready(())
    }

    /// Before a cancel request is written: takes it back if what it was to cancel has ended.
    pub(crate) fn recheck(&mut self, session: &mut PostgresSession, ledger: &Ledger<'_>) {
        if let Some((found, run)) = self.cancelling.take()
            && found.run() != Some(run)
        {
            ledger.cancelled(found.session, "ended before");
            session.withdraw_cancel();
        }
    }
}

/// A refusal that is not policy's.
pub(crate) fn refused(decision: &Decision, rule: &str, why: &str) -> Decision {
    Decision {
        effect: Effect::Deny,
        obligations: Arc::new([]),
        determining: Arc::new([PolicyId(rule.into())]),
        reason: why.into(),
        policy_digest: decision.policy_digest,
    }
}
