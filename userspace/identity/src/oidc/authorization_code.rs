//! A person signs in with a browser (RFC 6749 §4.1): it is sent to the issuer and comes back with a code. The code is
//! exchanged with a proof that only who asked for it has (RFC 7636, `S256` alone), and the ID token answers to a nonce
//! (OpenID Connect Core 1.0 §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use types::clock::Timestamp;
use types::secret::Secret;

use super::client::Client;
use super::client_credentials::Target;
use super::compact::Compact;
use super::provider::Provider;
use super::token::{Kind, TokenError, Verified};
use super::tokens::{FlowError, Tokens};

/// One question to an issuer who somebody is.
#[derive(Clone, Copy, Debug)]
pub struct Authorization<'a> {
    /// Who asks.
    pub client: &'a Client,
    /// What for.
    pub target: Target<'a>,
    /// Where the browser comes back to, as it is registered at the issuer, to the byte.
    pub redirect_uri: &'a str,
    /// What comes back with it; of 128 random bits at least.
    pub state: &'a str,
    /// What the ID token says; likewise.
    pub nonce: &'a str,
    /// What the code is exchanged with: 43 to 128 unreserved characters (RFC 7636 §4.1).
    pub verifier: &'a Secret<String>,
}

impl Provider {
    /// Where the browser is sent to.
    ///
    /// # Errors
    /// If the issuer can't be asked where that is, or has no such place.
    pub async fn authorization_url(
        &self,
        asked: Authorization<'_>,
        now: Timestamp,
    ) -> Result<String, FlowError> {
        let Authorization { client, target, redirect_uri, state, nonce, verifier } = asked;
        let mut url = self.metadata(now).await?.authorization.ok_or(FlowError::NoEndpoint)?;
        let mut form = Vec::new();
        target.add_to(&mut form);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &client.id)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("state", state)
            .append_pair("nonce", nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .extend_pairs(form);
        Ok(url.into())
    }

    /// Whether an answer that names this issuer, or none, may be its: one that says in its metadata that it names
    /// itself must (RFC 9207 §2.4).
    ///
    /// # Errors
    /// If its metadata can't be had.
    pub async fn may_have_answered(
        &self,
        iss: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, TokenError> {
        Ok(match iss {
            Some(iss) => iss == self.issuer().url,
            None => !self.metadata(now).await?.names_itself,
        })
    }

    /// Exchanges a code for tokens, which are not believed yet.
    ///
    /// # Errors
    /// If the issuer can't be asked, or says no.
    pub async fn exchange_code(
        &self,
        asked: Authorization<'_>,
        code: &Secret<String>,
        now: Timestamp,
    ) -> Result<Tokens, FlowError> {
        let Authorization { client, target, redirect_uri, state: _, nonce: _, verifier } = asked;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier.expose()),
        ];
        form.extend(target.resource.map(|resource| ("resource", resource)));
        self.ask_token(client, &form, now).await
    }

    /// Who has signed in, by an ID token that is for this client and answers this question.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify_answer(
        &self,
        id_token: &Secret<String>,
        asked: Authorization<'_>,
        now: Timestamp,
    ) -> Result<Verified, TokenError> {
        let verified = self.verify(id_token, Kind::IdToken, now).await?;
        let compact = Compact::read(id_token.expose())?;
        if compact.claims.get("nonce").and_then(Value::as_str) != Some(asked.nonce) {
            return Err(TokenError::Nonce);
        }
        // §3.1.3.7: of several audiences that are ours, this one is meant.
        if !verified.audiences.iter().any(|audience| **audience == asked.client.id) {
            return Err(TokenError::WrongAudience);
        }
        Ok(verified)
    }
}
