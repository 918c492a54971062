//! A host's connection to one hub.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::protocol::{BODY_BYTES_MAX, Problem};
use crate::tls::{self, TlsError};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// How long an answer may take, besides what it is asked to wait.
const ANSWER: Duration = Duration::from_secs(10);

/// The port where an address has none.
const PORT: u16 = 9443;

/// Files, PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The host's certificate: one of its alternative names is the node's.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that may have signed hubs' certificates.
    pub hubs_ca: PathBuf,
}

/// Where a hub is.
#[derive(Clone, Debug)]
pub struct Address {
    /// As it was written.
    pub url: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
    authority: HeaderValue,
}

/// Why a hub can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Its address.
    #[error("`{0}` is no address of a hub; write https://HOST:PORT")]
    Address(String),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No connection.
    #[error("no connection: {0}")]
    Connect(#[source] std::io::Error),
    /// The exchange.
    #[error("the exchange failed: {0}")]
    Exchange(#[source] hyper::Error),
    /// It says no.
    #[error("it answers {0}: {1}")]
    Refused(u16, String),
    /// It took too long.
    #[error("no answer in time")]
    Late,
    /// What it says.
    #[error("its answer makes no sense")]
    Malformed,
    /// The host itself.
    #[error("the host can't go on: {0}")]
    Host(String),
}

impl Address {
    /// `https://HOST:PORT`, without a path.
    ///
    /// # Errors
    /// If it is something else.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let is_plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if uri.scheme_str() != Some("https") || !is_plain || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Ok(Self {
            url: url.to_owned(),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(PORT),
            name: ServerName::try_from(host.to_owned()).map_err(|_| wrong())?,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?,
        })
    }
}

/// One connection; one request at a time.
pub(crate) struct Line {
    sender: SendRequest<Full<Bytes>>,
    authority: HeaderValue,
    node: String,
}

impl Line {
    /// Connects.
    pub(crate) async fn open(
        address: &Address,
        credentials: &Credentials,
        node: &str,
    ) -> Result<Self, ClientError> {
        let Credentials { certificate, key, hubs_ca } = credentials;
        let config = tls::host(certificate, key, hubs_ca)?;
        let connect = async {
            let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
            let stream = stream.map_err(ClientError::Connect)?;
            // Small questions that are waited for.
            stream.set_nodelay(true).ok();
            let connector = TlsConnector::from(config);
            let stream = connector.connect(address.name.clone(), stream).await;
            let stream = stream.map_err(ClientError::Connect)?;
            handshake(TokioIo::new(stream)).await.map_err(ClientError::Exchange)
        };
        let shaken = tokio::time::timeout(CONNECT, connect).await;
        let (sender, connection) = shaken.map_err(|_| ClientError::Late)??;
        // It ends with its sender; why it does, the sender is told.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, authority: address.authority.clone(), node: node.to_owned() })
    }

    /// Tells something.
    pub(crate) async fn post(
        &mut self,
        what: &str,
        body: &impl Serialize,
    ) -> Result<(), ClientError> {
        let body = serde_json::to_vec(body).map_err(|_| ClientError::Malformed)?;
        self.exchange(Method::POST, what, body, ANSWER).await.map(drop)
    }

    /// Tells something that is answered.
    pub(crate) async fn ask<A: DeserializeOwned>(
        &mut self,
        what: &str,
        body: &impl Serialize,
    ) -> Result<A, ClientError> {
        let body = serde_json::to_vec(body).map_err(|_| ClientError::Malformed)?;
        let answer = self.exchange(Method::POST, what, body, ANSWER).await?;
        serde_json::from_slice(&answer).map_err(|_| ClientError::Malformed)
    }

    /// Asks for something that may take `wait`.
    pub(crate) async fn get<A: DeserializeOwned>(
        &mut self,
        what: &str,
        wait: Duration,
    ) -> Result<A, ClientError> {
        let answer = self.exchange(Method::GET, what, Vec::new(), wait + ANSWER).await?;
        serde_json::from_slice(&answer).map_err(|_| ClientError::Malformed)
    }

    async fn exchange(
        &mut self,
        method: Method,
        what: &str,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<Bytes, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/nodes/{}/{what}", self.node))
            .header(HOST, self.authority.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| ClientError::Malformed)?;
        let answer = async {
            self.sender.ready().await.map_err(ClientError::Exchange)?;
            let response = self.sender.send_request(request).await;
            let response = response.map_err(ClientError::Exchange)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
            Ok::<_, ClientError>((status, body.map_err(|_| ClientError::Malformed)?.to_bytes()))
        };
        let answered = tokio::time::timeout(patience, answer).await;
        let (status, body) = answered.map_err(|_| ClientError::Late)??;
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(body),
            status => {
                let problem: Option<Problem> = serde_json::from_slice(&body).ok();
                let error = problem.map(|problem| problem.error).unwrap_or_default();
                Err(ClientError::Refused(status.as_u16(), error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address() {
        for (url, good) in [
            ("https://hub.example", true),
            ("https://hub.example:9443/", true),
            ("https://[::1]:9443", true),
            ("https://127.0.0.1:9443", true),
            ("http://hub.example", false),
            ("hub.example:9443", false),
            ("https://user@hub.example", false),
            ("https://hub.example/v1", false),
            ("https://hub.example?x", false),
        ] {
            assert_eq!(Address::new(url).is_ok(), good, "{url}");
        }
    }
}
