//! People who sign in at the console with a browser, and programs that call it: known by the issuer's tokens, which
//! are evaluated as agents' are, so that a logout, a cut or a token taken back ends them too. In memory alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use approval::desk::Later;
use console::People;
use console::issuer::{AtIssuer, ClientSource};
use console::people::{Asking, Caller, Unproven};
use identity::oidc::authorization_code::Authorization;
use identity::oidc::client_credentials::Target;
use identity::oidc::tokens::FlowError;
use identity::oidc::{Client, Kind, Provider, TokenError};
use sha2::{Digest, Sha256};
use tracing::info;
use types::clock::{Clock, Timestamp};
use types::identity::{Identity, Subject, Way};
use types::secret::Secret;

use super::client::OwnClient;
use super::config::{IssuerRule, Issuers};
use super::login::random;
use super::logins::{LOGIN_ENDED, Login, OVER};
use super::renewal::Renewal;
use super::tokens::{Proven, Raw};
use super::{EXPIRED, Keeper, LIFE_S_MAX, Refused, ends};
use crate::secret::Stores;

/// Logins at the console, as many as it has visits; each has two tokens of 16 KiB at most, usually 3 KiB: 12 MiB.
const VISITORS_MAX: usize = 4_096;

/// Tokens of programs that were confirmed lately, each about 500 B.
const CALLERS_MAX: usize = 1_024;

/// How long an issuer's word on a program's token is gone by at most.
const WORD_LIFE: Duration = Duration::from_secs(30);

/// The console's people, at one issuer.
pub(crate) struct Visitors {
    keeper: Arc<Keeper>,
    issuer: String,
    standing: Mutex<HashMap<Box<str>, Arc<tokio::sync::Mutex<Login>>>>,
    callers: Mutex<HashMap<[u8; 32], (Timestamp, Identity)>>,
}

impl Visitors {
    /// Those of an issuer; `None` where the daemon has no client there.
    pub(crate) fn at(keeper: &Arc<Keeper>, issuer: &str) -> Option<Self> {
        keeper.at(issuer)?;
        let (keeper, issuer) = (Arc::clone(keeper), issuer.to_owned());
        Some(Self { keeper, issuer, standing: Mutex::default(), callers: Mutex::default() })
    }

    async fn provider(&self) -> Result<(&Arc<Provider>, &OwnClient, Client), Unproven> {
        let (provider, own) = self.keeper.at(&self.issuer).ok_or(unproven("no_client"))?;
        let client = own.get().await.map_err(|_| passing("client_secret"))?;
        Ok((provider, own, client))
    }

    async fn sign_in(
        &self,
        asking: &Asking,
        code: &Secret<String>,
        iss: Option<&str>,
    ) -> Result<(Box<str>, Subject), Unproven> {
        let (provider, own, client) = self.provider().await?;
        let now = self.keeper.clock.now();
        let its = provider.may_have_answered(iss, now).await.map_err(of_token)?;
        if !its {
            return Err(unproven(TokenError::WrongIssuer.reason()));
        }
        let asked = asked(asking, &client, own);
        let tokens = provider.exchange_code(asked, code, now).await.map_err(|why| of_flow(&why))?;
        let id = tokens.id.as_ref().ok_or(unproven("no_id_token"))?;
        let answer = provider.verify_answer(id, asked, now).await.map_err(of_token)?;
        let proven = self.keeper.prove_login(&tokens, None).await.map_err(of_refused)?;
        let proven = self.keeper.uncut(proven).map_err(of_refused)?;
        let identity = &proven.identity;
        let subject = identity.subject.clone().ok_or(unproven("subject"))?;
        if subject.sub != answer.subject || !identity.actors.is_empty() {
            return Err(unproven(Refused::OtherPerson.as_str()));
        }
        let id: Box<str> = random().map_err(|_| passing("no_random_numbers"))?.into();
        let login = Login {
            id: id.as_ref().into(),
            renewal: Renewal::of(ends(identity) / 1_000_000, now),
            refresh: tokens.refresh,
            failed: None,
            proven: proven.clone(),
        };
        let mut standing = self.standing();
        if standing.len() >= VISITORS_MAX {
            return Err(passing("too_many_logins"));
        }
        self.keeper.tokens.keep(&login.key(), proven);
        standing.insert(id.clone(), Arc::new(tokio::sync::Mutex::new(login)));
        Ok((id, subject))
    }

    /// Who a login is of now; renewed where that is due.
    async fn stands(&self, id: &str) -> Result<Subject, Unproven> {
        let login = self.standing().get(id).map(Arc::clone).ok_or(unproven(LOGIN_ENDED))?;
        let mut login = login.lock().await;
        self.judge(&login)?;
        let now = self.keeper.clock.now();
        if login.refresh.is_some() && login.renewal.is_due(now) {
            self.renew(&mut login, now).await?;
        }
        self.judge(&login)
    }

    fn judge(&self, login: &Login) -> Result<Subject, Unproven> {
        let ended = login.proven.raw.as_ref().and_then(|raw| raw.ended());
        if let Some(why) = ended {
            return Err(Unproven { why, may_pass: why == super::introspection::UNCONFIRMED });
        }
        let proven = self.keeper.uncut(login.proven.clone().now()).map_err(of_refused)?;
        let is_over = ends(&proven.identity) <= self.keeper.clock.now().unix_us;
        if is_over && login.refresh.is_none() {
            return Err(unproven(EXPIRED));
        }
        proven.identity.subject.clone().ok_or(unproven("subject"))
    }

    async fn renew(&self, login: &mut Login, now: Timestamp) -> Result<(), Unproven> {
        let is_over = ends(&login.proven.identity) <= now.unix_us;
        let failed = match self.keeper.refreshed(login).await {
            Ok(tokens) => match self.keeper.prove_login(&tokens, Some(login)).await {
                Ok(proven) => {
                    login.renewal = Renewal::of(ends(&proven.identity) / 1_000_000, now);
                    login.refresh = tokens.refresh.or(login.refresh.take());
                    login.proven = proven.clone();
                    self.keeper.tokens.keep(&login.key(), proven);
                    return Ok(());
                }
                Err(why) => {
                    login.refresh = tokens.refresh.or(login.refresh.take());
                    of_refused(why)
                }
            },
            Err(OVER) => unproven(LOGIN_ENDED),
            Err(why) => passing(why),
        };
        login.renewal.failed(now);
        // One whose issuer can't be asked goes on until its token ends.
        if failed.may_pass && !is_over { Ok(()) } else { Err(failed) }
    }

    async fn call(&self, token: Secret<String>) -> Result<Caller, Unproven> {
        let now = self.keeper.clock.now();
        let verified = self.keeper.providers.verify(&token, Kind::AccessToken, now).await;
        let verified = verified.map_err(of_token)?;
        if *verified.issuer != *self.issuer {
            return Err(unproven(TokenError::WrongIssuer.reason()));
        }
        if verified.expires_at.saturating_sub(verified.issued_at) > LIFE_S_MAX {
            return Err(unproven(Refused::LivesTooLong.as_str()));
        }
        let key: [u8; 32] = Sha256::digest(token.expose()).into();
        let identity = if let Some(identity) = self.word(&key, now) {
            identity
        } else {
            let raw = Raw::of(token, &verified);
            let identity = verified.identity(Way::Bearer);
            let identity = self.keeper.confirmed(&raw, identity, now).await;
            let identity = identity.map_err(of_refused)?;
            self.heard(key, now, &identity);
            identity
        };
        let proven = self.keeper.uncut(Proven::from(identity)).map_err(of_refused)?;
        let scopes = verified.scope.as_deref().unwrap_or_default();
        Ok(Caller {
            subject: proven.identity.subject.clone().ok_or(unproven("subject"))?,
            audiences: verified.audiences.iter().map(ToString::to_string).collect(),
            scopes: scopes.split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
            is_delegated: !verified.actors.is_empty(),
        })
    }

    /// What the issuer said lately of a token that was verified.
    fn word(&self, key: &[u8; 32], now: Timestamp) -> Option<Identity> {
        let rule = self.keeper.introspection.rule(&self.issuer)?;
        let life_us = rule.interval.min(WORD_LIFE).as_micros();
        let mut callers = self.callers();
        callers.retain(|_, (at, _)| u128::from(now.us_since(*at)) < life_us);
        callers.get(key).map(|(_, identity)| identity.clone())
    }

    fn heard(&self, key: [u8; 32], now: Timestamp, identity: &Identity) {
        let mut callers = self.callers();
        if callers.len() < CALLERS_MAX {
            callers.insert(key, (now, identity.clone()));
        }
    }

    fn standing(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<tokio::sync::Mutex<Login>>>> {
        // No code that can panic runs under these locks.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Timestamp, Identity)>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// People of an issuer where nothing evaluates identities: on a hub.
pub(crate) fn people_of(
    rules: &[IssuerRule],
    issuer: &str,
    stores: Stores<'_>,
    clock: Arc<dyn Clock>,
) -> Result<AtIssuer> {
    let Issuers { providers, mut clients, .. } = Issuers::open(rules, stores)?;
    let provider = providers.get(issuer).map(Arc::clone).context("no such issuer")?;
    let own = Arc::new(clients.remove(issuer).context("no client at that issuer")?);
    let Target { scope, resource } = own.target();
    let wanted = (scope.to_owned(), resource.map(str::to_owned));
    let source: ClientSource = Box::new(move || {
        let own = Arc::clone(&own);
        Box::pin(async move { own.get().await.map_err(|_| "client_secret") })
    });
    Ok(AtIssuer::new(provider, source, wanted, clock))
}

impl People for Visitors {
    fn ask<'a>(&'a self, asking: &'a Asking) -> Later<'a, Result<String, Unproven>> {
        Box::pin(async move {
            let (provider, own, client) = self.provider().await?;
            let asked = asked(asking, &client, own);
            let url = provider.authorization_url(asked, self.keeper.clock.now()).await;
            url.map_err(|why| of_flow(&why))
        })
    }

    fn came_back<'a>(
        &'a self,
        asking: &'a Asking,
        code: Secret<String>,
        iss: Option<String>,
    ) -> Later<'a, Result<(Box<str>, Subject), Unproven>> {
        Box::pin(async move { self.sign_in(asking, &code, iss.as_deref()).await })
    }

    fn now<'a>(&'a self, login: &'a str) -> Later<'a, Result<Subject, Unproven>> {
        Box::pin(self.stands(login))
    }

    fn forget(&self, login: &str) {
        let Some(login) = self.standing().remove(login) else { return };
        let keeper = Arc::clone(&self.keeper);
        let give_back = async move {
            let login = login.lock().await;
            keeper.tokens.forget(&login.key());
            if let Err(why) = keeper.give_back(&login).await {
                info!(why, "a console login's refresh token could not be given back");
            }
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(give_back));
        }
    }

    fn caller(&self, token: Secret<String>) -> Later<'_, Result<Caller, Unproven>> {
        Box::pin(self.call(token))
    }
}

fn asked<'a>(asking: &'a Asking, client: &'a Client, own: &'a OwnClient) -> Authorization<'a> {
    let Asking { redirect_uri, state, nonce, verifier } = asking;
    Authorization { client, target: own.target(), redirect_uri, state, nonce, verifier }
}

fn unproven(why: &'static str) -> Unproven {
    Unproven { why, may_pass: false }
}

fn passing(why: &'static str) -> Unproven {
    Unproven { why, may_pass: true }
}

fn of_token(error: TokenError) -> Unproven {
    let may_pass = matches!(error, TokenError::IssuerUnreachable | TokenError::IssuerUnsound);
    Unproven { why: error.reason(), may_pass }
}

fn of_flow(error: &FlowError) -> Unproven {
    let may_pass = !matches!(error, FlowError::Refused(_) | FlowError::NoEndpoint);
    Unproven { why: error.reason(), may_pass }
}

fn of_refused(refused: Refused) -> Unproven {
    Unproven { why: refused.as_str(), may_pass: refused.may_pass() }
}
