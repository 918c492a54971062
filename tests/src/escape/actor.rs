//! Who makes attempts: a Python process, enrolled or not, told over its standard input.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::process::Running;

/// The driver ends an attempt after 10 s; a machine may be slow.
const PATIENCE: Duration = Duration::from_secs(40);

/// What an attempt said of itself.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// No call of it failed.
    pub(super) went: bool,
    /// What it obtained, or what failed.
    pub(super) got: String,
}

/// A running driver.
#[derive(Debug)]
pub(super) struct Actor {
    process: Running,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Actor {
    /// Starts a driver and waits until it is ready.
    pub(super) fn start(name: &str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running::new(name, command)?;
        let input = process.take_stdin().context("its input is a pipe")?;
        let output = process.take_stdout().context("its output is a pipe")?;
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let own = Self { process, input, lines };
        let ready = own.line().with_context(|| format!("{name} does not start"))?;
        if !ready.contains("attempts") {
            bail!("{name} says {ready}");
        }
        Ok(own)
    }

    /// Makes an attempt.
    pub(super) fn attempt(&mut self, attempt: &str, context: &Value) -> Result<Said> {
        let asked = json!({ "attempt": attempt, "context": context });
        writeln!(self.input, "{asked}").context("the driver is gone")?;
        said(&self.line().with_context(|| attempt.to_owned())?)
    }

    /// Answers its process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it still runs.
    pub(super) fn is_running(&mut self) -> bool {
        self.process.is_running().unwrap_or(false)
    }

    fn line(&self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).context("the driver says nothing")
    }
}

/// Reads a driver's answer.
pub(super) fn said(line: &str) -> Result<Said> {
    let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let went = value.get("went").and_then(Value::as_bool).context("no went")?;
    let got = value.get("got").and_then(Value::as_str).context("no got")?;
    Ok(Said { went, got: got.to_owned() })
}
