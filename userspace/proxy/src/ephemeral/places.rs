//! Where roles were made: remembered over a crash, so that what is left there is looked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::warn;

/// Places that are remembered: servers times their databases. What is beyond is not looked for again.
const PLACES_MAX: usize = 256;

/// The longest file that is read: 256 places of 1 KiB.
const BYTES_MAX: u64 = 256 * 1024;

/// A database of a server, and with which credential roles are made there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Place {
    pub(super) credential: String,
    pub(super) target: String,
    pub(super) addr: SocketAddr,
    /// The name by which the server is verified; in clear where absent.
    pub(super) server_name: Option<String>,
    pub(super) database: String,
}

/// The places of a node.
#[derive(Debug)]
pub(super) struct Places {
    file: PathBuf,
    known: Mutex<Vec<Place>>,
}

impl Places {
    /// Those that the file has; none where it can't be read.
    pub(super) fn new(file: PathBuf) -> Self {
        let read = || -> io::Result<Vec<Place>> {
            if fs::metadata(&file)?.len() > BYTES_MAX {
                return Err(io::Error::other("too long"));
            }
            Ok(serde_json::from_slice(&fs::read(&file)?)?)
        };
        let known = read().unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(file = %file.display(), %error, "where ephemeral roles were made is not known");
            }
            Vec::new()
        });
        Self { file, known: Mutex::new(known) }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Place> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers a place, durably, before something is made there.
    pub(super) fn remember(&self, place: &Place) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(place) {
            return Ok(());
        }
        let first = (known.len() + 1).saturating_sub(PLACES_MAX);
        let mut more: Vec<Place> = known.iter().skip(first).cloned().collect();
        more.push(place.clone());
        let new = self.file.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&more)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        if let Some(directory) = self.file.parent() {
            File::open(directory)?.sync_all()?;
        }
        *known = more;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_outlive_who_remembers_them_and_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("roles.json");
        let place = |at: usize| Place {
            credential: "c".into(),
            target: "t".into(),
            addr: "127.0.0.1:5432".parse().unwrap(),
            server_name: None,
            database: format!("d{at}"),
        };
        let places = Places::new(file.clone());
        assert!(places.all().is_empty());
        for at in 0..PLACES_MAX + 2 {
            places.remember(&place(at)).unwrap();
            places.remember(&place(at)).unwrap();
        }
        let again = Places::new(file.clone()).all();
        assert_eq!((again.len(), again[0].clone()), (PLACES_MAX, place(2)));
        fs::write(&file, "not JSON").unwrap();
        assert!(Places::new(file).all().is_empty());
    }
}
