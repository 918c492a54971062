//! Reads one secret of a vault, with a token that is given or logged in for.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::time::Instant;
use types::secret::Secret;

use super::super::Found;
use super::super::http::{Asked, HttpError, Server};
use super::super::kv::{Login, Read};
use super::{Auth, VaultError, VaultRules};

/// The vault's headers ("HTTP API": "Authentication", "Namespaces").
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Says that the request is none that somebody's browser was made to send.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// One vault, and the token that was logged in for.
pub(super) struct Reader {
    server: Server,
    namespace: Option<HeaderValue>,
    auth: Auth,
    cache: Duration,
    token: RefCell<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    token: Arc<Secret<Vec<u8>>>,
    until: Instant,
}

/// A secret as the vault has it.
pub(super) struct Answer {
    pub(super) secret: Secret<Vec<u8>>,
    pub(super) version: u64,
    /// How long it may be kept.
    pub(super) good_for: Duration,
}

/// Why there is none. Nothing of what the vault says is in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("what proves the daemon to the vault can't be used: {0}")]
    Proof(io::Error),
    #[error("the vault refuses the daemon's login with status {0}")]
    Login(u16),
    #[error("the vault refuses it (403)")]
    Denied,
    #[error("there is none, or its last version is deleted (404)")]
    Absent,
    #[error("the vault answers with status {0}")]
    Status(u16),
    #[error("the vault's answer makes no sense")]
    Malformed,
    #[error("it has no text of this key that can be a password")]
    NoKey,
}

impl Reader {
    pub(super) fn new(rules: VaultRules) -> Result<Self, VaultError> {
        let VaultRules { address, ca, namespace, auth, cache } = rules;
        let namespace = namespace.map(|name| HeaderValue::from_str(&name)).transpose();
        let namespace = namespace.map_err(|_| VaultError::Namespace)?;
        let server = Server::new(&address, ca)?;
        Ok(Self { server, namespace, auth, cache, token: RefCell::default() })
    }

    /// Reads the field `key` of what is at `path`.
    pub(super) async fn read(&self, path: &str, key: &str) -> Result<Answer, Why> {
        let is_kept = self.token.borrow().is_some();
        let (mut status, mut body) = self.get(path).await?;
        if status == StatusCode::FORBIDDEN && is_kept {
            // The token may have been revoked.
            self.token.replace(None);
            (status, body) = self.get(path).await?;
        }
        match status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN => return Err(Why::Denied),
            StatusCode::NOT_FOUND => return Err(Why::Absent),
            status => return Err(Why::Status(status.as_u16())),
        }
        let read: Read = serde_json::from_slice(body.expose()).map_err(|_| Why::Malformed)?;
        let lease = Duration::from_secs(read.lease_duration);
        let good_for = if lease.is_zero() { self.cache } else { lease.min(self.cache) };
        let secret = read.data.data.ok_or(Why::Absent)?.take(key).ok_or(Why::NoKey)?;
        let bytes = secret.expose();
        if bytes.is_empty()
            || bytes.len() > super::super::file::SECRET_BYTES_MAX
            || bytes.contains(&0)
        {
            return Err(Why::NoKey);
        }
        Ok(Answer { secret, version: read.data.metadata.version, good_for })
    }

    async fn get(&self, path: &str) -> Result<(StatusCode, Secret<Vec<u8>>), Why> {
        let token = self.token().await?;
        let mut token = HeaderValue::from_bytes(token.expose()).map_err(|_| Why::Malformed)?;
        token.set_sensitive(true);
        let headers = vec![(TOKEN, token)];
        Ok(self.ask(Method::GET, &format!("/v1/{path}"), headers, Vec::new()).await?)
    }

    async fn token(&self) -> Result<Arc<Secret<Vec<u8>>>, Why> {
        let (mount, role_id, secret_id) = match &self.auth {
            Auth::Token(source) => {
                let token = source.find().and_then(Found::read).map_err(Why::Proof)?;
                return Ok(Arc::new(token));
            }
            Auth::AppRole { mount, role_id, secret_id } => (mount, role_id, secret_id),
        };
        let known = self.token.borrow().clone();
        if let Some(known) = known.filter(|known| Instant::now() < known.until) {
            return Ok(known.token);
        }
        let secret_id = secret_id.find().and_then(Found::read).map_err(Why::Proof)?;
        let secret_id = std::str::from_utf8(secret_id.expose()).map_err(|_| Why::Malformed)?;
        let body = serde_json::json!({ "role_id": role_id, "secret_id": secret_id }).to_string();
        let path = format!("/v1/auth/{mount}/login");
        let (status, body) = self.ask(Method::POST, &path, Vec::new(), body.into_bytes()).await?;
        if status != StatusCode::OK {
            return Err(Why::Login(status.as_u16()));
        }
        let Login { auth } = serde_json::from_slice(body.expose()).map_err(|_| Why::Malformed)?;
        let token = Arc::new(auth.client_token.0.ok_or(Why::Malformed)?);
        let lease = Duration::from_secs(auth.lease_duration);
        // A token without an end is logged in for again after a day.
        let lease = if lease.is_zero() { Duration::from_hours(24) } else { lease };
        let until = Instant::now() + lease * 2 / 3;
        self.token.replace(Some(Token { token: Arc::clone(&token), until }));
        Ok(token)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Secret<Vec<u8>>), HttpError> {
        headers.push((REQUEST, HeaderValue::from_static("true")));
        headers.extend(self.namespace.clone().map(|namespace| (NAMESPACE, namespace)));
        self.server.ask(Asked { method, path: path.to_owned(), headers, body }).await
    }
}
