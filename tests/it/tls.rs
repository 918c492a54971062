//! TLS on both legs: certificates of the host's authority for agents, verification of the real server.

use integration::bank::ROLE;
use integration::certificates::Certificates;
use integration::world::READER;
use integration::{Agent, Daemon, Evidence, Output, Postgres, Supervisor, process};

pub(crate) struct Secured {
    pub(crate) daemon: Daemon,
    pub(crate) bank: Postgres,
    pub(crate) certificates: Certificates,
}

pub(crate) const NAMES: &str = "DNS:localhost,IP:127.0.0.1";
pub(crate) const VERIFIED: &str = "ca = \"BANK_CA\"";

impl Secured {
    /// A bank that speaks TLS, and a daemon with an authority of its own.
    fn start(names: &str, target: &str) -> Self {
        let certificates = Certificates::make(names).unwrap();
        let settings = certificates.server_settings();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Self::with(certificates, &settings, target)
    }

    pub(crate) fn with(certificates: Certificates, settings: &[&str], target: &str) -> Self {
        certificates.make_authority().unwrap();
        let bank = Postgres::with_settings(settings).unwrap();
        let rest = certificates.daemon_settings(target);
        let daemon = Daemon::start_with(Supervisor::None, bank.port(), 2, &[], &rest).unwrap();
        Self { daemon, bank, certificates }
    }

    pub(crate) fn psql(&self, parameters: &str, sql: &str) -> Output {
        let agent = Agent::new(&self.daemon, READER, ROLE, self.bank.port());
        let mut command = agent.command("psql");
        command.args(["-XAt", "-c", sql, parameters]);
        process::run(&mut command, 60).unwrap()
    }

    pub(crate) fn python(&self, script: &str) -> Output {
        Agent::new(&self.daemon, READER, ROLE, self.bank.port()).python(script).unwrap()
    }

    /// The last line of the server's log that says how somebody's connection came.
    fn arrived(&self) -> String {
        let log = self.bank.log().unwrap();
        let authorized = |line: &&str| line.contains("connection authorized");
        log.lines().rfind(authorized).unwrap_or_default().to_owned()
    }
}

pub(crate) const SQL: &str = "SELECT id, city FROM customers WHERE id = 77";
pub(crate) const NAMED: &str = "host=localhost hostaddr=127.0.0.1";

#[test]
fn each_side_verifies_a_certificate_in_full() {
    let world = Secured::start(NAMES, VERIFIED);
    let direct = world.bank.sql(SQL).unwrap();
    for parameters in [format!("{NAMED} sslmode=verify-full"), "sslmode=verify-full".into()] {
        let seen = world.psql(&parameters, SQL).ok().unwrap();
        assert_eq!(seen, direct, "{parameters}");
        assert!(world.arrived().contains("SSL enabled (protocol=TLSv1.3"), "{}", world.arrived());
    }
    let told = world.psql(&format!("{NAMED} sslmode=verify-full"), "\\conninfo").ok().unwrap();
    assert!(told.contains("SSL connection (protocol: TLSv1.3"), "{told}");
    // What the agent is shown is not the bank's.
    let bank = world.certificates.path("bank.crt");
    let pinned = format!("{NAMED} sslmode=verify-full sslrootcert={}", bank.display());
    let refused = world.psql(&pinned, SQL);
    assert!(refused.stderr.contains("certificate verify failed"), "{}", refused.stderr);

    let evidence = Evidence::seal(&world.daemon).unwrap();
    let sql = "SELECT DISTINCT tls_version, tls_peer_fp, dst_host FROM sessions \
               WHERE close_reason = 'closed' ORDER BY ALL";
    let rows = evidence.duckdb(sql).unwrap();
    let fingerprint = world.certificates.fingerprint("server.crt").unwrap();
    // The hosts file calls the address `localhost` as well.
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(row["tls_version"], "TLSv1.3");
    assert_eq!(row["tls_peer_fp"], fingerprint.as_str());
    assert_eq!(row["dst_host"], "localhost");
    let refused = "SELECT count(*) FROM sessions WHERE close_reason = 'agent_tls'";
    assert_eq!(evidence.count(refused).unwrap(), 1);
}

#[test]
fn what_the_kernel_counts_is_what_went_over_the_wire() {
    let world = Secured::start(NAMES, VERIFIED);
    let sql = "SELECT a.id, b.full_name, b.city FROM customers a, customers b \
               WHERE a.id <= 5 ORDER BY a.id, b.id";
    let seen = world.psql(&format!("{NAMED} sslmode=verify-full"), sql).ok().unwrap();
    assert_eq!(seen, world.bank.sql(sql).unwrap());
    assert!(seen.len() > 500_000, "{}", seen.len());
    let masked = "SELECT ssn FROM customers WHERE id = 77";
    let raw = world.bank.sql(masked).unwrap();
    let seen = world.psql("sslmode=require", masked).ok().unwrap();
    assert!(!seen.contains(raw.trim()) && !seen.trim().is_empty(), "{seen}");
    process::wait_until("sessions ended", 30, || Ok(world.daemon.count("sessions_open")? == 0))
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(world.daemon.count("flows_differing").unwrap(), 0, "{}", world.daemon.log());
}

#[test]
fn a_server_that_is_not_the_one_it_says_is_refused_and_recorded() {
    for (names, target, why) in
        [(NAMES, "", "UnknownIssuer"), ("DNS:other.example", VERIFIED, "not valid for name")]
    {
        let world = Secured::start(names, target);
        let refused = world.psql(&format!("{NAMED} sslmode=require"), SQL);
        assert_ne!(refused.code, Some(0));
        assert!(refused.stderr.contains("vestibule: TLS towards the target failed"), "{refused:?}");
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
        let arrived = format!("connection authorized: user={ROLE} ");
        assert!(!world.bank.log().unwrap().contains(&arrived), "{}", world.arrived());
        let evidence = Evidence::seal(&world.daemon).unwrap();
        let ended = "SELECT close_reason FROM sessions";
        assert_eq!(evidence.duckdb(ended).unwrap()[0]["close_reason"], "target_tls");
        let told = "SELECT count(*) FROM control WHERE kind = 'session.not_begun' \
                    AND json_extract_string(detail, '$.reason') = 'target_tls'";
        assert_eq!(evidence.count(told).unwrap(), 1);
    }
    // The operator may know better.
    let target = format!("{VERIFIED}\nverify = \"authority\"");
    let world = Secured::start("DNS:other.example", &target);
    assert_eq!(world.psql("sslmode=require", SQL).code, Some(0));
    let world = Secured::start("DNS:other.example", "verify = \"nothing\"");
    assert_eq!(world.psql("sslmode=require", SQL).code, Some(0));
}

#[test]
fn an_agent_has_tls_where_the_server_has_it_and_the_operator_may_ask_for_more() {
    let certificates = Certificates::make(NAMES).unwrap();
    let plain = ["log_connections=on"];
    let world = Secured::with(certificates, &plain, VERIFIED);
    let refused = world.psql("sslmode=require", SQL);
    assert!(refused.stderr.contains("server does not support SSL"), "{}", refused.stderr);
    let seen = world.psql("sslmode=prefer", SQL).ok().unwrap();
    assert_eq!(seen, world.bank.sql(SQL).unwrap());

    // The agent does without; the way to the target does not.
    let world = Secured::start(NAMES, &format!("{VERIFIED}\nwhen = \"always\""));
    assert_eq!(world.psql("sslmode=disable", SQL).code, Some(0));
    assert!(world.arrived().contains("SSL enabled"), "{}", world.arrived());

    let world = Secured::start(NAMES, "when = \"never\"");
    let refused = world.psql("sslmode=require", SQL);
    assert!(refused.stderr.contains("server does not support SSL"), "{}", refused.stderr);
    assert_eq!(world.psql("sslmode=prefer", SQL).code, Some(0));
    assert!(!world.arrived().contains("SSL enabled"), "{}", world.arrived());

    let certificates = Certificates::make(NAMES).unwrap();
    let target = format!("{VERIFIED}\nwhen = \"always\"");
    let world = Secured::with(certificates, &plain, &target);
    let refused = world.psql("sslmode=disable", SQL);
    assert!(refused.stderr.contains("the target does not offer TLS"), "{}", refused.stderr);
}

#[test]
fn tls_without_a_request_must_name_its_protocol() {
    let world = Secured::start(NAMES, VERIFIED);
    let script = "
import psycopg
assert psycopg.pq.version() >= 170000
with psycopg.connect('sslmode=verify-full sslnegotiation=direct host=localhost hostaddr=127.0.0.1') as c:
    print(c.execute('SELECT city FROM customers WHERE id = 77').fetchone()[0])
";
    let seen = world.python(script).ok().unwrap();
    assert_eq!(seen, world.bank.sql("SELECT city FROM customers WHERE id = 77").unwrap());
    let script = "
import os, socket, ssl
context = ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])
s = socket.create_connection((os.environ['PGHOST'], int(os.environ['PGPORT'])))
try:
    context.wrap_socket(s, server_hostname='localhost')
    print('shaken')
except (ssl.SSLError, OSError) as e:
    print('refused')
";
    assert_eq!(world.python(script).ok().unwrap().trim(), "refused");
    let evidence = Evidence::seal(&world.daemon).unwrap();
    let told = "SELECT count(*) FROM sessions WHERE close_reason = 'no_alpn'";
    assert_eq!(evidence.count(told).unwrap(), 1);
}

/// What lies behind a request for encryption before it is answered may be somebody else's.
#[test]
fn bytes_behind_a_request_for_encryption_end_the_session() {
    let world = Secured::start(NAMES, VERIFIED);
    let script = "
import os, socket, struct, time
def talk(*parts):
    s = socket.create_connection((os.environ['PGHOST'], int(os.environ['PGPORT'])))
    s.settimeout(20)
    s.sendall(b''.join(parts))
    answer = b''
    try:
        while chunk := s.recv(100):
            answer += chunk
    except OSError:
        pass
    return answer
ssl, gss = struct.pack('!II', 8, 80877103), struct.pack('!II', 8, 80877104)
startup = struct.pack('!II', 8 + 6 + 5 + 1, 196608) + b'user\\0root\\0\\0'
print(talk(ssl, startup))
print(talk(gss, ssl))
";
    assert_eq!(world.python(script).ok().unwrap(), "b''\nb''\n");
    let evidence = Evidence::seal(&world.daemon).unwrap();
    let told = "SELECT count(*) FROM sessions WHERE close_reason = 'stuffed'";
    assert_eq!(evidence.count(told).unwrap(), 2);
}
