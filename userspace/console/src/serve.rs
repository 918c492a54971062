//! Connections: accepted, bounded in number, time and bytes, and answered.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::Service as _;
use tracing::{debug, warn};

use crate::Console;
use crate::routes::router;
use crate::signed::with_peer;

/// Connections at once: people's browsers have up to six each. A connection has buffers of 16 KiB and a task, with TLS
/// 40 KiB more: 30 MiB in all.
const CONNECTIONS_MAX: usize = 512;

/// A request's line and headers: a bearer token of 16 KiB, which [`identity::oidc::TOKEN_BYTES_MAX`] bounds, and
/// what else browsers send.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Headers of one request; browsers send about twenty.
const HEADERS_MAX: usize = 64;

/// For a handshake, and for a request's head, the time between two requests included.
const PATIENCE: Duration = Duration::from_secs(15);

impl Console {
    /// Answers browsers and programs until `stopped` says so.
    pub async fn serve(self, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
        let router = router(Arc::clone(&self.state));
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "the console's socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let acceptor = self.tls.as_ref().map(|tls| tls.acceptor(self.state.now()));
            let router = router.clone();
            tokio::spawn(async move {
                let ip = peer.ip().to_canonical();
                match acceptor {
                    None => answer(stream, ip, router).await,
                    Some(acceptor) => {
                        if let Some(stream) = shaken(acceptor, stream).await {
                            answer(stream, ip, router).await;
                        } else {
                            debug!("a handshake with the console failed");
                        }
                    }
                }
                drop(place);
            });
        }
    }
}

async fn shaken(
    acceptor: tokio_rustls::TlsAcceptor,
    stream: TcpStream,
) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send> {
    tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await.ok()?.ok()
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send, ip: IpAddr, router: Router) {
    let answer = service_fn(move |request| router.clone().call(with_peer(request, ip)));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    server.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
        debug!(%error, "a connection to the console");
    }
}
