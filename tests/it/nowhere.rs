//! Secrets of credentials are nowhere but where they come from: sessions with each source and each method,
//! and a search of everything that agents, auditors and servers' operators see.

use std::fs::{self, File};
use std::io::BufRead;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use integration::certificates::Certificates;
use integration::process::wait_until;
use integration::world::READER;
use integration::{Agent, Daemon, Evidence, Postgres, Supervisor, Vault, bank};

/// A source, the role that it is of, and how the server asks for it.
const IN_FILE: &str = "secret-of-a-file-7f3a";
const IN_ENVIRONMENT: &str = "secret-of-an-environment-91bc";
const IN_VAULT: &str = "secret-of-a-vault-c05d";
const OF_MAKER: &str = "secret-of-a-maker-4e2f";
const OF_CATALOG: &str = "secret-of-a-catalog-role-d8a6";

/// What the agent has: the search must find it there.
const PLACEHOLDER: &str = "what-the-agent-believes-5b19";

const RULES: &str = "host all by_md5 all md5\nhost all by_password all password\n\
                     host all all all scram-sha-256\n";

/// Nothing of it is in the server's log.
fn roles() -> String {
    format!(
        "SET log_statement = 'none'; SET log_min_error_statement = 'panic';
         CREATE ROLE analyst_read NOLOGIN; GRANT SELECT ON customers TO analyst_read;
         CREATE ROLE by_scram LOGIN IN ROLE app PASSWORD '{IN_FILE}';
         CREATE ROLE by_password LOGIN IN ROLE app PASSWORD '{IN_VAULT}';
         CREATE ROLE maker LOGIN CREATEROLE PASSWORD '{OF_MAKER}';
         CREATE ROLE catalog LOGIN PASSWORD '{OF_CATALOG}';
         SET password_encryption = 'md5';
         CREATE ROLE by_md5 LOGIN IN ROLE app PASSWORD '{IN_ENVIRONMENT}';"
    )
}

/// Four sessions at once; they are open until the agent's input ends.
const SCRIPT: &str = "
import psycopg, sys
open_ = []
for user in ('by_file', 'by_environment', 'by_vault', 'guest'):
    c = psycopg.connect(user=user, password='what-the-agent-believes-5b19', autocommit=True)
    who = c.execute('SELECT current_user FROM customers WHERE id = 1').fetchone()[0]
    print(who.rsplit('_', 1)[0] if who.startswith('vst_') else who, flush=True)
    open_.append(c)
sys.stdin.read()
";

struct Placed {
    daemon: Daemon,
    bank: Postgres,
    vault: Vault,
    certificates: Certificates,
}

impl Placed {
    fn start() -> Self {
        let certificates = Certificates::make("DNS:localhost").unwrap();
        let private = |name: &str, text: &str| {
            let path = certificates.path(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path.display().to_string()
        };
        certificates.admit(RULES).unwrap();
        let hba = format!("hba_file={}", certificates.path("pg_hba.conf").display());
        let bank = Postgres::with_settings(&["log_statement=all", &hba]).unwrap();
        bank.sql(&roles()).unwrap();
        let vault = Vault::start(&certificates).unwrap();
        vault.put("bank/app", "password", IN_VAULT).unwrap();
        let one = |user: &str, account: &str, more: &str| {
            format!(
                "[[credential]]\ntarget = \"bank\"\nuser = \"{user}\"\naccount = \"{account}\"\n{more}\n"
            )
        };
        let file = private("file", IN_FILE);
        let placeholder = private("placeholder", PLACEHOLDER);
        let configuration = [
            format!(
                "[target.catalog]\naccount = \"catalog\"\nsecret_file = \"{}\"\n",
                private("catalog", OF_CATALOG)
            ),
            one(
                "by_file",
                "by_scram",
                &format!("secret_file = \"{file}\"\nplaceholder_file = \"{placeholder}\""),
            ),
            one("by_environment", "by_md5", "secret_env = \"BANK_SECRET\"\nallow_md5 = true"),
            one(
                "by_vault",
                "by_password",
                "secret_vault = { path = \"bank/app\" }\nallow_cleartext_without_tls = true",
            ),
            one(
                "guest",
                "maker",
                &format!(
                    "secret_file = \"{}\"\nephemeral = {{ grants = [\"analyst_read\"] }}",
                    private("maker", OF_MAKER)
                ),
            ),
            format!(
                "[vault]\naddress = \"{}\"\nca = \"{}\"\ntoken_file = \"{}\"\n",
                vault.address(),
                certificates.path("bank.crt").display(),
                private("token", &vault.token().unwrap())
            ),
        ];
        let environment = [("BANK_SECRET", Path::new(IN_ENVIRONMENT))];
        let configuration = format!("\n{}", configuration.concat());
        // `[target.catalog]` belongs to the target, which is the last table but `[kernel]` and `[dns]`.
        let none = Supervisor::None;
        let daemon =
            Daemon::start_among(none, &environment, bank.port(), 2, &configuration).unwrap();
        Self { daemon, bank, vault, certificates }
    }

    /// What must be nowhere.
    fn needles(&self) -> Vec<String> {
        let token = fs::read_to_string(self.certificates.path("token")).unwrap();
        // Whoever has what an MD5 server keeps, can log in with it.
        let md5 = "SELECT substr(rolpassword, 4) FROM pg_authid WHERE rolname = 'by_md5'";
        let md5 = self.bank.sql(md5).unwrap();
        let known = [IN_FILE, IN_ENVIRONMENT, IN_VAULT, OF_MAKER, OF_CATALOG, &token, md5.trim()];
        known.map(str::to_owned).into()
    }
}

#[test]
fn secrets_of_credentials_are_nowhere_else() {
    let world = Placed::start();
    let needles = world.needles();
    let agent = Agent::new(&world.daemon, READER, bank::ROLE, world.bank.port());
    let mut running = agent.start_python(SCRIPT).unwrap();
    let stdin = running.take_stdin().unwrap();
    let mut lines =
        { std::io::BufReader::new(running.take_stdout().unwrap()).lines().map_while(Result::ok) };
    for account in ["by_scram", "by_md5", "by_password", "vst_support_assistant"] {
        let line = lines.next().unwrap_or_default();
        assert_eq!(line, account, "{}", world.daemon.log());
    }
    // The agent's processes, while its sessions are open.
    let agents = agents(&world.daemon);
    assert!(!agents.is_empty());
    let mut seen = false;
    for pid in agents {
        let of = PathBuf::from(format!("/proc/{pid}"));
        let all = [fs::read(of.join("environ")), fs::read(of.join("cmdline"))];
        let mut all: Vec<Vec<u8>> = all.into_iter().flatten().collect();
        all.extend(memory(&of));
        seen |= all.iter().any(|bytes| holds(bytes, PLACEHOLDER));
        for needle in &needles {
            assert!(!all.iter().any(|bytes| holds(bytes, needle)), "{pid}: {needle}");
        }
    }
    assert!(seen, "the search finds what the agent has");
    let daemon = PathBuf::from(format!("/proc/{}", world.daemon.pid().unwrap()));
    for file in ["environ", "cmdline"] {
        let bytes = fs::read(daemon.join(file)).unwrap();
        assert!(needles.iter().all(|needle| !holds(&bytes, needle)), "{file}");
    }
    drop(stdin);
    running.wait(20).unwrap();
    let guests = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'vst\\_%'";
    wait_until("no role", 20, || Ok(world.bank.sql(guests)?.trim() == "0")).unwrap();
    wait_until("the catalog", 20, || Ok(world.bank.log()?.contains("pg_get_viewdef"))).unwrap();

    let evidence = Evidence::seal(&world.daemon).unwrap();
    for table in ["events", "sessions", "control", "recordings"] {
        let rows = evidence.duckdb(&format!("FROM {table}")).unwrap();
        assert!(!rows.is_empty(), "{table}");
        for needle in &needles {
            let held = rows.iter().find(|row| row.to_string().contains(needle));
            assert!(held.is_none(), "{table}: {held:?}");
        }
    }
    let server = world.bank.log().unwrap();
    assert!(server.contains("CREATE ROLE"), "what is made for a session is in the log");
    for needle in &needles {
        assert!(!server.contains(needle), "the server's log: {needle}");
        assert!(!world.daemon.log().contains(needle), "the daemon's log: {needle}");
        assert!(!is_below(world.daemon.directory(), needle.as_bytes()), "a file: {needle}");
        assert!(!world.daemon.status().unwrap().to_string().contains(needle));
    }
    // The daemon has each as often as it holds it: no copy is left in memory that was given back.
    let held = memory(&daemon);
    for (needle, most) in [(IN_FILE, 1), (OF_MAKER, 1), (OF_CATALOG, 1), (IN_ENVIRONMENT, 2)] {
        let copies: usize = held.iter().map(|bytes| times(bytes, needle.as_bytes())).sum();
        assert!((1..=most).contains(&copies), "{needle}: {copies} copies");
    }
    assert!(is_below(world.certificates.path("file").parent().unwrap(), IN_FILE.as_bytes()));
    drop(world.vault);
}

/// The processes in the daemon's slice that are agents'.
fn agents(daemon: &Daemon) -> Vec<u32> {
    let slice = format!("/{}/", daemon.slice());
    let is_agent = |pid: &u32| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroup.contains(&slice) && !cgroup.contains("/proxy")
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_agent).collect()
}

/// What a process can write to, as it is now (proc(5): `maps`, `mem`).
pub(crate) fn memory(of: &Path) -> Vec<Vec<u8>> {
    let maps = fs::read_to_string(of.join("maps")).unwrap();
    let memory = File::open(of.join("mem")).unwrap();
    let region = |line: &str| {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next()?, words.next()?);
        let (from, to) = range.split_once('-').filter(|_| rights.starts_with("rw"))?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        let read = memory.read_at(&mut bytes, from).ok()?;
        bytes.truncate(read);
        Some(bytes)
    };
    maps.lines().filter_map(region).collect()
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    times(bytes, needle.as_bytes()) > 0
}

/// How often it is in there. The standard library, which is optimized here as well, looks for its first byte: to compare
/// it at each byte of a process's memory takes a minute.
fn times(bytes: &[u8], needle: &[u8]) -> usize {
    let (mut at, mut found) = (0, 0);
    while at < bytes.len() {
        at += (&bytes[at..]).skip_until(needle[0]).unwrap();
        found += usize::from(bytes[at - 1..].starts_with(needle));
    }
    found
}

/// Whether any file below a folder holds these bytes.
fn is_below(folder: &Path, needle: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => is_below(&path, needle),
            Ok(kind) if kind.is_file() => times(&fs::read(&path).unwrap_or_default(), needle) > 0,
            _ => false,
        }
    })
}

#[test]
fn each_occurrence_is_counted() {
    for (bytes, want) in
        [("", 0), ("a", 0), ("ab", 1), ("aab", 1), ("abab", 2), ("xabaa", 1), ("xa", 0), ("xx", 0)]
    {
        assert_eq!(times(bytes.as_bytes(), b"ab"), want, "{bytes}");
    }
}
