//! The one way to an issuer: bounded in bytes and time, over TLS, following no redirection.

use std::fs;
use std::path::Path;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, RequestBuilder, Response, Url, redirect};
use serde_json::{Map, Value};

use super::client::Client;
use super::issuer::Timeouts;
use super::json;

/// An answer of a token, introspection or device endpoint: tokens of 16 KiB each, three of them at most, and what is
/// around them.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A file of authorities' certificates: Debian's whole bundle has 220 KiB.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// A client for one issuer.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The file of authorities can't be read or holds none.
    #[error("ca_file")]
    CaFile,
    /// TLS can't be set up: no system authorities and none of one's own.
    #[error("tls")]
    Tls,
    /// No connection, or none that is trusted; or no answer in time.
    #[error("issuer_unreachable")]
    Unreachable,
    /// Another status than asked for.
    #[error("status")]
    Status(u16),
    /// More bytes than asked for.
    #[error("answer_too_large")]
    TooLarge,
    /// Not the JSON that it should be.
    #[error("answer_malformed")]
    Malformed,
}

impl HttpError {
    /// The word for the record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::CaFile => "ca_file",
            Self::Tls => "tls",
            Self::Unreachable => "issuer_unreachable",
            Self::Status(_) => "status",
            Self::TooLarge => "answer_too_large",
            Self::Malformed => "answer_malformed",
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP's status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The JSON object of an answer, whatever its status.
    pub(super) fn object(&self) -> Result<Map<String, Value>, HttpError> {
        json::object(&self.body).map_err(|_| HttpError::Malformed)
    }

    /// The JSON object of a good answer.
    pub(super) fn good_object(&self) -> Result<Map<String, Value>, HttpError> {
        if self.status != 200 {
            return Err(HttpError::Status(self.status));
        }
        self.object()
    }
}

impl Http {
    /// A client that trusts the system's authorities, and those in the file.
    ///
    /// # Errors
    /// If the file can't be read, or nobody would be trusted.
    pub fn new(ca_file: Option<&Path>, timeouts: Timeouts) -> Result<Self, HttpError> {
        let Timeouts { connect, request } = timeouts;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(connect)
            .timeout(request)
            .redirect(redirect::Policy::none())
            .referer(false)
            // The environment of a daemon is no place to say where tokens go.
            .no_proxy()
            .pool_max_idle_per_host(4)
            // Before servers close it (Node's own after 5 s): what is written to a closed one is not sent again.
            .pool_idle_timeout(std::time::Duration::from_secs(3))
            .user_agent("vestibule");
        if let Some(path) = ca_file {
            builder = builder.tls_certs_merge(certificates(path).ok_or(HttpError::CaFile)?);
        }
        Ok(Self { client: builder.build().map_err(|_| HttpError::Tls)? })
    }

    /// Fetches a document.
    pub(super) async fn get(&self, url: &Url, bytes_max: usize) -> Result<Answer, HttpError> {
        send(self.client.get(url.clone()), bytes_max).await
    }

    /// Posts a form as a client; the status is the caller's to judge.
    pub(super) async fn post(
        &self,
        url: &Url,
        client: &Client,
        form: &[(&str, &str)],
    ) -> Result<Answer, HttpError> {
        let body = client.body(form);
        let mut request = self.client.post(url.clone());
        if let Some(authorization) = client.authorization() {
            let mut value = HeaderValue::from_str(authorization.expose())
                .expect("base64 is what a header may hold");
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        send(request.body(body.expose().clone()), ANSWER_BYTES_MAX).await
    }
}

async fn send(request: RequestBuilder, bytes_max: usize) -> Result<Answer, HttpError> {
    let request = request.header("accept", "application/json");
    let mut response = request.send().await.map_err(|_| HttpError::Unreachable)?;
    let status = response.status().as_u16();
    let body = body(&mut response, bytes_max).await?;
    Ok(Answer { status, body })
}

/// Reads a body without ever holding more than what was asked for and one chunk.
async fn body(response: &mut Response, bytes_max: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| HttpError::Unreachable)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(HttpError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn certificates(path: &Path) -> Option<Vec<Certificate>> {
    let bytes = fs::metadata(path).ok()?.len();
    if bytes > CA_BYTES_MAX {
        return None;
    }
    let found = Certificate::from_pem_bundle(&fs::read(path).ok()?).ok()?;
    (!found.is_empty()).then_some(found)
}
