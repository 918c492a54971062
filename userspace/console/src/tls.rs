//! TLS towards browsers and programs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tracing::warn;
use types::clock::Timestamp;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_mins(1);

/// A certificate and its key, read again when they change.
#[derive(Debug)]
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    config: Arc<ServerConfig>,
    changed: Changed,
    looked: Timestamp,
}

type Changed = [Option<SystemTime>; 2];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file holds no certificate or key, or can't be read.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        why: rustls::pki_types::pem::Error,
    },
    /// They don't fit.
    #[error("the certificate and its key")]
    Pair(#[from] rustls::Error),
}

impl Tls {
    pub(crate) fn open(certificate: &Path, key: &Path, now: Timestamp) -> Result<Self, TlsError> {
        let changed = changed(certificate, key);
        let config = config(certificate, key)?;
        let read = Mutex::new(Read { config, changed, looked: now });
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), read })
    }

    /// What the next connection is accepted with. Files that can't be used leave what was.
    pub(crate) fn acceptor(&self, now: Timestamp) -> TlsAcceptor {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if u128::from(now.us_since(read.looked)) >= LOOK.as_micros() {
            read.looked = now;
            let changed = changed(&self.certificate, &self.key);
            if changed != read.changed {
                read.changed = changed;
                match config(&self.certificate, &self.key) {
                    Ok(config) => read.config = config,
                    Err(error) => warn!(%error, "the console's new certificate can't be used"),
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&read.config))
    }
}

fn changed(certificate: &Path, key: &Path) -> Changed {
    [certificate, key].map(|path| path.metadata().and_then(|of| of.modified()).ok())
}

fn config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |why| TlsError::File { path, why }
    };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(file(certificate))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(file(certificate))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
