//! State whose change is an attempt's effect.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is looked at before and after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing: what arrives at a sink, or what the attempt obtains, is the effect.
    Nothing,
    /// The files of the archive.
    Archive,
}

/// What there is to be spoilt: the daemon's own things, or a decoy's.
#[derive(Clone, Debug)]
pub(super) struct Prey {
    /// A process that is not the agent's.
    pub(super) pid: u32,
    /// A file of the archive.
    pub(super) file: std::path::PathBuf,
    /// A directory of the BPF file system.
    pub(super) pins: std::path::PathBuf,
}

impl Watch {
    /// Answers the state as text.
    pub(super) fn look(self, prey: &Prey) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Archive => prey.file.parent().map(tree).unwrap_or_default(),
        }
    }
}

/// Name, size, mode, owner, links and text of all below a directory.
fn tree(directory: &Path) -> String {
    let mut paths: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    let mut told = String::new();
    for path in paths {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let (size, mode) = (metadata.len(), metadata.mode());
        let text =
            if metadata.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let sum = text
            .iter()
            .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let owner = (metadata.uid(), metadata.nlink(), metadata.mtime());
        writeln!(told, "{} {size} {mode:o} {owner:?} {sum}", path.display()).ok();
        if metadata.is_dir() {
            told.push_str(&tree(&path));
        }
    }
    told
}
