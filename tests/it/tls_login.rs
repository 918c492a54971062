//! Who logs in over TLS, and how; and what cancels a session inside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use integration::bank::{DATABASE, PASSWORD, ROLE};
use integration::certificates::Certificates;
use integration::port::Port;
use integration::process::{Running, run, wait_until};
use integration::world::{READER, WRITER};
use integration::{Agent, Daemon, Evidence, Output, Supervisor, idp, paths};

use crate::oidc::{Place, client};
use crate::oidc_flows::logged_in;
use crate::tls::{NAMES, Secured, VERIFIED};

use crate::by_hand::READ;

/// Runs for hours, unless it is cancelled.
const ENDLESS: &str = "SELECT count(*) FROM customers a, customers b, customers c";

/// Who one is, in a statement that policy reads.
const WHO: &str = "SELECT current_user FROM customers WHERE id = 1";

const SECRET: &str = "a secret of the daemon's";
const PLACEHOLDER: &str = "what-the-agent-believes";
const INJECTED: &str =
    "CREATE ROLE injected LOGIN IN ROLE app PASSWORD 'a secret of the daemon''s'";

/// A bank with rules of its own for who gets in, behind a daemon with more in its configuration.
fn start(hba: &str, settings: &[&str], target: impl Fn(&Certificates) -> String) -> Secured {
    let certificates = Certificates::make(NAMES).unwrap();
    certificates.admit(hba).unwrap();
    let mut all = certificates.server_settings();
    all.push(format!("ssl_ca_file={}", certificates.path("bank.crt").display()));
    let all: Vec<&str> = all.iter().map(String::as_str).chain(settings.iter().copied()).collect();
    let target = target(&certificates);
    Secured::with(certificates, &all, &target)
}

/// A file that is root's alone.
fn secret(certificates: &Certificates, name: &str, text: &str) -> String {
    let path = certificates.path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn psql(world: &Secured, agent: &str, parameters: &str, password: &str) -> Output {
    let agent = Agent::new(&world.daemon, agent, ROLE, world.bank.port());
    let mut command = agent.command("psql");
    command.args(["-XAtw", "-c", WHO, parameters]).env("PGPASSWORD", password);
    run(&mut command, 60).unwrap()
}

/// Logs in in clear, asks something endless, and cancels it over TLS.
const CANCEL_OVER_TLS: &str = "
import os, socket, ssl, struct, time
address = (os.environ['PGHOST'], int(os.environ['PGPORT']))
s = socket.create_connection(address, timeout=60)
body = struct.pack('!i', 196608) + b'user\\0reports\\0database\\0bank\\0\\0'
s.sendall(struct.pack('!i', len(body) + 4) + body)
kind, body = b'', b''
while kind != b'Z':
    kind, body = message(s)
    if kind == b'K': key = body
sql = b'SELECT count(*) FROM customers a, customers b, customers c\\0'
s.sendall(b'Q' + struct.pack('!i', len(sql) + 4) + sql)
time.sleep(1)
c = socket.create_connection(address, timeout=20)
c.sendall(struct.pack('!ii', 8, 80877103))
assert c.recv(1) == b'S'
context = ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])
c = context.wrap_socket(c, server_hostname='localhost')
c.sendall(struct.pack('!ii', 12 + len(key) - 4, 80877102) + key)
while kind != b'E': kind, body = message(s)
print(b'C57014' in body)
";

#[test]
fn a_token_for_a_password_goes_through_tls_as_well() {
    let place = Place::start();
    let issuer = format!(
        "[[issuer]]\nurl = \"{}\"\naudiences = [\"{}\"]\n",
        place.idp.issuer(),
        idp::RESOURCES[0]
    );
    let world = start("hostssl all all all scram-sha-256", &[], |certificates| {
        let secret_file = secret(certificates, "secret", SECRET);
        format!(
            "{VERIFIED}\n[[credential]]\ntarget = \"bank\"\naccount = \"injected\"\n\
             secret_file = \"{secret_file}\"\ntoken_password = \"required\"\n{issuer}"
        )
    });
    world.bank.sql(INJECTED).unwrap();
    let token = logged_in(&place, &client(), idp::CARL).access;
    let verified = "host=localhost hostaddr=127.0.0.1 sslmode=verify-full";
    assert_eq!(psql(&world, READER, verified, token.expose()).ok().unwrap(), "injected\n");
    let seen = psql(&world, READER, verified, "none");
    assert!(seen.stderr.contains("a token must be given"), "{seen:?}");
    // A client that insists on a bound exchange shows its token to nobody.
    let bound = format!("{verified} channel_binding=require");
    let seen = psql(&world, READER, &bound, token.expose());
    assert!(seen.stderr.contains("channel binding required"), "{seen:?}");
    let evidence = Evidence::seal(&world.daemon).unwrap();
    let sql = "SELECT count(*) FROM sessions WHERE actor_sub = 'carl' AND tls_version = 'TLSv1.3'";
    assert_eq!(evidence.count(sql).unwrap(), 1);
}

#[test]
fn a_cancel_goes_up_as_its_session_went() {
    let hba = "hostssl all app all trust\nhostnossl all reports all trust";
    let settings = ["log_min_messages=debug2", "log_line_prefix=%p "];
    let world = start(hba, &settings, |_| VERIFIED.into());
    world.bank.sql("CREATE ROLE reports LOGIN IN ROLE app").unwrap();
    // libpq cancels in clear by PQcancel, over TLS by PQcancelStart.
    let agent = Agent::new(&world.daemon, READER, ROLE, world.bank.port());
    let mut interrupted = agent.command("timeout");
    interrupted.args(["--foreground", "-s", "INT", "8", "psql", "-XAt", "-c", ENDLESS]);
    interrupted.arg("host=localhost hostaddr=127.0.0.1 sslmode=verify-full");
    let seen = run(&mut interrupted, 60).unwrap();
    assert!(seen.stderr.contains("canceling statement due to user request"), "{seen:?}");
    let script = format!(
        "
import psycopg, threading
with psycopg.connect('host=localhost hostaddr=127.0.0.1 sslmode=verify-full', autocommit=True) as c:
    for cancel in (c.cancel, c.cancel_safe):
        timer = threading.Timer(1.0, cancel)
        timer.start()
        try:
            c.execute('{ENDLESS}')
        except psycopg.errors.QueryCanceled as e:
            print(e.sqlstate)
        timer.join()
"
    );
    let seen = world.python(&script).ok().unwrap();
    assert_eq!(seen, "57014\n57014\n", "{}", world.daemon.log());
    assert_eq!(
        world.python(&format!("{READ}{CANCEL_OVER_TLS}")).ok().unwrap(),
        "True\n",
        "{}",
        world.daemon.log()
    );

    let log = world.bank.log().unwrap();
    let by = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let cancels: Vec<String> =
        log.lines().filter(|l| l.contains("processing cancel request")).map(by).collect();
    assert_eq!(cancels.len(), 4);
    for process in cancels {
        let secured = |line: &str| by(line) == process && line.contains("SSL connection from");
        assert!(log.lines().any(secured), "process {process} was asked in clear");
    }
    let evidence = Evidence::seal(&world.daemon).unwrap();
    let sql = "SELECT count(*) FROM events e JOIN sessions s USING (session_id) \
               WHERE e.kind = 'db.cancel' AND e.status = 'ok' AND s.tls_version = 'TLSv1.3'";
    assert_eq!(evidence.count(sql).unwrap(), 4);
    let sql = "SELECT count(*) FROM control WHERE kind = 'session.cancel' \
               AND json_extract_string(detail, '$.what') = 'forwarded'";
    assert_eq!(evidence.count(sql).unwrap(), 4);
}

fn methods(daemon: &Daemon) -> Vec<String> {
    let evidence = Evidence::seal(daemon).unwrap();
    let sql = "SELECT json_extract_string(detail, '$.method') AS method FROM control \
               WHERE kind = 'session.authenticated' ORDER BY ALL";
    let rows = evidence.duckdb(sql).unwrap();
    rows.iter().map(|row| row["method"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn scram_is_bound_to_the_channel_on_both_legs() {
    let world = start("hostssl all all all scram-sha-256", &[], |certificates| {
        let secret_file = secret(certificates, "secret", SECRET);
        let placeholder = secret(certificates, "placeholder", PLACEHOLDER);
        let one = |more: String| {
            format!(
                "[[credential]]\ntarget = \"bank\"\naccount = \"injected\"\n\
                 secret_file = \"{secret_file}\"\n{more}\n"
            )
        };
        let asked = one(format!("agents = [\"{WRITER}\"]\nplaceholder_file = \"{placeholder}\""));
        format!("{VERIFIED}\n{asked}{}", one(format!("agents = [\"{READER}\"]\nname = \"free\"")))
    });
    world.bank.sql(INJECTED).unwrap();
    let seen = psql(&world, READER, "sslmode=require", "");
    assert_eq!(seen.stdout, "injected\n", "{seen:?} {}", world.daemon.log());

    // What insists on a bound exchange has one with the daemon's certificate: libpq 15, libpq 18.
    let bound = "host=localhost hostaddr=127.0.0.1 sslmode=verify-full channel_binding=require";
    let seen = psql(&world, WRITER, bound, PLACEHOLDER);
    assert_eq!(seen.stdout, "injected\n", "{seen:?} {}", world.daemon.log());
    let refused = psql(&world, WRITER, bound, "another");
    assert!(refused.stderr.contains("password authentication failed"), "{refused:?}");
    let script = format!(
        "
import psycopg
assert psycopg.pq.version() >= 180000
for more in ('', 'require_auth=scram-sha-256', 'sslnegotiation=direct'):
    with psycopg.connect(f'{bound} {{more}}', password='{PLACEHOLDER}') as c:
        print(c.execute('{WHO}').fetchone()[0])
"
    );
    let agent = Agent::new(&world.daemon, WRITER, ROLE, world.bank.port());
    assert_eq!(agent.python(&script).unwrap().ok().unwrap(), "injected\n".repeat(3));
    // Without a placeholder there is no exchange that could be bound.
    let refused = psql(&world, READER, bound, PLACEHOLDER);
    assert!(refused.stderr.contains("channel binding required"), "{refused:?}");

    let seen = methods(&world.daemon);
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(seen.iter().all(|method| method == "SCRAM-SHA-256-PLUS"), "{seen:?}");
}

/// Ends TLS and begins another one to the server: who stands on the way.
const BETWEEN: &str = "
import select, socket, ssl, struct, sys, threading
port, bank, certificate, key = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
towards_client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
towards_client.load_cert_chain(certificate, key)
towards_server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
towards_server.check_hostname, towards_server.verify_mode = False, ssl.CERT_NONE
REQUEST = struct.pack('!II', 8, 80877103)
def carry(a):
    assert a.recv(8) == REQUEST
    b = socket.create_connection(('127.0.0.1', bank))
    b.sendall(REQUEST)
    a.sendall(b.recv(1))
    a, b = towards_client.wrap_socket(a, server_side=True), towards_server.wrap_socket(b)
    while True:
        for one, other in ((a, b), (b, a)):
            if one.pending() or select.select([one], [], [], 0.02)[0]:
                said = one.recv(65536)
                if not said:
                    other.close()
                    return
                other.sendall(said)
listener = socket.create_server(('127.0.0.1', port))
while True:
    threading.Thread(target=carry, args=(listener.accept()[0],), daemon=True).start()
";

/// Even where the operator has nothing of a certificate verified.
#[test]
fn who_ends_tls_on_the_way_gets_no_login() {
    let hba = "hostssl all injected all scram-sha-256\nhostssl all app all trust";
    let world = start(hba, &[], |_| VERIFIED.into());
    world.bank.sql(INJECTED).unwrap();
    let port = Port::take().unwrap();
    let path = |name: &str| world.certificates.path(name).display().to_string();
    let mut between = Command::new(paths::python());
    between.args(["-c", BETWEEN, &port.number().to_string(), &world.bank.port().to_string()]);
    between.args([path("bank.crt"), path("bank.key")]).stdin(Stdio::null());
    let _between = Running::new("python", &mut between).unwrap();
    let listens = || Ok(std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok());
    wait_until("somebody stands between", 20, listens).unwrap();
    let secret = secret(&world.certificates, "secret", SECRET);
    let settings = world.certificates.daemon_settings(&format!(
        "verify = \"nothing\"\n[[credential]]\ntarget = \"bank\"\naccount = \"injected\"\n\
         user = \"injected\"\nsecret_file = \"{secret}\""
    ));
    let daemon = Daemon::start_with(Supervisor::None, port.number(), 1, &[], &settings).unwrap();
    let ask = |role: &str| {
        let mut psql = Agent::new(&daemon, READER, role, port.number()).command("psql");
        psql.args(["-XAtw", "-c", WHO, "sslmode=require"]).env("PGDATABASE", DATABASE);
        run(&mut psql, 60).unwrap()
    };
    // The way is open, for those who prove nothing.
    let seen = ask(ROLE);
    assert_eq!(seen.stdout, "app\n", "{seen:?} {}", daemon.log());
    let refused = ask("injected");
    assert!(refused.stderr.contains("could not authenticate to the target"), "{refused:?}");
    assert_eq!(methods(&daemon).len(), 0);
    let log = world.bank.log().unwrap();
    assert!(log.contains("SCRAM channel binding check failed"), "{log}");
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_the_daemons() {
    let hba =
        "hostssl all app all cert\nhostssl all injected all scram-sha-256 clientcert=verify-ca";
    let mine = |certificates: &Certificates| {
        certificates.make_client(ROLE).unwrap();
        certificates.make_client("somebody").unwrap();
        let path = |name: &str| certificates.path(name).display().to_string();
        let secret = secret(certificates, "secret", SECRET);
        format!(
            "{VERIFIED}\ncertificate = \"{}\"\nkey = \"{}\"\n[[credential]]\ntarget = \"bank\"\n\
             account = \"injected\"\nuser = \"injected\"\nsecret_file = \"{secret}\"",
            path("app.crt"),
            path("app.key")
        )
    };
    let world = start(hba, &[], mine);
    world.bank.sql(INJECTED).unwrap();
    assert_eq!(psql(&world, READER, "sslmode=require", "").stdout, "app\n");
    // An agent's own is not asked for, and does no harm.
    let path = |name: &str| world.certificates.path(name).display().to_string();
    let own =
        format!("sslmode=require sslcert={} sslkey={}", path("somebody.crt"), path("somebody.key"));
    let seen = psql(&world, READER, &own, PASSWORD);
    assert_eq!(seen.stdout, "app\n", "{seen:?}");
    let refused = psql(&world, READER, &format!("{own} user=postgres"), "wrong");
    assert!(!refused.stdout.contains("postgres"), "{refused:?}");
    let seen = psql(&world, READER, &format!("{own} user=injected"), "");
    assert_eq!(seen.stdout, "injected\n", "{seen:?} {}", world.daemon.log());
    assert_eq!(methods(&world.daemon), ["SCRAM-SHA-256-PLUS"]);
    // It is made for two days, which is soon over.
    let checks = run(world.daemon.cli().args(["doctor", "--output", "json"]), 60).unwrap().stdout;
    let checks: Vec<serde_json::Value> = serde_json::from_str(&checks).unwrap();
    let own = checks.iter().find(|check| check["name"] == "certificate for bank").unwrap();
    assert_eq!((&own["verdict"], &own["detail"]), (&"warn".into(), &"expires in 1 days".into()));

    // Without one of the daemon's, the server's own words come through.
    let world = start(hba, &[], |certificates| {
        certificates.make_client(ROLE).unwrap();
        VERIFIED.into()
    });
    let path = |name: &str| world.certificates.path(name).display().to_string();
    let own = format!("sslmode=require sslcert={} sslkey={}", path("app.crt"), path("app.key"));
    let refused = psql(&world, READER, &own, "");
    assert!(refused.stderr.contains("requires a valid client certificate"), "{refused:?}");
}

/// The daemon's own role goes as sessions do: inside TLS, to a server that is verified, bound to the channel.
#[test]
fn the_catalog_is_read_inside_tls_too() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "catalog-only").unwrap();
    let target = format!(
        "{VERIFIED}\nwhen = \"always\"\n[target.catalog]\naccount = \"vestibule_catalog\"\n\
         secret_file = \"{}\"",
        secret.path().display()
    );
    let hba = "hostssl all vestibule_catalog all scram-sha-256\nhost all all all scram-sha-256";
    let world = start(hba, &[], |_| target.clone());
    world.bank.sql("CREATE ROLE vestibule_catalog LOGIN PASSWORD 'catalog-only'").unwrap();
    let shown = world.psql("sslmode=disable", "SELECT city, ssn FROM customers WHERE id = 1");
    let log = world.daemon.log();
    assert!(shown.stdout.starts_with("Boise|***-**-"), "{}\n{log}", shown.stderr);
    let log = world.bank.log().unwrap();
    let authorized =
        |line: &&str| line.contains("authorized: user=vestibule_catalog database=bank");
    let line = log.lines().find(authorized).unwrap_or_default();
    assert!(line.contains("SSL enabled"), "{line}\n{log}");
}
