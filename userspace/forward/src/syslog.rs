//! Syslog over TCP (RFC 6587, counted octets) and TLS (RFC 5425).
//!
//! A receiver acknowledges nothing. What was sent counts as taken once the connection has stood for [`SETTLE_NS`] since: a
//! receiver that is killed before closes it, and what came last is sent again.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::ForwardError;
use crate::rows::Batch;

/// How long a connection must have stood for what was sent to count as taken, nanoseconds.
pub(crate) const SETTLE_NS: u64 = 3_000_000_000;

/// How long a receiver is given to take a connection, or a batch.
const PATIENCE: Duration = Duration::from_secs(20);

/// Batches that do not count as taken yet: of 1 MiB each at most, so 64 MiB on the way, about.
const UNSETTLED_MAX: usize = 64;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A receiver.
pub(crate) struct Syslog {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    connection: Option<Box<dyn Stream>>,
    /// What was sent when, monotonic, and the row behind it.
    unsettled: VecDeque<(u64, u64)>,
}

impl Syslog {
    /// A receiver at `host` and `port`; with TLS by the authorities in `ca`, or the system's.
    pub(crate) fn new(
        host: &str,
        port: u16,
        tls: bool,
        ca: Option<&PathBuf>,
    ) -> Result<Self, ForwardError> {
        let tls = tls.then(|| connector(ca)).transpose()?;
        let unsettled = VecDeque::new();
        Ok(Self { host: host.to_owned(), port, tls, connection: None, unsettled })
    }

    /// Sends the rows.
    pub(crate) async fn send(&mut self, batch: &Batch, now_ns: u64) -> Result<(), ForwardError> {
        if self.connection.is_none() {
            let stream = in_time(connect(&self.host, self.port, self.tls.as_ref())).await?;
            self.connection = Some(stream);
        }
        let Some(stream) = &mut self.connection else { return Err(ForwardError::Ended) };
        let mut octets = Vec::new();
        for item in &batch.items {
            octets.extend_from_slice(format!("{} ", item.text.len()).as_bytes());
            octets.extend_from_slice(item.text.as_bytes());
        }
        in_time(async {
            stream.write_all(&octets).await.map_err(failed("sending"))?;
            stream.flush().await.map_err(failed("sending"))
        })
        .await?;
        self.unsettled.push_back((now_ns, batch.next_row));
        Ok(())
    }

    /// Whether more may be sent before what was sent counts as taken.
    pub(crate) fn has_room(&self) -> bool {
        self.unsettled.len() < UNSETTLED_MAX
    }

    /// The row behind what counts as taken now, where that is more than before.
    pub(crate) async fn settle(&mut self, now_ns: u64) -> Result<Option<u64>, ForwardError> {
        let Some(stream) = &mut self.connection else { return Ok(None) };
        // A receiver says nothing; it only ends.
        let mut said = [0; 64];
        match timeout(Duration::from_millis(1), stream.read(&mut said)).await {
            Ok(Ok(0)) => return Err(ForwardError::Ended),
            Err(_) | Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(failed("listening")(error)),
        }
        let mut taken = None;
        while let Some((at_ns, next_row)) = self.unsettled.front().copied() {
            if now_ns.saturating_sub(at_ns) < SETTLE_NS {
                break;
            }
            self.unsettled.pop_front();
            taken = Some(next_row);
        }
        Ok(taken)
    }

    /// Gives the connection up.
    pub(crate) fn close(&mut self) {
        self.connection = None;
        self.unsettled.clear();
    }
}

async fn connect(
    host: &str,
    port: u16,
    tls: Option<&TlsConnector>,
) -> Result<Box<dyn Stream>, ForwardError> {
    let stream = TcpStream::connect((host, port)).await.map_err(failed("connecting"))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| ForwardError::Client(error.to_string()))?;
    Ok(Box::new(tls.connect(name, stream).await.map_err(failed("speaking TLS"))?))
}

async fn in_time<T>(
    work: impl Future<Output = Result<T, ForwardError>>,
) -> Result<T, ForwardError> {
    timeout(PATIENCE, work).await.unwrap_or(Err(ForwardError::Slow(PATIENCE.as_secs())))
}

fn connector(ca: Option<&PathBuf>) -> Result<TlsConnector, ForwardError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        let fail = |why: String| ForwardError::Client(format!("{}: {why}", path.display()));
        let found = CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| fail(error.to_string()))?;
            roots.add(certificate).map_err(|error| fail(error.to_string()))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ForwardError::Client(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> ForwardError {
    let what = what.to_owned();
    move |source| ForwardError::Io { what, source }
}
