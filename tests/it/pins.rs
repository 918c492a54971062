//! What is pinned holds whatever becomes of the daemon, and only a disarm lets agents go.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use integration::process::{run, wait_until};
use integration::{Daemon, Evidence};

use crate::restart::{AGENTS_ADDRESS, Bank, storm};
use crate::talk::{Talk, cgroup, cgroup_root, enrolled, join};

const WORKERS: usize = 1;

fn start(bank: &Bank) -> Daemon {
    Daemon::start(bank.port, WORKERS, &[]).unwrap()
}

fn is_refused(said: &str) -> bool {
    said == "ConnectionRefusedError"
}

#[test]
fn a_disarm_needs_a_reason_and_says_who_asked() {
    let bank = Bank::start();
    let mut daemon = start(&bank);
    let agent = enrolled(&daemon);
    let mut client = Talk::start(join(&agent, "", bank.port));
    assert_eq!(client.asks(), "answered");
    for empty in ["", "  "] {
        assert_ne!(run(&mut daemon.disarm(empty), 30).unwrap().code, Some(0));
    }
    assert_eq!(client.asks(), "answered");
    run(&mut daemon.disarm("the database moves"), 60).unwrap().ok().unwrap();
    assert_eq!(daemon.wait(20).unwrap(), Some(10), "{}", daemon.log());
    assert!(!daemon.pins().exists());
    // The server does not answer what the door does: the client's connection is closed in the end.
    let before = bank.bypassed();
    client.leaves_unanswered();
    wait_until("the agent is free", 10, || Ok(bank.bypassed() > before)).unwrap();
    drop(client);
    daemon.restart().unwrap();
    let disarmed = Evidence::seal(&daemon)
        .unwrap()
        .duckdb("SELECT detail FROM control WHERE kind = 'ebpf.disarmed'")
        .unwrap();
    assert_eq!(disarmed.len(), 1);
    let detail: serde_json::Value =
        serde_json::from_str(disarmed[0]["detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail["reason"], "the database moves");
    assert_eq!(detail["by"]["uid"], 0);
    assert!(detail["by"]["pid"].as_u64().unwrap() > 1, "{detail}");
}

#[test]
fn where_no_daemon_runs_a_disarm_is_recorded_as_well() {
    let bank = Bank::start();
    let mut daemon = start(&bank);
    daemon.kill();
    assert_ne!(run(&mut daemon.disarm(" "), 30).unwrap().code, Some(0));
    assert!(daemon.pins().exists());
    run(&mut daemon.disarm("the host goes"), 60).unwrap().ok().unwrap();
    assert!(!daemon.pins().exists());
    daemon.restart().unwrap();
    let recorded = "SELECT count(*) FROM control WHERE kind = 'ebpf.disarmed' \
                    AND detail LIKE '%the host goes%' AND detail LIKE '%\"uid\":0%'";
    assert_eq!(Evidence::seal(&daemon).unwrap().count(recorded).unwrap(), 1);
}

#[test]
fn a_second_daemon_does_not_start_and_does_no_harm() {
    let bank = Bank::start();
    let daemon = start(&bank);
    let agent = enrolled(&daemon);
    let mut client = Talk::start(join(&agent, "", bank.port));
    assert_eq!(client.asks(), "answered");
    let second = daemon.another().unwrap();
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert_eq!(client.asks(), "answered");
    assert_eq!(bank.bypassed(), 0);
}

/// Kills it earlier and later in its start, again and again, while an agent connects all the time.
#[test]
fn a_start_that_is_cut_short_anywhere_lets_nobody_past() {
    const STEP_MS: u64 = 60;
    const STEPS: u64 = 25;
    let bank = Bank::start();
    let mut daemon = start(&bank);
    // As long as the steps take, 1 + 2 + … times 60 ms, and then some.
    let seconds = STEP_MS * STEPS * (STEPS + 1) / 2 / 1_000 + 5;
    let mut agent = storm(&daemon, bank.port, seconds);
    let agent = thread::spawn(move || run(&mut agent, seconds + 200));
    daemon.count("pid").unwrap();
    thread::sleep(Duration::from_secs(1));
    daemon.kill();
    for step in 1..=STEPS {
        daemon.start_for(Duration::from_millis(STEP_MS * step)).unwrap();
    }
    daemon.restart().unwrap();
    let said = agent.join().unwrap().unwrap().ok().unwrap();
    let seen: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(bank.bypassed(), 0, "connections from {AGENTS_ADDRESS}");
    assert_eq!(seen["odd"], 0);
    assert!(seen["proxied"].as_u64().unwrap() > 0, "{}", daemon.log());
    assert!(!seen["refused"].as_object().unwrap().is_empty());
    let agent = enrolled(&daemon);
    assert_eq!(Talk::start(join(&agent, "", bank.port)).asks(), "answered");
}

/// All but the hooks on `connect()` themselves, which are the boundary, may be missing.
#[test]
fn with_pins_missing_agents_are_refused_and_a_start_puts_them_back() {
    let bank = Bank::start();
    let mut daemon = start(&bank);
    let agent = enrolled(&daemon);
    let mut client = Talk::start(join(&agent, "", bank.port));
    assert_eq!(client.asks(), "answered");
    let whole = names(&daemon.pins());
    let links: Vec<&PathBuf> = whole.iter().filter(|pin| is_link(pin)).collect();
    assert!(links.len() > 4, "{whole:?}");
    daemon.kill();
    let mut gone = Vec::new();
    for (number, link) in links.iter().enumerate() {
        let name = link.file_name().unwrap().to_str().unwrap();
        if name.starts_with("connect") {
            continue;
        }
        fs::remove_file(link).unwrap();
        gone.push(name);
        let said = client.asks();
        assert!(is_refused(&said), "without {gone:?}: {said}");
        assert_eq!(bank.bypassed(), 0, "without {gone:?}");
        // A start from every state would take minutes; these differ the most.
        if number % 6 == 5 {
            daemon.restart().unwrap();
            assert_eq!(names(&daemon.pins()), whole, "after a start without {gone:?}");
            assert_eq!(client.asks(), "answered", "after a start without {gone:?}");
            daemon.kill();
            gone.clear();
        }
    }
    daemon.restart().unwrap();
    assert_eq!(names(&daemon.pins()), whole);
    assert_eq!(client.asks(), "answered");
    assert_eq!(bank.bypassed(), 0);
}

/// A cgroup that is removed and made anew has no hooks, although links to it are still pinned.
#[test]
fn a_cgroup_made_anew_is_noticed_and_armed_again() {
    let bank = Bank::start();
    let mut daemon = start(&bank);
    let agents = cgroup_root().join(daemon.slice()).join("agents");
    fs::remove_dir(&agents).unwrap();
    fs::create_dir(&agents).unwrap();
    let mut psql = daemon.cli();
    let refused =
        run(psql.args(["run", "--agent", "support-assistant", "--", "true"]), 30).unwrap();
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("made anew"), "{}", refused.stderr);
    assert_eq!(daemon.wait(30).unwrap(), Some(1));
    daemon.restart().unwrap();
    let agent = enrolled(&daemon);
    assert!(cgroup(&agent).starts_with(&agents));
    assert_eq!(Talk::start(join(&agent, "", bank.port)).asks(), "answered");
    let evidence = Evidence::seal(&daemon).unwrap();
    let recorded = "SELECT count(*) FROM control WHERE kind = 'ebpf.severed'";
    assert_eq!(evidence.count(recorded).unwrap(), 1);
    assert_eq!(bank.bypassed(), 0);
}

/// Maps are named in capitals.
fn is_link(pin: &Path) -> bool {
    let name = pin.file_name().unwrap().to_str().unwrap();
    name.chars().any(|c| c.is_ascii_lowercase())
}

fn names(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(names(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
