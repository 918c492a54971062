//! The ways to the server, each a process of its own, all running while any is measured.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use integration::certificates::Certificates;
use integration::port::Port;
use integration::process::{Running, run, wait_until};
use integration::{Agent, Daemon, Postgres, Supervisor, bank, postgres, world};
use tempfile::TempDir;

use crate::case::{Case, Mode};
use crate::person::Person;

/// A way to the server.
pub(crate) struct Target<'a> {
    name: &'static str,
    bed: &'a Bed,
    way: Way,
    takes: Takes,
}

/// The server and its certificates: it takes clients with TLS and without.
pub(crate) struct Bed {
    // Dropped in this order.
    pub(crate) server: Postgres,
    certificates: Certificates,
}

impl Bed {
    /// Starts it.
    pub(crate) fn start() -> Result<Self> {
        let certificates = Certificates::make("DNS:localhost,IP:127.0.0.1")?;
        certificates.admit("")?;
        certificates.make_authority()?;
        let mut settings = certificates.server_settings();
        settings.retain(|setting| !setting.starts_with("log_connections"));
        settings.extend([
            "shared_buffers=512MB".to_owned(),
            "max_wal_size=4GB".to_owned(),
            "max_connections=400".to_owned(),
        ]);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Ok(Self { server: Postgres::with_settings(&settings)?, certificates })
    }
}

/// What a way is measured with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Everything.
    All,
    /// What needs no prepared statements.
    Unprepared,
    /// Prepared statements, inside TLS on both legs.
    Tls,
    /// Connections, with a credential that the daemon has.
    Connections,
    /// Small results, prepared or not.
    Small,
}

enum Way {
    Direct,
    Proxy { process: Running, port: Port, _folder: TempDir },
    // Boxed: far larger than the others.
    Vestibule { daemon: Box<Daemon>, person: Option<Person>, _folder: Option<TempDir> },
}

/// Starts all of them, or only those named.
pub(crate) fn start<'a>(bed: &'a Bed, only: &[String]) -> Result<Vec<Target<'a>>> {
    let wanted = |name: &&str| only.is_empty() || only.iter().any(|o| o == name);
    NAMES.iter().filter(|name| wanted(name)).map(|name| Target::start(name, bed)).collect()
}

/// What ends in [`TLS`] has TLS on every leg.
const NAMES: [&str; 12] = [
    "direct",
    "pgbouncer-session",
    "pgbouncer-transaction",
    "haproxy",
    "floor",
    "vestibule",
    "direct-tls",
    "pgbouncer-session-tls",
    "floor-tls",
    "vestibule-tls",
    "vestibule-credential",
    "vestibule-identity",
];

/// Ends the names of ways with TLS.
pub(crate) const TLS: &str = "-tls";

impl<'a> Target<'a> {
    fn start(name: &'static str, bed: &'a Bed) -> Result<Self> {
        // pgbouncer knows prepared statements in transaction mode since 1.21 (its changelog).
        let pools_prepared = || Ok::<_, anyhow::Error>(pgbouncer_version()? >= (1, 21));
        let Bed { server, certificates } = bed;
        let (way, takes) = match name {
            "direct" => (Way::Direct, Takes::All),
            "direct-tls" => (Way::Direct, Takes::Tls),
            "pgbouncer-session" => {
                (pgbouncer(server, "session", pools_prepared()?, None)?, Takes::All)
            }
            "pgbouncer-session-tls" => {
                let tls = Some(certificates);
                (pgbouncer(server, "session", pools_prepared()?, tls)?, Takes::Tls)
            }
            "pgbouncer-transaction" => {
                let prepares = pools_prepared()?;
                let takes = if prepares { Takes::All } else { Takes::Unprepared };
                (pgbouncer(server, "transaction", prepares, None)?, takes)
            }
            "haproxy" => (haproxy(server)?, Takes::All),
            "floor" => (floor(server, None)?, Takes::Small),
            "floor-tls" => (floor(server, Some(certificates))?, Takes::Tls),
            "vestibule-tls" => {
                // The server binds SCRAM to its certificate (RFC 5929): it can't be relayed.
                let settings = certificates.daemon_settings("ca = \"BANK_CA\"");
                (with_credential(server, &settings)?, Takes::Tls)
            }
            "vestibule-credential" => (with_credential(server, "")?, Takes::Connections),
            "vestibule-identity" => (with_identity(server)?, Takes::Small),
            _ => {
                let daemon = Box::new(Daemon::start(server.port(), threads(), &[])?);
                (Way::Vestibule { daemon, person: None, _folder: None }, Takes::All)
            }
        };
        Ok(Self { name, bed, way, takes })
    }

    /// Answers its name in the report.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it can do this at all.
    pub(crate) fn supports(&self, case: Case) -> bool {
        let prepared = matches!(case, Case::Select { mode: Mode::Prepared, .. });
        match self.takes {
            Takes::All => true,
            Takes::Unprepared => !prepared,
            Takes::Tls => prepared,
            Takes::Connections => matches!(case, Case::Connect { .. }),
            Takes::Small => !matches!(case, Case::Bulk(_)),
        }
    }

    /// Answers the proxy's process id, where there is a proxy.
    pub(crate) fn pid(&self) -> Result<Option<u32>> {
        match &self.way {
            Way::Direct => Ok(None),
            Way::Proxy { process, .. } => Ok(Some(process.pid())),
            Way::Vestibule { daemon, .. } => daemon.pid().map(Some),
        }
    }

    /// Answers the journal's folder, where there is one.
    pub(crate) fn journal(&self) -> Option<std::path::PathBuf> {
        match &self.way {
            Way::Vestibule { daemon, .. } => Some(daemon.journal()),
            _ => None,
        }
    }

    /// Answers a client's command that goes this way: for vestibule as an enrolled agent.
    pub(crate) fn client(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let server = &self.bed.server;
        let mut command = match &self.way {
            Way::Vestibule { daemon, person: Some(person), .. } => {
                let mut command = person.agent(daemon, world::READER);
                command.arg(program);
                integration::agent::with_bank(&mut command, postgres::SUPERUSER, server.port());
                command
            }
            Way::Vestibule { daemon, person: None, .. } => {
                let agent = Agent::new(daemon, world::READER, postgres::SUPERUSER, server.port());
                agent.command(program)
            }
            Way::Direct | Way::Proxy { .. } => {
                let mut command = Command::new(program);
                let port = match &self.way {
                    Way::Proxy { port, .. } => port.number(),
                    _ => server.port(),
                };
                integration::agent::with_bank(&mut command, postgres::SUPERUSER, port);
                command
            }
        };
        command.env("PGSSLMODE", if self.name.ends_with(TLS) { "require" } else { "disable" });
        if self.name == "floor-tls" {
            // It has a connection of its own to the server, and no password to bind to it.
            command.env("PGCHANNELBINDING", "disable");
        }
        if self.takes == Takes::Connections {
            command.env("PGPASSWORD", "what-the-agent-believes");
        }
        command
    }
}

/// A daemon that logs in with a password of its own, by SCRAM; agents with a placeholder.
fn with_credential(server: &Postgres, more: &str) -> Result<Way> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let secret = folder.path().join("secret");
    fs::write(&secret, bank::PASSWORD).context("the secret")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).context("its mode")?;
    let settings = format!(
        "{more}\n[[credential]]\ntarget = \"bank\"\naccount = \"{}\"\nsecret_file = \"{}\"\n",
        postgres::SUPERUSER,
        secret.display()
    );
    let port = server.port();
    let daemon = Daemon::start_with(Supervisor::None, port, threads(), &[], &settings)?;
    Ok(Way::Vestibule { daemon: Box::new(daemon), person: None, _folder: Some(folder) })
}

/// A daemon whose agents act for a person.
fn with_identity(server: &Postgres) -> Result<Way> {
    let person = Person::new()?;
    let (port, settings) = (server.port(), person.settings());
    let daemon = Daemon::start_with(Supervisor::None, port, threads(), &[], &settings)?;
    Ok(Way::Vestibule { daemon: Box::new(daemon), person: Some(person), _folder: None })
}

/// As many threads for each proxy that has them: half the processors.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2))
}

fn pgbouncer_version() -> Result<(u32, u32)> {
    let said = run(Command::new("/usr/sbin/pgbouncer").arg("--version"), 10)?.ok()?;
    // "PgBouncer 1.18.0"
    let version = said.split_whitespace().nth(1).context("pgbouncer's version")?;
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("pgbouncer's version is not known: {said}"),
    }
}

fn pgbouncer(
    server: &Postgres,
    mode: &str,
    prepares: bool,
    tls: Option<&Certificates>,
) -> Result<Way> {
    let folder = open_folder()?;
    let port = Port::take()?;
    let user = postgres::SUPERUSER;
    let users = folder.path().join("users.txt");
    fs::write(&users, format!("\"{user}\" \"{}\"\n", bank::PASSWORD)).context("users.txt")?;
    let config = format!(
        "[databases]\n{db} = host=127.0.0.1 port={upstream} dbname={db}\n\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = scram-sha-256\nauth_file = {users}\npool_mode = {mode}\n\
         max_client_conn = 300\ndefault_pool_size = 80\n\
         ignore_startup_parameters = extra_float_digits\n{prepared}{encrypted}",
        db = bank::DATABASE,
        upstream = server.port(),
        port = port.number(),
        users = users.display(),
        prepared = if prepares { "max_prepared_statements = 200\n" } else { "" },
        encrypted = tls.map_or_else(String::new, |tls| format!(
            "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n\
             server_tls_sslmode = require\n",
            tls.path("server.crt").display(),
            tls.path("server.key").display()
        )),
    );
    let path = folder.path().join("pgbouncer.ini");
    fs::write(&path, config).context("pgbouncer.ini")?;
    // It refuses to run as root.
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
    command.arg("/usr/sbin/pgbouncer").arg("--quiet").arg(path);
    launch("pgbouncer", command, folder, port)
}

fn haproxy(server: &Postgres) -> Result<Way> {
    let folder = open_folder()?;
    let port = Port::take()?;
    let config = format!(
        "global\n  nbthread {threads}\n  maxconn 1000\n\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 1h\n  timeout server 1h\n\nlisten bank\n  bind 127.0.0.1:{port}\n  \
         server bank 127.0.0.1:{upstream}\n",
        threads = threads(),
        port = port.number(),
        upstream = server.port(),
    );
    let path = folder.path().join("haproxy.cfg");
    fs::write(&path, config).context("haproxy.cfg")?;
    let mut command = Command::new("/usr/sbin/haproxy");
    command.args(["-db", "-q", "-f"]).arg(path);
    launch("haproxy", command, folder, port)
}

fn floor(server: &Postgres, tls: Option<&Certificates>) -> Result<Way> {
    let folder = open_folder()?;
    let port = Port::take()?;
    let program = std::env::current_exe().context("this program")?.with_file_name("bench-floor");
    let mut command = Command::new(program);
    command.arg("--listen").arg(port.number().to_string());
    command.arg("--server").arg(server.port().to_string());
    command.arg("--journal").arg(folder.path().join("journal"));
    if let Some(tls) = tls {
        command.arg("--tls").arg(tls.path(""));
    }
    launch("floor", command, folder, port)
}

fn launch(name: &str, mut command: Command, folder: TempDir, port: Port) -> Result<Way> {
    let log = fs::File::create(folder.path().join("log")).context("its log")?;
    command.stdin(Stdio::null()).stdout(log.try_clone().context("its log")?).stderr(log);
    let mut process = Running::new(name, command.current_dir(folder.path()))?;
    let ready = wait_until(&format!("{name} listens"), 10, || {
        if !process.is_running()? {
            bail!("{name} ended");
        }
        Ok(std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok())
    });
    ready.with_context(|| fs::read_to_string(folder.path().join("log")).unwrap_or_default())?;
    Ok(Way::Proxy { process, port, _folder: folder })
}

fn open_folder() -> Result<TempDir> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).context("its mode")?;
    Ok(folder)
}
