//! The vault of wrapped keys: a small file for each session, `YYYY-MM-DD/SESSION.json`, apart from journal and archive,
//! which are never changed. Who destroys a session's file destroys its recording: the chunks stay, and open for nobody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use types::clock::utc;
use types::id::SessionId;

use crate::keys::{PrivateKey, PublicKey};
use crate::wrap::{self, WrapError, Wrapped};

/// One session's key, as the vault has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The form: 1.
    pub version: u32,
    /// The key's name in records: the session's id.
    pub dek_id: SessionId,
    /// The node.
    pub node: String,
    /// The log's epoch.
    pub epoch: u32,
    /// When it was made (RFC 3339).
    pub created: String,
    /// How it is wrapped.
    pub suite: String,
    /// To whom.
    pub wrapped: Vec<Wrapped>,
}

/// The suite's name.
pub const SUITE: &str =
    "HPKE base, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM (RFC 9180)";

/// A vault.
#[derive(Clone, Debug)]
pub struct Vault {
    dir: PathBuf,
}

/// Why the vault does not have a key, or can't keep it.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A file can't be read or written.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// There is no key of this name: shredded, or the vault is another node's.
    #[error(
        "{} has no key `{dek_id}`: it was shredded (the archive's control rows say so), or this is not its vault",
        dir.display()
    )]
    Absent {
        /// The vault.
        dir: PathBuf,
        /// The key.
        dek_id: SessionId,
    },
    /// The file is not what was written.
    #[error("{} is not a key as the vault keeps it", .0.display())]
    Malformed(PathBuf),
    /// A name is no session's.
    #[error("`{0}` is no session's id")]
    NoSession(String),
}

impl Vault {
    /// The vault in a directory, which is made where it is not there.
    pub fn open(dir: &Path) -> Result<Self, VaultError> {
        make_dir(dir)?;
        Ok(Self::at(dir))
    }

    /// The vault in a directory, to be read.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Keeps a key; it is on disk when this returns.
    pub fn keep(&self, entry: &Entry) -> Result<(), VaultError> {
        let path = self.path(entry.dek_id);
        let day = path.parent().unwrap_or(&self.dir);
        let (_, text) = entry.file().map_err(|error| {
            VaultError::File(path.clone(), io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        if !day.is_dir() {
            make_dir(day)?;
            sync_dir(&self.dir)?;
        }
        let written =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(
                |mut file| {
                    file.write_all(&text)?;
                    file.sync_all()
                },
            );
        written.map_err(|error| VaultError::File(path.clone(), error))?;
        sync_dir(day)
    }

    /// A session's key, wrapped.
    pub fn find(&self, dek_id: SessionId) -> Result<Entry, VaultError> {
        let path = self.path(dek_id);
        let text = fs::read(&path).map_err(|error| self.failed(dek_id, &path, error))?;
        let entry: Entry =
            serde_json::from_slice(&text).map_err(|_| VaultError::Malformed(path.clone()))?;
        if entry.version != 1 || entry.dek_id != dek_id || entry.suite != SUITE {
            return Err(VaultError::Malformed(path));
        }
        Ok(entry)
    }

    /// Destroys a session's key: overwritten and gone from the directory, on disk when this returns.
    pub fn destroy(&self, dek_id: SessionId) -> Result<(), VaultError> {
        let path = self.path(dek_id);
        let failed = |error| self.failed(dek_id, &path, error);
        let mut file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
        file.write_all(&zeros).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::remove_file(&path).map_err(failed)?;
        sync_dir(path.parent().unwrap_or(&self.dir))
    }

    /// Forgets a key that sealed nothing.
    pub fn forget(&self, dek_id: SessionId) {
        // One that stays opens nothing.
        drop(fs::remove_file(self.path(dek_id)));
    }

    /// The names of the keys made before `day` (`YYYY-MM-DD`), in their order.
    pub fn before(&self, day: &str) -> Result<Vec<SessionId>, VaultError> {
        let mut found = Vec::new();
        for (name, path) in names(&self.dir)? {
            if *name >= *day || !path.is_dir() {
                continue;
            }
            for (name, _) in names(&path)? {
                let Some(id) = name.strip_suffix(".json") else { continue };
                found.push(id.parse().map_err(|_| VaultError::NoSession(id.to_owned()))?);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn failed(&self, dek_id: SessionId, path: &Path, error: io::Error) -> VaultError {
        match error.kind() {
            io::ErrorKind::NotFound => VaultError::Absent { dir: self.dir.clone(), dek_id },
            _ => VaultError::File(path.to_owned(), error),
        }
    }

    fn path(&self, dek_id: SessionId) -> PathBuf {
        self.dir.join(name(dek_id))
    }
}

impl Entry {
    /// The same key for somebody else: wrapped to `recipient` alone.
    ///
    /// # Errors
    /// If `with` does not open it.
    pub fn rewrapped(&self, with: &PrivateKey, recipient: &PublicKey) -> Result<Self, WrapError> {
        let place = (self.node.as_str(), self.epoch);
        let dek = wrap::unwrap(&self.wrapped, place, self.dek_id, with)?;
        let wrapped = wrap::wrap(dek.expose(), place, self.dek_id, recipient)?;
        Ok(Self { wrapped: vec![wrapped], ..self.clone() })
    }

    /// The name of its file in a vault, and what is in it.
    ///
    /// # Errors
    /// If it can't be written as JSON.
    pub fn file(&self) -> serde_json::Result<(PathBuf, Vec<u8>)> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok((name(self.dek_id), text))
    }
}

/// A key's file: below the day on which its session opened, which its id says.
fn name(dek_id: SessionId) -> PathBuf {
    let time = utc(dek_id.made_us());
    let day = time.split('T').next().unwrap_or_default();
    Path::new(day).join(format!("{dek_id}.json"))
}

fn names(dir: &Path) -> Result<Vec<(String, PathBuf)>, VaultError> {
    let failed = |error| VaultError::File(dir.to_owned(), error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    Ok(found)
}

fn make_dir(dir: &Path) -> Result<(), VaultError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| VaultError::File(dir.to_owned(), error))
}

fn sync_dir(dir: &Path) -> Result<(), VaultError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| VaultError::File(dir.to_owned(), error))
}
