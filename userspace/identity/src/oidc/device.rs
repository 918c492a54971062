//! A person logs in elsewhere (RFC 8628): the agent's host shows a code, the person's browser does the rest.

use std::time::Duration;

use serde_json::Value;
use types::clock::Timestamp;
use types::secret::Secret;

use super::client::Client;
use super::client_credentials::Target;
use super::discovery::Metadata;
use super::http::HttpError;
use super::issuer::endpoint;
use super::provider::Provider;
use super::tokens::{FlowError, OAuthError, Tokens, text};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Seconds between two polls where the issuer names none, and how many more after `slow_down` (§3.5).
const INTERVAL_S: u64 = 5;

/// Seconds between two polls, whatever the issuer says: nobody waits longer after having approved.
const INTERVAL_S_MAX: u64 = 60;

/// Seconds that a code may stand: an hour; issuers give 5 to 30 minutes.
const EXPIRES_S_MAX: u64 = 3600;

/// Microseconds in which a poll reaches the issuer: a code that stands when it leaves may be over when it comes.
const WAY_US: u64 = 1_000_000;

/// A login under way.
#[derive(Clone, Debug)]
pub struct Login {
    /// What the person types.
    pub user_code: String,
    /// Where: a URL to be shown.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<String>,
    /// How long the code stands.
    pub expires_in: Duration,
    /// How long to wait before the next poll.
    pub interval: Duration,
    /// When it was asked for: before the issuer began to count.
    asked: Timestamp,
    device_code: Secret<String>,
}

/// How a login stands.
#[derive(Debug)]
pub enum Poll {
    /// The person has not decided: wait for the login's interval, which may have grown.
    Pending,
    /// The person has logged in. Verify the tokens before believing them.
    Done(Tokens),
    /// The person, or the issuer, said no.
    Denied,
    /// The code is over.
    Expired,
}

impl Login {
    /// Whether the code has stood its time, counted from before the issuer began to.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.is_over_in(0, now)
    }

    fn is_over_in(&self, us: u64, now: Timestamp) -> bool {
        u128::from(now.us_since(self.asked) + us) >= self.expires_in.as_micros()
    }
}

impl Provider {
    /// Starts a login.
    ///
    /// # Errors
    /// If the issuer can't be asked, says no, or answers what should not be shown.
    pub async fn login(
        &self,
        client: &Client,
        target: Target<'_>,
        now: Timestamp,
    ) -> Result<Login, FlowError> {
        let mut form = Vec::new();
        target.add_to(&mut form);
        // §3.1 names a client that has no other way to say who it is; one with a secret may say it twice.
        if client.secret.is_some() {
            form.push(("client_id", client.id.as_str()));
        }
        let at = |metadata: &Metadata| metadata.device_authorization.clone();
        let object = self.ask(at, client, &form, now).await?.good_object()?;
        let needed = |name: &str, max| text(&object, name, max)?.ok_or(HttpError::Malformed);
        let seconds = |name: &str| object.get(name).and_then(Value::as_u64);
        // A person opens it: what is no https URL is not shown.
        let shown = |url: &str| endpoint(url).map(String::from).ok_or(HttpError::Malformed);
        let complete = text(&object, "verification_uri_complete", 2048)?;
        let user_code = needed("user_code", 64)?;
        if !user_code.chars().all(|c| c.is_ascii_graphic()) {
            return Err(HttpError::Malformed.into());
        }
        let expires_s = seconds("expires_in").ok_or(HttpError::Malformed)?.min(EXPIRES_S_MAX);
        let interval_s = seconds("interval").unwrap_or(INTERVAL_S).clamp(1, INTERVAL_S_MAX);
        Ok(Login {
            user_code: user_code.to_owned(),
            verification_uri: shown(needed("verification_uri", 2048)?)?,
            verification_uri_complete: complete.map(shown).transpose()?,
            expires_in: Duration::from_secs(expires_s),
            interval: Duration::from_secs(interval_s),
            asked: now,
            device_code: Secret::new(needed("device_code", 2048)?.to_owned()),
        })
    }

    /// Asks once how a login stands.
    ///
    /// # Errors
    /// If the issuer can't be asked, or says no for another reason; the login may be polled again after the former.
    pub async fn poll(
        &self,
        client: &Client,
        login: &mut Login,
        now: Timestamp,
    ) -> Result<Poll, FlowError> {
        let form = [("grant_type", GRANT), ("device_code", login.device_code.expose().as_str())];
        match self.ask_token(client, &form, now).await {
            Ok(tokens) => Ok(Poll::Done(tokens)),
            Err(FlowError::Refused(OAuthError::AuthorizationPending)) => Ok(Poll::Pending),
            Err(FlowError::Refused(OAuthError::SlowDown)) => {
                let longer_s = login.interval.as_secs().saturating_add(INTERVAL_S);
                login.interval = Duration::from_secs(longer_s.min(INTERVAL_S_MAX));
                Ok(Poll::Pending)
            }
            Err(FlowError::Refused(OAuthError::AccessDenied)) => Ok(Poll::Denied),
            Err(FlowError::Refused(OAuthError::ExpiredToken)) => Ok(Poll::Expired),
            // Issuers forget codes that are over, and then know of none.
            Err(FlowError::Refused(OAuthError::InvalidGrant)) if login.is_over_in(WAY_US, now) => {
                Ok(Poll::Expired)
            }
            Err(error) => Err(error),
        }
    }
}
