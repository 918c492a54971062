//! Where hosts come to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tracing::{debug, info, warn};

use crate::peer;
use crate::protocol::{
    BODY_BYTES_MAX, DUE_MAX, Due, Hello, Outcomes, Problem, STANDINGS_MAX, Standings, WAIT_S_MAX,
    Wanted,
};
use crate::store::{Awaited, Store, StoreError};

pub use crate::peer::Hosts;

/// Connections at once: two of each of 1,000 hosts.
const CONNECTIONS_MAX: usize = 2_048;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long a host may be silent; it says hello every 20 s.
const SILENCE: Duration = Duration::from_mins(1);

/// How long a body may take.
const BODY: Duration = Duration::from_secs(10);

/// What answers hosts.
#[derive(Debug)]
pub struct Hub {
    /// This hub's name.
    pub name: String,
    /// What it keeps.
    pub store: Arc<Store>,
    /// Who may come.
    pub hosts: Hosts,
}

/// Answers hosts until the runtime ends.
pub async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, hub: Arc<Hub>) {
    let (acceptor, places) = (TlsAcceptor::from(tls), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (acceptor, hub) = (acceptor.clone(), Arc::clone(&hub));
                tokio::spawn(async move {
                    client(stream, acceptor, hub).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "no connection from a host");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn client(stream: TcpStream, acceptor: TlsAcceptor, hub: Arc<Hub>) {
    let peer = stream.peer_addr().map(|addr| addr.to_string()).unwrap_or_default();
    // Small answers that are waited for.
    stream.set_nodelay(true).ok();
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return warn!(peer, %error, "no host: the handshake failed"),
        Err(_) => return debug!(peer, "no host: the handshake took too long"),
    };
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first).cloned();
    // The handshake asked for one.
    let Some(certificate) = certificate else { return };
    let caller = Arc::new(Caller { peer, certificate, hub });
    let answer = service_fn(move |request| {
        let caller = Arc::clone(&caller);
        async move { Ok::<_, Infallible>(caller.answer(request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
        debug!(%error, "a host's connection");
    }
}

/// Whoever is at the other end.
struct Caller {
    peer: String,
    certificate: CertificateDer<'static>,
    hub: Arc<Hub>,
}

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is nothing here")]
    NotFound,
    #[error("the certificate is not that of `{0}`")]
    NotYou(String),
    #[error("`{0}` is none of this hub's hosts")]
    Unknown(String),
    #[error("what is said makes no sense: {0}")]
    Malformed(String),
    #[error("it is longer than {BODY_BYTES_MAX} bytes, or took too long")]
    Long,
    #[error("a host speaks for itself alone")]
    Foreign,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NotYou(_) | Self::Unknown(_) | Self::Foreign => StatusCode::FORBIDDEN,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Long => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Store(StoreError::Full(_) | StoreError::Texts) => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Caller {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        match self.route(request, &path).await {
            Ok(Some(body)) => respond(StatusCode::OK, body),
            Ok(None) => respond(StatusCode::NO_CONTENT, Vec::new()),
            Err(refusal) => {
                let (peer, status) = (&self.peer, refusal.status());
                warn!(peer, path, status = status.as_u16(), %refusal, "a host is refused");
                let problem = Problem { error: refusal.to_string() };
                respond(status, serde_json::to_vec(&problem).unwrap_or_default())
            }
        }
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        path: &str,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let ["v1", "nodes", node, what] = parts[..] else { return Err(Refusal::NotFound) };
        if !peer::is_of(&self.certificate, node) {
            return Err(Refusal::NotYou(node.to_owned()));
        }
        if !self.hub.hosts.may(node) {
            return Err(Refusal::Unknown(node.to_owned()));
        }
        let store = &self.hub.store;
        match (request.method(), what) {
            (&Method::POST, "hello") => {
                let hello: Hello = read(request).await?;
                if hello.waiting.len() > crate::store::WAITING_MAX {
                    return Err(Refusal::Malformed("too many requests".into()));
                }
                info!(node, waiting = hello.waiting.len(), peer = self.peer, "a host says hello");
                let requests = store.hello(node, hello).await?;
                answered(&Wanted { hub: self.hub.name.clone(), requests })
            }
            (&Method::POST, "standings") => {
                let Standings { standings } = read(request).await?;
                if standings.len() > STANDINGS_MAX {
                    return Err(Refusal::Malformed("too many requests".into()));
                }
                if standings.iter().any(|standing| standing.request.node != node) {
                    return Err(Refusal::Foreign);
                }
                store.tell(node, standings).await?;
                Ok(None)
            }
            (&Method::GET, "votes") => {
                let wait_s = wait_s(request.uri().query()).min(WAIT_S_MAX);
                answered(&due(store, node, Duration::from_secs(wait_s)).await?)
            }
            (&Method::POST, "outcomes") => {
                let Outcomes { outcomes } = read(request).await?;
                if outcomes.len() > DUE_MAX {
                    return Err(Refusal::Malformed("too many votes".into()));
                }
                store.settle(node, outcomes).await?;
                Ok(None)
            }
            _ => Err(Refusal::NotFound),
        }
    }
}

/// Votes for a node as soon as there are any, or none when it was waited long enough.
async fn due(store: &Store, node: &str, wait: Duration) -> Result<Due, StoreError> {
    let until = Instant::now() + wait;
    let waiter = store.wait_for(Awaited::Votes(node.to_owned()));
    loop {
        let votes = store.due(node, DUE_MAX).await?;
        if !votes.is_empty() {
            return Ok(Due { votes });
        }
        if tokio::time::timeout_at(until, waiter.told()).await.is_err() {
            return Ok(Due::default());
        }
    }
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let body = tokio::time::timeout(BODY, body).await.map_err(|_| Refusal::Long)?;
    let body = body.map_err(|_| Refusal::Long)?.to_bytes();
    // Not the values that it quotes.
    let told = |error: serde_json::Error| {
        Refusal::Malformed(format!("line {} column {}", error.line(), error.column()))
    };
    serde_json::from_slice(&body).map_err(told)
}

fn wait_s(query: Option<&str>) -> u64 {
    let mut parts = query.unwrap_or_default().split('&');
    let wait = parts.find_map(|part| part.strip_prefix("wait_s="));
    wait.and_then(|wait| wait.parse().ok()).unwrap_or(0)
}

fn answered<T: Serialize>(answer: &T) -> Result<Option<Vec<u8>>, Refusal> {
    Ok(Some(serde_json::to_vec(answer).map_err(StoreError::Malformed)?))
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
