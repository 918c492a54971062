//! One request and its answer over HTTP/1.1, on a connection of its own: no redirects, no proxies of the
//! environment's, a bounded answer in a bounded time.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use types::secret::Secret;

use crate::tls::{Roots, provider};

/// How long one request may take, from connecting to the answer's last byte.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer: 4 secrets of the longest kind and what is said about them.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The server's port where the address has none.
const PORT: u16 = 8_200;

/// How a server is reached.
pub(super) struct Server {
    host: String,
    port: u16,
    /// `HOST:PORT` as the address has it.
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// A request.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    /// Headers; those with secrets are marked sensitive.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address makes no sense.
    #[error("`{0}` is no address of a vault; write https://HOST:PORT, or http:// for loopback")]
    Address(String),
    /// The authorities that are trusted.
    #[error("{0}")]
    Tls(String),
    /// No connection.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// The exchange failed.
    #[error("the exchange failed: {0}")]
    Exchange(#[source] hyper::Error),
    /// The request can't be made.
    #[error("no request can be made of that")]
    Request,
    /// The answer is too long.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// It took too long.
    #[error("it took longer than {} s", PATIENCE.as_secs())]
    Late,
}

impl Server {
    /// The server at an address: `https`, or `http` on this host, without a path.
    pub(super) fn new(address: &str, ca: Option<PathBuf>) -> Result<Self, HttpError> {
        let wrong = || HttpError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        if !matches!(path, "" | "/") || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let tls = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
                Some((connector(ca)?, name))
            }
            Some("http") if is_loopback(host) => None,
            _ => return Err(wrong()),
        };
        let port = authority.port_u16().unwrap_or(PORT);
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?;
        Ok(Self { host: host.to_owned(), port, authority, tls })
    }

    /// Asks once; answers the status and the body.
    pub(super) async fn ask(
        &self,
        asked: Asked,
    ) -> Result<(StatusCode, Secret<Vec<u8>>), HttpError> {
        let exchange = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
            let stream = stream.map_err(HttpError::Connect)?;
            match &self.tls {
                None => self.exchange(stream, asked).await,
                Some((connector, name)) => {
                    let stream = connector.connect(name.clone(), stream).await;
                    self.exchange(stream.map_err(HttpError::Connect)?, asked).await
                }
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or(Err(HttpError::Late))
    }

    async fn exchange<S>(
        &self,
        stream: S,
        asked: Asked,
    ) -> Result<(StatusCode, Secret<Vec<u8>>), HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Asked { method, path, headers, body } = asked;
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, self.authority.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|_| HttpError::Request)?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(HttpError::Exchange)?;
        let answer = async {
            let mut response = sender.send_request(request).await.map_err(HttpError::Exchange)?;
            let mut body = Secret::new(Vec::with_capacity(ANSWER_BYTES_MAX));
            while let Some(frame) = response.frame().await {
                let frame = frame.map_err(HttpError::Exchange)?;
                let Some(bytes) = frame.data_ref() else { continue };
                // Never grown, so that no copy of it is left behind.
                if body.expose().len() + bytes.len() > ANSWER_BYTES_MAX {
                    return Err(HttpError::TooLong);
                }
                body.expose_mut(|body| body.extend_from_slice(bytes));
            }
            Ok((response.status(), body))
        };
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // It ended; what came before may be all of the answer.
            ended = connection => {
                ended.map_err(HttpError::Exchange)?;
                answer.await
            }
        }
    }
}

fn connector(ca: Option<PathBuf>) -> Result<TlsConnector, HttpError> {
    let wrong = |error: &dyn std::fmt::Display| HttpError::Tls(error.to_string());
    let roots = ca.map_or(Roots::System, Roots::File).read().map_err(|error| wrong(&error))?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// What comes of a server that answers with these bytes and closes.
    fn answered(answer: Vec<u8>) -> Result<(u16, usize), HttpError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let read = stream.read(&mut asked).unwrap();
            // Who asks may have gone, having read enough.
            stream.write_all(&answer).ok();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        let server = Server::new(&address, None).unwrap();
        let (method, path) = (Method::GET, "/v1/x".to_owned());
        let asked = Asked { method, path, headers: Vec::new(), body: Vec::new() };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let answer = runtime.enable_all().build().unwrap().block_on(server.ask(asked));
        assert!(serving.join().unwrap().starts_with("GET /v1/x HTTP/1.1\r\n"));
        answer.map(|(status, body)| (status.as_u16(), body.expose().len()))
    }

    #[test]
    fn answers_are_bounded_and_lead_nowhere_else() {
        let of = |head: &str, body: usize| [head.as_bytes(), &vec![b'x'; body]].concat();
        let most = ANSWER_BYTES_MAX;
        let length = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        assert_eq!(answered(of(&length(most), most)).unwrap(), (200, most));
        let endless = of("HTTP/1.1 200 OK\r\n\r\n", 4 * most);
        for long in [of(&length(most + 1), most + 1), endless] {
            assert!(matches!(answered(long), Err(HttpError::TooLong)));
        }
        let elsewhere = "HTTP/1.1 307 X\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(answered(of(elsewhere, 0)).unwrap(), (307, 0));
        for cut in [of(&length(10), 3), of("HTTP/1.1 200", 0), of("SSH-2.0-x\r\n", 0), Vec::new()] {
            assert!(matches!(answered(cut), Err(HttpError::Exchange(_))));
        }
    }

    #[test]
    fn what_is_no_address() {
        for (address, good) in [
            ("http://127.0.0.1:8200", true),
            ("http://localhost", true),
            ("http://[::1]:8200/", true),
            ("http://10.0.0.1:8200", false),
            ("http://vault.example:8200", false),
            ("ftp://127.0.0.1", false),
            ("127.0.0.1:8200", false),
            ("http://user@127.0.0.1:8200", false),
            ("http://127.0.0.1:8200/v1", false),
            ("https://vault.example:8200?x", false),
        ] {
            assert_eq!(Server::new(address, None).is_ok(), good, "{address}");
        }
    }
}
