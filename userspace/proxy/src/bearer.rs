//! Tokens in the place of a database password: asked for where a credential says so, verified, and never passed on.
//! Those in HTTP requests are verified here as well; [`crate::http`] finds them.
//!
//! What verifies them is behind [`Bearers`]; a session goes on with the standing that it answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use identity::oidc::Presented;
use identity::standing::Standing;
use proto::postgres::{Password, PostgresSession};
use types::id::SessionId;
use types::identity::Way;
use types::principal::Principal;

use crate::door::Door;
use crate::ledger::Ledger;
use crate::login::Login;

/// The rule that a session is refused by whose token does not count.
pub(crate) const RULE: &str = "password-token";

/// How long a token may take to be verified: metadata and keys of an issuer that was never asked before, 5 s each.
const PATIENCE: Duration = Duration::from_secs(15);

/// What agents are asked for in the place of a password, where a credential logs in for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPassword {
    /// A token counts; any other password is nobody's concern.
    Optional,
    /// Without a token there is no session.
    Required,
}

/// A token that a session was given, and what it is to act by from then on.
#[derive(Debug)]
pub struct Bearing<'a> {
    /// The token, which nobody has verified.
    pub presented: Presented,
    /// How it came.
    pub way: Way,
    /// The session.
    pub session: SessionId,
    /// Whose session it is, so far.
    pub principal: &'a Principal,
    /// Whom its agent acts for: that ends with this, and not the other way round.
    pub agent: &'a Arc<Standing>,
}

/// Whom a session acts for that was given a token; or why the token does not count, in a fixed word.
pub type Verifying = Pin<Box<dyn Future<Output = Result<Arc<Standing>, &'static str>> + Send>>;

/// Who verifies tokens that sessions are given.
pub trait Bearers: Send + Sync {
    /// Whether a token says that it is of an issuer whose tokens count.
    fn knows(&self, presented: &Presented) -> bool;

    /// Verifies a token. The standing that is answered rests on the agent's, and is evaluated as long as the session
    /// holds it.
    fn verify(&self, bearing: Bearing<'_>) -> Verifying;
}

/// What one session's password is, and what comes of it.
pub(crate) struct Bearer<'d> {
    door: &'d Door,
    verifying: Option<Verifying>,
    refused: Option<&'static str>,
}

/// What became of a password.
pub(crate) enum Weighed {
    /// The session goes on as before, or says why not.
    Same,
    /// The session goes on by a token.
    By(Arc<Standing>),
}

impl<'d> Bearer<'d> {
    /// Has a session show what passwords it gets, where anything comes of that.
    pub(crate) fn new(door: &'d Door, session: &mut PostgresSession, login: &Login<'_>) -> Self {
        if door.bearers.is_some() {
            session.hold_passwords();
            if login.asks_for_tokens() {
                session.hold_opening();
            }
        }
        Self { door, verifying: None, refused: None }
    }

    /// Why a session is refused whose token does not count.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        self.refused
    }

    /// Asks for a password, or takes what came of one; ready when that moved the session.
    pub(crate) fn poll(
        &mut self,
        session: &mut PostgresSession,
        login: &Login<'_>,
        (ledger, agent): (&Ledger<'_>, &Arc<Standing>),
        cx: &mut Context<'_>,
    ) -> Poll<Weighed> {
        let asked = |session: &PostgresSession| {
            session.startup().and_then(|startup| login.token_password(&startup.user))
        };
        if session.is_met() {
            match asked(session) {
                Some(_) => session.ask_password(),
                None => session.open(),
            }
            return Poll::Ready(Weighed::Same);
        }
        match session.password() {
            Some(Password::Asked(None)) => self.refuse(session, ledger, "too_large"),
            Some(Password::Asked(Some(given))) => match Presented::read(&given) {
                Some(presented) => self.verifying = Some(self.verify(presented, ledger, agent)),
                None if asked(session) == Some(TokenPassword::Required) => {
                    self.refuse(session, ledger, NO_TOKEN);
                }
                None => session.open(),
            },
            Some(Password::Relayed(given)) => {
                let presented = Presented::read(&given);
                let knows = |one| self.door.bearers.as_ref().is_some_and(|all| all.knows(one));
                if presented.as_ref().is_some_and(knows) {
                    ledger.token_refused(Way::Password, "not_taken_here");
                    session.refuse_token(NOT_TAKEN, "a token for a password, where none is taken");
                } else {
                    session.pass_password();
                }
            }
            None => return self.poll_verified(session, ledger, cx),
        }
        if self.verifying.is_some() {
            return self.poll_verified(session, ledger, cx);
        }
        Poll::Ready(Weighed::Same)
    }

    fn poll_verified(
        &mut self,
        session: &mut PostgresSession,
        ledger: &Ledger<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Weighed> {
        let Some(verifying) = &mut self.verifying else { return Poll::Pending };
        let verified = ready!(verifying.as_mut().poll(cx));
        self.verifying = None;
        Poll::Ready(match verified {
            Ok(standing) => Weighed::By(standing),
            Err(why) => {
                self.refuse(session, ledger, why);
                Weighed::Same
            }
        })
    }

    fn verify(
        &self,
        presented: Presented,
        ledger: &Ledger<'_>,
        agent: &Arc<Standing>,
    ) -> Verifying {
        verifying(self.door, presented, Way::Password, ledger, agent)
    }

    /// Has the opening refused, as a command that is decided and recorded.
    fn refuse(&mut self, session: &mut PostgresSession, ledger: &Ledger<'_>, why: &'static str) {
        self.refused = Some(why);
        ledger.token_refused(Way::Password, why);
        session.open();
    }
}

/// Has a token verified that a session was given, in a bounded time.
pub(crate) fn verifying(
    door: &Door,
    presented: Presented,
    way: Way,
    ledger: &Ledger<'_>,
    agent: &Arc<Standing>,
) -> Verifying {
    let Some(bearers) = &door.bearers else {
        return Box::pin(std::future::ready(Err("no_issuer")));
    };
    let (session, principal) = (ledger.session(), ledger.principal());
    let verifying = bearers.verify(Bearing { presented, way, session, principal, agent });
    Box::pin(async move {
        let verified = tokio::time::timeout(PATIENCE, verifying).await;
        verified.unwrap_or(Err("late"))
    })
}

/// What an agent is told whose session is refused.
pub(crate) fn told(why: &str) -> String {
    match why {
        NO_TOKEN => format!("a token must be given for a password here: {why}"),
        why => format!("the token given for a password does not count: {why}"),
    }
}

/// Why a session is refused whose password is no token.
const NO_TOKEN: &str = "no_token";

/// What an agent is told whose token would go to a server.
const NOT_TAKEN: &str = "vestibule: this is a token of an issuer that says whom agents act for, and no password of the \
                         target's: it is not sent there (a credential with token_password would take it)";
