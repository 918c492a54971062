//! The door itself: who may come to it, what lies behind it, and that there is no way around.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use integration::World;

/// A connection that no enrolled process made has no kernel record: it is dropped.
#[test]
fn without_a_kernel_record_there_is_no_entry() {
    let world = World::start().unwrap();
    let before = world.daemon.count("connections_refused").unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", world.daemon.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = Vec::new();
    // Closed or reset, without a byte.
    stream.read_to_end(&mut bytes).ok();
    assert!(bytes.is_empty(), "{bytes:?}");
    assert_eq!(world.daemon.count("connections_refused").unwrap(), before + 1);
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 0);
    let recorded = "SELECT count(*) FROM control WHERE kind = 'connection.refused' AND detail LIKE '%no_record%'";
    assert_eq!(world.evidence().unwrap().count(recorded).unwrap(), 1);
}

#[test]
fn what_is_no_target_is_refused_and_recorded() {
    let world = World::start().unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let script = format!(
        "
import socket
try:
    s = socket.create_connection(('127.0.0.1', {port}), timeout=10)
    s.sendall(b'hello')
    print('answered' if s.recv(10) else 'closed')
except OSError as e:
    print('closed')
"
    );
    assert_eq!(world.reader().python(&script).unwrap().ok().unwrap(), "closed\n");
    assert!(elsewhere.accept().is_err(), "the connection arrived");
    assert_eq!(world.daemon.count("connections_refused").unwrap(), 1);
    let evidence = world.evidence().unwrap();
    let recorded = format!(
        "SELECT count(*) FROM control WHERE kind = 'connection.refused' \
         AND detail LIKE '%unknown_target%' AND detail LIKE '%127.0.0.1:{port}%'"
    );
    assert_eq!(evidence.count(&recorded).unwrap(), 1);
}

/// With IPv6 and mapped addresses the way is the same.
#[test]
fn there_is_no_way_around_by_ipv6() {
    let world = World::start().unwrap();
    let port = world.bank.port();
    let script = format!(
        "
import socket
for host in ('::ffff:127.0.0.1', '::1'):
    try:
        s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        s.settimeout(10)
        s.connect((host, {port}))
        s.sendall(b'\\x00\\x00\\x00\\x08\\x04\\xd2\\x16\\x2f')
        print(host, s.getpeername()[0])
    except OSError as e:
        print(host, 'closed')
"
    );
    world.reader().python(&script).unwrap().ok().unwrap();
    let arrived = world.daemon.count("sessions_total").unwrap()
        + world.daemon.count("connections_refused").unwrap();
    assert_eq!(arrived, 2, "both came to the door");
}

/// Processes that are nobody's agents do not notice.
#[test]
fn others_are_left_alone() {
    let world = World::start().unwrap();
    assert_eq!(world.bank.sql("SELECT 1").unwrap().trim(), "1");
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 0);
}

#[test]
fn doctor_says_how_the_host_stands() {
    let world = World::start().unwrap();
    let output = integration::process::run(world.daemon.cli().arg("doctor"), 30).unwrap();
    assert!(!output.stdout.trim().is_empty(), "{}", output.stderr);
}

/// A child of an agent is the same agent: its cgroup is inherited.
#[test]
fn children_of_an_agent_are_behind_the_same_door() {
    let world = World::start().unwrap();
    let script = "
import subprocess
print(subprocess.run(['setsid', 'psql', '-XAtc', 'SELECT id FROM customers WHERE id = 8'],
                     capture_output=True, text=True).stdout.strip())
";
    assert_eq!(world.reader().python(script).unwrap().ok().unwrap(), "8\n");
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 1);
    let evidence = world.evidence().unwrap();
    let agents = evidence.duckdb("SELECT DISTINCT agent_id FROM sessions").unwrap();
    assert_eq!(agents.len(), 1);
    assert_eq!(agents[0]["agent_id"], integration::world::READER);
}
