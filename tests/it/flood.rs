//! More connections at once than there is room for: refused, recorded, and then all is as before.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use integration::process::wait_until;
use integration::{Daemon, Evidence};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::restart::Bank;
use crate::talk::{Talk, enrolled, join, run_in};

/// Connections at once; 50,000 is what is promised, CI has less time.
const FLOWS: &str = "VESTIBULE_FLOWS";
const FLOWS_DEFAULT: u64 = 18_000;
/// Files that one process may have open are often limited to 20,000.
const PER_PROCESS: u64 = 15_000;
const SESSIONS_MAX: u64 = types::limits::SESSIONS_MAX as u64;

fn flows() -> u64 {
    std::env::var(FLOWS).ok().and_then(|s| s.parse().ok()).unwrap_or(FLOWS_DEFAULT)
}

fn signal(daemon: &Daemon, pid: u64, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap_or_else(|error| panic!("{error}: {}", daemon.log()));
}

/// Asks all at once, and adds up what they say.
fn ask(floods: &mut [Talk]) -> BTreeMap<String, u64> {
    floods.iter_mut().for_each(Talk::leaves_unanswered);
    let mut sums = BTreeMap::new();
    for flood in floods {
        let said: Value = serde_json::from_str(&flood.says()).unwrap();
        for (name, value) in said.as_object().unwrap() {
            *sums.entry(name.clone()).or_default() += value.as_u64().unwrap();
        }
    }
    sums
}

fn resident_kib(pid: u64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The listener's backlog and the kernel's map of flows are full while the daemon stands still; the
/// limit of sessions is reached when it goes on.
#[test]
fn more_connections_than_fit_are_refused_recorded_and_got_over() {
    let flows = flows();
    let bank = Bank::holding(usize::try_from(SESSIONS_MAX).unwrap() + 500);
    let daemon = Daemon::start(bank.port, 2, &[]).unwrap();
    let pid = daemon.count("pid").unwrap();
    let agent = enrolled(&daemon);
    let mut floods: Vec<Talk> = (0..flows.div_ceil(PER_PROCESS))
        .map(|number| {
            let count = PER_PROCESS.min(flows - number * PER_PROCESS);
            let arguments = [u64::from(bank.port), count, number].map(|n| n.to_string());
            let arguments = arguments.each_ref().map(String::as_str);
            Talk::start(run_in(&agent, "", include_str!("flood.py"), &arguments))
        })
        .collect();
    let mut memory = vec![resident_kib(pid)];
    for round in 1..=2 {
        signal(&daemon, pid, Signal::STOP);
        let opened = ask(&mut floods);
        eprintln!("{round}: daemon stopped: {opened:?}; {}", sockets());
        signal(&daemon, pid, Signal::CONT);
        let settled = ask(&mut floods);
        wait_until("the daemon answers", 120, || Ok(daemon.status().is_ok())).unwrap();
        let open = daemon.count("sessions_open").unwrap();
        let refused = daemon.count("connections_refused").unwrap();
        memory.push(resident_kib(pid));
        eprintln!("{round}: went on: {settled:?}; {open} sessions, {refused} refused so far");
        assert_eq!(bank.bypassed(), 0);
        let number = |name: &str| settled[name];
        assert!(number("answered") > 0);
        assert!(number("answered") <= SESSIONS_MAX);
        assert!(open <= SESSIONS_MAX, "{open} sessions");
        assert_eq!(number("waiting"), 0, "each is answered or ended");
        ask(&mut floods);
        wait_until("the sessions ended", 60, || Ok(daemon.count("sessions_open")? == 0)).unwrap();
        memory.push(resident_kib(pid));
    }
    eprintln!("resident KiB: before, full, empty, full, empty: {memory:?}");
    let [_, _, after_one, _, after_two] = memory[..] else { panic!("two rounds") };
    assert!(after_two < after_one + after_one / 4, "it grows: {memory:?} KiB");
    let mut client = Talk::start(join(&agent, "", bank.port));
    assert_eq!(client.asks(), "answered", "{}", daemon.log());
    recorded(&daemon, flows);
}

fn recorded(daemon: &Daemon, flows: u64) {
    let evidence = Evidence::seal(daemon).unwrap();
    let kinds = evidence
        .duckdb(
            "SELECT kind, json_extract_string(detail, '$.reason') AS reason, count(*) AS rows, \
             sum(coalesce(json_extract(detail, '$.unrecorded_before')::bigint, 0)) AS others, \
             sum(coalesce(json_extract(detail, '$.lost')::bigint, 0)) AS lost \
             FROM control WHERE kind NOT IN ('heartbeat', 'archive.seal') GROUP BY ALL ORDER BY ALL",
        )
        .unwrap();
    for row in &kinds {
        eprintln!("{row}");
    }
    let has = |kind: &str, reason: &str| {
        kinds.iter().any(|row| row["kind"] == kind && row["reason"] == reason)
    };
    // Beyond the backlog of 4,096 and the 16,384 flows that the kernel keeps.
    if flows > SESSIONS_MAX {
        assert!(has("connection.refused", "too_many_sessions"));
    }
    if flows > 21_000 {
        assert!(has("kernel.refused", "no_room"));
        assert!(has("connection.refused", "no_record"));
    }
}

/// What the kernel holds.
fn sockets() -> String {
    let text = fs::read_to_string(Path::new("/proc/net/sockstat")).unwrap_or_default();
    text.lines().find(|line| line.starts_with("TCP")).unwrap_or_default().to_owned()
}
