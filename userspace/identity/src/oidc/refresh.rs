//! New tokens for old ones (RFC 6749 §6): what keeps a login alive while the issuer lets it.

use types::clock::Timestamp;
use types::secret::Secret;

use super::client::Client;
use super::provider::Provider;
use super::tokens::{FlowError, Tokens};

impl Provider {
    /// Has new tokens; where there is a new refresh token in the answer, the old one is used up.
    ///
    /// # Errors
    /// If the issuer can't be asked, or says no: `invalid_grant` is the end of that login.
    pub async fn refresh(
        &self,
        client: &Client,
        refresh: &Secret<String>,
        resource: Option<&str>,
        now: Timestamp,
    ) -> Result<Tokens, FlowError> {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
        form.extend(resource.map(|resource| ("resource", resource)));
        self.ask_token(client, &form, now).await
    }
}
