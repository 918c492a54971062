//! What a process cost: processor time, memory, journal.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Answers the processor time of a process's threads so far, in nanoseconds (the first field of
/// `/proc/PID/task/TID/schedstat`, kernel documentation scheduler/sched-stats).
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the proxy is gone")? {
        let path = task.context("a thread's folder")?.path().join("schedstat");
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(path) else { continue };
        let first = text.split_whitespace().next().context("schedstat is empty")?;
        total += first.parse::<u64>().context("schedstat holds numbers")?;
    }
    Ok(total)
}

/// Forgets the process's peak memory (proc(5): 5 written to `clear_refs`).
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak can't be reset")
}

/// Answers the process's peak memory since then, in bytes (proc(5): `VmHWM`, in kB).
pub(crate) fn peak_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the proxy is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kb = line.split_whitespace().next().context("VmHWM is empty")?;
    Ok(kb.parse::<u64>().context("VmHWM is a number")? * 1024)
}

/// Answers the bytes written to the journal's segments; of the newest, what is preallocated is zero and
/// not counted.
pub(crate) fn journal_bytes(folder: &Path) -> Result<u64> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).context("the journal can't be listed")? {
        let path = entry.context("a segment")?.path();
        // Its name is its first sequence number, padded.
        if path.extension().is_some_and(|e| e == "vjl") {
            segments.push(path);
        }
    }
    segments.sort();
    let Some(newest) = segments.pop() else { return Ok(0) };
    let bytes = fs::read(&newest).with_context(|| newest.display().to_string())?;
    let mut total = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    for path in segments {
        total += fs::metadata(&path).with_context(|| path.display().to_string())?.len();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_costs_time_and_memory() {
        let pid = std::process::id();
        let before = cpu_ns(pid).unwrap();
        let sum: u64 = std::hint::black_box((0..5_000_000_u64).fold(0, u64::wrapping_add));
        assert!(sum > 0 && cpu_ns(pid).unwrap() > before);
        reset_peak(pid).unwrap();
        let quiet = peak_bytes(pid).unwrap();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(peak_bytes(pid).unwrap() >= quiet + (60 << 20), "{}", block.len());
    }

    #[test]
    fn a_journals_preallocation_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("00.vjl"), [0; 100]).unwrap();
        fs::write(folder.path().join("07.vjl"), [&[7; 40][..], &[0; 60]].concat()).unwrap();
        fs::write(folder.path().join("lock"), [1; 9]).unwrap();
        assert_eq!(journal_bytes(folder.path()).unwrap(), 140);
    }
}
