//! The pin directory: `PIN_DIR/ABI/` holds maps and links, named as in the object.
//!
//! Whoever may remove a pin may free the agents, so the directory is root's alone.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData, MapError, MapInfo};
use redirect_common::{
    ABI, AllowedKey, COUNT_KINDS, ConnectRecord, DatagramKey, EVENT_BYTES, EXECS_BYTES, FlowKey,
    Lineage, Listener, MAX_ALLOWED, MAX_DATAGRAMS, MAX_ENROLLED, MAX_FLOWS, MAX_LISTENERS,
    MAX_PROCESSES, ProcessId, Senders, map,
};

use crate::{Error, cgroup, sys};

const BPFFS: &str = "/sys/fs/bpf";

/// Maps that are pinned: name, key bytes, value bytes, entries.
const MAPS: [(&str, usize, usize, u32); 13] = [
    (map::ENROLLED, 8, 4, MAX_ENROLLED),
    (map::LISTENERS, 8, size_of::<Listener>(), MAX_LISTENERS),
    (map::FLOWS, size_of::<FlowKey>(), size_of::<ConnectRecord>(), MAX_FLOWS),
    (map::CONNECTS, 4, size_of::<ConnectRecord>(), 0),
    (map::DATAGRAMS, size_of::<DatagramKey>(), size_of::<ConnectRecord>(), MAX_DATAGRAMS),
    (map::SENDERS, 4, size_of::<Senders>(), 0),
    (map::ALLOWED, size_of::<AllowedKey>(), 4, MAX_ALLOWED),
    (map::EVENTS, 0, 0, EVENT_BYTES),
    (map::DROPPED, 4, 8, 1),
    (map::PROCESSES, size_of::<ProcessId>(), size_of::<Lineage>(), MAX_PROCESSES),
    (map::EXECS, 0, 0, EXECS_BYTES),
    (map::COUNTS, 4, 8, COUNT_KINDS),
    (map::MISSED, 4, 4, 1),
];

/// A pin directory, locked.
#[derive(Debug)]
pub(crate) struct Pins {
    root: PathBuf,
    directory: PathBuf,
    _lock: File,
}

impl Pins {
    /// Opens and locks the directory, mounting a bpffs and making directories as needed.
    pub(crate) fn open(root: PathBuf) -> Result<Self, Error> {
        mount_if_needed(&root)?;
        let directory = root.join(format!("{ABI:016x}"));
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&directory).map_err(Error::file("making", &directory))?;
        let lock = File::open(&root).map_err(Error::file("opening", &root))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, directory, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse(root)),
            Err(TryLockError::Error(source)) => {
                Err(Error::File { action: "locking", path: root, source })
            }
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where this version pins its maps and the slice's links.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where an object of this name is pinned.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Names and paths of the maps to pin.
    pub(crate) fn maps(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        MAPS.iter().map(|&(name, ..)| (name, self.path(name)))
    }

    /// Compares pinned maps with what we would make: aya takes a pinned map as it is.
    pub(crate) fn check_maps(&self) -> Result<(), Error> {
        for &(name, key, value, entries) in &MAPS {
            check_map(&self.path(name), name, key, value, entries)?;
        }
        Ok(())
    }

    /// Takes over the links of other versions, so that no program runs twice; agents enrolled
    /// then stay so, if that version's map is one we can read, and else are refused until they are
    /// enrolled again. Other maps go with their directories.
    pub(crate) fn take_over(&self) -> Result<(), Error> {
        for version in cgroup::children(&self.root).map_err(Error::file("reading", &self.root))? {
            if version == self.directory {
                continue;
            }
            self.copy_enrolled(&version)?;
            for from in links(&version)? {
                let Some(name) = from.file_name() else { continue };
                let to = self.directory.join(name);
                if !to.exists() {
                    fs::rename(&from, &to).map_err(Error::file("moving", from))?;
                }
            }
            remove_version(&version)?;
        }
        Ok(())
    }

    /// Copies what another version enrolled, in whatever mode, unless we know the cgroup already.
    fn copy_enrolled(&self, version: &Path) -> Result<(), Error> {
        let failed = |source| Error::Map { name: map::ENROLLED, source };
        let (from, to) = (version.join(map::ENROLLED), self.path(map::ENROLLED));
        if !from.exists() {
            return Ok(());
        }
        let info = MapInfo::from_pin(&from).map_err(failed)?;
        if (info.key_size(), info.value_size()) != (8, 4) {
            return Ok(());
        }
        let open = |path: &Path| {
            let map = Map::HashMap(MapData::from_pin(path)?);
            HashMap::<MapData, u64, u32>::try_from(map)
        };
        let (old, mut new) = (open(&from).map_err(failed)?, open(&to).map_err(failed)?);
        for entry in &old {
            let (cgroup, mode) = entry.map_err(failed)?;
            match new.get(&cgroup, 0) {
                Err(MapError::KeyNotFound) => new.insert(cgroup, mode, 0).map_err(failed)?,
                known => drop(known.map_err(failed)?),
            }
        }
        Ok(())
    }

    /// Removes every pin of every version.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        for version in cgroup::children(&self.root).map_err(Error::file("reading", &self.root))? {
            remove_version(&version)?;
        }
        // A mount point of its own stays.
        drop(fs::remove_dir(&self.root));
        Ok(())
    }
}

/// Compares a map, if one is pinned there, with what we would make.
pub(crate) fn check_map(
    path: &Path,
    name: &'static str,
    key: usize,
    value: usize,
    entries: u32,
) -> Result<(), Error> {
    if !path.exists() {
        return Ok(());
    }
    let info = MapInfo::from_pin(path).map_err(|source| Error::Map { name, source })?;
    let same = info.key_size() as usize == key
        && info.value_size() as usize == value
        && info.max_entries() == entries;
    if same { Ok(()) } else { Err(Error::OtherMap { name }) }
}

/// Gives the link pinned at `path` the program, if it is on `cgroup`. False if there is none to
/// give it to; the pin of one whose cgroup was removed goes.
pub(crate) fn adopt_link(path: &Path, cgroup: u64, program: BorrowedFd<'_>) -> Result<bool, Error> {
    let link = match sys::open_link(path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(Error::file("opening", path)(source)),
    };
    let info = sys::link_info(link.as_fd()).map_err(Error::file("examining", path))?;
    if info.cgroup != 0 && info.cgroup != cgroup {
        return Err(Error::OtherSlice(path.to_owned()));
    }
    match sys::update_link(link.as_fd(), program) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
            fs::remove_file(path).map_err(Error::file("removing", path))?;
            Ok(false)
        }
        Err(source) => Err(Error::file("updating", path)(source)),
    }
}

/// Links pinned in a version's directory, and its directories of links on other cgroups: all that
/// is not named in capitals, as maps are.
pub(crate) fn links(version: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for pin in fs::read_dir(version).map_err(Error::file("reading", version))? {
        let path = pin.map_err(Error::file("reading", version))?.path();
        let is_map = |name: &std::ffi::OsStr| name == name.to_ascii_uppercase();
        if path.file_name().is_some_and(|name| !is_map(name)) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Removes a version's pins, those in directories below as well.
pub(crate) fn remove_version(version: &Path) -> Result<(), Error> {
    for pin in fs::read_dir(version).map_err(Error::file("reading", version))? {
        let pin = pin.map_err(Error::file("reading", version))?.path();
        if pin.is_dir() {
            remove_version(&pin)?;
        } else {
            remove_pin(&pin)?;
        }
    }
    fs::remove_dir(version).map_err(Error::file("removing", version))
}

/// Removes a pin; what it attached to a cgroup is off when this returns. Without being detached, a
/// link whose last pin goes ends some time later, on a thread of the kernel's.
pub(crate) fn remove_pin(pin: &Path) -> Result<(), Error> {
    // Maps, and links of other kinds, only lose their pin.
    if let Ok(link) = sys::open_link(pin) {
        drop(sys::detach_link(link.as_fd()));
    }
    fs::remove_file(pin).map_err(Error::file("removing", pin))
}

/// Mounts a bpffs at `/sys/fs/bpf`, if the path is below that, or else at the path.
fn mount_if_needed(root: &Path) -> Result<(), Error> {
    let point = if root.starts_with(BPFFS) {
        Path::new(BPFFS)
    } else {
        fs::create_dir_all(root).map_err(Error::file("making", root))?;
        root
    };
    // The directory below the mount point is the lock against mounting twice.
    let below = File::open(point).map_err(Error::file("opening", point))?;
    below.lock().map_err(Error::file("locking", point))?;
    if sys::is_bpffs(point).map_err(Error::file("examining", point))? {
        return Ok(());
    }
    sys::mount_bpffs(point).map_err(Error::file("mounting a bpffs at", point))
}
