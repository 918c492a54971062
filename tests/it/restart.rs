//! Kills and restarts under load: nobody gets past, and with the descriptor store nobody is refused.

use std::collections::HashSet;
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use integration::process::{run, wait_until};
use integration::world::READER;
use integration::{Daemon, Evidence, Supervisor, paths};
use serde_json::Value;

/// How long the storm is, in seconds; 60 is what is promised, CI has less time.
const STORM_S: &str = "VESTIBULE_STORM_S";
const STORM_S_DEFAULT: u64 = 12;
const KILLS: u32 = 3;

/// Agents bind to this or other addresses; the daemon, which connects on their behalf, does not.
pub(crate) const AGENTS_ADDRESS: &str = "127.0.0.2";

/// A server that counts who connects, and from where.
pub(crate) struct Bank {
    pub(crate) port: u16,
    proxied: Arc<AtomicU64>,
    bypassed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Bank {
    pub(crate) fn start() -> Self {
        // Those of ended sessions; 1,000 is more than are open at once in a storm.
        Self::holding(1_000)
    }

    /// Keeps so many connections open, and closes the oldest beyond that.
    pub(crate) fn holding(most: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (proxied, bypassed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let (p, b, s) = (Arc::clone(&proxied), Arc::clone(&bypassed), Arc::clone(&stop));
        let daemon = IpAddr::from([127, 0, 0, 1]);
        thread::spawn(move || {
            // Held until the end: a server that closes first would end sessions before their time.
            let mut held = std::collections::VecDeque::new();
            while let Ok((stream, peer)) = listener.accept() {
                let counter = if peer.ip() == daemon { &p } else { &b };
                counter.fetch_add(1, Ordering::SeqCst);
                held.push_back(stream);
                if held.len() > most {
                    held.pop_front();
                }
                if s.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        Self { port, proxied, bypassed, stop }
    }
}

impl Bank {
    /// Answers how many came past the door.
    pub(crate) fn bypassed(&self) -> u64 {
        self.bypassed.load(Ordering::SeqCst)
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(std::net::TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn storm_s() -> u64 {
    std::env::var(STORM_S).ok().and_then(|s| s.parse().ok()).unwrap_or(STORM_S_DEFAULT)
}

pub(crate) fn storm(daemon: &Daemon, port: u16, seconds: u64) -> Command {
    let mut agent = daemon.cli();
    agent.args(["run", "--agent", READER, "--"]).arg(paths::python());
    agent.arg("-c").arg(include_str!("storm.py"));
    agent.args(["127.0.0.1", &port.to_string(), &seconds.to_string(), AGENTS_ADDRESS]);
    agent
}

/// Runs the storm, and kills the daemon meanwhile; answers what the agent saw.
#[expect(clippy::disallowed_methods, reason = "kills come at set times of the storm")]
fn storm_with_kills(daemon: &mut Daemon, bank: &Bank) -> Value {
    let seconds = storm_s();
    let mut command = storm(daemon, bank.port, seconds);
    let agent = thread::spawn(move || run(&mut command, seconds + 200));
    let begun = Instant::now();
    for kill in 1..=KILLS {
        let at = Duration::from_millis(seconds * 1_000 * u64::from(kill) / u64::from(KILLS + 1));
        thread::sleep(at.saturating_sub(begun.elapsed()));
        daemon.kill_under_supervisor().unwrap();
    }
    let said = agent.join().unwrap().unwrap().ok().unwrap();
    serde_json::from_str(&said).unwrap()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name}"))
}

fn refused(seen: &Value) -> u64 {
    seen["refused"].as_object().unwrap().values().filter_map(Value::as_u64).sum()
}

#[test]
fn three_kills_under_load_refuse_nobody_with_the_descriptor_store() {
    let bank = Bank::start();
    let mut daemon = Daemon::start_under(Supervisor::Keeps, bank.port, 2, &[]).unwrap();
    let seen = storm_with_kills(&mut daemon, &bank);
    tell("with the store", &seen, &daemon, &bank);
    assert_eq!(bank.bypassed(), 0);
    assert_eq!(refused(&seen), 0, "{}\n{}", seen["refused"], daemon.supervision());
    assert_eq!(number(&seen, "odd"), 0);
    assert_eq!(number(&seen, "unanswered"), 0);
    assert!(number(&seen, "proxied") > 100, "{seen}");
    let started = daemon.supervision().matches(" started ").count();
    assert_eq!(started, 1 + KILLS as usize);
    every_connection_is_attributed(&daemon, &seen);
}

#[test]
fn without_the_descriptor_store_a_kill_refuses_and_lets_nobody_past() {
    let bank = Bank::start();
    let mut daemon = Daemon::start_under(Supervisor::Forgets, bank.port, 2, &[]).unwrap();
    let seen = storm_with_kills(&mut daemon, &bank);
    tell("without the store", &seen, &daemon, &bank);
    assert_eq!(bank.bypassed(), 0);
    assert_eq!(number(&seen, "odd"), 0);
    assert!(refused(&seen) > 0);
    // Reset is what the kernel does to those that wait to be accepted in the instant of a kill.
    let mut kinds = seen["refused"].as_object().unwrap().keys();
    assert!(
        kinds.all(|kind| kind == "ECONNREFUSED" || kind == "ECONNRESET"),
        "clients know what to do with it: {seen}"
    );
    assert!(number(&seen, "proxied") > 100, "{seen}");
}

/// Each is a session of the right agent; or, where a kill cut it before it was one, a flow that the
/// kernel told the next daemon of, with the agent whose it was.
fn every_connection_is_attributed(daemon: &Daemon, seen: &Value) {
    // What ended in the last second is on its way to the journal.
    wait_until("sessions ended", 60, || Ok(daemon.count("sessions_open")? == 0)).unwrap();
    thread::sleep(Duration::from_secs(2));
    let evidence = Evidence::seal(daemon).unwrap();
    let rows =
        evidence.duckdb("SELECT socket_cookie, agent_id, close_reason FROM sessions").unwrap();
    assert!(rows.iter().all(|row| row["agent_id"] == READER));
    let mut known: HashSet<u64> =
        rows.iter().filter_map(|row| row["socket_cookie"].as_u64()).collect();
    let sessions = known.len();
    let crashed = rows.iter().filter(|row| row["close_reason"] == "daemon_crash").count();
    let told = "SELECT detail FROM control WHERE kind LIKE 'flow.%'";
    for row in evidence.duckdb(told).unwrap() {
        let detail: Value = serde_json::from_str(row["detail"].as_str().unwrap()).unwrap();
        if detail["agent"] == READER {
            let sockets = detail["socket_cookies"].as_array().into_iter().flatten();
            known.extend(sockets.filter_map(Value::as_u64));
            known.extend(detail["socket_cookie"].as_u64());
        }
    }
    let lost = "SELECT coalesce(sum(json_extract(detail, '$.lost')::bigint), 0) FROM control \
                WHERE kind = 'kernel.events_lost'";
    let lost = evidence.count(lost).unwrap();
    eprintln!(
        "{sessions} sessions, {crashed} of them cut by a kill; {} flows more from the kernel",
        known.len() - sessions
    );
    for kind in ["proxied", "cut"] {
        let made = seen["cookies"][kind].as_array().unwrap();
        let missing: Vec<_> =
            made.iter().filter(|cookie| !known.contains(&cookie.as_u64().unwrap())).collect();
        // A machine so slow that the kernel's ring overflows says how many it could not tell of.
        let (missing, made) = (missing.len(), made.len());
        assert!(missing as u64 <= lost, "{kind}: {missing} of {made} by nobody, {lost} lost");
    }
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

fn tell(how: &str, seen: &Value, daemon: &Daemon, bank: &Bank) {
    let mut seen = seen.clone();
    seen.as_object_mut().unwrap().remove("cookies");
    let arrived = bank.proxied.load(Ordering::SeqCst);
    let bypassed = bank.bypassed();
    for line in daemon.supervision().lines().filter(|line| !line.contains("removed")) {
        eprintln!("{line}");
    }
    eprintln!("{how}: {seen}; at the server {arrived} from the door, {bypassed} past it");
}
