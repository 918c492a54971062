//! Giving a token back (RFC 7009).

use types::clock::Timestamp;
use types::secret::Secret;

use super::client::Client;
use super::discovery::Metadata;
use super::introspection::Hint;
use super::provider::Provider;
use super::tokens::FlowError;

impl Provider {
    /// Has a token revoked; one that the issuer does not know counts as revoked (§2.2).
    ///
    /// # Errors
    /// If the issuer can't be asked, or says no.
    pub async fn revoke(
        &self,
        client: &Client,
        token: &Secret<String>,
        hint: Hint,
        now: Timestamp,
    ) -> Result<(), FlowError> {
        let form = [("token", token.expose().as_str()), ("token_type_hint", hint.as_str())];
        let endpoint = |metadata: &Metadata| metadata.revocation.clone();
        self.ask(endpoint, client, &form, now).await.map(drop)
    }
}
