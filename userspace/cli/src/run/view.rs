//! The agent's view of the file system: without the sockets through which others would act for it,
//! and without a way to change cgroups and hooks (mount_namespaces(7)).
//!
//! Hidden is what is there when the agent starts. A socket made later in a directory that is not
//! hidden is seen; its mode decides.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount,
};

/// Directories and sockets of container engines, system buses, service managers and resolvers.
/// (`/var/run` is `/run`.)
const HIDDEN: [&str; 22] = [
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/crio",
    "/run/podman",
    "/run/buildkit",
    "/run/k3s",
    "/run/libvirt",
    "/run/lxd.socket",
    "/run/snapd.socket",
    "/run/snapd-snap.socket",
    "/run/incus",
    "/run/user",
    "/run/dbus",
    "/run/systemd/private",
    "/run/systemd/io.systemd.Manager",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/nscd",
    "/run/cups",
    "/var/lib/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
];

/// What a mount of a kind becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Becomes {
    ReadOnly,
    Empty,
}

/// Gives this process a mount namespace of its own, and hides what is not kept.
pub(super) fn narrow(control: &Path, keep: &[String]) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)
        .context("no mount namespace of its own; `vestibule run` needs root")?;
    // The host's later mounts are seen, ours are not.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .context("mounts can't be kept to this process")?;
    let directory = control.parent().map(Path::to_owned);
    let hidden = HIDDEN.iter().map(PathBuf::from).chain(directory);
    for path in hidden.filter(|path| !is_kept(path, keep)) {
        hide(&path).with_context(|| format!("{} can't be hidden", path.display()))?;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    for (point, becomes) in kernels_own(&mounts) {
        if is_kept(&point, keep) {
            continue;
        }
        let done = match becomes {
            Becomes::ReadOnly => read_only(&point),
            Becomes::Empty => hide(&point),
        };
        done.with_context(|| format!("{} can't be closed", point.display()))?;
    }
    // The working directory is a way around what now lies over it: look it up anew.
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    std::env::set_current_dir(&here)
        .or_else(|_| std::env::set_current_dir("/"))
        .context("the working directory is gone")
}

fn is_kept(path: &Path, keep: &[String]) -> bool {
    keep.iter().any(|kept| Path::new(kept).starts_with(path) || path.starts_with(kept))
}

/// Puts an empty, read-only directory over a directory, and nothing over a socket.
fn hide(path: &Path) -> Result<()> {
    let Ok(path) = path.canonicalize() else { return Ok(()) };
    if path.is_dir() {
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount("none", &path, "tmpfs", flags | MountFlags::NODEV, c"size=4k,mode=0555")?;
    } else {
        mount_bind("/dev/null", &path)?;
    }
    Ok(())
}

fn read_only(point: &Path) -> Result<()> {
    mount_remount(point, MountFlags::BIND | MountFlags::RDONLY, "")?;
    Ok(())
}

/// Mounts that change cgroups, hooks and traces: proc_pid_mountinfo(5), the mount point is the
/// fifth field, the type follows " - ".
fn kernels_own(mountinfo: &str) -> Vec<(PathBuf, Becomes)> {
    let of_line = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let becomes = match kind.split(' ').next()? {
            "cgroup" | "cgroup2" => Becomes::ReadOnly,
            "bpf" | "tracefs" | "debugfs" => Becomes::Empty,
            _ => return None,
        };
        Some((PathBuf::from(mount.split(' ').nth(4)?.replace("\\040", " ")), becomes))
    };
    mountinfo.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_mounts_are_found() {
        let mounts = "23 1 8:1 / / rw - ext4 /dev/vda rw\n\
                      43 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      44 30 0:39 / /sys/fs/bpf rw,relatime shared:9 - bpf bpf rw\n";
        let found = kernels_own(mounts);
        let expected = [
            (PathBuf::from("/sys/fs/cgroup/unified"), Becomes::ReadOnly),
            (PathBuf::from("/sys/fs/bpf"), Becomes::Empty),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_kept_keeps_what_is_above_and_below() {
        let keep = ["/run/dbus/system_bus_socket".to_owned()];
        assert!(is_kept(Path::new("/run/dbus"), &keep));
        assert!(!is_kept(Path::new("/run/docker.sock"), &keep));
        assert!(is_kept(Path::new("/sys/fs/cgroup/unified"), &["/sys/fs/cgroup".to_owned()]));
    }
}
