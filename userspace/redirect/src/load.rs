//! Loads the object, with this kernel's offsets, and checks that the programs read what they think
//! they read.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use aya::maps::{Array, MapData};
use aya::programs::RawTracePoint;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use redirect_common::{ProcessRecord, map};

use crate::pin::Pins;
use crate::{Error, btf, sys};

/// The programs, as `build.rs` built them.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.o"));
const DESCRIBE_SELF: &str = "describe_self";

/// Loads maps (pinned ones if pins are given) and prepares the programs.
pub(crate) fn load(pins: Option<&Pins>) -> Result<Ebpf, Error> {
    let offsets = btf::offsets()?;
    let mut loader = EbpfLoader::new();
    loader.override_global("OFFSETS", &offsets, true);
    for (name, path) in pins.into_iter().flat_map(Pins::maps) {
        loader.map_pin_path(name, path);
    }
    loader.load(OBJECT).map_err(|error| Error::Object(Box::new(error)))
}

/// Lets the kernel describe this process, and compares that with procfs.
pub(crate) fn self_test(object: &mut Ebpf) -> Result<(), Error> {
    let failed = |source| Error::Program { name: DESCRIBE_SELF, source };
    let program = object.program_mut(DESCRIBE_SELF).ok_or(Error::Missing(DESCRIBE_SELF))?;
    let program: &mut RawTracePoint = program.try_into().map_err(failed)?;
    program.load().map_err(failed)?;
    let fd = program.fd().map_err(failed)?;
    let call = |source| Error::Call { call: "BPF_PROG_TEST_RUN", source };
    if sys::test_run(fd.as_fd()).map_err(call)? != 0 {
        return Err(Error::SelfTest("task_struct"));
    }
    let map = object.map(map::SELF).ok_or(Error::Missing(map::SELF))?;
    let failed = |source| Error::Map { name: map::SELF, source };
    let answers: Array<&MapData, ProcessRecord> = map.try_into().map_err(failed)?;
    compare(&answers.get(&0, 0).map_err(failed)?)
}

fn compare(seen: &ProcessRecord) -> Result<(), Error> {
    let stat =
        fs::read_to_string("/proc/self/stat").map_err(Error::file("reading", "/proc/self/stat"))?;
    let exe = fs::metadata("/proc/self/exe").map_err(Error::file("reading", "/proc/self/exe"))?;
    // proc_pid_stat(5): the name, field 2, ends at the last parenthesis; then 3 and so on.
    let (head, tail) = stat.rsplit_once(") ").ok_or(Error::SelfTest("name"))?;
    let comm = head.split_once('(').map_or("", |(_, comm)| comm);
    let field = |number: usize| tail.split(' ').nth(number - 3).and_then(|text| text.parse().ok());
    // Ticks of a hundredth of a second (USER_HZ, the same on every architecture we build for).
    let checks = [
        ("tgid", seen.tgid == std::process::id()),
        ("real_parent", field(4) == Some(u64::from(seen.parent_tgid))),
        ("start_boottime", field(22) == Some(seen.start_ns / 10_000_000)),
        ("exe_file", seen.exe_ino == exe.ino()),
        ("comm", seen.comm.split(|byte| *byte == 0).next() == Some(comm.as_bytes())),
    ];
    match checks.iter().find(|(_, same)| !same) {
        Some((name, _)) => Err(Error::SelfTest(name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debug_builds_have_a_ring_for_log_records() {
        let object = load(None).unwrap();
        assert_eq!(object.map("AYA_LOGS").is_some(), cfg!(debug_assertions));
        assert!(object.map(map::ENROLLED).is_some());
    }
}
