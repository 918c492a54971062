//! The units that ship: systemd itself reads them.

use std::fs;
use std::path::Path;
use std::process::Command;

use integration::paths;
use integration::process::run;

const UNITS: [&str; 4] =
    ["vestibule.service", "vestibule.slice", "vestibule-agents.slice", "vestibule-agent@.service"];

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for directory in ["etc/systemd/system", "usr/lib/systemd", "usr/local/bin", "opt/agents"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    // The targets and slices that ours refer to.
    let own = Path::new("/usr/lib/systemd/system");
    run(Command::new("cp").arg("-r").arg(own).arg(at("usr/lib/systemd")), 30)
        .unwrap()
        .ok()
        .unwrap();
    for program in ["usr/local/bin/vestibuled", "usr/local/bin/vestibule", "opt/agents/x"] {
        fs::copy("/bin/true", at(program)).unwrap();
    }
    for unit in UNITS {
        let from = paths::root().join("packaging/systemd").join(unit);
        fs::copy(from, at("etc/systemd/system").join(unit)).unwrap();
    }
    let drop_in = "vestibule-agent@example.service.d";
    let from = paths::root().join("packaging/systemd").join(drop_in);
    run(Command::new("cp").arg("-r").arg(from).arg(at("etc/systemd/system")), 30)
        .unwrap()
        .ok()
        .unwrap();
    fs::copy("/bin/true", at("opt/agents/example")).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify
        .arg("verify")
        .arg("--recursive-errors=no")
        .arg(format!("--root={}", root.path().display()));
    verify.args(&UNITS[..3]).args(["vestibule-agent@x.service", "vestibule-agent@example.service"]);
    let said = run(&mut verify, 30).unwrap();
    assert_eq!((said.code, said.stderr.trim()), (Some(0), ""), "{}", said.stdout);
}

/// The daemon's exit status after a disarm must be the one that systemd does not restart.
#[test]
fn after_a_disarm_systemd_does_not_arm_again() {
    let unit = paths::root().join("packaging/systemd/vestibule.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(unit.lines().any(|line| line == "RestartPreventExitStatus=10"));
    assert!(unit.lines().any(|line| line == "SuccessExitStatus=10"));
}

/// What systemd's own groups of system calls do not have; `cargo xtask vm-test` sees the daemon run with them.
#[test]
fn the_unit_lets_the_daemon_make_its_rarer_system_calls() {
    let unit = paths::root().join("packaging/systemd/vestibule.service");
    let text = fs::read_to_string(unit).unwrap();
    let filter = text.lines().find_map(|line| line.strip_prefix("SystemCallFilter=")).unwrap();
    let allowed: Vec<&str> = filter.split(' ').collect();
    for call in ["bpf", "perf_event_open", "setns", "pidfd_getfd", "open_by_handle_at"] {
        assert!(allowed.contains(&call), "{call} is not in {filter}");
    }
}
