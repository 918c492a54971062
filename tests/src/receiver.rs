//! A receiver of webhooks: a process that checks signatures by the recipe of `docs/operator.md`, does not answer half
//! of what it should, and can be killed and started again.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::paths;
use crate::port::Port;
use crate::process::{Running, feed, wait_until};

/// What messages are signed with.
pub const SECRET: &str = "whsec_c3ludGhldGljIG9ubHk6IHRoaXJ0eS10d28gYnl0ZXMh";

/// A receiver; dead or alive.
#[derive(Debug)]
pub struct Receiver {
    process: Option<Running>,
    port: Port,
    directory: tempfile::TempDir,
}

impl Receiver {
    /// Starts one.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vestibule-hook-").tempdir()?;
        let mut own = Self { process: None, port: Port::take()?, directory };
        fs::write(own.script(), include_str!("receiver.py")).context("the receiver")?;
        own.restart()?;
        Ok(own)
    }

    /// Starts it (again); what it took stays noted.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn restart(&mut self) -> Result<()> {
        let mut command = Command::new(paths::python());
        command.arg(self.script()).arg("serve").arg(self.port.number().to_string());
        command.arg(SECRET).arg(self.log()).stdin(Stdio::null());
        self.process = Some(Running::new("receiver", &mut command)?);
        let port = self.port.number();
        wait_until("the receiver listens", 30, || {
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Answers where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/approvals", self.port.number())
    }

    /// Answers what it took: `headers`, `body`, and whether it said so.
    ///
    /// # Errors
    /// If its notes can't be read.
    pub fn taken(&self) -> Result<Vec<Value>> {
        let text = match fs::read_to_string(self.log()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.context("the receiver's notes")?,
        };
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Answers of each of these, `(headers, body, seconds later)`, whether a receiver takes it for the daemon's.
    ///
    /// # Errors
    /// If the program fails.
    pub fn judge(&self, asked: &[(&Value, &str, i64)]) -> Result<Vec<bool>> {
        let line = |(headers, body, later): &(&Value, &str, i64)| {
            json!({"headers": headers, "body": body, "later": later}).to_string() + "\n"
        };
        let asked: String = asked.iter().map(line).collect();
        let mut command = Command::new(paths::python());
        command.arg(self.script()).args(["judge", SECRET]);
        let told = feed(&mut command, asked.as_bytes(), 30)?.ok()?;
        Ok(told.lines().map(|line| line == "True").collect())
    }

    fn script(&self) -> PathBuf {
        self.directory.path().join("receiver.py")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("taken.jsonl")
    }
}
