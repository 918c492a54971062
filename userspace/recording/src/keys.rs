//! Recipients' key files: a line each for the private and the public key, `vestibule-recordings-1 private BASE64` and
//! `vestibule-recordings-1 public BASE64`. The private key's file has both, the public key's one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::Hpke;
use sha2::{Digest, Sha256};
use types::hex::hex;
use types::secret::Secret;
use zeroize::{Zeroize, Zeroizing};

const MAGIC: &str = "vestibule-recordings-1";

/// A recipient's public key (X25519, RFC 7748).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Its 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its name in the vault: the first 16 hexadecimal digits of its SHA-256.
    pub fn id(&self) -> String {
        let digest = Sha256::digest(self.0);
        hex(digest.get(..8).unwrap_or(&digest))
    }
}

/// A recipient's private key, and its public one.
#[derive(Debug)]
pub struct PrivateKey {
    secret: Secret<[u8; 32]>,
    public: PublicKey,
}

impl PrivateKey {
    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn secret(&self) -> &Secret<[u8; 32]> {
        &self.secret
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file can't be read or written.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// A file is there already: keys are not overwritten.
    #[error("{} is there already; keys are not overwritten", .0.display())]
    Exists(PathBuf),
    /// It holds something else.
    #[error(
        "{} holds no {what} key for recordings (`vestibule recordings keygen` makes one)",
        path.display()
    )]
    NoKey {
        /// Which file.
        path: PathBuf,
        /// Which of the two.
        what: &'static str,
    },
    /// No key could be made.
    #[error("no key could be made")]
    NotMade,
}

/// A new pair.
pub fn generate() -> Result<PrivateKey, KeyError> {
    let (public, private) = SUITE.generate_key_pair().map_err(|_| KeyError::NotMade)?;
    let secret = private.secret_bytes().try_into().map_err(|_| KeyError::NotMade)?;
    let public = public.0.try_into().map_err(|_| KeyError::NotMade)?;
    Ok(PrivateKey { secret: Secret::new(secret), public: PublicKey(public) })
}

/// Writes a pair to `out`.key (mode 0600) and `out`.pub, which must not be there yet; answers their paths.
pub fn write(key: &PrivateKey, out: &Path) -> Result<(PathBuf, PathBuf), KeyError> {
    let path = |end: &str| {
        let mut name = out.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let (private, public) = (path(".key"), path(".pub"));
    let line = |word: &str, bytes: &[u8; 32]| {
        Zeroizing::new(format!("{MAGIC} {word} {}\n", STANDARD.encode(bytes)))
    };
    let public_line = line("public", &key.public.0);
    let mut both = line("private", key.secret.expose());
    both.push_str(&public_line);
    put(&private, 0o600, &both)?;
    put(&public, 0o644, &public_line)?;
    Ok((private, public))
}

fn put(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(
        |mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        },
    );
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists(path.to_owned()),
        _ => KeyError::File(path.to_owned(), error),
    })
}

/// The public key in a file.
pub fn read_public(path: &Path) -> Result<PublicKey, KeyError> {
    let text = read(path)?;
    let none = || KeyError::NoKey { path: path.to_owned(), what: "public" };
    find(&text, "public").map(PublicKey).ok_or_else(none)
}

/// The pair in a file.
pub fn read_private(path: &Path) -> Result<PrivateKey, KeyError> {
    let text = read(path)?;
    let none = || KeyError::NoKey { path: path.to_owned(), what: "private" };
    let secret = Secret::new(find(&text, "private").ok_or_else(none)?);
    let public = PublicKey(find(&text, "public").ok_or_else(none)?);
    Ok(PrivateKey { secret, public })
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let text = fs::read_to_string(path).map_err(|error| KeyError::File(path.to_owned(), error));
    Ok(Zeroizing::new(text?))
}

fn find(text: &str, word: &str) -> Option<[u8; 32]> {
    let value = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_it = words.next() == Some(MAGIC) && words.next() == Some(word);
        let mut bytes = STANDARD.decode(words.next().filter(|_| is_it)?).ok()?;
        let key = bytes.as_slice().try_into().ok();
        bytes.zeroize();
        key
    };
    text.lines().find_map(value)
}
