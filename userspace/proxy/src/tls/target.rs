//! Towards targets: the real server's certificate, verified in the agent's stead.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::targets::Protocol;
use crate::tls::{alpn, provider};

/// When a target is spoken to with TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// When the agent asks for it; what the server answers to that is what the agent is answered.
    #[default]
    Asked,
    /// Always, whatever the agent asks for.
    Always,
    /// Never; agents that ask are told no.
    Never,
}

/// What of the server's certificate is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// Who signed it, and the name: as libpq's `verify-full`.
    #[default]
    Full,
    /// Who signed it: as `verify-ca`.
    Authority,
    /// Nothing: as `require`. Whoever stands on the way can read and change all.
    Nothing,
}

/// Which authorities are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The system's.
    #[default]
    System,
    /// Those in a file, PEM.
    File(PathBuf),
}

/// Our own certificate for a target that asks for one: files, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How a target is spoken to.
#[derive(Clone)]
pub struct TargetTls {
    when: When,
    /// The name to verify, where the configuration gives one.
    name: Option<Arc<str>>,
    config: Option<Arc<ClientConfig>>,
    /// When the first of our own certificates there expires.
    expires: Option<SystemTime>,
}

impl fmt::Debug for TargetTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetTls").field("when", &self.when).finish_non_exhaustive()
    }
}

impl TargetTls {
    /// Never with TLS.
    pub fn never() -> Self {
        Self { when: When::Never, name: None, config: None, expires: None }
    }

    /// By these rules, for a protocol.
    ///
    /// # Errors
    /// If a file can't be read or holds nothing of use.
    pub fn new(
        protocol: Protocol,
        when: When,
        name: Option<Arc<str>>,
        verification: Verification,
        roots: &Roots,
        credentials: Option<&Credentials>,
    ) -> Result<Self, TargetTlsError> {
        if when == When::Never {
            return Ok(Self::never());
        }
        let invalid = |error: Error| TargetTlsError::Invalid(error.to_string());
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(invalid)?;
        let signed_by = if verification == Verification::Nothing {
            None
        } else {
            let roots = Arc::new(roots.read()?);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .map_err(|error| TargetTlsError::Invalid(error.to_string()))?;
            Some(verifier)
        };
        let verifier: Arc<dyn ServerCertVerifier> = match (signed_by, verification) {
            (Some(verifier), Verification::Full) => verifier,
            (signed_by, _) => Arc::new(Lenient { signed_by, provider }),
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut expires = None;
        let mut config = match credentials {
            None => builder.with_no_client_auth(),
            Some(Credentials { certificate, key }) => {
                let chain = certificates(certificate)?;
                expires = chain.iter().filter_map(|one| ca::expiry(one)).min();
                let read = PrivateKeyDer::from_pem_file(key);
                let key = read.map_err(|error| TargetTlsError::file(key, &error))?;
                builder.with_client_auth_cert(chain, key).map_err(invalid)?
            }
        };
        config.alpn_protocols = alpn(protocol);
        Ok(Self { when, name, config: Some(Arc::new(config)), expires })
    }

    /// When our own certificate for the target, or one between it and its authority, expires; none where
    /// it has none.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// When there is TLS.
    pub(crate) fn when(&self) -> When {
        self.when
    }

    /// Shakes hands with the server as `name`, the configured one if there is one.
    pub(crate) async fn connect<S>(&self, stream: S, name: &str) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.config.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let name = self.name.as_deref().unwrap_or(name);
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(config)).connect(name, stream).await
    }
}

impl Roots {
    /// Those that are trusted; an error where there are none.
    pub(crate) fn read(&self) -> Result<RootCertStore, TargetTlsError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::System => {
                // What can't be read is trusted less, never more.
                let _ =
                    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Self::File(path) => {
                for certificate in certificates(path)? {
                    let added = store.add(certificate);
                    added.map_err(|error| TargetTlsError::file(path, &error))?;
                }
            }
        }
        if store.is_empty() {
            return Err(TargetTlsError::Invalid("no authority is trusted".into()));
        }
        Ok(store)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TargetTlsError> {
    let file = |error: &dyn fmt::Display| TargetTlsError::file(path, error);
    let read = CertificateDer::pem_file_iter(path).map_err(|error| file(&error))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| file(&error))?;
    if read.is_empty() { Err(file(&"no certificate")) } else { Ok(read) }
}

/// Why a target can't be spoken to as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetTlsError {
    /// A file is of no use.
    #[error("{}: {what}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The parts don't fit.
    #[error("{0}")]
    Invalid(String),
}

impl TargetTlsError {
    fn file(path: &Path, what: &dyn fmt::Display) -> Self {
        Self::File { path: path.to_owned(), what: what.to_string() }
    }
}

/// Takes less than a certificate of a trusted authority for the server's name. That the server has
/// the certificate's key is seen to in any case.
#[derive(Debug)]
struct Lenient {
    /// Who may have signed it, for whatever name; anybody where absent.
    signed_by: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(verifier) = &self.signed_by else { return Ok(ServerCertVerified::assertion()) };
        let verified =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last: all else was right.
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
