//! What a daemon leaves in the kernel by design: its cgroups, and its pins in the BPF file system.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::port::Port;

/// Names the slice of the daemon that listens on a port: the port makes it unique.
pub(crate) fn name(port: u16) -> String {
    format!("vestibule-t{port}")
}

/// Answers where the hooks of a slice are pinned.
pub(crate) fn pins(name: &str) -> PathBuf {
    Path::new("/sys/fs/bpf").join(name)
}

/// Takes a port whose slice is nobody's: a daemon would adopt the agents of a test that was killed.
///
/// # Errors
/// If all ports are taken.
pub(crate) fn take() -> Result<Port> {
    // Held until the end, so that none of them is tried twice.
    let mut passed = Vec::new();
    loop {
        let port = Port::take()?;
        let slice = name(port.number());
        if !pins(&slice).exists() && cgroups(&slice).is_none() {
            return Ok(port);
        }
        passed.push(port);
    }
}

/// Takes away what is left of a slice, as far as no process is in it.
///
/// # Errors
/// If something of it stays.
pub(crate) fn remove(name: &str) -> Result<()> {
    let pins = pins(name);
    if pins.exists() {
        fs::remove_dir_all(&pins).with_context(|| format!("{} stays", pins.display()))?;
    }
    cgroups(name).map_or(Ok(()), |top| remove_cgroup(&top))
}

/// The top cgroup of a slice, on a pure or on a hybrid host.
fn cgroups(name: &str) -> Option<PathBuf> {
    let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    places.iter().map(|place| Path::new(place).join(name)).find(|top| top.exists())
}

/// A cgroup's files go with it; only those below it have to go first.
fn remove_cgroup(cgroup: &Path) -> Result<()> {
    for entry in fs::read_dir(cgroup).with_context(|| cgroup.display().to_string())? {
        let entry = entry.context("a cgroup can't be listed")?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup).with_context(|| format!("{} stays", cgroup.display()))
}
