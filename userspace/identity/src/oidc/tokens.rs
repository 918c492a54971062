//! What a token endpoint answers (RFC 6749 §5), whatever the grant.

use serde_json::{Map, Value};
use types::clock::Timestamp;
use types::secret::Secret;

use super::client::Client;
use super::compact::TOKEN_BYTES_MAX;
use super::discovery::Metadata;
use super::http::{Answer, HttpError};
use super::provider::Provider;
use super::token::TokenError;

/// Tokens, not yet verified.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The access token.
    pub access: Secret<String>,
    /// The ID token, where `openid` was in the scope.
    pub id: Option<Secret<String>>,
    /// What new ones are had with.
    pub refresh: Option<Secret<String>>,
    /// How long the access token stands, seconds, by what the issuer says.
    pub expires_in_s: Option<u64>,
    /// What it is for, where that is not what was asked for.
    pub scope: Option<String>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The issuer's metadata can't be had.
    #[error("{}", .0.reason())]
    Issuer(#[from] TokenError),
    /// There is no answer, or none to go by.
    #[error("{}", .0.reason())]
    Http(#[from] HttpError),
    /// The issuer has no such endpoint.
    #[error("no_endpoint")]
    NoEndpoint,
    /// The issuer says no.
    #[error("{}", .0.reason())]
    Refused(OAuthError),
}

impl FlowError {
    /// The word for the record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Issuer(error) => error.reason(),
            Self::Http(error) => error.reason(),
            Self::NoEndpoint => "no_endpoint",
            Self::Refused(error) => error.reason(),
        }
    }
}

/// What an endpoint says when it says no (RFC 6749 §5.2, RFC 8628 §3.5, RFC 8693 §2.2.2); its free text is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OAuthError {
    /// `invalid_client`, or status 401.
    InvalidClient,
    /// `invalid_grant`.
    InvalidGrant,
    /// `invalid_request`.
    InvalidRequest,
    /// `invalid_scope`.
    InvalidScope,
    /// `invalid_target` (RFC 8707 §2).
    InvalidTarget,
    /// `unauthorized_client`.
    UnauthorizedClient,
    /// `unsupported_grant_type`.
    UnsupportedGrantType,
    /// `unsupported_token_type` (RFC 7009 §2.2.1).
    UnsupportedTokenType,
    /// `access_denied`.
    AccessDenied,
    /// `authorization_pending`.
    AuthorizationPending,
    /// `slow_down`.
    SlowDown,
    /// `expired_token`.
    ExpiredToken,
    /// Any other.
    Other,
}

const OAUTH_ERRORS: [(&str, OAuthError); 12] = [
    ("invalid_client", OAuthError::InvalidClient),
    ("invalid_grant", OAuthError::InvalidGrant),
    ("invalid_request", OAuthError::InvalidRequest),
    ("invalid_scope", OAuthError::InvalidScope),
    ("invalid_target", OAuthError::InvalidTarget),
    ("unauthorized_client", OAuthError::UnauthorizedClient),
    ("unsupported_grant_type", OAuthError::UnsupportedGrantType),
    ("unsupported_token_type", OAuthError::UnsupportedTokenType),
    ("access_denied", OAuthError::AccessDenied),
    ("authorization_pending", OAuthError::AuthorizationPending),
    ("slow_down", OAuthError::SlowDown),
    ("expired_token", OAuthError::ExpiredToken),
];

impl OAuthError {
    /// The word for the record.
    pub fn reason(self) -> &'static str {
        OAUTH_ERRORS.iter().find(|(_, error)| *error == self).map_or("refused", |(word, _)| word)
    }

    /// What an answer that is no success says.
    pub(super) fn of(answer: &Answer) -> Self {
        let object = answer.object().unwrap_or_default();
        let said = object.get("error").and_then(Value::as_str);
        let known = said.and_then(|said| OAUTH_ERRORS.iter().find(|(word, _)| *word == said));
        match known {
            Some((_, error)) => *error,
            None if answer.status == 401 => Self::InvalidClient,
            None => Self::Other,
        }
    }
}

impl Provider {
    /// Asks the token endpoint.
    pub(super) async fn ask_token(
        &self,
        client: &Client,
        form: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Tokens, FlowError> {
        let endpoint = |metadata: &Metadata| metadata.token.clone();
        read(&self.ask(endpoint, client, form, now).await?)
    }

    /// Asks an endpoint; answers whatever is no refusal.
    pub(super) async fn ask(
        &self,
        endpoint: fn(&Metadata) -> Option<reqwest::Url>,
        client: &Client,
        form: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Answer, FlowError> {
        let url = endpoint(&self.metadata(now).await?).ok_or(FlowError::NoEndpoint)?;
        let answer = self.http.post(&url, client, form).await?;
        match answer.status {
            200 => Ok(answer),
            400..=499 => Err(FlowError::Refused(OAuthError::of(&answer))),
            status => Err(HttpError::Status(status).into()),
        }
    }
}

fn read(answer: &Answer) -> Result<Tokens, FlowError> {
    let object = answer.good_object()?;
    // RFC 6749 §7.1: a type that is not understood is not used.
    let is_bearer =
        text(&object, "token_type", 64)?.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    if !is_bearer {
        return Err(HttpError::Malformed.into());
    }
    let secret = |name: &str| {
        Ok::<_, HttpError>(text(&object, name, TOKEN_BYTES_MAX)?.map(|t| Secret::new(t.to_owned())))
    };
    Ok(Tokens {
        access: secret("access_token")?.ok_or(HttpError::Malformed)?,
        id: secret("id_token")?,
        refresh: secret("refresh_token")?,
        expires_in_s: object.get("expires_in").and_then(Value::as_u64),
        scope: text(&object, "scope", 2048)?.map(str::to_owned),
    })
}

/// A member that is a text, not empty, or missing.
pub(super) fn text<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    bytes_max: usize,
) -> Result<Option<&'a str>, HttpError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= bytes_max => Ok(Some(text)),
        Some(_) => Err(HttpError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.into() }
    }

    #[test]
    fn tokens_are_bearer_tokens() {
        let tokens = read(&answer(
            200,
            r#"{"access_token":"a","token_type":"bearer","expires_in":60,"scope":"x"}"#,
        ));
        let tokens = tokens.unwrap();
        assert_eq!((tokens.access.expose().as_str(), tokens.expires_in_s), ("a", Some(60)));
        for body in [
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","token_type":"DPoP"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":1,"token_type":"Bearer"}"#,
            r#"{"token_type":"Bearer"}"#,
            "[]",
        ] {
            assert_eq!(
                read(&answer(200, body)).unwrap_err().reason(),
                "answer_malformed",
                "{body}"
            );
        }
    }

    #[test]
    fn refusals_are_one_word_of_a_list() {
        let of = |status, body: &str| OAuthError::of(&answer(status, body)).reason();
        assert_eq!(of(400, r#"{"error":"slow_down","error_description":"x"}"#), "slow_down");
        assert_eq!(of(400, r#"{"error":"anything <b>"}"#), "refused");
        assert_eq!(of(401, "no"), "invalid_client");
        assert_eq!(of(403, ""), "refused");
    }
}
