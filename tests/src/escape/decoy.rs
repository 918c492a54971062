//! What controls spoil instead of the daemon's own things: a process, files, a BPF file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::watch::{Prey, state};
use crate::process::{Running, run};

/// The decoys of a stage.
#[derive(Debug)]
pub(super) struct Decoys {
    folder: PathBuf,
    cgroup: PathBuf,
    process: Running,
}

impl Decoys {
    /// Makes them below `folder`, and a cgroup below `cgroup_root`.
    pub(super) fn new(folder: &Path, cgroup_root: &Path) -> Result<Self> {
        let name = format!("vestibule-decoy-{}", std::process::id());
        let cgroup = cgroup_root.join(name);
        fs::create_dir_all(&cgroup).context("the decoy's cgroup")?;
        let process = process(&cgroup)?;
        Ok(Self { folder: folder.join("decoy"), cgroup, process })
    }

    /// Answers them whole, whatever the last attempt did.
    pub(super) fn whole(&mut self) -> Result<Prey> {
        if state(self.process.pid()) != "lives" {
            self.process = process(&self.cgroup)?;
        }
        let archive = self.folder.join("archive/table");
        unmount(&archive);
        fs::remove_dir_all(self.folder.join("archive")).ok();
        fs::create_dir_all(&archive).context("the decoys' folder")?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700)).context("its mode")?;
        let file = archive.join("events.parquet");
        fs::write(&file, "decoy").context("a decoy")?;
        let bpf = self.folder.join("bpf");
        let pins = bpf.join("pins");
        if !pins.join("pin").is_dir() {
            unmount(&bpf);
            unmount(&bpf);
            fs::create_dir_all(&bpf).context("the decoys' pins")?;
            run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&bpf), 10)?.ok()?;
            fs::create_dir_all(pins.join("pin")).context("the decoys' pins")?;
        }
        Ok(Prey { pid: self.process.pid(), cgroup: self.cgroup.clone(), file, pins })
    }
}

impl Drop for Decoys {
    fn drop(&mut self) {
        self.process.kill();
        fs::remove_dir(&self.cgroup).ok();
        unmount(&self.folder.join("bpf"));
        unmount(&self.folder.join("archive/table"));
    }
}

/// Takes a mount away where there is one.
pub(super) fn unmount(at: &Path) {
    run(Command::new("umount").args(["--lazy", "--quiet"]).arg(at), 10).ok();
}

fn process(cgroup: &Path) -> Result<Running> {
    let running = Running::new("decoy", Command::new("sleep").arg("3600").stdin(Stdio::null()))?;
    fs::write(cgroup.join("cgroup.procs"), running.pid().to_string()).context("the decoy")?;
    Ok(running)
}
