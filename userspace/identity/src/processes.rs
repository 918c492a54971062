//! What is known of agents' processes beyond the kernel's record: executable, command line,
//! container.
//!
//! The kernel's record names the exec that made a process; the execs themselves come apart from it,
//! and are kept here for a while. So a process that ended before its connection was accepted has its
//! command line all the same. None of it decides who the agent is.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use types::command_line::redacted;
use types::exec::Exec;
use types::id::CgroupId;
use types::principal::{ImageKey, Inode, Process};

use crate::container;
use crate::process::{Executable, Executables, command_line};

/// Bytes of execs kept: about 50,000 of usual length, 4,000 with whole pages of arguments. The
/// oldest go first: a process that still runs can be asked itself.
const EXECS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What an exec costs beside its texts: two keys, two pointers with their counts, its place.
const EXEC_BYTES: usize = 160;

/// Cgroups whose container is remembered: 4,096 of about 150 B, beyond it all are forgotten.
const CONTAINERS_MAX: usize = 4_096;

/// The kernel's side of this host.
pub trait Host: Send + Sync {
    /// Calls `each` with the execs since the last call.
    fn take_execs(&self, each: &mut dyn FnMut(Exec));
    /// The directory of a cgroup; none for one that is gone.
    fn cgroup_path(&self, cgroup: CgroupId) -> Option<String>;
}

/// What is known of processes on this host.
pub struct Processes {
    host: Box<dyn Host>,
    executables: Executables,
    started: Mutex<Started>,
    containers: Mutex<HashMap<CgroupId, Option<Arc<str>>>>,
}

impl std::fmt::Debug for Processes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processes").finish_non_exhaustive()
    }
}

impl Processes {
    /// Knows nothing yet.
    pub fn new(host: impl Host + 'static) -> Self {
        Self {
            host: Box::new(host),
            executables: Executables::default(),
            started: Mutex::default(),
            containers: Mutex::default(),
        }
    }

    /// Takes what was started since the last time; to be called often enough for the kernel's
    /// buffer not to fill.
    pub fn refresh(&self) {
        self.host.take_execs(&mut |exec| self.started().add(&exec));
    }

    /// Adds to the kernel's record what else is known. Reads an executable the first time it is
    /// seen: call it where that may take a while.
    pub fn complete(&self, process: &mut Process) {
        let image = process.provenance.image.and_then(|image| self.image(image));
        let running = self.executables.of(process);
        let executable = running.or_else(|| {
            let (path, inode) = (image.as_ref()?.path.as_ref()?, process.exe?);
            self.executables.at(path, inode)
        });
        if let Some(Executable { path, sha256 }) = executable {
            process.exe_path = Some(path);
            process.exe_sha256 = Some(sha256);
        }
        let line = image.map(|image| image.line);
        process.provenance.command_line = line.or_else(|| command_line(process));
        process.provenance.container = self.container(process.cgroup);
    }

    /// What the exec started. It was in the kernel's buffer before anything it started connected.
    fn image(&self, key: ImageKey) -> Option<Image> {
        let known = self.started().get(key);
        known.or_else(|| {
            self.refresh();
            self.started().get(key)
        })
    }

    /// A cgroup's id is never used again in one boot.
    fn container(&self, cgroup: CgroupId) -> Option<Arc<str>> {
        let containers = || self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = containers().get(&cgroup) {
            return known.clone();
        }
        let container = container::of(&self.host.cgroup_path(cgroup)?).map(Arc::from);
        let mut containers = containers();
        if containers.len() >= CONTAINERS_MAX {
            containers.clear();
        }
        containers.insert(cgroup, container.clone());
        container
    }

    fn started(&self) -> MutexGuard<'_, Started> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an exec started; without a secret.
#[derive(Clone, Debug)]
struct Image {
    line: Arc<str>,
    /// The executable's path where it was given whole; to be compared with the inode.
    path: Option<Arc<str>>,
}

impl Image {
    fn bytes(&self) -> usize {
        EXEC_BYTES + self.line.len() + self.path.as_ref().map_or(0, |path| path.len())
    }
}

/// Images by their execs, the oldest first in `order`.
#[derive(Debug, Default)]
struct Started {
    images: HashMap<ImageKey, Image>,
    order: VecDeque<ImageKey>,
    bytes: usize,
}

impl Started {
    fn get(&self, key: ImageKey) -> Option<Image> {
        self.images.get(&key).cloned()
    }

    fn add(&mut self, exec: &Exec) {
        let path = str::from_utf8(&exec.path).ok().filter(|path| Path::new(path).is_absolute());
        let line = redacted(&exec.arguments, exec.cut);
        let image = Image { line: line.into(), path: path.map(Arc::from) };
        self.bytes += image.bytes();
        if let Some(before) = self.images.insert(exec.image, image) {
            self.bytes -= before.bytes();
        } else {
            self.order.push_back(exec.image);
        }
        while self.bytes > EXECS_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.images.remove(&oldest).map_or(0, |image| image.bytes());
        }
    }
}

/// The kernel's encoding of a device (`MKDEV`, include/linux/kdev_t.h) for one of stat(2).
pub(crate) fn is_inode(inode: Inode, dev: u64, ino: u64) -> bool {
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    inode.ino == ino && u64::from(inode.dev) == u64::from(major) << 20 | u64::from(minor)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use types::principal::{ProcessKey, Provenance};

    use super::*;

    /// Execs that wait, and one cgroup's path.
    #[derive(Default)]
    struct Waiting(Mutex<Vec<Exec>>);

    impl Host for Waiting {
        fn take_execs(&self, each: &mut dyn FnMut(Exec)) {
            self.0.lock().unwrap().drain(..).for_each(each);
        }

        fn cgroup_path(&self, cgroup: CgroupId) -> Option<String> {
            (cgroup.0 == 7).then(|| format!("/docker/{}", "ab".repeat(32)))
        }
    }

    fn exec(at_ns: u64, path: &Path, arguments: &str) -> Exec {
        Exec {
            process: ProcessKey { tgid: u32::MAX, start_ns: 1 },
            image: ImageKey { tgid: u32::MAX, at_ns },
            exe: None,
            uid: 0,
            path: path.to_str().unwrap().as_bytes().to_vec(),
            arguments: arguments.as_bytes().to_vec(),
            cut: false,
        }
    }

    /// A process that is gone: no pid is that large.
    fn ended(at_ns: u64, exe: Option<Inode>) -> Process {
        let image = Some(ImageKey { tgid: u32::MAX, at_ns });
        Process {
            key: ProcessKey { tgid: u32::MAX, start_ns: 1 },
            provenance: Provenance { image, ..Provenance::default() },
            uid: 0,
            gid: 0,
            cgroup: CgroupId(7),
            exe,
            exe_path: None,
            exe_sha256: None,
            comm: "x".into(),
        }
    }

    fn inode(path: &Path) -> Inode {
        let meta = std::fs::metadata(path).unwrap();
        let dev = rustix::fs::major(meta.dev()) << 20 | rustix::fs::minor(meta.dev());
        Inode { dev, ino: meta.ino() }
    }

    #[test]
    fn a_process_that_ended_is_completed_from_its_exec() {
        let own = std::env::current_exe().unwrap();
        let waiting = vec![exec(5, &own, "tool\0--password\0hunter2\0")];
        let processes = Processes::new(Waiting(Mutex::new(waiting)));
        let mut process = ended(5, Some(inode(&own)));
        processes.complete(&mut process);
        assert_eq!(process.provenance.command_line.as_deref(), Some("tool --password ***"));
        assert_eq!(process.provenance.container, Some("ab".repeat(32).into()));
        assert_eq!(process.exe_path.as_deref(), own.to_str());
        assert!(process.exe_sha256.is_some());
        // Another file at that path proves nothing, and another exec is another command line.
        for (at_ns, exe) in [(5, Inode { dev: 0, ino: 1 }), (6, inode(&own))] {
            let mut process = ended(at_ns, Some(exe));
            processes.complete(&mut process);
            assert_eq!(process.exe_path, None);
            assert_eq!(process.provenance.command_line.is_some(), at_ns == 5);
        }
    }

    #[test]
    fn the_oldest_execs_go_first() {
        let mut started = Started::default();
        let long = "x".repeat(2000);
        let path = Path::new("/bin/x");
        let count = u64::try_from(EXECS_BYTES_MAX / 2000).unwrap();
        for at_ns in 0..count {
            started.add(&exec(at_ns, path, &long));
            assert!(started.bytes <= EXECS_BYTES_MAX);
        }
        assert!(started.get(ImageKey { tgid: u32::MAX, at_ns: 0 }).is_none());
        assert!(started.get(ImageKey { tgid: u32::MAX, at_ns: count - 1 }).is_some());
        assert_eq!(started.images.len(), started.order.len());
        let bytes: usize = started.images.values().map(Image::bytes).sum();
        assert_eq!(started.bytes, bytes);
    }
}
