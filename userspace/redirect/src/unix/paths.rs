//! Paths of sockets that agents may connect to, as the kernel programs know them.
//!
//! A path is compared byte by byte and looked up by the kernel afterwards: whoever can put something
//! else into its place decides what agents reach. So none may lie where anybody can.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use redirect_common::unix::{NAME_BYTES, Name};

use crate::Error;

/// `sizeof(sun_path)`, of which a NUL takes one (unix(7)).
const PATH_MAX: usize = 107;

/// The path's key. An error for one that is not from the root and plain, that is too long for a
/// socket, or that lies in a directory where every user may make files.
pub(super) fn key(path: &Path) -> Result<Name, Error> {
    let wrong = |why| Error::UnixPath { path: path.to_owned(), why };
    let bytes = path.as_os_str().as_bytes();
    let plain = path.components().collect::<PathBuf>();
    let is_plain = path.is_absolute()
        && plain.as_os_str().as_bytes() == bytes
        && !path.components().any(|part| part == Component::ParentDir);
    if !is_plain {
        return Err(wrong("it is no absolute path without `.`, `..` and needless slashes"));
    }
    if bytes.len() > PATH_MAX || bytes.contains(&0) {
        return Err(wrong("a socket's path has 107 bytes at most, none of them NUL"));
    }
    if is_open(path) || path.canonicalize().is_ok_and(|real| is_open(&real)) {
        return Err(wrong("every user may make files in a directory on its way"));
    }
    let mut key = [0; NAME_BYTES];
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    Ok(key)
}

/// Whether everybody may put something else into a directory's place above it, or into its own. In
/// a directory like `/tmp` nobody but root may touch what is root's, but a socket comes and goes.
fn is_open(path: &Path) -> bool {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let is_roots_directory =
        |at: &Path| fs::symlink_metadata(at).is_ok_and(|at| at.is_dir() && at.uid() == 0);
    path.ancestors().zip(path.ancestors().skip(1)).any(|(entry, directory)| {
        let mode = fs::metadata(directory).map_or(0, |directory| directory.permissions().mode());
        let kept = mode & STICKY != 0 && is_roots_directory(entry);
        mode & OTHERS_WRITE != 0 && !kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_its_bytes_and_zeros() {
        let key = key(Path::new("/run/postgresql/.s.PGSQL.5432")).unwrap();
        assert!(key.starts_with(b"/run/postgresql/.s.PGSQL.5432\0"));
        assert!(key.iter().skip(30).all(|byte| *byte == 0));
    }

    #[test]
    fn what_others_may_replace_or_say_otherwise_is_refused() {
        let long = format!("/run/{}", "x".repeat(103));
        for path in ["run/x", "./x", "/run/../x", "/run//x", "/run/./x", "/run/x/", "", &long] {
            assert!(matches!(key(Path::new(path)), Err(Error::UnixPath { .. })), "{path}");
        }
        let in_sticky = tempfile::tempdir_in("/tmp").unwrap();
        assert!(key(&in_sticky.path().join("x.sock")).is_ok());
        fs::set_permissions(in_sticky.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(key(&in_sticky.path().join("x.sock")).is_err());
        let open = std::env::temp_dir().join("x.sock");
        assert!(matches!(key(&open), Err(Error::UnixPath { .. })));
        // A link in a directory of root's to one where anybody may write.
        let directory = tempfile::tempdir_in("/run").unwrap();
        let link = directory.path().join("open");
        std::os::unix::fs::symlink(std::env::temp_dir(), &link).unwrap();
        assert!(matches!(key(&link.join("x.sock")), Err(Error::UnixPath { .. })));
    }
}
