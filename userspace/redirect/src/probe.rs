//! What this host can do, found out by doing it. Nothing stays loaded or attached.

use std::path::Path;

use aya::programs::{Lsm, ProgramError};
use aya::{Btf, Ebpf};
use types::control::{Check, Verdict};

use crate::{Error, attach, btf, cgroup, load, sys};

const LSM: &str = "lsm_probe";

/// One check each of cgroup v2, bpffs, type information, programs, member offsets and BPF LSM.
pub fn probe() -> Vec<Check> {
    let mut checks = vec![
        fatal("cgroup v2", cgroup::find_root().map(|root| root.display().to_string())),
        bpffs(),
        fatal("kernel BTF", btf::offsets().map(|_| format!("{} has every member", btf::VMLINUX))),
    ];
    match load::load(None) {
        Ok(mut object) => {
            let said = |words: &'static str| move |()| words.to_owned();
            let test =
                load::self_test(&mut object).map(said("the kernel describes us as procfs does"));
            checks.push(fatal("process identity", test));
            let programs = attach::load(&mut object).map(said("all programs pass the verifier"));
            checks.push(fatal("redirect programs", programs));
            checks.push(lsm(&mut object));
        }
        Err(error) => checks.push(fatal("socket storage and maps", Err(error))),
    }
    checks
}

fn bpffs() -> Check {
    let (verdict, detail) = match sys::is_bpffs(Path::new("/sys/fs/bpf")) {
        Ok(true) => (Verdict::Ok, "mounted at /sys/fs/bpf".to_owned()),
        Ok(false) => (Verdict::Warn, "not mounted; the daemon mounts it".to_owned()),
        Err(error) => (Verdict::Fail, format!("/sys/fs/bpf: {error}")),
    };
    Check { name: "bpffs".to_owned(), verdict, detail }
}

/// Decided by loading: configuration and /sys/kernel/security/lsm may promise what is refused.
fn lsm(object: &mut Ebpf) -> Check {
    let (verdict, detail) = match load_lsm(object) {
        Ok(()) => (Verdict::Ok, "programs load".to_owned()),
        Err(error) => (
            Verdict::Warn,
            format!("{}; agents that run as root can't be contained", chain(&error)),
        ),
    };
    Check { name: "BPF LSM".to_owned(), verdict, detail }
}

fn load_lsm(object: &mut Ebpf) -> Result<(), Error> {
    let failed = |source| Error::Program { name: LSM, source };
    let program = object.program_mut(LSM).ok_or(Error::Missing(LSM))?;
    let program: &mut Lsm = program.try_into().map_err(failed)?;
    let btf = Btf::from_sys_fs().map_err(|error| failed(ProgramError::Btf(error)))?;
    program.load("file_open", &btf).map_err(failed)
}

fn fatal(name: &str, outcome: Result<String, Error>) -> Check {
    let (verdict, detail) = match outcome {
        Ok(detail) => (Verdict::Ok, detail),
        Err(error) => (Verdict::Fail, chain(&error)),
    };
    Check { name: name.to_owned(), verdict, detail }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}
