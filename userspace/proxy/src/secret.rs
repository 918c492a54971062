//! Where secrets are: files, the daemon's environment, a vault. All answer a secret and what tells
//! whether it is still the same one.

mod file;
mod http;
mod kv;
pub mod vault;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::secret::Secret;

use self::file::SecretFile;
use self::vault::Kept;

/// Where a secret is.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a file of root's alone; read again when it changes.
    File(PathBuf),
    /// In the environment that the daemon was started with; not there when absent.
    Environment(Arc<str>, Option<Arc<Secret<Vec<u8>>>>),
    /// In a vault.
    Vault(Arc<Kept>),
}

/// What tells whether a secret is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Its file is.
    File(file::Stamp),
    /// It can't change.
    Fixed,
    /// Which reading of it that brought another one, from 1.
    Reading(u64),
}

/// A secret that is there, and not taken yet.
#[derive(Debug)]
pub(crate) enum Found {
    /// In this file.
    File(SecretFile),
    /// In memory.
    Held(Arc<Secret<Vec<u8>>>, Stamp),
}

impl Source {
    /// Looks for the secret; waits for a vault, [`vault::PATIENCE`] at most. An error names the source,
    /// never what is in it.
    pub(crate) fn find(&self) -> io::Result<Found> {
        match self {
            Self::File(path) => SecretFile::open(path).map(Found::File),
            Self::Environment(_, Some(value)) => Ok(Found::Held(Arc::clone(value), Stamp::Fixed)),
            Self::Environment(name, None) => {
                let what = format!("the variable {name} was not in the daemon's environment");
                Err(io::Error::new(io::ErrorKind::NotFound, what))
            }
            Self::Vault(kept) => {
                let (secret, reading) = kept.get()?;
                Ok(Found::Held(secret, Stamp::Reading(reading)))
            }
        }
    }

    /// The secret as it is now; waits for a vault, [`vault::PATIENCE`] at most: for threads that may block.
    ///
    /// # Errors
    /// If it is not to be had; the error names the source, never what is in it.
    pub fn read(&self) -> io::Result<Secret<Vec<u8>>> {
        self.find()?.read()
    }

    /// Whether it can be used, as far as that shows at once: what is in a vault is only sent for.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn check(&self) -> io::Result<()> {
        match self {
            Self::Vault(kept) => {
                kept.want();
                Ok(())
            }
            Self::File(_) | Self::Environment(..) => self.read().map(drop),
        }
    }

    /// Its file, if it is in one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Environment(..) | Self::Vault(_) => None,
        }
    }
}

impl Found {
    /// What it is now.
    pub(crate) fn stamp(&self) -> Stamp {
        match self {
            Self::File(file) => Stamp::File(file.stamp()),
            Self::Held(_, stamp) => *stamp,
        }
    }

    /// The secret.
    pub(crate) fn read(self) -> io::Result<Secret<Vec<u8>>> {
        match self {
            Self::File(file) => file.read(),
            Self::Held(secret, _) => Ok(Secret::clone(&secret)),
        }
    }
}
