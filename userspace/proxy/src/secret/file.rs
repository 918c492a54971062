//! Files that hold one secret: root's alone, or they are not read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use types::secret::Secret;

/// The longest secret: PostgreSQL's clients take passwords of up to 1,024 bytes; tokens that stand in
/// for passwords are longer.
pub(super) const SECRET_BYTES_MAX: usize = 16 * 1024;

/// An open file that only its owner, root or this process's user, can read or change.
#[derive(Debug)]
pub(crate) struct SecretFile {
    file: File,
    stamp: Stamp,
}

/// What tells whether a file is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl SecretFile {
    /// Opens a file; an error that names it where others than its owner may read or write it, it
    /// belongs to somebody else, or is no regular file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let wrong = |what: &str| io::Error::other(format!("{}: {what}", path.display()));
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = opened.map_err(|error| wrong(&error.to_string()))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(wrong("not a regular file"));
        }
        if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(wrong("not root's"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(wrong("open to others than its owner; it must have mode 0600 or 0400"));
        }
        if metadata.len() > SECRET_BYTES_MAX as u64 {
            return Err(wrong("longer than 16 KiB"));
        }
        let stamp = Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        Ok(Self { file, stamp })
    }

    /// What it is now.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Its content without the end of its line; an error where there is none, or a NUL in it.
    pub(crate) fn read(self) -> io::Result<Secret<Vec<u8>>> {
        // Never grown, so that no copy of it is left behind.
        let mut read = Secret::new(vec![0; SECRET_BYTES_MAX + 1]);
        let mut length = 0;
        let mut file = self.file;
        read.expose_mut(|bytes| {
            while let Some(free @ [_, ..]) = bytes.get_mut(length..) {
                match file.read(free)? {
                    0 => break,
                    count => length += count,
                }
            }
            Ok::<(), io::Error>(())
        })?;
        let content = read.expose().get(..length).unwrap_or_default();
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if content.is_empty() || content.len() > SECRET_BYTES_MAX || content.contains(&0) {
            return Err(io::Error::other("a secret's file is empty, too long or has a NUL in it"));
        }
        Ok(Secret::new(content.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_what_nobody_else_can_read_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "hunter2\r\n").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let found = SecretFile::open(&path);
            assert_eq!(found.is_ok(), good, "{mode:o}");
            assert!(found.err().is_none_or(|error| error.to_string().contains("0600")));
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let before = SecretFile::open(&path).unwrap();
        let stamp = before.stamp();
        assert_eq!(before.read().unwrap().expose(), b"hunter2");
        std::fs::write(&path, "hunter3").unwrap();
        assert_ne!(SecretFile::open(&path).unwrap().stamp(), stamp);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(SecretFile::open(&link).is_err(), "a link");
        assert!(SecretFile::open(directory.path()).is_err(), "a directory");
        for content in [b"".as_slice(), b"\n", b"a\0b", &[b'x'; SECRET_BYTES_MAX]] {
            std::fs::write(&path, content).unwrap();
            let good = content.len() == SECRET_BYTES_MAX;
            assert_eq!(SecretFile::open(&path).unwrap().read().is_ok(), good);
        }
    }
}
