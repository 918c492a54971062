//! What user space can add to the kernel's record of a process: its executable's path and digest.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use types::command_line::redacted;
use types::limits::COMMAND_LINE_BYTES_MAX;
use types::principal::{Inode, Process, ProcessKey};

use crate::processes::is_inode;

/// Executables remembered: 1,024 × about 300 B = 300 KiB; beyond it all are forgotten at once.
const EXECUTABLES_MAX: usize = 1_024;

/// Larger executables are not digested: 512 MiB take about a third of a second.
const EXECUTABLE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// An executable, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Its path as the process sees it.
    pub path: Arc<str>,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// Digests executables, each version of each file once.
#[derive(Debug, Default)]
pub struct Executables {
    digests: Mutex<HashMap<FileVersion, [u8; 32]>>,
}

impl Executables {
    /// The executable of a process, if it still runs and is the one the kernel recorded.
    pub fn of(&self, process: &Process) -> Option<Executable> {
        let tgid = process.key.tgid;
        let link = format!("/proc/{tgid}/exe");
        let path = std::fs::read_link(&link).ok()?;
        let file = File::open(&link).ok()?;
        let meta = file.metadata().ok()?;
        // A reused pid or a second exec shows another start or inode: then nothing is claimed.
        if process.exe.is_some_and(|exe| exe.ino != meta.ino()) || !still_runs(process.key) {
            return None;
        }
        let sha256 = self.digest(FileVersion::of(&meta), file).ok()?;
        Some(Executable { path: path.to_string_lossy().into(), sha256 })
    }

    /// The executable at a path, if it is the one the kernel recorded.
    pub(crate) fn at(&self, path: &Arc<str>, exe: Inode) -> Option<Executable> {
        let file = File::open(&**path).ok()?;
        let meta = file.metadata().ok()?;
        if !is_inode(exe, meta.dev(), meta.ino()) {
            return None;
        }
        let sha256 = self.digest(FileVersion::of(&meta), file).ok()?;
        Some(Executable { path: Arc::clone(path), sha256 })
    }

    fn digest(&self, version: FileVersion, file: File) -> io::Result<[u8; 32]> {
        let known =
            self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(&version).copied();
        if let Some(sha256) = known {
            return Ok(sha256);
        }
        if version.size > EXECUTABLE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let sha256 = sha256(file)?;
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.len() >= EXECUTABLES_MAX {
            digests.clear();
        }
        digests.insert(version, sha256);
        Ok(sha256)
    }
}

/// A file as it was at one time; a change of content changes `changed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileVersion {
    dev: u64,
    ino: u64,
    size: u64,
    changed: (i64, i64),
}

impl FileVersion {
    fn of(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// The command line that a process shows, if it still runs; it may have changed it.
pub(crate) fn command_line(process: &Process) -> Option<Arc<str>> {
    let tgid = process.key.tgid;
    // One byte more than is kept says whether there is more.
    let limit = u64::try_from(COMMAND_LINE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let mut arguments = Vec::new();
    let file = File::open(format!("/proc/{tgid}/cmdline")).ok()?;
    file.take(limit).read_to_end(&mut arguments).ok()?;
    if arguments.is_empty() || !still_runs(process.key) {
        return None;
    }
    let cut = arguments.len() > COMMAND_LINE_BYTES_MAX;
    arguments.truncate(COMMAND_LINE_BYTES_MAX);
    Some(redacted(&arguments, cut).into())
}

/// Whether the process the kernel recorded is the one its pid names now: start times agree to the
/// clock tick (proc(5), `/proc/pid/stat` field 22).
pub fn still_runs(key: ProcessKey) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", key.tgid)) else {
        return false;
    };
    // The name in parentheses may hold blanks and parentheses; fields are counted behind the last.
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    let Some(Ok(ticks)) = fields.split_whitespace().nth(19).map(str::parse::<u64>) else {
        return false;
    };
    let ns_per_tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    key.start_ns / ns_per_tick.max(1) == ticks
}

fn sha256(mut file: File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(hash.finalize().into());
        };
        hash.update(read);
    }
}

#[cfg(test)]
mod tests {
    use types::id::CgroupId;
    use types::principal::Provenance;

    use super::*;

    fn this_process(start_ns: u64, ino: Option<u64>) -> Process {
        Process {
            key: ProcessKey { tgid: std::process::id(), start_ns },
            provenance: Provenance::default(),
            uid: 0,
            gid: 0,
            cgroup: CgroupId(1),
            exe: ino.map(|ino| Inode { dev: 0, ino }),
            exe_path: None,
            exe_sha256: None,
            comm: "test".into(),
        }
    }

    fn own_start_ns() -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let ticks: u64 =
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second())
    }

    #[test]
    fn the_running_executable_is_named_and_digested() {
        let own = std::env::current_exe().unwrap();
        let ino = std::fs::metadata(&own).unwrap().ino();
        let executables = Executables::default();
        let found = executables.of(&this_process(own_start_ns(), Some(ino))).unwrap();
        assert_eq!(*found.path, *own.to_string_lossy());
        assert_eq!(found.sha256, sha256(File::open(&own).unwrap()).unwrap());
    }

    #[test]
    fn the_command_line_that_is_shown_has_no_secrets() {
        let tool = ["-c", "read line; exit 0", "x", "--password", "hunter2"];
        let mut child = std::process::Command::new("sh")
            .args(tool)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
        let start_ns = ticks.parse::<u64>().unwrap() * 10_000_000;
        let mut process = this_process(start_ns, None);
        process.key.tgid = child.id();
        // Until the exec it is this test, and for a moment it shows nothing.
        let shown = std::iter::repeat_with(|| command_line(&process)).take(100_000).flatten();
        let line = shown.into_iter().find(|line| line.starts_with("sh ")).unwrap();
        assert_eq!(&*line, "sh -c 'read line; exit 0' x --password ***");
        process.key.start_ns += 60_000_000_000;
        assert_eq!(command_line(&process), None);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_reused_pid_or_another_executable_is_not_named() {
        let executables = Executables::default();
        let reused = this_process(own_start_ns() + 60_000_000_000, None);
        let replaced = this_process(own_start_ns(), Some(1));
        assert_eq!(executables.of(&reused), None);
        assert_eq!(executables.of(&replaced), None);
    }
}
