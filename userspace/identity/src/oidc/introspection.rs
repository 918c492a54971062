//! Whether a token still stands, by its issuer's word (RFC 7662).

use serde_json::Value;
use types::clock::Timestamp;
use types::secret::Secret;

use super::client::Client;
use super::http::HttpError;
use super::provider::Provider;
use super::tokens::{FlowError, text};

/// What kind of token is asked about (RFC 7009 §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// An access token.
    Access,
    /// A refresh token.
    Refresh,
}

impl Hint {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access_token",
            Self::Refresh => "refresh_token",
        }
    }
}

/// What the issuer says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Introspected {
    /// It stands.
    Active {
        /// Of whom it speaks.
        subject: Option<String>,
        /// Which client has it.
        client_id: Option<String>,
        /// When it ends, seconds since 1970.
        expires_at: Option<i64>,
    },
    /// It is over, revoked, or was never issued.
    Inactive,
}

impl Provider {
    /// Asks whether a token stands.
    ///
    /// # Errors
    /// If the issuer can't be asked or does not say: how long to go on without its word is the caller's to decide.
    /// `unsupported_token_type` says that it keeps no account of such tokens, as of JWTs many do not.
    pub async fn introspect(
        &self,
        client: &Client,
        token: &Secret<String>,
        hint: Hint,
        now: Timestamp,
    ) -> Result<Introspected, FlowError> {
        let form = [("token", token.expose().as_str()), ("token_type_hint", hint.as_str())];
        let endpoint = |metadata: &super::discovery::Metadata| metadata.introspection.clone();
        let object = self.ask(endpoint, client, &form, now).await?.good_object()?;
        match object.get("active") {
            Some(Value::Bool(true)) => Ok(Introspected::Active {
                subject: text(&object, "sub", super::claims::TEXT_BYTES_MAX)?.map(str::to_owned),
                client_id: text(&object, "client_id", 255)?.map(str::to_owned),
                expires_at: object.get("exp").and_then(Value::as_i64),
            }),
            Some(Value::Bool(false)) => Ok(Introspected::Inactive),
            _ => Err(HttpError::Malformed.into()),
        }
    }
}
