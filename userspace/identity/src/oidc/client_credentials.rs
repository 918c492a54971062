//! A client's own token (RFC 6749 §4.4): credentials that the daemon holds for an agent.

use types::clock::Timestamp;

use super::client::Client;
use super::provider::Provider;
use super::tokens::{FlowError, Tokens};

/// What a token is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// Scopes, separated by blanks; empty for what the client has anyhow.
    pub scope: &'a str,
    /// The resource that it is for (RFC 8707 §2).
    pub resource: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Adds what is asked for to a form.
    pub(super) fn add_to(self, form: &mut Vec<(&'static str, &'a str)>) {
        let Self { scope, resource } = self;
        if !scope.is_empty() {
            form.push(("scope", scope));
        }
        if let Some(resource) = resource {
            form.push(("resource", resource));
        }
    }
}

impl Provider {
    /// Has a token for a client itself.
    ///
    /// # Errors
    /// If the issuer can't be asked, or says no.
    pub async fn client_credentials(
        &self,
        client: &Client,
        target: Target<'_>,
        now: Timestamp,
    ) -> Result<Tokens, FlowError> {
        let mut form = vec![("grant_type", "client_credentials")];
        target.add_to(&mut form);
        self.ask_token(client, &form, now).await
    }
}
