//! Keys of blind tokens: where they are, and how a new one takes the place of the one in use.
//!
//! Each is a file of 32 bytes that root alone reads, `MICROSECONDS-ID.key`: when it was made, and what it is called, which
//! is the beginning of a digest of it. The newest is in use; tokens of earlier ones are found with those, so none is
//! removed as long as anybody may look for them.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use types::clock::Timestamp;
use types::hex::hex;
use types::secret::Secret;

/// One key.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What it is called, in records too.
    pub id: String,
    /// When it was made, microseconds since 1970 UTC.
    pub made_us: i64,
    /// The key.
    pub key: Secret<[u8; 32]>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum BlindKeyError {
    /// A file can't be read or written.
    #[error("{}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// A file is not what its name says.
    #[error("{} is no key of blind tokens, or not the one that it is called by", .0.display())]
    NoKey(PathBuf),
    /// There are too many.
    #[error("{} holds more than {KEYS_MAX} keys", .0.display())]
    TooMany(PathBuf),
    /// No key could be made.
    #[error("no random numbers")]
    NotMade,
}

/// Keys of one directory: one a month for twenty years, and some.
pub const KEYS_MAX: usize = 256;

/// The keys of a directory, the oldest first; none where it is not there.
///
/// # Errors
/// If one can't be read, or is not what it is called.
pub fn read(dir: &Path) -> Result<Vec<Kept>, BlindKeyError> {
    let failed = |error| BlindKeyError::File(dir.to_owned(), error);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut keys = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        // What a crash left half written.
        if path.extension().is_some_and(|end| end == "key") {
            keys.push(read_one(&path)?);
        }
        if keys.len() > KEYS_MAX {
            return Err(BlindKeyError::TooMany(dir.to_owned()));
        }
    }
    keys.sort_by_key(|key| key.made_us);
    Ok(keys)
}

/// Makes a new key, which is in use from now on.
///
/// # Errors
/// If it can't be written, or there are as many as there may be.
pub fn make(dir: &Path, now: Timestamp) -> Result<Kept, BlindKeyError> {
    let before = read(dir)?;
    if before.len() >= KEYS_MAX {
        return Err(BlindKeyError::TooMany(dir.to_owned()));
    }
    let mut key = Secret::new([0; 32]);
    key.expose_mut(|bytes| aws_lc_rs::rand::fill(bytes)).map_err(|_| BlindKeyError::NotMade)?;
    // The clock may have been set back since.
    let made_us = before.last().map_or(now.unix_us, |last| now.unix_us.max(last.made_us + 1));
    let kept = Kept { id: id(&key), made_us, key };
    let path = dir.join(format!("{:020}-{}.key", kept.made_us, kept.id));
    let staged = path.with_extension("new");
    let write = || -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut file = fs::OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o400).open(&staged)?;
        file.write_all(kept.key.expose())?;
        file.sync_all()?;
        fs::rename(&staged, &path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error| BlindKeyError::File(path.clone(), error))?;
    Ok(kept)
}

fn read_one(path: &Path) -> Result<Kept, BlindKeyError> {
    let bytes = fs::read(path).map_err(|error| BlindKeyError::File(path.to_owned(), error))?;
    let no_key = || BlindKeyError::NoKey(path.to_owned());
    let key = Secret::new(<[u8; 32]>::try_from(bytes).map_err(|_| no_key())?);
    let name = path.file_stem().and_then(|name| name.to_str()).ok_or_else(no_key)?;
    let (made, called) = name.split_once('-').ok_or_else(no_key)?;
    let made_us = made.parse().map_err(|_| no_key())?;
    let id = id(&key);
    if id == called { Ok(Kept { id, made_us, key }) } else { Err(no_key()) }
}

/// The first 4 bytes of SHA-256 over fixed words and the key, hex.
fn id(key: &Secret<[u8; 32]>) -> String {
    let digest = Sha256::new_with_prefix("vestibule/blind-key/v1\0").chain_update(key.expose());
    hex(digest.finalize().get(..4).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_newest_is_last_and_a_changed_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("blind");
        assert!(read(&dir).unwrap().is_empty());
        let at = |unix_us| Timestamp { unix_us, ..Timestamp::default() };
        let first = make(&dir, at(2_000)).unwrap();
        // Even where the clock went back.
        let second = make(&dir, at(1_000)).unwrap();
        let ids: Vec<String> = read(&dir).unwrap().into_iter().map(|key| key.id).collect();
        assert_eq!(ids, [first.id.clone(), second.id]);
        let path = dir.join(format!("{:020}-{}.key", 2_000, first.id));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400);
        fs::write(dir.join("half.new"), b"x").unwrap();
        assert_eq!(read(&dir).unwrap().len(), 2);
        fs::remove_file(&path).unwrap();
        fs::write(&path, [7; 32]).unwrap();
        assert!(matches!(read(&dir), Err(BlindKeyError::NoKey(_))));
    }
}
