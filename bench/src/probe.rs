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
