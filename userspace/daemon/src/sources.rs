//! Policy sources and the masking key, from disk to values.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use policy::PolicySource;
use types::secret::Secret;

/// What a policy directory holds.
pub(crate) fn policies(dir: &Path) -> Result<PolicySource> {
    let what = || format!("{} can't be read", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(what)? {
        let entry = entry.with_context(what)?;
        if entry.file_type()?.is_file() {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("{} can't be read", entry.path().display()))?;
            files.push((entry.file_name().to_string_lossy().into_owned(), text));
        }
    }
    PolicySource::from_files(files).with_context(|| dir.display().to_string())
}

/// The key under which masked values are hashed; made on first use, mode 0600.
pub(crate) fn masking_key(keys: &Path) -> Result<Secret<[u8; 32]>> {
    private_dir(keys)?;
    let path = keys.join("masking.key");
    if !path.exists() {
        let mut key = [0; 32];
        getrandom::fill(&mut key).context("no random numbers")?;
        let staged = keys.join("masking.key.new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&staged, &path)?;
        fs::File::open(keys)?.sync_all()?;
    }
    let bytes = fs::read(&path).with_context(|| format!("{} can't be read", path.display()))?;
    let key = bytes.try_into().ok().with_context(|| format!("{}: not 32 bytes", path.display()))?;
    Ok(Secret::new(key))
}

/// Makes a directory that only root enters.
pub(crate) fn private_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("{} can't be made", dir.display()))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("{} can't be made private", dir.display()))
}
