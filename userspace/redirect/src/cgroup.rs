//! The slice's directories in cgroup v2.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use types::id::CgroupId;

use crate::Error;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Our cgroups.
#[derive(Debug)]
pub(crate) struct Slice {
    root: PathBuf,
    /// What is below has the hooks.
    pub(crate) agents: PathBuf,
    /// The daemon is in here.
    pub(crate) proxy: PathBuf,
}

impl Slice {
    /// Makes the directories that are not there yet.
    pub(crate) fn make(cgroup_root: &Path, name: &str) -> Result<Self, Error> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(Error::Name(name.to_owned()));
        }
        let root = cgroup_root.join(name);
        // As systemd names the cgroup of a slice below another (systemd.slice(5)).
        let agents = name.strip_suffix(".slice").map(|stem| format!("{stem}-agents.slice"));
        let agents = root.join(agents.as_deref().unwrap_or("agents"));
        let slice = Self { agents, proxy: root.join("proxy"), root };
        for directory in [&slice.agents, &slice.proxy] {
            fs::create_dir_all(directory).map_err(Error::file("making", directory))?;
        }
        Ok(slice)
    }

    /// The mount point that the slice is in.
    pub(crate) fn cgroup_root(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// The directory of both.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// How deep a cgroup is; the root's depth is 0.
    pub(crate) fn level(&self, path: &Path) -> u32 {
        let below = path.strip_prefix(self.cgroup_root()).unwrap_or(path);
        u32::try_from(below.components().count()).unwrap_or(u32::MAX)
    }

    /// Removes the directories that nobody is in.
    pub(crate) fn remove(&self) {
        remove_below(&self.root);
    }
}

/// Where the cgroup v2 hierarchy is mounted: `/sys/fs/cgroup`, or `…/unified` on hybrid hosts.
pub(crate) fn find_root() -> Result<PathBuf, Error> {
    let mounts = fs::read_to_string(MOUNTINFO).map_err(Error::file("reading", MOUNTINFO))?;
    root_in(&mounts).ok_or(Error::NoCgroup2)
}

/// Moves this process, with all its threads.
pub(crate) fn join(directory: &Path) -> Result<(), Error> {
    let procs = directory.join("cgroup.procs");
    fs::write(&procs, "0").map_err(Error::file("joining", procs))
}

/// A directory's cgroup id.
pub(crate) fn id(directory: &Path) -> io::Result<CgroupId> {
    fs::metadata(directory).map(|metadata| CgroupId(metadata.ino()))
}

/// Directories right below.
pub(crate) fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Processes in it and below, [`PROCESSES_MAX`] at most. A cgroup that ends meanwhile has none.
pub(crate) fn processes(directory: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        let procs = match fs::read_to_string(directory.join("cgroup.procs")) {
            // ENODEV: removed after it was opened.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                continue;
            }
            procs => procs?,
        };
        found.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
        if found.len() >= PROCESSES_MAX {
            found.truncate(PROCESSES_MAX);
            break;
        }
        waiting.extend(children(&directory).unwrap_or_default());
    }
    Ok(found)
}

/// Processes looked at one by one: at about 0.1 ms each, a second of them.
const PROCESSES_MAX: usize = 8192;

/// Ids of a cgroup and those below.
pub(crate) fn ids(directory: &Path) -> Result<BTreeSet<CgroupId>, Error> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        match id(&directory) {
            Ok(id) => drop(found.insert(id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::file("examining", directory)(source)),
        }
        waiting.extend(children(&directory).unwrap_or_default());
    }
    Ok(found)
}

/// Whether a process is in it or below.
pub(crate) fn populated(directory: &Path) -> io::Result<bool> {
    let events = fs::read_to_string(directory.join("cgroup.events"))?;
    Ok(!events.lines().any(|line| line == "populated 0"))
}

fn remove_below(directory: &Path) {
    for child in children(directory).unwrap_or_default() {
        remove_below(&child);
    }
    // One that is in use stays, as it should.
    drop(fs::remove_dir(directory));
}

/// proc_pid_mountinfo(5): the mount point is the fifth field, the type follows " - ".
fn root_in(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_cgroup2_on_pure_and_hybrid_hosts() {
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      43 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(root_in(pure), Some("/sys/fs/cgroup".into()));
        assert_eq!(root_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(root_in("1 2 0:3 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn agents_of_systemd_are_where_it_puts_them() {
        let root = tempfile::tempdir().unwrap();
        let slice = Slice::make(root.path(), "vestibule.slice").unwrap();
        assert_eq!(slice.agents, root.path().join("vestibule.slice/vestibule-agents.slice"));
        let slice = Slice::make(root.path(), "vestibule").unwrap();
        assert_eq!(slice.agents, root.path().join("vestibule/agents"));
    }

    #[test]
    fn a_slice_stays_below_the_root() {
        for name in ["", "..", "a/b", "/etc", ".hidden"] {
            assert!(matches!(Slice::make(Path::new("/nonexistent"), name), Err(Error::Name(_))));
        }
    }
}
