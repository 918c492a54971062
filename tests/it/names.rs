//! Look-ups of names: real clients in agents, the forwarder, a real server of the operator's.

use integration::names::{BIG_ADDRESSES, NameServer};
use integration::world::{READER, WRITER_POLICY};
use integration::{Agent, Daemon, Evidence, Postgres, bank};

/// Permits what a test needs beyond names of targets.
const RESOLVE: (&str, &str) = (
    "resolve.cedar",
    r#"@id("resolve-bank")
permit (principal, action == Action::"resolve", resource in Name::"bank.example");"#,
);

/// A server that nobody has: what agents ask never leaves this host (RFC 5737).
const ASKED: &str = "192.0.2.53";

struct Place {
    daemon: Daemon,
    bank: Postgres,
    server: NameServer,
}

impl Place {
    fn start() -> Self {
        let (bank, server) = (Postgres::start().unwrap(), NameServer::start().unwrap());
        let configuration = format!(
            "\n[dns]\nport = DNS_PORT\nupstream = [\"127.0.0.1:{}\"]\nhosts = \"/dev/null\"\n\n\
             [[target]]\nname = \"named\"\naddress = \"db.bank.example:{}\"\nprotocol = \"postgresql\"\n",
            server.port(),
            bank.port()
        );
        // The harness's own target is another port's: only the name leads to the bank.
        let supervisor = integration::daemon::Supervisor::None;
        let policies = [WRITER_POLICY, RESOLVE];
        let daemon = Daemon::start_with(supervisor, 1, 2, &policies, &configuration).unwrap();
        Self { daemon, bank, server }
    }

    fn agent(&self) -> Agent<'_> {
        Agent::new(&self.daemon, READER, bank::ROLE, self.bank.port())
    }

    fn dig(&self, arguments: &[&str]) -> String {
        let mut dig = self.agent().command("dig");
        dig.arg(format!("@{ASKED}")).args(["+tries=1", "+timeout=6"]).args(arguments);
        integration::process::run(&mut dig, 60).unwrap().stdout
    }
}

#[test]
fn a_permitted_name_is_resolved_by_the_operators_server_and_recorded() {
    let place = Place::start();
    assert_eq!(place.dig(&["+short", "DB.bank.example"]).trim(), "127.0.0.1");
    let aliased = place.dig(&["+short", "alias.bank.example"]);
    assert!(aliased.contains("db.bank.example.") && aliased.contains("127.0.0.1"), "{aliased}");
    assert!(place.dig(&["none.bank.example"]).contains("NXDOMAIN"));
    assert_eq!(place.dig(&["+short", "+tcp", "db.bank.example"]).trim(), "127.0.0.1");
    let evidence = Evidence::seal(&place.daemon).unwrap();
    let asked = "SELECT e.objects[1] AS name, e.verb, e.decision, e.rule_id, e.error_code, e.dst_ip, \
                 r.response_sample AS answer FROM events e JOIN recordings r \
                 USING (session_id, session_seq) WHERE e.kind = 'dns.query' ORDER BY e.ts";
    let rows = evidence.duckdb(asked).unwrap();
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert_eq!(rows[0]["name"], "db.bank.example");
    assert_eq!(rows[0]["dst_ip"], ASKED);
    assert_eq!(rows[0]["rule_id"], "base-resolve");
    assert!(rows[0]["answer"].as_str().unwrap().contains("127.0.0.1"), "{rows:?}");
    assert_eq!(rows[2]["error_code"], "DNS03");
}

#[test]
fn a_refused_name_names_its_policy_and_reaches_no_server() {
    let place = Place::start();
    for (name, record_type, rule) in [
        ("secret.attacker.example", "A", "default-deny"),
        ("db.bank.example", "TXT", "default-deny"),
        ("db.bank.example", "ANY", "default-deny"),
        ("mzxw6ytboi2dsnrrgiydanzqmzxw6ytboi2dsnrrgiyda.bank.example", "A", "no-dns-tunnel"),
    ] {
        let told = place.dig(&["+notcp", name, record_type]);
        assert!(told.contains("REFUSED") && told.contains("EDE: 15"), "{name}: {told}");
        assert!(told.contains(rule), "{name}: {told}");
    }
    let log = place.server.log().unwrap();
    assert!(!log.contains("attacker") && !log.contains("TXT") && !log.contains("mzxw6"), "{log}");
    let evidence = Evidence::seal(&place.daemon).unwrap();
    let denied = "SELECT count(*) FROM events WHERE kind = 'dns.query' AND decision = 'deny' \
                  AND status = 'denied' AND error_code = 'DNS05'";
    assert_eq!(evidence.count(denied).unwrap(), 4);
}

#[test]
fn what_no_datagram_holds_comes_whole() {
    let place = Place::start();
    let addresses = place.dig(&["+short", "big.bank.example"]);
    assert_eq!(addresses.lines().count(), BIG_ADDRESSES, "{addresses}");
}

#[test]
fn without_the_operators_server_a_lookup_fails_and_says_so() {
    let mut place = Place::start();
    place.server.kill();
    let told = place.dig(&["db.bank.example"]);
    assert!(told.contains("SERVFAIL") && told.contains("EDE: 2"), "{told}");
}

/// A target by name covers what the agent's own look-up was answered, and nothing else.
#[test]
fn a_target_by_name_is_reached_through_its_name() {
    let place = Place::start();
    let script = format!(
        "
import socket, struct
def ask(name):
    question = struct.pack('>6H', 7, 0x100, 1, 0, 0, 0)
    question += b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0\\0\\1\\0\\1'
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.sendto(question, ('{ASKED}', 53))
    answer, peer = s.recvfrom(4096)
    return socket.inet_ntoa(answer[-4:]), peer
def knock():
    s = socket.create_connection(('127.0.0.1', {port}), timeout=10)
    s.sendall(struct.pack('>II', 8, 80877103))
    try:
        return s.recv(1) in (b'N', b'S')
    except OSError:
        return False
print(knock())
print(*ask('db.bank.example'))
print(knock())
",
        port = place.bank.port()
    );
    let told = place.agent().python(&script).unwrap().ok().unwrap();
    assert_eq!(told, format!("False\n127.0.0.1 ('{ASKED}', 53)\nTrue\n"));
    let evidence = Evidence::seal(&place.daemon).unwrap();
    let named = "SELECT count(*) FROM sessions WHERE target_name = 'named' \
                 AND dst_host = 'db.bank.example' AND target_host = 'db.bank.example'";
    assert_eq!(evidence.count(named).unwrap(), 1);
}

#[test]
fn dns_over_tls_is_refused_as_what_it_is() {
    let place = Place::start();
    let script = format!(
        "
import socket
try:
    s = socket.create_connection(('{ASKED}', 853), timeout=10)
    print(s.recv(1))
except OSError:
    print(b'')
"
    );
    assert_eq!(place.agent().python(&script).unwrap().ok().unwrap(), "b''\n");
    let evidence = Evidence::seal(&place.daemon).unwrap();
    let refused = "SELECT count(*) FROM control WHERE kind = 'connection.refused' \
                   AND detail LIKE '%encrypted_dns%'";
    assert_eq!(evidence.count(refused).unwrap(), 1);
}

#[test]
fn garbage_is_counted_and_answered_as_such() {
    let place = Place::start();
    let script = format!(
        "
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(50):
    s.sendto(os.urandom(n * 7), ('{ASKED}', 53))
"
    );
    place.agent().python(&script).unwrap().ok().unwrap();
    assert_eq!(place.dig(&["+short", "db.bank.example"]).trim(), "127.0.0.1");
    assert!(place.daemon.count("dns_dropped").unwrap() >= 45);
    assert_eq!(place.daemon.count("dns_queries").unwrap(), 1);
}
