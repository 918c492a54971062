//! What the kernel must offer: BPF's file system for pins, and cgroup 2 for enrollment.

use std::fs;

use anyhow::Result;

use super::{Scope, State, require_root};
use crate::command::{command, run_logged};

/// Answers whether both file systems are mounted.
pub(super) fn look_mounts(_: Scope) -> State {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let missing: Vec<&str> =
        ["bpf", "cgroup2"].into_iter().filter(|kind| !is_mounted(&mounts, kind)).collect();
    if missing.is_empty() {
        return State::Present("mounted".into());
    }
    State::Missing(missing.join(", "))
}

/// Mounts BPF's file system at its usual place.
pub(super) fn mount(_: Scope) -> Result<()> {
    require_root("mounting BPF's file system")?;
    run_logged("bpffs", command("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))
}

/// Whether a file system of this kind is in the table (proc(5): the third field).
fn is_mounted(mounts: &str, kind: &str) -> bool {
    mounts.lines().any(|line| line.split_whitespace().nth(2) == Some(kind))
}

#[cfg(test)]
mod tests {
    use super::is_mounted;

    #[test]
    fn only_the_third_field_counts() {
        let mounts = "bpf /mnt tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert!(is_mounted(mounts, "cgroup2"));
        assert!(!is_mounted(mounts, "bpf"));
    }
}
