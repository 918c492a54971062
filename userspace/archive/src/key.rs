//! The node's signing key: a file only its owner reads, made on first use.

use std::fs;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};

use crate::attest::Attestation;
use crate::files;
use crate::note::{self, Checkpoint, PublicKey};

/// Signs checkpoints.
pub struct Signer {
    key: SigningKey,
    public: PublicKey,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system refused.
    #[error("cannot read or write the key {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not hold 32 bytes.
    #[error("key {} is not 32 bytes", .0.display())]
    Malformed(PathBuf),
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

impl Signer {
    /// The key of `node` in `dir`: `<node>.key` (mode 0600), and `<node>.vkey` beside it, the
    /// public key in C2SP's form; made where absent.
    pub fn load_or_create(dir: &Path, node: &str) -> Result<Self, KeyError> {
        let path = dir.join(format!("{node}.key"));
        let fail = |source| KeyError::Io { path: path.clone(), source };
        let seed: [u8; 32] = match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map_err(|_| KeyError::Malformed(path.clone()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).map_err(KeyError::Random)?;
                files::write(&path, &seed, 0o600).map_err(fail)?;
                seed
            }
            Err(error) => return Err(fail(error)),
        };
        let key = SigningKey::from_bytes(&seed);
        let public = PublicKey { name: format!("vestibule/node/{node}"), key: key.verifying_key() };
        files::write(&dir.join(format!("{node}.vkey")), public.line().as_bytes(), 0o644)
            .map_err(fail)?;
        Ok(Self { key, public })
    }

    /// The key in a file of 32 bytes, whose public key is called `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn load(path: &Path, name: &str) -> Result<Self, KeyError> {
        let fail = |source| KeyError::Io { path: path.to_owned(), source };
        let seed: Result<[u8; 32], _> = fs::read(path).map_err(fail)?.try_into();
        let key = SigningKey::from_bytes(&seed.map_err(|_| KeyError::Malformed(path.to_owned()))?);
        let public = PublicKey { name: name.to_owned(), key: key.verifying_key() };
        Ok(Self { key, public })
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signed note of a checkpoint.
    pub fn sign(&self, checkpoint: &Checkpoint) -> String {
        let text = checkpoint.text();
        note::seal(&text, &self.public, &self.key.sign(text.as_bytes()))
    }

    /// The signed note of what is said of a document.
    pub fn attest(&self, said: &Attestation) -> String {
        let text = said.text();
        note::seal(&text, &self.public, &self.key.sign(text.as_bytes()))
    }
}
