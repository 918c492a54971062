//! A real HTTP/1.1 server, Python's own, with a small API of a bank; what came to it is in its log.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::paths;
use crate::port::Port;
use crate::process::{Running, wait_until};

/// A server on a port of 127.0.0.1.
#[derive(Debug)]
pub struct HttpServer {
    process: Running,
    port: Port,
    folder: TempDir,
}

impl HttpServer {
    /// Starts one without TLS.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with a certificate and its key, PEM.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_tls(certificate: &Path, key: &Path) -> Result<Self> {
        Self::start_with(&[certificate, key])
    }

    fn start_with(tls: &[&Path]) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let port = Port::take()?;
        let script = folder.path().join("http_server.py");
        std::fs::write(&script, include_str!("http_server.py")).context("the script")?;
        let mut command = Command::new(paths::python());
        command.arg(script).arg(port.number().to_string()).arg(folder.path().join("log"));
        command.args(tls).stdin(Stdio::null());
        let process = Running::new("http_server", &mut command)?;
        let own = Self { process, port, folder };
        let number = own.port.number();
        let answers = || Ok(std::net::TcpStream::connect(("127.0.0.1", number)).is_ok());
        wait_until("the HTTP server listens", 30, answers)?;
        Ok(own)
    }

    /// Answers its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Answers what came to it, as text.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Answers what came to it: method, target, headers, and length and digest of the body of each request.
    ///
    /// # Errors
    /// If its log is not as it writes it.
    pub fn came(&self) -> Result<Vec<Value>> {
        self.log().lines().map(|line| serde_json::from_str(line).context("its log")).collect()
    }
}
