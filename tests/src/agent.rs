//! Unmodified clients, run as agents behind the door: psql, psycopg 3, node-postgres.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{Output, Running, feed, run};
use crate::{Daemon, bank, paths};

/// Long enough for anything but bulk data on a busy machine.
const SECONDS: u64 = 60;

/// An agent's name, and how it reaches the bank.
#[derive(Debug)]
pub struct Agent<'a> {
    daemon: &'a Daemon,
    name: &'a str,
    role: &'a str,
    bank_port: u16,
}

impl<'a> Agent<'a> {
    /// Answers an agent that logs in as `role`.
    pub fn new(daemon: &'a Daemon, name: &'a str, role: &'a str, bank_port: u16) -> Self {
        Self { daemon, name, role, bank_port }
    }

    /// Answers a command run under `vestibule run`, with the usual PG variables of its environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.daemon.cli();
        command.args(["run", "--agent", self.name, "--"]).arg(program);
        with_bank(&mut command, self.role, self.bank_port);
        command
    }

    /// Runs psql with one string: as libpq's simple query, unaligned rows.
    ///
    /// # Errors
    /// If it can't be started or takes too long; what psql itself says is in the output.
    pub fn psql(&self, sql: &str) -> Result<Output> {
        run(self.command("psql").args(["-XAt", "-v", "VERBOSITY=verbose", "-c", sql]), SECONDS)
    }

    /// Runs psql with a script on its standard input; it goes on after errors.
    ///
    /// # Errors
    /// As [`Self::psql`].
    pub fn psql_script(&self, script: &str) -> Result<Output> {
        let mut psql = self.command("psql");
        feed(psql.args(["-XAt", "-v", "VERBOSITY=verbose"]), script.as_bytes(), SECONDS)
    }

    /// Runs Python with psycopg 3.
    ///
    /// # Errors
    /// As [`Self::psql`].
    pub fn python(&self, script: &str) -> Result<Output> {
        self.python_for(script, SECONDS)
    }

    /// Runs Python with psycopg 3 and a deadline.
    ///
    /// # Errors
    /// As [`Self::psql`].
    pub fn python_for(&self, script: &str, seconds: u64) -> Result<Output> {
        let path = self.script("py", script)?;
        run(self.command(paths::python()).arg(path), seconds)
    }

    /// Starts Python and leaves it running, its output piped.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start_python(&self, script: &str) -> Result<Running> {
        let path = self.script("py", script)?;
        let mut command = self.command(paths::python());
        command.arg("-u").arg(path).stdin(std::process::Stdio::piped());
        Running::new("python", command.stdout(std::process::Stdio::piped()))
    }

    /// Runs node with node-postgres.
    ///
    /// # Errors
    /// As [`Self::psql`].
    pub fn node(&self, script: &str) -> Result<Output> {
        let path = self.script("js", script)?;
        run(self.command("node").arg(path).env("NODE_PATH", paths::node_modules()), SECONDS)
    }

    fn script(&self, extension: &str, text: &str) -> Result<PathBuf> {
        let suffix = format!(".{extension}");
        let mut builder = tempfile::Builder::new();
        let file = builder.suffix(&suffix).tempfile_in(self.daemon.directory());
        let file = file.context("no script file")?;
        fs::write(file.path(), text).context("the script can't be written")?;
        file.into_temp_path().keep().context("the script can't be kept")
    }
}

/// Gives a command what any PostgreSQL client is told by its environment.
pub fn with_bank(command: &mut Command, role: &str, port: u16) {
    command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string());
    command.env("PGDATABASE", bank::DATABASE).env("PGUSER", role).env("PGPASSWORD", bank::PASSWORD);
    // The message texts that tests look for are the C locale's.
    command.env("LC_ALL", "C.UTF-8");
}
