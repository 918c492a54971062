//! A program in Python that serves a port and notes what it took; it can be killed and started again.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::paths;
use crate::port::Port;
use crate::process::{Running, wait_until};

/// The program; dead or alive.
#[derive(Debug)]
pub(crate) struct Script {
    name: &'static str,
    process: Option<Running>,
    port: Port,
    directory: tempfile::TempDir,
}

impl Script {
    /// Writes it where it will run; it is started by [`Self::restart`].
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn new(name: &'static str, text: &str) -> Result<Self> {
        let prefix = format!("vestibule-{name}-");
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let own = Self { name, process: None, port: Port::take()?, directory };
        fs::write(own.path(), text).context(name)?;
        Ok(own)
    }

    /// Starts it (again), with these arguments.
    ///
    /// # Errors
    /// If it does not listen.
    pub(crate) fn restart(&mut self, arguments: &[&str]) -> Result<()> {
        let log = self.directory.path().join("stderr");
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).stderr(log);
        self.process = Some(Running::new(self.name, &mut command)?);
        let port = self.port.number();
        wait_until("the receiver listens", 30, || {
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// The program, to be run with arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(paths::python());
        command.arg(self.path());
        command
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where it notes what it took: a JSON value a line.
    pub(crate) fn notes(&self) -> PathBuf {
        self.directory.path().join("took.jsonl")
    }

    /// What it noted.
    ///
    /// # Errors
    /// If that can't be read.
    pub(crate) fn took(&self) -> Result<Vec<Value>> {
        let text = match fs::read_to_string(self.notes()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.context("the receiver's notes")?,
        };
        // The last one may be on its way into the file.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).context("a note")).collect()
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(self.name).with_extension("py")
    }
}
