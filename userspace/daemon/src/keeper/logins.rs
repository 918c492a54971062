//! People who are logged in on this host: their tokens are renewed while the issuer lets them, and the agents that
//! they started end when they are logged in no more. All of it is in memory alone: a restart of the daemon ends it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use identity::Enrollment;
use identity::oidc::Tokens;
use identity::oidc::introspection::Hint;
use identity::oidc::tokens::{FlowError, OAuthError};
use identity::standing::Held;
use tracing::{info, warn};
use types::control::{Response, StandingLogin};
use types::identity::{Identity, Subject};
use types::secret::Secret;

use super::login::UnderWay;
use super::renewal::Renewal;
use super::tokens::Proven;
use super::{Binding, Cut, CutBy, EXPIRED, INTERVAL, Keeper, ends, name};
use crate::asker::HostUser;

/// People logged in at once: each has a task and two tokens of 16 KiB at most, 32 MiB in all.
pub(super) const LOGINS_MAX: usize = 1024;

/// Why an agent acts for nobody any more: the daemon was started again, and knows of no login.
pub(super) const LOG_IN_AGAIN: &str = "log_in_again";

/// The same: the issuer renews the login no more.
pub(super) const LOGIN_ENDED: &str = "login_ended";

/// Whether a token is kept as a login's, and not as an agent's, whose name has no blank.
pub(super) fn is_token(key: &str) -> bool {
    key.starts_with(TOKEN)
}

const TOKEN: &str = "login ";

/// Logins, standing and under way.
#[derive(Debug, Default)]
pub(super) struct Logins {
    pub(super) under_way: Mutex<HashMap<String, UnderWay>>,
    standing: Mutex<HashMap<HostUser, Login>>,
}

/// A person's login.
#[derive(Clone, Debug)]
pub(super) struct Login {
    /// Its own id: the person's next one is another.
    pub(super) id: Arc<str>,
    /// Who it is.
    pub(super) proven: Proven,
    /// What new tokens are had with, where the issuer gave any.
    pub(super) refresh: Option<Secret<String>>,
    /// When.
    pub(super) renewal: Renewal,
    /// Why there are none: said once.
    pub(super) failed: Option<&'static str>,
}

impl Login {
    /// As what its token is kept, for its issuer to be asked about it.
    pub(super) fn key(&self) -> String {
        format!("{TOKEN}{}", self.id)
    }

    /// Why it counts no more, by its issuer's word.
    fn revoked(&self) -> Option<&'static str> {
        let ended = self.proven.raw.as_ref().and_then(|raw| raw.ended());
        ended.filter(|why| *why == CutBy::TokenRevoked.as_str())
    }

    /// The person.
    pub(super) fn subject(&self) -> Option<&Subject> {
        self.proven.identity.subject.as_ref()
    }

    fn listed(&self, person: HostUser, agents: Vec<String>) -> Option<StandingLogin> {
        let subject = self.subject()?;
        Some(StandingLogin {
            person: person.to_string(),
            user: subject.user.as_ref().to_owned(),
            idp: subject.idp.as_ref().to_owned(),
            sub: subject.sub.as_ref().to_owned(),
            groups: subject.groups.iter().map(|group| group.as_ref().to_owned()).collect(),
            expires_s: subject.token.expires_s,
            renewed: self.refresh.is_some(),
            agents,
        })
    }
}

impl Logins {
    fn standing(&self) -> MutexGuard<'_, HashMap<HostUser, Login>> {
        // No code that can panic runs under this lock.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a login stands.
    pub(super) fn stands(&self, id: &str) -> bool {
        self.standing().values().any(|login| *login.id == *id)
    }

    /// A person's login.
    pub(super) fn of(&self, person: HostUser) -> Option<Login> {
        self.standing().get(&person).cloned()
    }

    /// Whom an agent acts for by a login.
    pub(super) fn proven(&self, id: &str) -> Option<Proven> {
        let standing = self.standing();
        standing.values().find(|login| *login.id == *id).map(|login| login.proven.clone())
    }

    /// Adds a login; a word where there is no room for it.
    pub(super) fn add(&self, person: HostUser, login: Login) -> Result<(), &'static str> {
        let mut standing = self.standing();
        if standing.contains_key(&person) {
            return Err("already_logged_in");
        }
        if standing.len() >= LOGINS_MAX {
            return Err("too_many_logins");
        }
        standing.insert(person, login);
        Ok(())
    }

    /// Puts a login in the place of what it was; false if it stands no more.
    fn replace(&self, person: HostUser, login: Login) -> bool {
        let mut standing = self.standing();
        match standing.get_mut(&person) {
            Some(old) if old.id == login.id => {
                *old = login;
                true
            }
            _ => false,
        }
    }

    fn remove(&self, person: HostUser, id: &str) -> Option<Login> {
        let mut standing = self.standing();
        if standing.get(&person).is_some_and(|login| *login.id == *id) {
            return standing.remove(&person);
        }
        None
    }

    fn all(&self) -> Vec<(HostUser, Login)> {
        self.standing().iter().map(|(person, login)| (*person, login.clone())).collect()
    }
}

impl Keeper {
    /// What is bound when a person starts an agent: where that person is logged in, the login answers for it.
    ///
    /// # Errors
    /// If somebody else is named who would answer for it, or in words that only a login has.
    pub(crate) fn started_by(&self, person: HostUser, mut binding: Binding) -> Result<Binding> {
        let Some(login) = self.logins.of(person) else {
            let is_word = binding.owner.as_deref().is_none_or(|owner| !owner.contains("://"));
            ensure!(is_word, "--owner: a word without `://`; who is proven to answer logs in");
            return Ok(binding);
        };
        let subject = login.subject().context("a login is somebody's")?;
        ensure!(
            binding.owner.is_none(),
            "--owner: {} is logged in here and answers for this agent; `vestibule logout` first",
            subject.user
        );
        binding.owner = Some(format!("{}@{}", subject.sub, subject.idp));
        binding.login = Some(login.id.as_ref().to_owned());
        Ok(binding)
    }

    /// The logins that stand, by who they are to this host.
    pub(crate) fn logins(&self) -> Vec<StandingLogin> {
        let list = |(person, login): (HostUser, Login)| {
            let agents = self.those_of(&login.id);
            login.listed(person, agents.iter().map(|(enrollment, _)| name(enrollment)).collect())
        };
        let mut logins: Vec<_> = self.logins.all().into_iter().filter_map(list).collect();
        logins.sort_by(|a, b| a.person.cmp(&b.person));
        logins
    }

    /// One login, if it stands.
    pub(super) fn login_of(&self, person: HostUser) -> Option<StandingLogin> {
        self.logins.of(person)?.listed(person, Vec::new())
    }

    /// Ends the login of whoever asks, and gives the refresh token back to the issuer. May block.
    ///
    /// # Errors
    /// If nobody is logged in.
    pub(crate) fn log_out(&self, person: HostUser) -> Result<Response> {
        let standing = self.logins.of(person);
        let login = standing.with_context(|| format!("{person}: not logged in"))?;
        let agents = self.end_login(person, &login.id, CutBy::LoggedOut.as_str());
        let runtime = tokio::runtime::Handle::current();
        let not_revoked = runtime.block_on(self.give_back(&login)).err().map(str::to_owned);
        let login = login.listed(person, Vec::new()).context("a login is somebody's")?;
        Ok(Response::LoggedOut { login, agents, not_revoked })
    }

    /// Has the issuer revoke a login's refresh token; a word if it could not be told.
    pub(super) async fn give_back(&self, login: &Login) -> Result<(), &'static str> {
        let (Some(refresh), Some(subject)) = (&login.refresh, login.subject()) else {
            return Ok(());
        };
        let (provider, own) = self.at(&subject.idp).ok_or("no_client")?;
        let client = own.get().await.map_err(|_| "client_secret")?;
        let asked = provider.revoke(&client, refresh, Hint::Refresh, self.clock.now()).await;
        asked.map_err(|error| error.reason())
    }

    /// Ends the logins that a cut meets; the agents that end with them.
    pub(super) fn cut_logins(&self, cut: &Cut) -> Vec<String> {
        let is_met = |(_, login): &(HostUser, Login)| cut.meets(&login.proven.identity);
        let met = self.logins.all().into_iter().filter(is_met);
        met.flat_map(|(person, login)| self.end_login(person, &login.id, cut.why.as_str()))
            .collect()
    }

    /// Ends a login and every agent that was started under it; the agents.
    pub(super) fn end_login(&self, person: HostUser, id: &str, why: &'static str) -> Vec<String> {
        let Some(login) = self.logins.remove(person, id) else { return Vec::new() };
        self.tokens.forget(&login.key());
        let agents = self.those_of(id);
        for (enrollment, _) in &agents {
            self.hold(enrollment, Held::Ended(why));
        }
        let agents: Vec<String> = agents.iter().map(|(enrollment, _)| name(enrollment)).collect();
        info!(%person, why, agents = agents.len(), "a login ended");
        self.note_login("login.ended", person, login.subject(), Some(why), &agents);
        agents
    }

    /// Renews a login and ends it in time, for as long as it stands.
    pub(super) async fn keep_login(self: Arc<Self>, person: HostUser, id: Arc<str>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(login) = self.logins.of(person).filter(|login| login.id == id) else { return };
            if let Some(why) = login.revoked() {
                self.end_login(person, &id, why);
                return;
            }
            let now = self.clock.now();
            let left_us = ends(&login.proven.identity).saturating_sub(now.unix_us);
            let Ok(left_us @ 1..) = u64::try_from(left_us) else {
                self.end_login(person, &id, EXPIRED);
                return;
            };
            if login.refresh.is_some() && login.renewal.is_due(now) {
                // An issuer that hangs keeps no login from ending.
                let renewed = self.renew_login(person, login);
                tokio::time::timeout(Duration::from_micros(left_us), renewed).await.ok();
            }
        }
    }

    async fn renew_login(&self, person: HostUser, mut login: Login) {
        let id = Arc::clone(&login.id);
        match self.refreshed(&login).await {
            Ok(tokens) => match self.prove_login(&tokens, Some(&login)).await {
                Ok(proven) => {
                    let expires_s = ends(&proven.identity) / 1_000_000;
                    login.renewal = Renewal::of(expires_s, self.clock.now());
                    login.refresh = tokens.refresh.or(login.refresh);
                    login.proven = proven.clone();
                    login.failed = None;
                    let key = login.key();
                    if self.logins.replace(person, login) {
                        self.tokens.keep(&key, proven.clone());
                        // A cut comes before, or meets it.
                        if let Err(cut) = self.uncut(proven) {
                            self.end_login(person, &id, cut.as_str());
                        }
                    }
                    self.act_by_login(&id);
                }
                Err(why) if why.may_pass() => {
                    // The one that it was had with may be used up (RFC 6749 §6).
                    login.refresh = tokens.refresh.or(login.refresh);
                    self.login_not_renewed(person, login, why.as_str());
                }
                Err(why) => drop(self.end_login(person, &id, why.as_str())),
            },
            // RFC 6749 §5.2: the refresh token is over, or its login was revoked.
            Err(OVER) => drop(self.end_login(person, &id, LOGIN_ENDED)),
            Err(why) => self.login_not_renewed(person, login, why),
        }
    }

    pub(super) async fn refreshed(&self, login: &Login) -> Result<Tokens, &'static str> {
        let idp = login.subject().map(|subject| Arc::clone(&subject.idp)).ok_or("no_client")?;
        let (provider, own) = self.at(&idp).ok_or("no_client")?;
        let client = own.get().await.map_err(|_| "client_secret")?;
        let refresh = login.refresh.as_ref().ok_or("no_refresh_token")?;
        let resource = own.target().resource;
        let asked = provider.refresh(&client, refresh, resource, self.clock.now()).await;
        asked.map_err(|error| match error {
            FlowError::Refused(OAuthError::InvalidGrant) => OVER,
            other => other.reason(),
        })
    }

    fn login_not_renewed(&self, person: HostUser, mut login: Login, why: &'static str) {
        login.renewal.failed(self.clock.now());
        if login.failed.replace(why) != Some(why) {
            warn!(%person, why, "a login is not renewed; it counts until its token ends");
            self.note_login("login.not_renewed", person, login.subject(), Some(why), &[]);
        }
        self.logins.replace(person, login);
    }

    /// Has the agents that act for a login's person act by its newest token.
    fn act_by_login(&self, id: &str) {
        for (enrollment, binding) in self.those_of(id) {
            if !binding.has_token()
                && let Some(proven) = self.logins.proven(id)
            {
                self.act_by(&enrollment, proven.owned(&binding));
            }
        }
    }

    /// Writes down what became of a login.
    pub(super) fn note_login(
        &self,
        kind: &str,
        person: HostUser,
        subject: Option<&Subject>,
        why: Option<&str>,
        agents: &[String],
    ) {
        let detail = serde_json::json!({
            "person": person.to_string(),
            "user": subject.map(|subject| &subject.user),
            "idp": subject.map(|subject| &subject.idp),
            "sub": subject.map(|subject| &subject.sub),
            "groups": subject.map(|subject| &subject.groups),
            "expires_s": subject.map(|subject| subject.token.expires_s),
            "why": why,
            "agents": agents,
        });
        if let Err(error) = self.recorder.control(kind, &detail.to_string()) {
            warn!(%error, kind, "a login could not be recorded");
        }
    }

    /// The agents that were started under a login.
    fn those_of(&self, id: &str) -> Vec<(Enrollment, Binding)> {
        self.those_bound(|binding| binding.login.as_deref() == Some(id))
    }
}

/// The word for the end of a refresh token.
pub(super) const OVER: &str = "invalid_grant";

/// What an identity has that its next token may leave out: when, how and how well the person logged in, and where.
pub(super) fn filled(identity: &Identity, from: &Identity) -> Option<Identity> {
    let (own, other) = (identity.subject.as_ref()?, from.subject.as_ref()?);
    if (&own.idp, &own.sub) != (&other.idp, &other.sub) {
        return None;
    }
    let mut token = own.token.as_ref().clone();
    let more = &other.token;
    token.session = token.session.or_else(|| more.session.clone());
    token.authenticated_s = token.authenticated_s.or(more.authenticated_s);
    token.class = token.class.or_else(|| more.class.clone());
    if token.methods.is_empty() {
        token.methods = Arc::clone(&more.methods);
    }
    let subject = Subject { token: token.into(), ..own.clone() };
    Some(Identity { subject: Some(subject), ..identity.clone() })
}
