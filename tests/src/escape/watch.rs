//! State whose change is an attempt's effect.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::read;

/// What is looked at before and after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing: what arrives at a sink, or what the attempt obtains, is the effect.
    Nothing,
    /// The files of the archive.
    Archive,
    /// The process that is to be ended or stopped.
    Process,
    /// What is pinned.
    Pins,
}

/// What there is to be spoilt: the daemon's own things, or a decoy's.
#[derive(Clone, Debug)]
pub(super) struct Prey {
    /// A process that is not the agent's.
    pub(super) pid: u32,
    /// Its cgroup's directory.
    pub(super) cgroup: PathBuf,
    /// A file of the archive.
    pub(super) file: PathBuf,
    /// A directory of a BPF file system, right below its root.
    pub(super) pins: PathBuf,
}

impl Watch {
    /// Answers the state as text.
    pub(super) fn look(self, prey: &Prey) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Archive => prey.file.parent().map(tree).unwrap_or_default(),
            Self::Process => state(prey.pid).to_owned(),
            Self::Pins => tree(&prey.pins),
        }
    }
}

/// Answers whether a process lives, is stopped or has ended (proc_pid_status(5)).
pub(super) fn state(pid: u32) -> &'static str {
    let status = read(format!("/proc/{pid}/status"));
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default();
    match state.trim_start().chars().next() {
        Some('R' | 'S' | 'D' | 'I') => "lives",
        Some('T' | 't') => "stopped",
        _ => "ended",
    }
}

/// Name, size, mode, owner, links, time and contents of all below a directory.
fn tree(directory: &Path) -> String {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let mut told = String::new();
    for path in paths {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let bytes =
            if metadata.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let add = |sum: u64, byte: &u8| sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
        let sum = bytes.iter().fold(0, add);
        let owner = (metadata.uid(), metadata.nlink(), metadata.mtime());
        let (size, mode) = (metadata.len(), metadata.mode());
        writeln!(told, "{} {size} {mode:o} {owner:?} {sum}", path.display()).ok();
        if metadata.is_dir() {
            told.push_str(&tree(&path));
        }
    }
    told
}
