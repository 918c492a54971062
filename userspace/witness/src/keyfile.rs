//! A key in a file of 32 bytes that only its owner reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ed25519_dalek::SigningKey;
use tlog::note::{self, Algorithm, PublicKey};

/// A key and its public half.
pub struct Key {
    /// The key.
    pub key: SigningKey,
    /// The public half.
    pub public: PublicKey,
}

impl Key {
    /// The key in `path`, made where absent, by the name `name`.
    ///
    /// # Errors
    /// If the file can't be read or made, or holds no key.
    pub fn load_or_create(path: &Path, name: &str, algorithm: Algorithm) -> io::Result<Self> {
        let seed: [u8; 32] = match fs::read(path) {
            Ok(bytes) => bytes.try_into().map_err(|_| io::ErrorKind::InvalidData)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(io::Error::other)?;
                write(path, &seed, 0o600)?;
                seed
            }
            Err(error) => return Err(error),
        };
        let key = SigningKey::from_bytes(&seed);
        let public =
            PublicKey { name: name.to_owned(), key: key.verifying_key().into(), algorithm };
        Ok(Self { key, public })
    }

    /// The note of `text`, signed.
    pub fn sign(&self, text: &str) -> String {
        note::sign(text, &self.key, &self.public)
    }
}

/// Writes a file such that it is there whole and durable, or as it was.
///
/// # Errors
/// If the system refuses.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
