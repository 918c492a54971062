//! What this host can do, found out by doing it. Nothing stays loaded or attached.

use std::fs;
use std::path::Path;

use types::control::{Check, Verdict};

use crate::error::chain;
use crate::{Error, attach, btf, cgroup, guard, load, sys, unix};

const UNPRIVILEGED_BPF: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";

/// One check each of cgroup v2, bpffs, type information, programs, member offsets, AF_UNIX, BPF LSM,
/// seccomp and unprivileged BPF; then for each assurance level whether this host reaches it, and
/// what it lacks.
pub fn probe() -> Vec<Check> {
    let mut checks = vec![
        fatal("cgroup v2", cgroup::find_root().map(|root| root.display().to_string())),
        bpffs(),
        fatal("kernel BTF", btf::offsets().map(|_| format!("{} has every member", btf::VMLINUX))),
    ];
    let mut unix = None;
    match load::load(None) {
        Ok(mut object) => {
            let said = |words: &'static str| move |()| words.to_owned();
            let test =
                load::self_test(&mut object).map(said("the kernel describes us as procfs does"));
            checks.push(fatal("process identity", test));
            let programs = attach::load(&mut object).map(said("all programs pass the verifier"));
            checks.push(fatal("redirect programs", programs));
            unix = Some(unix::load(&mut object));
        }
        Err(error) => checks.push(fatal("socket storage and maps", Err(error))),
    }
    let hooks = lacking(&checks);
    checks.extend(unix.map(af_unix));
    let (lsm, seccomp, bpf) = (lsm(), seccomp(), unprivileged_bpf());
    // What the guard does for A2.
    let sockets = checks.iter().filter(|check| check.name == AF_UNIX);
    let a1 = [hooks.as_slice(), &lacking(sockets.chain([&seccomp, &bpf]))].concat();
    let a2 = [hooks.as_slice(), &lacking([&lsm])].concat();
    checks.extend([lsm, seccomp, bpf]);
    checks.push(level("assurance A1", "agents without root and privileges are held", &a1));
    checks.push(level("assurance A2", "agents that run as root are held", &a2));
    checks
}

/// What is not as it should be, with its reason.
fn lacking<'a>(checks: impl IntoIterator<Item = &'a Check>) -> Vec<String> {
    let missing = |check: &&Check| check.verdict != Verdict::Ok && check.name != BPFFS;
    let words = |check: &Check| format!("{} ({})", check.name, check.detail);
    checks.into_iter().filter(missing).map(words).collect()
}

fn level(name: &str, reached: &str, lacking: &[String]) -> Check {
    let (verdict, detail) = match lacking {
        [] => (Verdict::Ok, reached.to_owned()),
        lacking => (Verdict::Warn, format!("lacks: {}", lacking.join("; "))),
    };
    Check { name: name.to_owned(), verdict, detail }
}

const BPFFS: &str = "bpffs";

fn bpffs() -> Check {
    let (verdict, detail) = match sys::is_bpffs(Path::new("/sys/fs/bpf")) {
        Ok(true) => (Verdict::Ok, "mounted at /sys/fs/bpf".to_owned()),
        Ok(false) => (Verdict::Warn, "not mounted; the daemon mounts it".to_owned()),
        Err(error) => (Verdict::Fail, format!("/sys/fs/bpf: {error}")),
    };
    Check { name: BPFFS.to_owned(), verdict, detail }
}

/// Decided by loading: configuration and /sys/kernel/security/lsm may promise what is refused.
fn lsm() -> Check {
    let (verdict, detail) = match guard::try_load() {
        Ok(programs) => (Verdict::Ok, format!("{programs} programs load, and such programs run")),
        Err(error) => (Verdict::Warn, chain(&error)),
    };
    Check { name: "BPF LSM".to_owned(), verdict, detail }
}

const AF_UNIX: &str = "AF_UNIX";

fn af_unix(loaded: Result<unix::State, Error>) -> Check {
    let (verdict, detail) = match loaded {
        Ok(state) => match state.unheld() {
            None => (Verdict::Ok, "agents' connections can be held to what is listed".to_owned()),
            Some(reason) => (Verdict::Warn, format!("{reason}; file modes decide")),
        },
        Err(error) => (Verdict::Fail, chain(&error)),
    };
    Check { name: AF_UNIX.to_owned(), verdict, detail }
}

fn seccomp() -> Check {
    let (verdict, detail) = match sys::seccomp_refuses() {
        Ok(()) => (Verdict::Ok, "filters can refuse system calls".to_owned()),
        Err(error) => (Verdict::Warn, format!("no filters: {error}")),
    };
    Check { name: "seccomp".to_owned(), verdict, detail }
}

/// Not to be tried as root, so the kernel is asked.
fn unprivileged_bpf() -> Check {
    let (verdict, detail) = match fs::read_to_string(UNPRIVILEGED_BPF) {
        Ok(value) if value.trim() != "0" => (Verdict::Ok, "refused by the kernel".to_owned()),
        Ok(_) => {
            (Verdict::Warn, format!("any user may load programs: set {UNPRIVILEGED_BPF} to 2"))
        }
        // Without the parameter the kernel has no bpf() for anybody without privileges.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (Verdict::Ok, "the kernel has none".to_owned())
        }
        Err(error) => (Verdict::Warn, format!("{UNPRIVILEGED_BPF}: {error}")),
    };
    Check { name: "unprivileged BPF".to_owned(), verdict, detail }
}

fn fatal(name: &str, outcome: Result<String, Error>) -> Check {
    let (verdict, detail) = match outcome {
        Ok(detail) => (Verdict::Ok, detail),
        Err(error) => (Verdict::Fail, chain(&error)),
    };
    Check { name: name.to_owned(), verdict, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_names_what_it_lacks() {
        let check = |name: &str, verdict| Check {
            name: name.to_owned(),
            verdict,
            detail: "because".to_owned(),
        };
        let checks = [
            check("cgroup v2", Verdict::Ok),
            check(BPFFS, Verdict::Warn),
            check("seccomp", Verdict::Warn),
        ];
        assert_eq!(lacking(&checks), ["seccomp (because)"]);
        assert_eq!(level("A1", "held", &lacking(&checks)).detail, "lacks: seccomp (because)");
        assert_eq!(level("A1", "held", &[]).verdict, Verdict::Ok);
    }

    #[test]
    fn this_host_is_told_about_both_levels() {
        let checks = probe();
        for name in ["BPF LSM", "seccomp", "unprivileged BPF", "assurance A1", "assurance A2"] {
            assert!(checks.iter().any(|check| check.name == name), "{name}: {checks:?}");
        }
        let verdict = |name| checks.iter().find(|check| check.name == name).unwrap().verdict;
        assert_eq!(verdict("BPF LSM"), verdict("assurance A2"));
    }
}
