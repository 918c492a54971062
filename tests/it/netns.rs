//! Agents in network namespaces of their own: the door is there too, and addresses mean what they
//! mean there.

use std::net::TcpListener;
use std::process::Command;

use integration::process::{run, wait_until};
use integration::world::READER;
use integration::{Daemon, Evidence, paths};

use crate::talk::{CLIENT, Talk, enrolled, join};

/// A server that says who comes, from where; once ready.
const SERVER: &str = "
import socket, sys
s = socket.create_server(('127.0.0.1', int(sys.argv[1])))
print('ready', flush=True)
held = []
while True:
    c, peer = s.accept()
    held.append(c)
    print('from', peer[0], flush=True)
";

/// A network namespace as `ip netns` makes them; deleted when dropped.
struct Namespace(String);

impl Namespace {
    fn add(daemon: &Daemon) -> Self {
        let name = format!("vestibule-t{}", daemon.port());
        run(Command::new("ip").args(["netns", "add", &name]), 10).unwrap().ok().unwrap();
        Self(name)
    }

    /// Enters it and nothing else: `ip netns exec` would hide the cgroups.
    fn enter(&self) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/run/netns/{}", self.0)]
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run(Command::new("ip").args(["netns", "delete", &self.0]), 10).ok();
    }
}

fn command(words: &[String], script: &str, port: u16) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(paths::python()).args(["-c", script, &port.to_string()]);
    command
}

fn free_port() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn an_agent_started_in_a_namespace_reaches_what_is_there() {
    let (host, port) = free_port();
    let daemon = Daemon::start(port, 1, &[]).unwrap();
    let namespace = Namespace::add(&daemon);
    let up = ["ip", "link", "set", "lo", "up"].map(String::from);
    let mut loopback = Command::new("nsenter");
    run(loopback.args(&namespace.enter()[1..]).args(up), 10).unwrap().ok().unwrap();
    let mut server = Talk::start(command(&namespace.enter(), SERVER, port));
    let vestibule = daemon.cli();
    let mut words = namespace.enter();
    words.push(vestibule.get_program().to_str().unwrap().into());
    words.extend(["run", "--agent", READER, "--"].map(String::from));
    let mut client = command(&words, CLIENT, port);
    client.envs(vestibule.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut agent = Talk::start(client);
    assert_eq!(agent.asks(), "answered", "the first connection: {}", daemon.log());
    assert_eq!(server.says(), "from 127.0.0.1");
    assert_eq!(agent.asks(), "answered");
    assert!(host.accept().is_err(), "the host's own loopback was reached");
    drop(agent);
    wait_until("the namespace is left", 40, || Ok(daemon.log().contains("no agent is in")))
        .unwrap();
    let evidence = Evidence::seal(&daemon).unwrap();
    let sessions = evidence.duckdb("SELECT DISTINCT netns_cookie, agent_id FROM sessions").unwrap();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let cookie = sessions[0]["netns_cookie"].as_u64().unwrap();
    for kind in ["netns.listening", "netns.left"] {
        let recorded = format!(
            "SELECT count(*) FROM control WHERE kind = '{kind}' \
             AND json_extract(detail, '$.netns_cookie')::ubigint = {cookie}"
        );
        assert_eq!(evidence.count(&recorded).unwrap(), 1, "{kind}");
    }
}

/// Nobody announces it: the first connection is refused, and the kernel tells of it.
#[test]
fn a_namespace_an_agent_makes_itself_has_the_door_from_the_second_connection() {
    let (host, port) = free_port();
    let mut daemon = Daemon::start(port, 1, &[]).unwrap();
    let agent = enrolled(&daemon);
    let mut client = Talk::start(join(&agent, "unshare --net", port));
    let first = client.asks();
    // Its loopback was down, too.
    assert!(["ConnectionRefusedError", "OSError"].contains(&first.as_str()), "{first}");
    let listening = || Ok(daemon.log().contains("listening in a network namespace"));
    wait_until("a listener in the namespace", 10, listening).unwrap();
    // The door answers; there is no server in the namespace, and the host's is not reached.
    client.asks();
    wait_until("the connection came", 10, || {
        let arrived = daemon.log().matches("target unreachable").count();
        Ok(arrived >= 1)
    })
    .unwrap_or_else(|error| panic!("{error}: {}", daemon.log()));
    // A daemon that starts anew finds the namespace by itself. What it recorded is on disk before.
    Evidence::seal(&daemon).unwrap();
    daemon.kill();
    assert_eq!(client.asks(), "ConnectionRefusedError");
    daemon.restart().unwrap();
    client.asks();
    wait_until("the connection came", 10, || {
        Ok(daemon.log().matches("target unreachable").count() >= 2)
    })
    .unwrap();
    assert!(host.accept().is_err(), "the host's own loopback was reached");
    let evidence = Evidence::seal(&daemon).unwrap();
    let refused = "SELECT count(*) FROM control WHERE kind = 'kernel.refused' \
                   AND detail LIKE '%unknown_netns%'";
    assert!(evidence.count(refused).unwrap() >= 1);
    let sessions = "SELECT count(*) FROM sessions WHERE close_reason = 'target_unreachable'";
    assert_eq!(evidence.count(sessions).unwrap(), 2);
}
