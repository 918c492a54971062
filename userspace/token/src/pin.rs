//! A token's PIN, in a file of its owner's.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::TokenError;

/// More than any token takes (PKCS#11 modules say 255 at most).
const PIN_BYTES_MAX: u64 = 4096;

/// Which content of which file a PIN was read from: its device, inode and time of change, nanoseconds.
pub(crate) type Written = (u64, u64, i128);

/// The PIN in a file that nobody else may read, without the end of its line, and what it was read from.
///
/// # Errors
/// If it can't be read, or others may.
pub(crate) fn read_pin(path: &Path) -> Result<(String, Written), TokenError> {
    let failed = |source| TokenError::Pin { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let (mode, owner) = (about.mode() & 0o7777, about.uid());
    if mode & 0o077 != 0 || owner != rustix::process::geteuid().as_raw() {
        return Err(TokenError::Open { path: path.to_owned(), mode, owner });
    }
    let mut pin = String::new();
    file.take(PIN_BYTES_MAX).read_to_string(&mut pin).map_err(failed)?;
    let changed = i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
    Ok((pin.trim_end().to_owned(), (about.dev(), about.ino(), changed)))
}
