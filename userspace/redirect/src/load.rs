//! Loads the object, with this kernel's offsets, and checks that the programs read what they think
//! they read.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use aya::maps::{Array, MapData};
use aya::programs::RawTracePoint;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use redirect_common::{PROCESS_LOGIN, PROCESS_NO_NEW_PRIVS, ProcessRecord, map};

use crate::pin::Pins;
use crate::{Error, btf, sys, unix};

/// The programs, as `build.rs` built them.
pub(crate) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.o"));
const DESCRIBE_SELF: &str = "describe_self";

/// Loads maps (pinned ones if pins are given) and prepares the programs.
pub(crate) fn load(pins: Option<&Pins>) -> Result<Ebpf, Error> {
    let offsets = btf::offsets()?;
    let mut loader = EbpfLoader::new();
    let sock_flags = btf::sock_flags()?;
    loader.override_global("OFFSETS", &offsets, true);
    loader.override_global("SOCK_FLAGS", &sock_flags, true);
    let unix_offsets = unix::offsets()?;
    loader.override_global("UNIX_OFFSETS", &unix_offsets, true);
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
    let exe = fs::metadata("/proc/self/exe").map_err(Error::file("reading", "/proc/self/exe"))?;
    let stat = Stat::of("self")?;
    let checks = [
        ("tgid", seen.tgid == std::process::id()),
        ("start_boottime", stat.start == seen.start_ns / TICK_NS),
        ("exe_file", seen.exe_ino == exe.ino()),
        ("comm", seen.comm.split(|byte| *byte == 0).next() == Some(stat.comm.as_bytes())),
        ("real_parent", ancestors_are(seen, stat.parent)),
    ];
    same(&checks)?;
    compare_confinement(seen)
}

/// Nanoseconds of a tick: a hundredth of a second (USER_HZ, the same on every architecture we build
/// for).
const TICK_NS: u64 = 10_000_000;

/// Fields of `/proc/PID/stat` (proc_pid_stat(5)).
struct Stat {
    comm: String,
    parent: u32,
    start: u64,
}

impl Stat {
    fn of(process: &str) -> Result<Self, Error> {
        let path = format!("/proc/{process}/stat");
        let stat = fs::read_to_string(&path).map_err(Error::file("reading", path))?;
        // The name, field 2, ends at the last parenthesis; then 3 and so on.
        let (head, tail) = stat.rsplit_once(") ").ok_or(Error::SelfTest("name"))?;
        let comm = head.split_once('(').map_or("", |(_, comm)| comm).to_owned();
        let field = |number: usize| tail.split(' ').nth(number - 3);
        let parent = field(4).and_then(|text| text.parse().ok());
        let start = field(22).and_then(|text| text.parse().ok());
        let (Some(parent), Some(start)) = (parent, start) else {
            return Err(Error::SelfTest("stat"));
        };
        Ok(Self { comm, parent, start })
    }
}

/// Whether the ancestors are those that procfs shows, as far as it does: the nearest must be, a
/// parent outside of this pid namespace is shown as 0, and one further up may end meanwhile.
fn ancestors_are(seen: &ProcessRecord, mut parent: u32) -> bool {
    let [nearest, ..] = seen.ancestors;
    if nearest.tgid != parent {
        return false;
    }
    for ancestor in seen.ancestors {
        if parent == 0 {
            return true;
        }
        let Ok(stat) = Stat::of(&parent.to_string()) else { return true };
        if ancestor.tgid != parent || ancestor.start_ns / TICK_NS != stat.start {
            return false;
        }
        parent = stat.parent;
    }
    true
}

/// Of the thread that asked: another may be held otherwise.
fn compare_confinement(seen: &ProcessRecord) -> Result<(), Error> {
    const STATUS: &str = "/proc/thread-self/status";
    let status = fs::read_to_string(STATUS).map_err(Error::file("reading", STATUS))?;
    let words = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    let word = |name: &str, nth: usize| words(name).and_then(|words| words.get(nth).cloned());
    let number = |name, nth| word(name, nth).and_then(|text| text.parse::<u32>().ok());
    let capabilities = word("CapEff:", 0).and_then(|text| u64::from_str_radix(&text, 16).ok());
    let no_new_privs = u32::from(seen.flags & PROCESS_NO_NEW_PRIVS != 0);
    let proc_number = |name: &str| -> Option<u32> {
        fs::read_to_string(format!("/proc/thread-self/{name}")).ok()?.trim().parse().ok()
    };
    let login = (seen.flags & PROCESS_LOGIN != 0).then_some((seen.loginuid, seen.sessionid));
    same(&[
        ("cred.euid", number("Uid:", 1) == Some(seen.euid)),
        ("cred.cap_effective", capabilities == Some(seen.cap_effective)),
        ("atomic_flags", number("NoNewPrivs:", 0) == Some(no_new_privs)),
        ("seccomp.mode", number("Seccomp:", 0).unwrap_or(0) == seen.seccomp),
        ("loginuid", proc_number("loginuid") == login.map(|(uid, _)| uid)),
        ("sessionid", proc_number("sessionid") == login.map(|(_, session)| session)),
    ])
}

fn same(checks: &[(&'static str, bool)]) -> Result<(), Error> {
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
