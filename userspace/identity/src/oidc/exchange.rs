//! A token for an inner agent, whose `act` names the outer one (RFC 8693 §2.1).

use types::clock::Timestamp;
use types::secret::Secret;

use super::client::Client;
use super::client_credentials::Target;
use super::provider::Provider;
use super::tokens::{FlowError, Tokens};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What is exchanged for what.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged<'a> {
    /// The access token of whom the new one is to speak of.
    pub subject: &'a Secret<String>,
    /// That of who acts; the client does where absent.
    pub actor: Option<&'a Secret<String>>,
    /// What the new one is asked for.
    pub target: Target<'a>,
    /// Whom it is for, by a name at the issuer.
    pub audience: Option<&'a str>,
}

impl Provider {
    /// Has a token that speaks of the same subject, for whom the client, or the actor of `actor`, acts.
    ///
    /// # Errors
    /// If the issuer can't be asked, or says no.
    pub async fn exchange(
        &self,
        client: &Client,
        exchanged: Exchanged<'_>,
        now: Timestamp,
    ) -> Result<Tokens, FlowError> {
        let Exchanged { subject, actor, target, audience } = exchanged;
        let mut form = vec![
            ("grant_type", GRANT),
            ("requested_token_type", ACCESS_TOKEN),
            ("subject_token", subject.expose().as_str()),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        if let Some(actor) = actor {
            form.push(("actor_token", actor.expose().as_str()));
            form.push(("actor_token_type", ACCESS_TOKEN));
        }
        form.extend(audience.map(|audience| ("audience", audience)));
        target.add_to(&mut form);
        self.ask_token(client, &form, now).await
    }
}
