//! What an issuer says of itself (OpenID Connect Discovery 1.0, RFC 8414).

use reqwest::Url;
use serde_json::{Map, Value};

use super::http::{Http, HttpError};
use super::issuer::{Issuer, endpoint};

/// A discovery document: those of large issuers have 2 to 8 KiB.
pub const DISCOVERY_BYTES_MAX: usize = 64 * 1024;

/// Where an issuer's keys and endpoints are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its keys.
    pub jwks: Url,
    /// Where people sign in with a browser.
    pub authorization: Option<Url>,
    /// Where tokens are had.
    pub token: Option<Url>,
    /// Where a token can be asked about (RFC 7662).
    pub introspection: Option<Url>,
    /// Where a token is given back (RFC 7009).
    pub revocation: Option<Url>,
    /// Where a device flow starts (RFC 8628).
    pub device_authorization: Option<Url>,
    /// Whether it says who logged out (OpenID Connect Back-Channel Logout 1.0 §2.1).
    pub backchannel_logout: bool,
    /// Whether it names itself where it sends browsers back (RFC 9207 §3).
    pub names_itself: bool,
}

/// Why there is no metadata to go by.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// It can't be had.
    #[error("{}", .0.reason())]
    Http(#[from] HttpError),
    /// It is another issuer's, and could name anybody's keys (§4.3).
    #[error("wrong_issuer")]
    WrongIssuer,
    /// It names no keys.
    #[error("no_keys")]
    NoKeys,
    /// It names an endpoint that is no https URL.
    #[error("endpoint")]
    Endpoint,
}

impl DiscoveryError {
    /// The word for the record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Http(error) => error.reason(),
            Self::WrongIssuer => "wrong_issuer",
            Self::NoKeys => "no_keys",
            Self::Endpoint => "endpoint",
        }
    }
}

/// Fetches an issuer's metadata.
pub(super) async fn fetch(issuer: &Issuer, http: &Http) -> Result<Metadata, DiscoveryError> {
    // §4.1: a slash at the end of the issuer is removed before the path is appended.
    let base = issuer.url.strip_suffix('/').unwrap_or(&issuer.url);
    let url = endpoint(&format!("{base}/.well-known/openid-configuration"));
    let url = url.ok_or(DiscoveryError::Endpoint)?;
    let object = http.get(&url, DISCOVERY_BYTES_MAX).await?.good_object()?;
    read(issuer, &object)
}

fn read(issuer: &Issuer, object: &Map<String, Value>) -> Result<Metadata, DiscoveryError> {
    if object.get("issuer").and_then(Value::as_str) != Some(issuer.url.as_str()) {
        return Err(DiscoveryError::WrongIssuer);
    }
    let at = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(url)) => endpoint(url).map(Some).ok_or(DiscoveryError::Endpoint),
        Some(_) => Err(DiscoveryError::Endpoint),
    };
    Ok(Metadata {
        jwks: at("jwks_uri")?.ok_or(DiscoveryError::NoKeys)?,
        authorization: at("authorization_endpoint")?,
        token: at("token_endpoint")?,
        introspection: at("introspection_endpoint")?,
        revocation: at("revocation_endpoint")?,
        device_authorization: at("device_authorization_endpoint")?,
        backchannel_logout: object.get("backchannel_logout_supported") == Some(&Value::Bool(true)),
        names_itself: object.get("authorization_response_iss_parameter_supported")
            == Some(&Value::Bool(true)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    #[track_caller]
    fn check(text: &str) -> Result<Metadata, &'static str> {
        let issuer = Issuer::new("https://id.bank.example", vec!["us".to_owned()]);
        read(&issuer, &json::object(text.as_bytes()).unwrap()).map_err(|error| error.reason())
    }

    #[test]
    fn another_issuers_metadata_is_refused() {
        for other in ["https://id.bank.example/", "https://ID.bank.example", "https://evil.example"]
        {
            let text = format!(r#"{{"issuer":"{other}","jwks_uri":"https://id.bank.example/k"}}"#);
            assert_eq!(check(&text), Err("wrong_issuer"), "{other}");
        }
        assert_eq!(check(r#"{"jwks_uri":"https://id.bank.example/k"}"#), Err("wrong_issuer"));
    }

    #[test]
    fn endpoints_are_https() {
        let with = |more: &str| check(&format!(r#"{{"issuer":"https://id.bank.example",{more}}}"#));
        assert_eq!(with(r#""jwks_uri":"http://id.bank.example/k""#), Err("endpoint"));
        assert_eq!(with(r#""jwks_uri":"file:///k""#), Err("endpoint"));
        assert_eq!(with(r#""jwks_uri":1"#), Err("endpoint"));
        assert_eq!(with(r#""a":1"#), Err("no_keys"));
        let keys = r#""jwks_uri":"https://id.bank.example/k""#;
        assert_eq!(with(&format!(r#"{keys},"token_endpoint":"http://a""#)), Err("endpoint"));
        assert!(with(keys).unwrap().token.is_none());
    }
}
