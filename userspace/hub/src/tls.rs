//! Who speaks to whom: hosts and hubs by certificates of one authority, both ways, TLS 1.3 alone.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub use tokio_rustls::rustls::ServerConfig;

/// The protocol that both speak (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// Why certificates are of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{0}: {1}")]
    File(String, String),
    /// What they say together.
    #[error("{0}")]
    Invalid(String),
}

/// How a hub takes hosts: with certificates of an authority, none of them on its list of revoked ones.
///
/// # Errors
/// If a file is of no use.
pub fn hub(
    certificate: &Path,
    key: &Path,
    hosts_ca: &Path,
    revoked: Option<&Path>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let roots = Arc::new(authorities(hosts_ca)?);
    let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
    if let Some(path) = revoked {
        let lists = CertificateRevocationListDer::pem_file_iter(path);
        let lists = lists.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        verifier = verifier.with_crls(lists.map_err(|error| file(path, &error))?);
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(invalid)?
        .with_client_cert_verifier(verifier.build().map_err(invalid)?)
        .with_single_cert(certificates(certificate)?, private_key(key)?)
        .map_err(invalid)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Who comes back is looked at anew: a list of revoked certificates is read at each start.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How a host speaks to hubs; the files are read anew for each connection, so that renewed ones count.
///
/// # Errors
/// If a file is of no use.
pub fn host(certificate: &Path, key: &Path, hubs_ca: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(invalid)?
        .with_root_certificates(authorities(hubs_ca)?)
        .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
        .map_err(invalid)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// How a hub speaks to its database.
///
/// # Errors
/// If the file is of no use.
pub(crate) fn database(ca: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(invalid)?
        .with_root_certificates(authorities(ca)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| file(path, &error))?;
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| file(path, &error))?;
    if read.is_empty() { Err(file(path, &"no certificate")) } else { Ok(read) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| file(path, &error))
}

fn file(path: &Path, error: &dyn Display) -> TlsError {
    TlsError::File(path.display().to_string(), error.to_string())
}

fn invalid(error: impl Display) -> TlsError {
    TlsError::Invalid(error.to_string())
}
