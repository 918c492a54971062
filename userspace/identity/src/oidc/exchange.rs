//! A token for an inner agent, whose `act` names the outer one (RFC 8693 §2.1).

use types::clock::Timestamp;
use types::secret::Secret;

use super::client::Client;
use super::client_credentials::Target;
use super::provider::Provider;
use super::tokens::{FlowError, Tokens};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

impl Provider {
    /// Has a token that speaks of the same subject, for whom the client, or the actor of `actor`, acts.
    ///
    /// # Errors
    /// If the issuer can't be asked, or says no.
    pub async fn exchange(
        &self,
        client: &Client,
        subject: &Secret<String>,
        actor: Option<&Secret<String>>,
        target: Target<'_>,
        now: Timestamp,
    ) -> Result<Tokens, FlowError> {
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
        target.add_to(&mut form);
        self.ask_token(client, &form, now).await
    }
}
