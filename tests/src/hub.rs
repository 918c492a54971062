//! A hub of one's own: the real program, with its own ports and configuration.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::port::Port;
use crate::process::{Running, run, wait_until};
use crate::{Postgres, bank, idp, paths, postgres};

/// The database that hubs of tests share.
const DATABASE: &str = "hub";

/// A hub: running, or dead and to be started again.
#[derive(Debug)]
pub struct Hub {
    process: Option<Running>,
    hosts: Port,
    console: Port,
    directory: TempDir,
}

/// What a hub is started with.
#[derive(Clone, Copy, Debug)]
pub struct HubRules<'a> {
    /// Its name.
    pub name: &'a str,
    /// Has `hub.crt` for 127.0.0.1, and signed the hosts' certificates.
    pub certificates: &'a Certificates,
    /// The hosts that may come.
    pub hosts: &'a [String],
    /// The list of revoked certificates among `certificates`; none where empty.
    pub revoked: &'a str,
    /// Its `[store]`; `HERE` stands for a folder of its own.
    pub store: &'a str,
    /// More of its configuration; `CONSOLE` stands for the console's address.
    pub more: &'a str,
}

impl Hub {
    /// Starts one, and waits until hosts can come.
    ///
    /// # Errors
    /// If it is not built or ends.
    pub fn start(rules: &HubRules<'_>) -> Result<Self> {
        let HubRules { name, certificates, hosts, revoked, store, more } = *rules;
        let directory = tempfile::Builder::new().prefix("vestibule-hub-").tempdir()?;
        let mut own =
            Self { process: None, hosts: Port::take()?, console: Port::take()?, directory };
        let path = |name: &str| certificates.path(name).display().to_string();
        let revoked = match revoked {
            "" => String::new(),
            list => format!("revoked = \"{}\"", path(list)),
        };
        let names: Vec<String> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
        let text = format!(
            "name = \"{name}\"\n[hosts]\nlisten = \"127.0.0.1:{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n\
             ca = \"{}\"\nnames = [{}]\n{revoked}\n[store]\n{store}\n{more}\n",
            own.hosts.number(),
            path("hub.crt"),
            path("hub.key"),
            path("bank.crt"),
            names.join(", "),
        );
        let here = own.directory.path().display().to_string();
        let text = text.replace("HERE", &here).replace("CONSOLE", &own.console_address());
        fs::write(own.config(), text).context("the hub's configuration")?;
        own.restart()?;
        Ok(own)
    }

    /// Starts it (again) and waits until hosts can come.
    ///
    /// # Errors
    /// If it is not ready in 60 s; with its log.
    pub fn restart(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Self::program()?;
        command.arg("--config").arg(self.config()).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let process = self.process.insert(Running::new("vestibuled --hub", &mut command)?);
        let port = self.hosts.number();
        let ready = wait_until("the hub is ready", 60, || {
            if !process.is_running()? {
                bail!("the hub ended");
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        });
        ready.with_context(|| self.log())
    }

    /// Answers what `--check` says.
    ///
    /// # Errors
    /// If the configuration is wrong.
    pub fn check(&self) -> Result<String> {
        run(Self::program()?.arg("--check").arg("--config").arg(self.config()), 10)?.ok()
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Answers where hosts come to.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.hosts.number())
    }

    /// Answers where its console is, `HOST:PORT`.
    pub fn console_address(&self) -> String {
        format!("127.0.0.1:{}", self.console.number())
    }

    /// Answers its log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn program() -> Result<Command> {
        let mut command = Command::new(paths::programs()?.join("vestibuled"));
        command
            .arg("--hub")
            .env("HUB_PASSWORD", bank::PASSWORD)
            .env("HUB_CLIENT_SECRET", idp::SECRET);
        Ok(command)
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("hub.toml")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("hub.log")
    }
}

/// Makes a database for hubs; answers their `[store]`.
///
/// # Errors
/// If the server does not.
pub fn database(server: &Postgres) -> Result<String> {
    server.sql(&format!("CREATE DATABASE {DATABASE}"))?;
    Ok(format!(
        "postgresql = {{ url = \"postgresql://{}@127.0.0.1:{}/{DATABASE}\", secret_env = \"HUB_PASSWORD\" }}",
        postgres::SUPERUSER,
        server.port()
    ))
}

/// The same for a server with TLS, whose certificate the hubs verify by the bank's authority.
///
/// # Errors
/// If the server does not.
pub fn encrypted_database(server: &Postgres, certificates: &Certificates) -> Result<String> {
    let ca = format!(", ca = \"{}\" }}", certificates.path("bank.crt").display());
    Ok(database(server)?.replace(" }", &ca))
}

/// Answers certificates for hubs, and one for each of these hosts: `HOST.crt`, `HOST.key`.
///
/// # Errors
/// If OpenSSL fails.
pub fn certificates(hosts: &[String]) -> Result<Certificates> {
    let certificates = Certificates::make("IP:127.0.0.1")?;
    certificates.make_named("hub", "IP:127.0.0.1")?;
    for host in hosts {
        certificates.make_named(host, &format!("DNS:{host}"))?;
    }
    Ok(certificates)
}

/// Answers a host's `[hub]`.
pub fn host_settings(certificates: &Certificates, host: &str, hubs: &[&Hub]) -> String {
    let path = |name: &str| certificates.path(name).display().to_string();
    let urls: Vec<String> = hubs.iter().map(|hub| format!("\"{}\"", hub.url())).collect();
    format!(
        "[hub]\nurls = [{}]\ncertificate = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n",
        urls.join(", "),
        path(&format!("{host}.crt")),
        path(&format!("{host}.key")),
        path("bank.crt"),
    )
}
