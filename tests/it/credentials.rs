//! Credentials that the daemon has and agents do not: who gets in as whom, and what is told of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use integration::daemon::Supervisor;
use integration::{Agent, Daemon, Postgres, World, bank, world};
use tempfile::TempDir;

const SECRET: &str = "correct horse battery staple \u{2168}";
const PLACEHOLDER: &str = "what-the-agent-believes";

/// A role that has what the bank's own role has.
const ROLE: &str =
    "CREATE ROLE injected LOGIN IN ROLE app PASSWORD 'correct horse battery staple IX'";

/// Who one is, in a statement that policy reads.
const WHO: &str = "SELECT current_user, session_user FROM customers WHERE id = 1";

/// A folder of files that are root's alone.
struct Secrets(TempDir);

impl Secrets {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("vestibule-secrets-").tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

fn credential(account: &str, secret: &Path, more: &str) -> String {
    let secret = secret.display();
    format!(
        "\n[[credential]]\ntarget = \"bank\"\naccount = \"{account}\"\nsecret_file = \"{secret}\"\n{more}\n"
    )
}

/// What psql says with a password of its own, or without one.
fn psql(agent: &Agent<'_>, user: &str, password: &str) -> integration::Output {
    let mut psql = agent.command("psql");
    psql.args(["-XAtw", "-c", WHO]).env("PGUSER", user);
    match password {
        "" => psql.env_remove("PGPASSWORD"),
        given => psql.env("PGPASSWORD", given),
    };
    integration::process::run(&mut psql, 60).unwrap()
}

/// Whether any file below a folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => holds(&path, bytes),
            Ok(kind) if kind.is_file() => {
                fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes)
            }
            _ => false,
        }
    })
}

#[test]
fn an_agent_gets_in_with_a_secret_that_it_never_has() {
    let secrets = Secrets::new();
    let secret = secrets.write("secret", &format!("{SECRET}\n"));
    let agents = format!("agents = [\"{}\"]\nname = \"bank-rw\"", world::READER);
    let world = World::start_with(&credential("injected", &secret, &agents)).unwrap();
    world.bank.sql(ROLE).unwrap();
    for password in ["", "a wrong one"] {
        let seen = psql(&world.reader(), bank::ROLE, password);
        assert_eq!(seen.stdout.trim(), "injected|injected", "{}", seen.stderr);
    }
    let script = "
const { Client } = require('pg');
(async () => { const c = new Client({ password: undefined }); await c.connect();
  console.log((await c.query('SELECT current_user AS who FROM customers WHERE id = 1')).rows[0].who);
  await c.end(); })().catch(e => { console.error(e); process.exit(1); });
";
    assert_eq!(world.reader().node(script).unwrap().ok().unwrap(), "injected\n");
    // The credential is not for everybody: others authenticate themselves.
    assert_eq!(psql(&world.writer(), bank::ROLE, bank::PASSWORD).stdout.trim(), "app|app");
    let refused = psql(&world.writer(), bank::ROLE, "a wrong one");
    assert!(refused.stderr.contains("password authentication failed for user \"app\""));

    let evidence = world.evidence().unwrap();
    let injected = "SELECT count(*) FROM sessions WHERE target_account = 'injected' AND target_role = 'app' \
                    AND credential_ref = 'bank-rw' AND credential_injected";
    assert_eq!(evidence.count(injected).unwrap(), 3);
    let own =
        "SELECT count(*) FROM sessions WHERE target_account = 'app' AND credential_ref IS NULL";
    assert_eq!(evidence.count(own).unwrap(), 2);
    let of_events = "SELECT count(*) FROM events WHERE target_role = 'app' AND credential_ref = 'bank-rw' \
                     AND verb = 'SELECT'";
    assert_eq!(evidence.count(of_events).unwrap(), 3);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
    // The secret is in its file and nowhere else.
    let words = SECRET.split_once(' ').unwrap().1;
    assert!(holds(secrets.0.path(), words.as_bytes()), "the search finds what is there");
    for known in [words, "horse battery staple IX", "a wrong one"] {
        assert!(!holds(world.daemon.directory(), known.as_bytes()));
        assert!(!world.daemon.status().unwrap().to_string().contains(known));
        for table in ["events", "sessions", "control", "recordings"] {
            let rows = evidence.duckdb(&format!("FROM {table}")).unwrap();
            assert!(rows.iter().all(|row| !row.to_string().contains(known)), "{table}");
        }
        let of_daemon = Path::new("/proc").join(world.daemon.pid().unwrap().to_string());
        let limits = fs::read_to_string(of_daemon.join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        let words: Vec<&str> = core.split_whitespace().collect();
        assert_eq!(words[4..6], ["0", "0"], "no core dumps: {core}");
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(of_daemon.join(file)).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(known));
        }
    }
}

#[test]
fn clients_that_insist_on_scram_prove_the_placeholder() {
    let secrets = Secrets::new();
    let secret = secrets.write("secret", SECRET);
    let placeholder = secrets.write("placeholder", PLACEHOLDER);
    let more = format!("placeholder_file = \"{}\"", placeholder.display());
    let world = World::start_with(&credential("injected", &secret, &more)).unwrap();
    world.bank.sql(ROLE).unwrap();
    let script = format!(
        "
import psycopg
def attempt(**more):
    try:
        with psycopg.connect(require_auth='scram-sha-256', **more) as c:
            print(c.execute(\"{WHO}\").fetchone()[0])
    except psycopg.OperationalError as e:
        print(str(e).strip().splitlines()[-1].split('FATAL:')[-1].strip())
attempt(password='{PLACEHOLDER}')
attempt(password='{PLACEHOLDER}', max_protocol_version='latest')
attempt(password='a wrong one')
attempt(password='{SECRET}')
"
    );
    let seen = world.reader().python(&script).unwrap().ok().unwrap();
    let lines: Vec<&str> = seen.lines().map(str::trim).collect();
    let refused = "password authentication failed for user \"app\"";
    assert_eq!(lines, ["injected", "injected", refused, refused], "{}", world.daemon.log());
    assert_eq!(psql(&world.reader(), bank::ROLE, PLACEHOLDER).stdout.trim(), "injected|injected");
    let script = format!(
        "
const {{ Client }} = require('pg');
(async () => {{ const c = new Client({{ password: '{PLACEHOLDER}' }}); await c.connect();
  console.log((await c.query('SELECT current_user AS who FROM customers WHERE id = 1')).rows[0].who);
  await c.end(); }})().catch(e => {{ console.error(e); process.exit(1); }});
"
    );
    assert_eq!(world.reader().node(&script).unwrap().ok().unwrap(), "injected\n");
    let evidence = world.evidence().unwrap();
    let refused = "SELECT count(*) FROM control WHERE kind = 'protocol.violation' \
                   AND detail LIKE '%is not the placeholder%'";
    assert_eq!(evidence.count(refused).unwrap(), 2);
    // The test's own scripts lie beside, and say it as agents do.
    for folder in [world.daemon.journal(), world.daemon.archive()] {
        assert!(!holds(&folder, PLACEHOLDER.as_bytes()));
    }
    assert!(!world.daemon.log().contains(PLACEHOLDER));
}

#[test]
fn weaker_methods_are_used_where_the_credential_says_so() {
    let secrets = Secrets::new();
    let secret = secrets.write("secret", "weak-secret");
    let configuration = [("user = \"a\"", "old"), ("user = \"b\"\nallow_md5 = true", "old")]
        .into_iter()
        .chain([("user = \"c\"\nallow_cleartext = true", "clear")])
        .chain([("user = \"d\"\nallow_cleartext_without_tls = true", "clear")])
        .chain([("user = \"e\"", "free"), ("user = \"f\"\nallow_none = true", "free")])
        .enumerate()
        .map(|(at, (more, account))| {
            credential(account, &secret, &format!("name = \"{at}\"\n{more}"))
        })
        .collect::<String>();
    let hba = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(hba.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let rules = "host all old all md5\nhost all clear all password\nhost all free all trust\n\
                 host all all all scram-sha-256\n";
    fs::write(hba.path(), rules).unwrap();
    let hba = format!("hba_file={}", hba.path().display());
    let bank = Postgres::with_settings(&["log_statement=all", &hba]).unwrap();
    bank.sql(
        "SET password_encryption = 'md5'; CREATE ROLE old LOGIN IN ROLE app PASSWORD 'weak-secret';
         CREATE ROLE clear LOGIN IN ROLE app PASSWORD 'weak-secret'; CREATE ROLE free LOGIN IN ROLE app;",
    )
    .unwrap();
    let daemon = Daemon::start_with(Supervisor::None, bank.port(), 1, &[], &configuration).unwrap();
    let agent = Agent::new(&daemon, world::READER, bank::ROLE, bank.port());
    for (user, account) in [
        ("a", None),
        ("b", Some("old")),
        ("c", None),
        ("d", Some("clear")),
        ("e", None),
        ("f", Some("free")),
    ] {
        let seen = psql(&agent, user, "");
        if let Some(account) = account {
            assert_eq!(seen.stdout.trim(), format!("{account}|{account}"), "{seen:?}");
        } else {
            let told = "FATAL:  vestibule could not authenticate to the target";
            assert!(seen.stderr.contains(told), "{user}: {seen:?}");
        }
    }
    assert!(!daemon.log().contains("weak-secret"));
}

#[test]
fn a_credential_that_fails_is_told_without_it_and_its_file_is_read_again() {
    let secrets = Secrets::new();
    let secret = secrets.write("secret", "not the secret");
    let mut world = World::start_with(&credential("injected", &secret, "")).unwrap();
    world.bank.sql(ROLE).unwrap();
    let refused = psql(&world.reader(), bank::ROLE, bank::PASSWORD);
    let told = "FATAL:  vestibule could not authenticate to the target";
    assert!(refused.stderr.contains(told) && !refused.stderr.contains("injected"), "{refused:?}");
    secrets.write("secret", SECRET);
    assert_eq!(psql(&world.reader(), bank::ROLE, "").stdout.trim(), "injected|injected");
    // A file that others can read is not read, and nobody gets in on another way.
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = psql(&world.reader(), bank::ROLE, bank::PASSWORD);
    assert!(refused.stderr.contains("can't be used"), "{refused:?}");
    assert!(world.daemon.log().contains("mode 0600"));
    let evidence = world.evidence().unwrap();
    let failed = "SELECT count(*) FROM control WHERE kind = 'protocol.violation' \
                  AND detail LIKE '%the target refused the credential%'";
    assert_eq!(evidence.count(failed).unwrap(), 1);
    let denied = "SELECT count(*) FROM events WHERE kind = 'db.connect' AND status = 'denied' \
                  AND rule_id = 'credential'";
    assert_eq!(evidence.count(denied).unwrap(), 1);
    // Nor do failures say it: neither the logs, the journal nor the archive.
    let words = SECRET.split_once(' ').unwrap().1;
    for known in [words, "not the secret", "horse battery staple IX"] {
        assert!(!holds(world.daemon.directory(), known.as_bytes()), "{known}");
        assert!(!refused.stderr.contains(known), "{known}");
    }
    drop(evidence);
    world.daemon.stop().unwrap();
    assert!(
        world.daemon.restart().is_err(),
        "it does not start with a secret that is open to others"
    );
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
}
