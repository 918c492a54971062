//! A real DNS server, the operator's in tests: dnsmasq, with names of a bank.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::port::Port;
use crate::process::{Running, run, wait_until};

/// A name with so many addresses that no datagram holds them.
pub const BIG: &str = "big.bank.example";

/// Addresses of [`BIG`].
pub const BIG_ADDRESSES: usize = 200;

/// The server; ends with this.
#[derive(Debug)]
pub struct NameServer {
    process: Running,
    port: Port,
    directory: TempDir,
}

impl NameServer {
    /// Starts a server that knows `db.bank.example` (127.0.0.1), an alias, a service, TXT records and
    /// [`BIG`].
    ///
    /// # Errors
    /// If dnsmasq is not there or does not answer.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vestibule-dns-").tempdir();
        let directory = directory.context("no temporary folder")?;
        let port = Port::take()?;
        let hosts = directory.path().join("hosts");
        let mut lines = vec!["127.0.0.1 db.bank.example".to_owned()];
        lines.extend((0..BIG_ADDRESSES).map(|n| format!("10.77.0.{n} {BIG}")));
        fs::write(&hosts, lines.join("\n") + "\n").context("its hosts")?;
        let mut command = Command::new("dnsmasq");
        command
            .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"])
            .args([
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--log-queries",
                "--user=root",
            ])
            .args(["--local=/example/", "--local-ttl=5", "--pid-file"])
            .arg(format!("--port={}", port.number()))
            .arg(format!("--addn-hosts={}", hosts.display()))
            .arg("--cname=alias.bank.example,db.bank.example")
            .arg("--txt-record=db.bank.example,some data")
            .arg("--srv-host=_postgresql._tcp.bank.example,db.bank.example,5432")
            .arg(format!("--log-facility={}", directory.path().join("log").display()))
            .stdin(Stdio::null());
        let process = Running::new("dnsmasq", &mut command)?;
        let own = Self { process, port, directory };
        wait_until("the DNS server answers", 10, || {
            let port = own.port().to_string();
            let mut dig = Command::new("dig");
            dig.args(["@127.0.0.1", "-p", &port, "+short", "+tries=1", "+timeout=1"]);
            Ok(run(dig.arg("db.bank.example"), 5)?.stdout.trim() == "127.0.0.1")
        })?;
        Ok(own)
    }

    /// Answers its port, UDP and TCP.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Ends it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Answers what it was asked.
    ///
    /// # Errors
    /// If its log can't be read.
    pub fn log(&self) -> Result<String> {
        let path: PathBuf = self.directory.path().join("log");
        fs::read_to_string(path).context("the DNS server's log")
    }
}
