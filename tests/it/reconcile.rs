//! What the kernel counted of each flow is what its session saw; what it did not see is found.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use integration::World;
use integration::process::wait_until;
use integration::world::READER;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// Reads, a refusal, a result of several megabytes, an agent that leaves without a word: all agree.
#[test]
fn the_kernels_counts_agree_with_the_sessions() {
    let world = World::start().unwrap();
    let reader = world.reader();
    reader.psql("SELECT count(*) FROM customers").unwrap().ok().unwrap();
    assert_ne!(reader.psql("DROP TABLE customers").unwrap().code, Some(0));
    reader.psql("SELECT repeat('x', 1000) FROM generate_series(1, 5000)").unwrap().ok().unwrap();
    let leaves = "
import os, psycopg
c = psycopg.connect('')
c.execute('SELECT 1')
os._exit(0)
";
    reader.python(leaves).unwrap().ok().unwrap();
    let gone = "
import socket, os
s = socket.create_connection((os.environ['PGHOST'], int(os.environ['PGPORT'])))
s.sendall(b'\\x00\\x00')
";
    reader.python(gone).unwrap().ok().unwrap();
    // The daemon hears of a flow's end within half a second.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(world.daemon.count("flows_differing").unwrap(), 0);
    let differences = "SELECT count(*) FROM control WHERE kind = 'flow.difference'";
    assert_eq!(world.evidence().unwrap().count(differences).unwrap(), 0);
}

/// Bytes put into an agent's connection behind the session's back are noticed.
#[test]
fn bytes_that_no_session_saw_are_recorded() {
    let world = World::start().unwrap();
    let script = "
import psycopg, sys
c = psycopg.connect('')
c.execute('SELECT 1')
print('connected', c.pgconn.socket, flush=True)
import socket
s = socket.socket(fileno=c.pgconn.socket)
sys.stdin.readline()
s.setblocking(True)
print(s.recv(9).decode(), flush=True)
";
    let mut agent = world.reader().start_python(script).unwrap();
    let mut heard = BufReader::new(agent.take_stdout().unwrap()).lines();
    assert!(heard.next().unwrap().unwrap().starts_with("connected"));
    let socket = accepted_socket(&world);
    rustix::io::write(&socket, b"smuggled!").unwrap();
    drop(socket);
    agent.take_stdin().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(heard.next().unwrap().unwrap(), "smuggled!");
    drop(agent);
    let noticed = || Ok(world.daemon.count("flows_differing")? > 0);
    wait_until("the difference is noticed", 20, noticed).unwrap();
    let evidence = world.evidence().unwrap();
    let rows = "SELECT detail FROM control WHERE kind = 'flow.difference'";
    let rows = evidence.duckdb(rows).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?} of {READER}");
    let detail: serde_json::Value =
        serde_json::from_str(rows[0]["detail"].as_str().unwrap()).unwrap();
    let received = |side: &str| detail[side]["received"].as_u64().unwrap();
    assert_eq!(received("kernel"), received("session") + 9, "{detail}");
}

/// The daemon's only established socket whose own port is the listener's, taken from it.
fn accepted_socket(world: &World) -> OwnedFd {
    let pid = world.daemon.pid().unwrap();
    let mut found = Vec::new();
    let daemon = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let pidfd = pidfd_open(daemon, PidfdFlags::empty()).unwrap();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let number = entry.unwrap().file_name().to_str().unwrap().parse().unwrap();
        let Ok(fd) = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) else { continue };
        let Ok(Ok(local)) = rustix::net::getsockname(&fd).map(std::net::SocketAddr::try_from)
        else {
            continue;
        };
        if local.port() == world.daemon.port() && rustix::net::getpeername(&fd).is_ok() {
            found.push(fd);
        }
    }
    assert_eq!(found.len(), 1, "one session is open");
    found.pop().unwrap()
}

/// What agents connect to, what is refused and what fails is in the heartbeats, and it comes to what was asked for.
#[test]
fn heartbeats_say_what_became_of_every_connection() {
    let world = World::start().unwrap();
    let reader = world.reader();
    for _ in 0..3 {
        reader.psql("SELECT 1").unwrap().ok().unwrap();
    }
    // A raw socket is refused and is no connection over TCP; a port where nothing listens is the proxy's to say.
    let others = "
import socket
try:
    socket.create_connection(('127.0.0.1', 9), timeout=10).recv(1)
except OSError:
    pass
try:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
except OSError:
    pass
";
    reader.python(others).unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    let last = "SELECT flows_observed, flows_proxied, flows_denied, flows_bypassed, flows_failed, ring_drops, \
                clock_state, clock_maxerror_us FROM control WHERE kind = 'heartbeat' ORDER BY seq DESC LIMIT 1";
    let row = &evidence.query(last).unwrap()[0];
    let count = |name: &str| row[name].as_u64().unwrap_or_else(|| panic!("{name}: {row}"));
    assert_eq!(count("flows_observed"), 4, "{row}");
    assert_eq!(count("flows_proxied"), 4, "{row}");
    let others = ["flows_denied", "flows_bypassed", "flows_failed", "ring_drops"];
    assert!(others.iter().all(|name| count(name) == 0), "{row}");
    assert!(["synced", "unsynced"].contains(&row["clock_state"].as_str().unwrap()), "{row}");
    assert!(row["clock_maxerror_us"].as_u64().is_some(), "{row}");
}
