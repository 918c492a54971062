//! The address at which issuers say that somebody logged out (OpenID Connect Back-Channel Logout 1.0 §2.5–2.8).

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
use identity::oidc::logout::posted;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use types::secret::Secret;

use super::Keeper;

/// A token of 16 KiB, its name, and three bytes for each where all are escaped.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Issuers that speak at once; each costs a task and a body.
const CLIENTS_MAX: usize = 64;

/// How long one may take to say it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers issuers until the runtime ends.
pub(crate) async fn serve(listener: TcpListener, keeper: Arc<Keeper>) {
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(place) = Arc::clone(&clients).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let keeper = Arc::clone(&keeper);
                tokio::task::spawn_local(async move {
                    if tokio::time::timeout(PATIENCE, client(stream, keeper)).await.is_err() {
                        debug!("an issuer did not finish what it said");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "logout socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn client(stream: TcpStream, keeper: Arc<Keeper>) {
    let answer = service_fn(move |request| {
        let keeper = Arc::clone(&keeper);
        async move { Ok::<_, Infallible>(answer(request, &keeper).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
        debug!(%error, "an issuer's request");
    }
}

async fn answer(request: Request<Incoming>, keeper: &Keeper) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return said(StatusCode::METHOD_NOT_ALLOWED, "invalid_request");
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return said(StatusCode::BAD_REQUEST, "invalid_request");
    };
    let body = Secret::new(body.to_bytes().to_vec());
    let done = match posted(body.expose()) {
        Ok(token) => keeper.logged_out(&token).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(_) => said(StatusCode::OK, ""),
        Err(error) => {
            warn!(why = error.reason(), "a logout token does not count");
            said(StatusCode::BAD_REQUEST, error.reason())
        }
    }
}

/// An answer without content, or with one word of an error (§2.8).
fn said(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    let body = match error {
        "" => String::new(),
        error => serde_json::json!({ "error": "invalid_request", "error_description": error })
            .to_string(),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
