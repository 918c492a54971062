//! The authority itself: made once, kept in two files.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::key::Key;
use crate::token::TokenKey;
use crate::{CaError, Permits, TokenUri};

/// The private key, PKCS#8 in PEM.
pub const KEY_FILE: &str = "ca.key";
/// In the place of the key: the URI of one in a token (RFC 7512).
pub const TOKEN_FILE: &str = "ca.uri";
/// The certificate, in PEM.
pub const CERTIFICATE_FILE: &str = "ca.crt";

const DAY: Duration = Duration::from_hours(24);

/// What an authority is made for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The host, in its subject.
    pub node: String,
    /// For which names it may be used.
    pub permits: Permits,
    /// How long, in days.
    pub days: u16,
    /// Where its key is, if not in a file.
    pub token: Option<TokenUri>,
}

/// A certificate authority with its key.
pub struct Authority {
    issuer: Issuer<'static, Key>,
    certificate: CertificateDer<'static>,
    permits: Permits,
    subject: String,
    not_before: SystemTime,
    not_after: SystemTime,
    /// One key for all leaves of this process: making one costs more than signing with it.
    leaf_key: KeyPair,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority in `dir`, with an ECDSA key on P-256: in a file that root alone may read, or in
    /// a token, where one of that name is used if it is there.
    pub fn create(dir: &Path, request: &Request, now: SystemTime) -> Result<Self, CaError> {
        let (key_path, certificate_path) = (dir.join(KEY_FILE), dir.join(CERTIFICATE_FILE));
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir).map_err(failed("making", dir))?;
        let (key_path, kept, key) = match &request.token {
            None => {
                let key = KeyPair::generate().map_err(CaError::Sign)?;
                (key_path, key.serialize_pem(), Key::File(key))
            }
            Some(uri) => {
                TokenKey::make(uri)?;
                let key = TokenKey::open(uri)?;
                (dir.join(TOKEN_FILE), format!("{}\n", uri.text()), Key::Token(Box::new(key)))
            }
        };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = request.permits.constraints();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, "vestibule");
        name.push(DnType::CommonName, format!("vestibule on {}", request.node));
        params.not_before = now.into();
        params.not_after = (now + DAY * u32::from(request.days)).into();
        params.serial_number = Some(SerialNumber::from_slice(&random()?));
        let certificate = params.self_signed(&key).map_err(CaError::Sign)?;
        // The key first: a certificate without one is of no use to anyone.
        drop(key);
        write_new(&key_path, kept.as_bytes(), 0o600)?;
        write_new(&certificate_path, certificate.pem().as_bytes(), 0o644)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("syncing", dir))?;
        Self::load(dir)
    }

    /// The authority in `dir`.
    ///
    /// # Errors
    /// If there is none, if others may read its key, or if the two files do not belong together.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let certificate_path = dir.join(CERTIFICATE_FILE);
        let key = read_key(dir)?;
        let certificate = Self::certificate_in(dir)?;
        let malformed = |what: String| CaError::Malformed { path: certificate_path.clone(), what };
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|error| malformed(format!("no X.509 certificate: {error}")))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(malformed("the certificate of another key".into()));
        }
        let constraints =
            parsed.name_constraints().map_err(|error| malformed(error.to_string()))?;
        let permits = Permits::read(constraints.map(|extension| extension.value));
        let subject = parsed.subject().to_string();
        let validity = parsed.validity();
        let time = |at: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or_default())
        };
        let not_before = time(validity.not_before.timestamp());
        let not_after = time(validity.not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(CaError::Sign)?;
        let leaf_key = KeyPair::generate().map_err(CaError::Sign)?;
        Ok(Self { issuer, certificate, permits, subject, not_before, not_after, leaf_key })
    }

    /// The certificate in `dir`, without the key.
    pub fn certificate_in(dir: &Path) -> Result<CertificateDer<'static>, CaError> {
        let path = dir.join(CERTIFICATE_FILE);
        let pem = fs::read(&path).map_err(absent_or("reading", &path, dir))?;
        CertificateDer::from_pem_slice(&pem)
            .map_err(|error| CaError::Malformed { path, what: format!("no certificate: {error}") })
    }

    /// The certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// For which names it may be used.
    pub fn permits(&self) -> &Permits {
        &self.permits
    }

    /// Its name.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// From when to when it holds.
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        (self.not_before, self.not_after)
    }

    /// Whether it holds at `now`.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        (self.not_before..self.not_after).contains(&now)
    }

    /// The certificate's SHA-256, as trust stores show it: hexadecimal bytes between colons.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.certificate);
        let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        bytes.join(":")
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, Key> {
        &self.issuer
    }

    pub(crate) fn leaf_key(&self) -> &KeyPair {
        &self.leaf_key
    }
}

/// A serial number: 16 random bytes, the first not negative (RFC 5280 §4.1.2.2).
pub(crate) fn random() -> Result<[u8; 16], CaError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(CaError::Random)?;
    bytes[0] &= 0x7f;
    bytes[0] |= 0x40;
    Ok(bytes)
}

/// The key in `dir`, or in the token that it names.
fn read_key(dir: &Path) -> Result<Key, CaError> {
    let (path, token) = (dir.join(KEY_FILE), dir.join(TOKEN_FILE));
    let malformed = |path: &Path, what: String| CaError::Malformed { path: path.to_owned(), what };
    if token.exists() {
        if path.exists() {
            return Err(malformed(&path, "a key beside one in a token; take one away".into()));
        }
        let uri = secret(&token, dir)?.trim_end().parse::<TokenUri>();
        let uri = uri.map_err(|error| malformed(&token, error.to_string()))?;
        return Ok(Key::Token(Box::new(TokenKey::open(&uri)?)));
    }
    let key = KeyPair::from_pem(&secret(&path, dir)?);
    key.map(Key::File).map_err(|error| malformed(&path, format!("no private key: {error}")))
}

/// What a file says that is root's alone.
fn secret(path: &Path, dir: &Path) -> Result<String, CaError> {
    let file = File::open(path).map_err(absent_or("opening", path, dir))?;
    let about = file.metadata().map_err(failed("examining", path))?;
    let (mode, owner) = (about.mode() & 0o7777, about.uid());
    if mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
        return Err(CaError::Open { path: path.to_owned(), mode, owner });
    }
    std::io::read_to_string(file).map_err(failed("reading", path))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = opened.map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => CaError::Exists(path.to_owned()),
        _ => failed("making", path)(source),
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("writing", path))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CaError {
    let path = path.to_owned();
    move |source| CaError::File { action, path, source }
}

fn absent_or(
    action: &'static str,
    path: &Path,
    dir: &Path,
) -> impl FnOnce(std::io::Error) -> CaError {
    let (path, dir): (PathBuf, PathBuf) = (path.to_owned(), dir.to_owned());
    move |source| match source.kind() {
        std::io::ErrorKind::NotFound => CaError::Absent(dir),
        _ => CaError::File { action, path, source },
    }
}
