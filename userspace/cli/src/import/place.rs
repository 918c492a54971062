//! Where an import is written: an archive of imports, a journal that goes with the import, a key of its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use archive::Archive;
use archive::key::Signer;
use archive::seal::Sealed;
use archive::{layout, verify};
use journal::clock::SystemClock;
use journal::imported;
use journal::recorder::{Options, Recorder, Reserve};
use sha2::{Digest, Sha256};
use types::clock::Clock;
use types::hex::hex;

/// An import's place.
#[derive(Debug)]
pub(crate) struct Place {
    archive: PathBuf,
    keys: PathBuf,
    /// The name of the node that stands for the capture.
    node: String,
    sha256: String,
    journal: Journal,
}

/// The journal of one import; it goes with its owner.
#[derive(Debug)]
struct Journal(PathBuf);

impl Drop for Journal {
    fn drop(&mut self) {
        // Nothing is lost: what is sealed is in the archive, and the rest is imported anew.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The epoch of imports: each is a log of its own.
const EPOCH: i32 = 0;

/// Hex digits of a capture's digest in the name of its log: 64 bits.
const NAME_DIGITS: usize = 16;

impl Place {
    /// A place for the import of a capture.
    pub(crate) fn open(capture: &Path, into: &Path, keys: Option<&Path>) -> Result<Self> {
        let sha256 = digest(capture).with_context(|| capture.display().to_string())?;
        let name = sha256.get(..NAME_DIGITS).unwrap_or(&sha256);
        let node = format!("{}{name}", imported::NODE_PREFIX);
        let origin = layout::origin(&node, EPOCH);
        if into.exists() {
            let origins = verify::origins(into)?;
            if let Some(other) = origins.iter().find(|origin| !layout::is_import(origin)) {
                bail!(
                    "{} is the archive of {other}: an import is never written into what a host recorded; \
                     name another folder",
                    into.display()
                );
            }
            ensure!(
                !origins.contains(&origin),
                "{} has this capture already, as {origin}",
                into.display()
            );
            let is_empty = fs::read_dir(into)?.next().is_none();
            ensure!(
                is_empty || !origins.is_empty(),
                "{} is no archive: name a folder that is not there yet",
                into.display()
            );
        }
        let beside = |end: &str| {
            let mut name = into.components().as_path().as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        let journal = beside(&format!(".{node}.journal"));
        // Of an import that was cut off.
        match fs::remove_dir_all(&journal) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| journal.display().to_string());
            }
            _ => {}
        }
        let keys = keys.map_or_else(|| beside(".keys"), Path::to_owned);
        let journal = Journal(journal);
        Ok(Self { archive: into.to_owned(), keys, node, sha256, journal })
    }

    /// Opens its journal.
    pub(crate) fn recorder(&self) -> Result<Recorder> {
        let mut options = Options::new(&self.journal.0, &self.node, EPOCH.unsigned_abs());
        // Nobody waits for it: it may fill the disk, and then the import fails.
        options.reserve = Reserve { percent: 0, bytes: 64 * 1024 * 1024 };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (recorder, _) = Recorder::open(&options, clock, Box::new(|_| {}))
            .with_context(|| self.journal.0.display().to_string())?;
        Ok(recorder)
    }

    /// Seals what its journal holds.
    pub(crate) fn seal(&self) -> Result<Sealed> {
        let archive = Archive::open(&self.archive, &self.node)?;
        let mut signer = Signer::load_or_create(&self.keys, &self.node)?;
        // The journal is closed: all of it is durable.
        let durable = journal::record::Lsn(u64::MAX);
        Ok(archive.seal(&self.journal.0, durable, &mut signer, SystemClock.now())?)
    }

    /// The log's name.
    pub(crate) fn origin(&self) -> String {
        layout::origin(&self.node, EPOCH)
    }

    /// The capture's SHA-256, hex.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The file of its public key.
    pub(crate) fn public_key(&self) -> PathBuf {
        self.keys.join(format!("{}.vkey", self.node))
    }
}

fn digest(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(hex(&digest.finalize()))
}
