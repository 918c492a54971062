//! Whether a token still stands, by its issuer's word (RFC 7662).

use std::sync::Arc;

use serde_json::Value;
use types::clock::Timestamp;
use types::secret::Secret;

use super::claims::{Claims, TEXT_BYTES_MAX};
use super::client::Client;
use super::http::HttpError;
use super::issuer::ClaimPath;
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
        /// The person's groups at the issuer's path, sorted, each once; where the answer has that claim.
        groups: Option<Vec<Arc<str>>>,
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
                subject: text(&object, "sub", TEXT_BYTES_MAX)?.map(str::to_owned),
                client_id: text(&object, "client_id", 255)?.map(str::to_owned),
                expires_at: object.get("exp").and_then(Value::as_i64),
                groups: groups(Claims(&object), &self.issuer().groups)?,
            }),
            Some(Value::Bool(false)) => Ok(Introspected::Inactive),
            _ => Err(HttpError::Malformed.into()),
        }
    }
}

/// Groups as an answer says them; none where it says nothing of them, as most answers do.
fn groups(claims: Claims<'_>, path: &ClaimPath) -> Result<Option<Vec<Arc<str>>>, HttpError> {
    if !claims.has(path) {
        return Ok(None);
    }
    let mut groups = claims.groups(path).map_err(|_| HttpError::Malformed)?;
    groups.sort_unstable();
    groups.dedup();
    Ok(Some(groups))
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    #[track_caller]
    fn check(text: &str, path: &str, expected: Option<&[&str]>) {
        let object = json::object(text.as_bytes()).unwrap();
        let found = groups(Claims(&object), &ClaimPath::parse(path)).unwrap();
        let found = found.as_ref().map(|found| found.iter().map(|one| &**one).collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn no_groups_are_something_else_than_no_word_of_them() {
        check(r#"{"groups":["b","a","b"]}"#, "groups", Some(&["a", "b"]));
        check(r#"{"groups":[]}"#, "groups", Some(&[]));
        check(r#"{"active":true}"#, "groups", None);
        check(r#"{"groups":null}"#, "groups", None);
        check(r#"{"realm_access":{"roles":["a"]}}"#, "realm_access.roles", Some(&["a"]));
        check(r#"{"realm_access":{"roles":[]}}"#, "realm_access.roles", Some(&[]));
        check(r#"{"realm_access":{}}"#, "realm_access.roles", None);
        check(r#"{"r":[]}"#, "r.name", Some(&[]));
        let object = json::object(br#"{"groups":1}"#).unwrap();
        assert!(groups(Claims(&object), &ClaimPath::parse("groups")).is_err());
    }
}
