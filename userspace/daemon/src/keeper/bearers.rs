//! Sessions that act by a token of their own: given in the place of a password, or inside a request.
//!
//! Each has a standing inside its agent's, which is kept here as long as the session holds it, so that what ends an
//! agent's identity ends a session's as well. Tokens are verified on the keeper's thread, whoever asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use identity::oidc::Presented;
use identity::standing::{Held, Standing};
use proxy::bearer::{self, Bearing, Verifying};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::info;
use types::id::SessionId;
use types::identity::{Identity, Way};
use types::secret::Secret;

use super::{Cut, EXPIRED, IssuerRule, Keeper, Proven, Refused, ends};

/// Tokens that wait to be verified: 16 KiB each at most, 4 MiB. One more waits with its session.
const WAITING_MAX: usize = 256;

/// Tokens that are verified at once; each waits for an issuer 15 s at most.
const AT_ONCE_MAX: usize = 64;

/// Where sessions bring their tokens.
pub(crate) struct Bearers {
    issuers: Vec<String>,
    asking: mpsc::Sender<Asked>,
}

/// Tokens on their way to the keeper.
pub(crate) type Asking = mpsc::Receiver<Asked>;

/// A token to verify.
pub(crate) struct Asked {
    token: Secret<String>,
    way: Way,
    session: SessionId,
    /// The agent's name and instance.
    agent: String,
    standing: Arc<Standing>,
    answer: oneshot::Sender<Result<Arc<Standing>, &'static str>>,
}

/// A session that acts by a token of its own; nobody's where the session has ended.
#[derive(Debug)]
struct Borne {
    agent: String,
    standing: Weak<Standing>,
}

/// All of them, by agent, instance and session: as many as there may be, about 300 B each, and those that ended within
/// the last second. Their tokens are kept as agents' are, under the same key.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Borne>>);

impl Bearers {
    /// Where sessions bring tokens of these issuers, and where the keeper has them from; none without issuers.
    pub(crate) fn of(issuers: &[IssuerRule]) -> (Option<Arc<dyn bearer::Bearers>>, Asking) {
        let (asking, asked) = mpsc::channel(WAITING_MAX);
        let issuers: Vec<String> = issuers.iter().map(|rule| rule.url().to_owned()).collect();
        if issuers.is_empty() {
            return (None, asked);
        }
        (Some(Arc::new(Self { issuers, asking })), asked)
    }
}

impl bearer::Bearers for Bearers {
    fn knows(&self, presented: &Presented) -> bool {
        self.issuers.iter().any(|issuer| presented.names(issuer))
    }

    fn verify(&self, bearing: Bearing<'_>) -> Verifying {
        let Bearing { presented, way, session, principal, agent } = bearing;
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            token: presented.token().clone(),
            way,
            session,
            agent: format!("{}.{}", principal.agent, principal.instance),
            standing: Arc::clone(agent),
            answer,
        };
        let asking = self.asking.clone();
        Box::pin(async move {
            if asking.send(asked).await.is_err() {
                return Err("not_verified");
            }
            answered.await.unwrap_or(Err("not_verified"))
        })
    }
}

impl Keeper {
    /// Verifies what sessions bring, until the runtime ends.
    pub(crate) async fn answer(self: Arc<Self>, mut asking: Asking) {
        let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
        while let Some(asked) = asking.recv().await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            if asked.answer.is_closed() {
                continue;
            }
            let keeper = Arc::clone(&self);
            tokio::task::spawn_local(async move {
                let Asked { token, way, session, agent, standing, answer } = asked;
                let borne = keeper.bear((token, way), (session, agent), standing).await;
                // Its session may have ended meanwhile.
                drop(answer.send(borne));
                drop(place);
            });
        }
    }

    /// Whom a session acts for that has this token.
    async fn bear(
        &self,
        (token, way): (Secret<String>, Way),
        (session, agent): (SessionId, String),
        outer: Arc<Standing>,
    ) -> Result<Arc<Standing>, &'static str> {
        let owner = match outer.held() {
            Held::For(identity) => identity.owner.clone(),
            Held::Ended(why) => return Err(why),
        };
        let Proven { identity, raw } = self.believed(token, way).await.map_err(Refused::as_str)?;
        let identity = Arc::new(Identity { owner, ..Identity::clone(&identity) });
        // Under this lock, so that a cut comes before or meets it.
        let bindings = self.bindings();
        if let Some(cut) = bindings.cut_of(&identity) {
            return Err(cut.as_str());
        }
        let standing = Standing::inside(Some(outer));
        standing.set(Held::For(Arc::clone(&identity)));
        let key = format!("{agent}/{session}");
        let borne = Borne { agent, standing: Arc::downgrade(&standing) };
        self.sessions.entered().insert(key.clone(), borne);
        self.tokens.keep(&key, Proven { identity, raw });
        Ok(standing)
    }

    /// Ends the sessions that a cut meets by their own tokens; answers whose they are.
    pub(super) fn cut_sessions(&self, cut: &Cut) -> Vec<String> {
        self.sessions.end(cut.why.as_str(), |identity| cut.meets(identity))
    }

    /// Ends the sessions whose tokens are over, and forgets those that ended.
    pub(super) fn end_sessions_over(&self) {
        let now = self.clock.now();
        self.sessions.end(EXPIRED, |identity| ends(identity) <= now.unix_us);
        self.sessions.entered().retain(|_, borne| borne.standing.strong_count() > 0);
    }
}

impl Sessions {
    /// Those that are open, by what their tokens are kept under.
    pub(super) fn keys(&self) -> Vec<String> {
        self.entered().keys().cloned().collect()
    }

    /// What a session goes by, if it is open.
    pub(super) fn standing(&self, key: &str) -> Option<Arc<Standing>> {
        self.entered().get(key)?.standing.upgrade()
    }

    /// Ends those of whom that is so; answers whose they are.
    fn end(&self, why: &'static str, is_meant: impl Fn(&Identity) -> bool) -> Vec<String> {
        let mut met = Vec::new();
        for (key, Borne { agent, standing }) in &*self.entered() {
            let Some(standing) = standing.upgrade() else { continue };
            if let Held::For(identity) = standing.held()
                && is_meant(&identity)
            {
                // Its session writes that down.
                standing.set(Held::Ended(why));
                info!(session = key, why, "a session's own identity ended");
                met.push(agent.clone());
            }
        }
        met
    }

    fn entered(&self) -> MutexGuard<'_, HashMap<String, Borne>> {
        // No code that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
