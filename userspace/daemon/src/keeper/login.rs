//! How a person logs in on this host (RFC 8628): the issuer gives a code, the person's browser does the rest, and the
//! issuer is asked until it has.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use identity::oidc::device::{Login as Device, Poll};
use identity::oidc::tokens::FlowError;
use identity::oidc::{Provider, Tokens};
use tracing::{info, warn};
use types::clock::Timestamp;
use types::control::{Response, StandingLogin};
use types::hex::hex;
use types::identity::Way;

use super::client::OwnClient;
use super::logins::{Login, Logins, filled};
use super::renewal::Renewal;
use super::tokens::Proven;
use super::{Keeper, Refused, ends};
use crate::asker::HostUser;

/// Logins under way at once: each has a task, and asks its issuer once in five seconds.
const UNDER_WAY_MAX: usize = 64;

/// Microseconds after which a login that nobody asks about is given up: whoever began it has gone.
const SILENCE_US: u64 = 10_000_000;

/// Nobody waits for a login any more.
const WITHDRAWN: &str = "withdrawn";

/// A login under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    person: HostUser,
    progress: Progress,
    /// When somebody asked about it.
    asked: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Pending,
    Done,
    Failed(&'static str),
}

impl Logins {
    /// Those under way that somebody waits for.
    fn waited_for(&self, now: Timestamp) -> MutexGuard<'_, HashMap<String, UnderWay>> {
        // No code that can panic runs under this lock.
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, one| now.us_since(one.asked) < SILENCE_US);
        under_way
    }

    fn is_waited_for(&self, id: &str, now: Timestamp) -> bool {
        self.waited_for(now).contains_key(id)
    }
}

impl Keeper {
    /// An issuer, and the daemon's own client there.
    pub(super) fn at(&self, issuer: &str) -> Option<(&Arc<Provider>, &OwnClient)> {
        Some((self.providers.get(issuer)?, self.clients.get(issuer)?))
    }

    /// Begins a person's login, and follows it; at which issuer, and what to show. May block.
    pub(crate) fn log_in(
        self: &Arc<Self>,
        issuer: Option<&str>,
        person: HostUser,
    ) -> Result<(String, Response)> {
        let (provider, own) = self.at_issuer(issuer)?;
        if let Some(login) = self.login_of(person) {
            let StandingLogin { user, idp, .. } = login;
            bail!("{person}: logged in already, as {user} at {idp}; `vestibule logout` first");
        }
        let runtime = tokio::runtime::Handle::current();
        let begun = runtime.block_on(async {
            let client = own.get().await?;
            let begun = provider.login(&client, own.target(), self.clock.now()).await;
            begun.map_err(|error| anyhow::anyhow!("{}", error.reason()))
        });
        let device = begun.with_context(|| format!("{} begins no login", provider.issuer().url))?;
        let id = random()?;
        let now = self.clock.now();
        let mut under_way = self.logins.waited_for(now);
        ensure!(under_way.len() < UNDER_WAY_MAX, "{UNDER_WAY_MAX} logins are under way: wait");
        let one = UnderWay { person, progress: Progress::Pending, asked: now };
        under_way.insert(id.clone(), one);
        drop(under_way);
        let response = Response::LoginBegun {
            login: id.clone(),
            verification_uri: device.verification_uri.clone(),
            verification_uri_complete: device.verification_uri_complete.clone(),
            user_code: device.user_code.clone(),
            expires_in_s: device.expires_in.as_secs(),
        };
        let (keeper, issuer) = (Arc::clone(self), provider.issuer().url.clone());
        let at = issuer.clone();
        runtime.spawn(async move { keeper.follow_login(&id, person, &at, device).await });
        Ok((issuer, response))
    }

    /// How a login under way stands, and that somebody waits for it.
    ///
    /// # Errors
    /// If it has failed, or nobody knows it (any more).
    pub(crate) fn login_progress(&self, id: &str) -> Result<Response> {
        let now = self.clock.now();
        let mut under_way = self.logins.waited_for(now);
        let one = under_way.get_mut(id).context("no such login is under way")?;
        one.asked = now;
        let UnderWay { person, progress, .. } = *one;
        if progress != Progress::Pending {
            under_way.remove(id);
        }
        drop(under_way);
        match progress {
            Progress::Pending => Ok(Response::LoginProgress { login: None }),
            Progress::Done => {
                let login = self.login_of(person).context("the login has ended already")?;
                Ok(Response::LoginProgress { login: Some(login) })
            }
            Progress::Failed(why) => bail!("not logged in: {why}"),
        }
    }

    /// Gives up a login under way.
    pub(crate) fn withdraw_login(&self, id: &str) -> Response {
        self.logins.waited_for(self.clock.now()).remove(id);
        Response::LoginProgress { login: None }
    }

    /// The issuer that is meant.
    fn at_issuer(&self, issuer: Option<&str>) -> Result<(&Arc<Provider>, &OwnClient)> {
        let mut there = self.clients.keys();
        let url = match (issuer, there.next(), there.next()) {
            (Some(issuer), ..) => issuer,
            (None, Some(one), None) => one,
            (None, None, _) => bail!("the daemon has no client at any issuer: [[issuer]] client"),
            (None, Some(_), Some(_)) => bail!("--issuer: the daemon has clients at several"),
        };
        self.at(url).with_context(|| format!("{url}: the daemon has no client there"))
    }

    /// Asks an issuer until a person has logged in, or will not.
    async fn follow_login(
        self: Arc<Self>,
        id: &str,
        person: HostUser,
        issuer: &str,
        device: Device,
    ) {
        let ended = self.wait_for(id, issuer, device).await;
        let done = match ended {
            Ok(tokens) => self.logged_in(id, person, &tokens).await,
            Err(why) => Err(why),
        };
        let progress = match done {
            Ok(()) => Progress::Done,
            Err(why) => {
                warn!(%person, why, "nobody logged in");
                self.note_login("login.refused", person, None, Some(why), &[]);
                Progress::Failed(why)
            }
        };
        if let Some(one) = self.logins.waited_for(self.clock.now()).get_mut(id) {
            one.progress = progress;
        }
    }

    async fn wait_for(
        &self,
        id: &str,
        issuer: &str,
        mut device: Device,
    ) -> Result<Tokens, &'static str> {
        let (provider, own) = self.at(issuer).ok_or("no_client")?;
        loop {
            tokio::time::sleep(device.interval).await;
            let now = self.clock.now();
            if !self.logins.is_waited_for(id, now) {
                return Err(WITHDRAWN);
            }
            if device.is_over(now) {
                return Err("expired_token");
            }
            let client = own.get().await.map_err(|_| "client_secret")?;
            match provider.poll(&client, &mut device, now).await {
                Ok(Poll::Done(tokens)) => return Ok(tokens),
                Ok(Poll::Denied) => return Err("access_denied"),
                Ok(Poll::Expired) => return Err("expired_token"),
                Err(error @ (FlowError::Refused(_) | FlowError::NoEndpoint)) => {
                    return Err(error.reason());
                }
                // RFC 8628 §3.5: the person may be typing while the issuer is away.
                Ok(Poll::Pending) | Err(FlowError::Http(_) | FlowError::Issuer(_)) => {}
            }
        }
    }

    /// Takes a login up that the issuer has given tokens of.
    async fn logged_in(
        self: &Arc<Self>,
        id: &str,
        person: HostUser,
        tokens: &Tokens,
    ) -> Result<(), &'static str> {
        let proven = self.prove_login(tokens, None).await.map_err(Refused::as_str)?;
        let expires_s = ends(&proven.identity) / 1_000_000;
        let now = self.clock.now();
        let login = Login {
            id: random().map_err(|_| "no_random_numbers")?.into(),
            proven: proven.clone(),
            refresh: tokens.refresh.clone(),
            renewal: Renewal::of(expires_s, now),
            failed: None,
        };
        let added = if self.logins.is_waited_for(id, now) {
            self.logins.add(person, login.clone())
        } else {
            Err(WITHDRAWN)
        };
        if let Err(why) = added {
            self.give_back(&login).await.ok();
            return Err(why);
        }
        self.tokens.keep(&login.key(), proven.clone());
        // A cut comes before, or meets it.
        if let Err(cut) = self.uncut(proven) {
            self.end_login(person, &login.id, cut.as_str());
            return Err(cut.as_str());
        }
        info!(%person, "a person logged in");
        self.note_login("login.done", person, login.subject(), None, &[]);
        let (keeper, id) = (Arc::clone(self), Arc::clone(&login.id));
        tokio::spawn(keeper.keep_login(person, id));
        Ok(())
    }

    /// Who has logged in, by the access token where that is a JWT for us, else by the ID token; what only one of them
    /// says, or said before, is kept. All must be of one person.
    pub(super) async fn prove_login(
        &self,
        tokens: &Tokens,
        before: Option<&Login>,
    ) -> Result<Proven, Refused> {
        let access = self.prove(tokens.access.clone(), Way::Login).await;
        let id = match &tokens.id {
            Some(id) => Some(self.prove(id.clone(), Way::Login).await),
            None => None,
        };
        let (mut proven, id) = match (access, id) {
            (Ok(access), Some(Ok(id))) => (access, Some(id)),
            (Ok(access), _) => (access, None),
            (Err(_), Some(id)) => (id?, None),
            (Err(why), None) => return Err(why),
        };
        let others = [id.as_ref(), before.map(|login| &login.proven)];
        for other in others.into_iter().flatten() {
            let whole = filled(&proven.identity, &other.identity);
            proven.identity = Arc::new(whole.ok_or(Refused::OtherPerson)?);
        }
        Ok(proven)
    }
}

/// A name that nobody guesses.
pub(super) fn random() -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).context("no random numbers")?;
    Ok(hex(&random))
}
