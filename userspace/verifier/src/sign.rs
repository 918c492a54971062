//! A report that its reader can hold to whoever verified: signed as a C2SP note.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tlog::note::Algorithm;
use witness::keyfile::Key;

/// The name in the signature.
const NAME: &str = "vestibule/verifier";

/// Writes the report, signed with the key in `path` (32 bytes, made where absent), to `path` with `.report` behind
/// it, and the public key to `path` with `.vkey` behind it.
pub(crate) fn write(path: &Path, report: &str) -> Result<()> {
    let shown = || path.display().to_string();
    let key = Key::load_or_create(path, NAME, Algorithm::Ed25519).with_context(shown)?;
    let named = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let (note, public) = (key.sign(&format!("{report}\n")), key.public.line());
    for (path, text) in [(named(".report"), note), (named(".vkey"), public)] {
        archive::files::write(&path, text.as_bytes(), 0o644)
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}
