//! A receiver of OpenTelemetry logs, which reads them by opentelemetry's own definition; it can be killed, and refuse.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::paths;
use crate::port::Port;
use crate::process::{Running, wait_until};

/// A receiver; dead or alive.
#[derive(Debug)]
pub struct Otlp {
    process: Option<Running>,
    port: Port,
    directory: tempfile::TempDir,
}

impl Otlp {
    /// Starts one.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vestibule-otlp-").tempdir()?;
        fs::write(directory.path().join("otlp.py"), include_str!("otlp.py")).context("otlp.py")?;
        let mut own = Self { process: None, port: Port::take()?, directory };
        own.restart()?;
        Ok(own)
    }

    /// Starts it (again); what it took stays noted.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn restart(&mut self) -> Result<()> {
        let log = self.directory.path().join("stderr");
        let log = fs::File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(paths::python());
        command.arg(self.directory.path().join("otlp.py")).arg(self.port.number().to_string());
        command.arg(self.log()).stdin(Stdio::null()).stderr(log);
        self.process = Some(Running::new("otlp", &mut command)?);
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

    /// Has it refuse, or take again.
    ///
    /// # Errors
    /// If that can't be said.
    pub fn refuse(&self, refuses: bool) -> Result<()> {
        let path = self.log().with_extension("log.refuse");
        if refuses { Ok(fs::write(path, "")?) } else { Ok(fs::remove_file(path)?) }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The records that it took.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn took(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        // The last one may be on its way into the file.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).context("a record")).collect()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("took.log")
    }
}
