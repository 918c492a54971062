//! Which inodes are protected, and how.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use redirect_common::guard::{FIXED, InodeKey};

use super::learn::Learner;
use crate::Error;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Inodes and their marks.
#[derive(Default)]
pub(super) struct Marks(pub(super) HashMap<InodeKey, u32>);

impl Marks {
    /// Marks a path, what is mounted below it, and (as fixed) the directories above it.
    pub(super) fn add(
        &mut self,
        learner: &mut Learner,
        path: &Path,
        mark: u32,
    ) -> Result<(), Error> {
        let path = fs::canonicalize(path).map_err(Error::file("examining", path))?;
        self.put(learner, &path, mark)?;
        let mounts = fs::read_to_string(MOUNTINFO).map_err(Error::file("reading", MOUNTINFO))?;
        for mount in mounts_below(&mounts, &path) {
            self.put(learner, &mount, mark)?;
        }
        for above in path.ancestors().skip(1) {
            self.put(learner, above, FIXED)?;
        }
        Ok(())
    }

    fn put(&mut self, learner: &mut Learner, path: &Path, mark: u32) -> Result<(), Error> {
        for inode in learner.inodes(path)? {
            // Number 0 tells the programs that the file system has marks at all.
            for (key, mark) in [(inode, mark), (InodeKey { ino: 0, ..inode }, FIXED)] {
                let known = self.0.entry(key).or_insert(mark);
                *known = mark.max(*known);
            }
        }
        Ok(())
    }
}

/// proc_pid_mountinfo(5): the mount point is the fifth field; blanks in it are written `\040`.
fn mounts_below(mountinfo: &str, path: &Path) -> Vec<PathBuf> {
    let point = |line: &str| {
        let field = line.split(' ').nth(4)?;
        let plain = field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        Some(PathBuf::from(plain))
    };
    let below = |point: &PathBuf| point.starts_with(path) && point != path;
    mountinfo.lines().filter_map(point).filter(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_path_are_found() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/sda rw\n\
                      2 1 8:2 / /var/lib/v rw - ext4 /dev/sdb rw\n\
                      3 2 8:3 / /var/lib/v/the\\040archive rw - xfs /dev/sdc rw\n\
                      4 1 8:4 / /var/lib/vault rw - xfs /dev/sdd rw\n";
        let found = mounts_below(mounts, Path::new("/var/lib/v"));
        assert_eq!(found, [PathBuf::from("/var/lib/v/the archive")]);
    }
}
