//! People by an issuer's tokens alone, where nobody else evaluates identities: a hub's. A login stands until its token
//! ends, or until the issuer renews it no more; groups are those of its newest token. In memory alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use approval::desk::Later;
use identity::oidc::authorization_code::Authorization;
use identity::oidc::client_credentials::Target;
use identity::oidc::tokens::{FlowError, OAuthError};
use identity::oidc::{Client, Kind, Provider, TokenError, Tokens, Verified};
use types::clock::{Clock, Timestamp};
use types::identity::{Identity, Subject, Way};
use types::secret::Secret;

use crate::people::{Asking, Caller, People, Unproven};
use crate::random;

/// Logins at once, as many as there are visits; each has two tokens of 16 KiB at most, usually 2 KiB: 8 MiB.
const LOGINS_MAX: usize = 4_096;

/// Microseconds before its end at which a token is renewed.
const EARLY_US: i64 = 60_000_000;

/// Microseconds between two attempts to renew one.
const PAUSE_US: u64 = 5_000_000;

/// How the client at the issuer is had, with its secret of now; a word where it can't be.
pub type ClientSource = Box<dyn Fn() -> Later<'static, Result<Client, &'static str>> + Send + Sync>;

/// People of one issuer.
pub struct AtIssuer {
    provider: Arc<Provider>,
    client: ClientSource,
    scope: String,
    resource: Option<String>,
    clock: Arc<dyn Clock>,
    logins: Mutex<HashMap<Box<str>, Arc<tokio::sync::Mutex<Login>>>>,
}

struct Login {
    identity: Identity,
    refresh: Option<Secret<String>>,
    tried: Option<Timestamp>,
}

impl AtIssuer {
    /// Those of an issuer, asked for by this client for this scope and resource.
    pub fn new(
        provider: Arc<Provider>,
        client: ClientSource,
        (scope, resource): (String, Option<String>),
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { provider, client, scope, resource, clock, logins: Mutex::default() }
    }

    async fn client(&self) -> Result<Client, Unproven> {
        (self.client)().await.map_err(passing)
    }

    fn target(&self) -> Target<'_> {
        Target { scope: &self.scope, resource: self.resource.as_deref() }
    }

    async fn sign_in(
        &self,
        asking: &Asking,
        code: &Secret<String>,
        iss: Option<&str>,
    ) -> Result<(Box<str>, Subject), Unproven> {
        let (client, now) = (self.client().await?, self.clock.now());
        let its = self.provider.may_have_answered(iss, now).await.map_err(of_token)?;
        if !its {
            return Err(of_token(TokenError::WrongIssuer));
        }
        let asked = asked(asking, &client, self.target());
        let tokens =
            self.provider.exchange_code(asked, code, now).await.map_err(|why| of_flow(&why))?;
        let id = tokens.id.as_ref().ok_or(unproven("no_id_token"))?;
        let answer = self.provider.verify_answer(id, asked, now).await.map_err(of_token)?;
        let identity = self.who(&tokens, Some(&answer), now).await?;
        let subject = person(&identity)?;
        let name: Box<str> = random::name().map_err(|_| passing("no_random_numbers"))?.into();
        let login = Login { identity, refresh: tokens.refresh, tried: None };
        let mut logins = self.logins();
        if logins.len() >= LOGINS_MAX {
            return Err(passing("too_many_logins"));
        }
        logins.insert(name.clone(), Arc::new(tokio::sync::Mutex::new(login)));
        Ok((name, subject))
    }

    /// Whom tokens are of: by the access token where that is a JWT for us, else by the ID token; of one person.
    async fn who(
        &self,
        tokens: &Tokens,
        answer: Option<&Verified>,
        now: Timestamp,
    ) -> Result<Identity, Unproven> {
        let access = self.provider.verify(&tokens.access, Kind::AccessToken, now).await;
        let id = match (answer, &tokens.id) {
            (Some(answer), _) => Some(answer.clone()),
            (None, Some(id)) => {
                Some(self.provider.verify(id, Kind::IdToken, now).await.map_err(of_token)?)
            }
            (None, None) => None,
        };
        match (access, id) {
            (Ok(access), Some(id)) if access.subject != id.subject => Err(unproven("other_person")),
            (Ok(access), _) => Ok(access.identity(Way::Login)),
            (Err(_), Some(id)) => Ok(id.identity(Way::Login)),
            (Err(why), None) => Err(of_token(why)),
        }
    }

    async fn stands(&self, name: &str) -> Result<Subject, Unproven> {
        let login = self.logins().get(name).map(Arc::clone).ok_or(unproven("login_ended"))?;
        let mut login = login.lock().await;
        let now = self.clock.now();
        let is_due = ends_us(&login.identity) - EARLY_US <= now.unix_us;
        let is_rested = login.tried.is_none_or(|at| now.us_since(at) >= PAUSE_US);
        if is_due && is_rested && login.refresh.is_some() {
            login.tried = Some(now);
            let failed = self.renew(&mut login, now).await.err();
            if let Some(why) = failed.filter(|why| !why.may_pass) {
                return Err(why);
            }
        }
        if ends_us(&login.identity) <= now.unix_us {
            return Err(unproven("expired"));
        }
        person(&login.identity)
    }

    async fn renew(&self, login: &mut Login, now: Timestamp) -> Result<(), Unproven> {
        let Some(refresh) = login.refresh.clone() else { return Ok(()) };
        let (client, resource) = (self.client().await?, self.resource.as_deref());
        let tokens = self.provider.refresh(&client, &refresh, resource, now).await;
        let tokens = tokens.map_err(|why| match why {
            // RFC 6749 §5.2: the refresh token is over, or its login was revoked.
            FlowError::Refused(OAuthError::InvalidGrant) => unproven("login_ended"),
            why => of_flow(&why),
        })?;
        // The one that it was had with may be used up (RFC 6749 §6).
        login.refresh = tokens.refresh.clone().or(Some(refresh));
        let identity = self.who(&tokens, None, now).await?;
        if person(&identity)?.sub != person(&login.identity)?.sub {
            return Err(unproven("other_person"));
        }
        login.identity = identity;
        Ok(())
    }

    async fn call(&self, token: &Secret<String>) -> Result<Caller, Unproven> {
        let now = self.clock.now();
        let verified =
            self.provider.verify(token, Kind::AccessToken, now).await.map_err(of_token)?;
        let scopes = verified.scope.as_deref().unwrap_or_default();
        let identity = verified.identity(Way::Bearer);
        Ok(Caller {
            subject: identity.subject.ok_or(unproven("subject"))?,
            audiences: verified.audiences.iter().map(ToString::to_string).collect(),
            scopes: scopes.split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
            is_delegated: !verified.actors.is_empty(),
        })
    }

    fn logins(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<tokio::sync::Mutex<Login>>>> {
        // No code that can panic runs under this lock.
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl People for AtIssuer {
    fn ask<'a>(&'a self, asking: &'a Asking) -> Later<'a, Result<String, Unproven>> {
        Box::pin(async move {
            let client = self.client().await?;
            let asked = asked(asking, &client, self.target());
            let url = self.provider.authorization_url(asked, self.clock.now()).await;
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
        self.logins().remove(login);
    }

    fn caller(&self, token: Secret<String>) -> Later<'_, Result<Caller, Unproven>> {
        Box::pin(async move { self.call(&token).await })
    }
}

fn asked<'a>(asking: &'a Asking, client: &'a Client, target: Target<'a>) -> Authorization<'a> {
    let Asking { redirect_uri, state, nonce, verifier } = asking;
    Authorization { client, target, redirect_uri, state, nonce, verifier }
}

/// A person, with whose token nobody else acts.
fn person(identity: &Identity) -> Result<Subject, Unproven> {
    if !identity.actors.is_empty() {
        return Err(unproven("other_person"));
    }
    identity.subject.clone().ok_or(unproven("subject"))
}

fn ends_us(identity: &Identity) -> i64 {
    let ends = identity.subject.as_ref().map(|subject| subject.token.expires_s);
    ends.unwrap_or(0).saturating_mul(1_000_000)
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
