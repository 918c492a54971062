//! What the programs cost: how often each ran and for how long, as the kernel counts while asked to.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};

use crate::{Error, Kernel, sys};

/// Has the kernel count runs and time of all programs on this host while it lives; each run costs
/// some 20 ns more meanwhile. By descriptor (`BPF_ENABLE_STATS`, Linux 5.8), not by sysctl: others
/// may count, too.
#[derive(Debug)]
pub struct Counting {
    _descriptor: OwnedFd,
}

impl Counting {
    /// Begins to count.
    pub fn start() -> Result<Self, Error> {
        let started = enable_stats(Stats::RunTime);
        let failed = |error: aya::sys::SyscallError| Error::Call {
            call: "BPF_ENABLE_STATS",
            source: error.io_error,
        };
        started.map(|descriptor| Self { _descriptor: descriptor }).map_err(failed)
    }
}

/// What one program cost since it was loaded, as far as was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Its name, as in the object.
    pub name: String,
    /// Its id in the kernel.
    pub id: u32,
    /// Runs.
    pub runs: u64,
    /// Time of all runs together.
    pub time: Duration,
    /// Whether it runs in cgroups that it is attached to only; else for all of the host.
    pub is_by_cgroup: bool,
}

impl Kernel {
    /// The cost of every program that is pinned, by name.
    pub fn costs(&self) -> Result<Vec<Cost>, Error> {
        let mut names = HashMap::new();
        names_below(self.pins.directory(), &mut names)?;
        let mut costs = Vec::new();
        for info in loaded_programs() {
            // Others' programs come and go meanwhile.
            let Ok(info) = info else { continue };
            if let Some(name) = names.remove(&info.id()) {
                costs.push(cost(name, &info));
            }
        }
        costs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(costs)
    }
}

pub(crate) fn cost(name: String, info: &ProgramInfo) -> Cost {
    let is_by_cgroup = CGROUP_TYPES.contains(&(info.program_type() as u32));
    let (id, runs, time) = (info.id(), info.run_count(), info.run_time());
    Cost { name, id, runs, time, is_by_cgroup }
}

/// `BPF_PROG_TYPE_CGROUP_SKB`, `CGROUP_SOCK`, `SOCK_OPS`, `CGROUP_DEVICE`, `CGROUP_SOCK_ADDR`,
/// `CGROUP_SYSCTL`, `CGROUP_SOCKOPT` (include/uapi/linux/bpf.h).
const CGROUP_TYPES: [u32; 7] = [8, 9, 13, 15, 18, 23, 25];

/// Program ids and names of the links pinned in a directory and below.
fn names_below(directory: &Path, names: &mut HashMap<u32, String>) -> Result<(), Error> {
    for entry in fs::read_dir(directory).map_err(Error::file("reading", directory))? {
        let path = entry.map_err(Error::file("reading", directory))?.path();
        if path.is_dir() {
            names_below(&path, names)?;
        } else if let Some((id, name)) = link(&path)? {
            names.insert(id, name);
        }
    }
    Ok(())
}

/// Program id and name of a pinned link; none for a map: their names are in capitals.
fn link(path: &PathBuf) -> Result<Option<(u32, String)>, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.starts_with(|letter: char| letter.is_ascii_lowercase()) {
        return Ok(None);
    }
    let link = sys::open_link(path).map_err(Error::file("opening", path))?;
    let info = sys::link_info(link.as_fd()).map_err(Error::file("examining", path))?;
    Ok(Some((info.program, name.to_owned())))
}
