//! How far a log is shipped, kept on disk: a restart goes on there. What is lost of it is found again in the store.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use types::hex::hex;

use crate::{ShipError, Sum, io_error};

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// To where.
    pub url: String,
    /// Which log.
    pub origin: String,
    /// Rows under the checkpoint that is shipped: all that it covers is in the store, and was read back.
    pub size: u64,
    /// SHA-256 of the last manifest under it, hex; zeros before the first.
    pub manifest: String,
    /// Rows whose Parquet files are shipped.
    pub files_upto: u64,
    /// SHA-256 of cosignatures by size, of the newest.
    pub cosigned: BTreeMap<u64, String>,
    /// The greatest size whose time stamp is shipped.
    #[serde(default)]
    pub stamped: u64,
    /// An upload in parts under way.
    pub upload: Option<Upload>,
}

/// An upload in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    name: String,
    sha256: String,
    /// The store's word for it.
    pub(crate) id: String,
    /// The store's words for the parts that are there.
    pub(crate) parts: Vec<String>,
}

impl Upload {
    pub(crate) fn new(name: &str, due: &Sum, id: String) -> Self {
        Self { name: name.to_owned(), sha256: hex(&due.sha256), id, parts: Vec::new() }
    }

    pub(crate) fn is_of(&self, name: &str, due: &Sum) -> bool {
        self.name == name && self.sha256 == hex(&due.sha256)
    }

    /// Parts that are there.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }
}

impl State {
    /// Nothing is shipped.
    pub fn new(url: &str, origin: &str) -> Self {
        let (url, origin) = (url.to_owned(), origin.to_owned());
        Self { url, origin, manifest: hex(&[0; 32]), ..Self::default() }
    }

    /// The state in a folder, of this store and log; `None` where there is none, or another's.
    ///
    /// # Errors
    /// If it can't be read, or is none.
    pub fn load(dir: &Path, url: &str, origin: &str) -> Result<Option<Self>, ShipError> {
        let path = path(dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(&path)(error)),
        };
        // Half a file can't be: one that is none was changed, and what it said is found in the store.
        let state: Option<Self> = serde_json::from_slice(&text).ok();
        Ok(state.filter(|state| state.url == url && state.origin == origin))
    }

    /// Keeps it in a folder.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn save(&self, dir: &Path) -> Result<(), ShipError> {
        let path = path(dir);
        let text =
            serde_json::to_vec_pretty(self).map_err(io::Error::other).map_err(io_error(&path))?;
        archive::files::write(&path, &text, 0o600).map_err(io_error(&path))
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("shipped.json")
}
