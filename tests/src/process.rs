//! Programs that end: with a deadline, or with their owner.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a program that should end is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
}

impl Output {
    /// Answers standard output of a program that succeeded.
    ///
    /// # Errors
    /// If it failed, with what it said.
    pub fn ok(self) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        bail!("exit {:?}\nstdout: {}\nstderr: {}", self.code, self.stdout, self.stderr)
    }
}

/// Runs a program to its end; kills it after `seconds`.
///
/// # Errors
/// If it can't be started, or had to be killed.
pub fn run(command: &mut Command, seconds: u64) -> Result<Output> {
    feed(command, b"", seconds)
}

/// Answers a process's peak memory (proc(5): VmHWM is in kB).
///
/// # Errors
/// If there is no such process.
pub fn peak_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("no process")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kilobytes * 1024)
}

/// Runs a program to its end with something on its standard input.
///
/// # Errors
/// As [`run`].
pub fn feed(command: &mut Command, input: &[u8], seconds: u64) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running::new(&name, command)?;
    let mut stdin = child.child.stdin.take().context("its input is a pipe")?;
    let out = child.child.stdout.take().context("its output is a pipe")?;
    let err = child.child.stderr.take().context("its errors are a pipe")?;
    let input = input.to_vec();
    // A program that does not read its input is no error of ours.
    let writer = thread::spawn(move || stdin.write_all(&input).ok());
    let out = thread::spawn(move || read(out));
    let err = thread::spawn(move || read(err));
    let ended = child.wait(seconds)?;
    if ended.is_none() {
        child.kill();
    }
    writer.join().ok();
    let stdout = out.join().unwrap_or_default();
    let stderr = err.join().unwrap_or_default();
    let Some(code) = ended else {
        bail!("{name} did not end in {seconds} s\nstdout: {stdout}\nstderr: {stderr}");
    };
    Ok(Output { stdout, stderr, code })
}

/// Waits until something is so, at most `seconds`.
///
/// # Errors
/// If it never is, or finding out fails.
pub fn wait_until(what: &str, seconds: u64, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    const STEP: Duration = Duration::from_millis(20);
    for _ in 0..seconds * 50 {
        if is_so()? {
            return Ok(());
        }
        thread::sleep(STEP);
    }
    bail!("{what}: not within {seconds} s")
}

/// A program that is killed with its owner.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn new(name: &str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("{name} can't be started"))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Answers its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives its standard output away, where that is a pipe.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Gives its standard error away, where that is a pipe.
    pub fn take_stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// Gives its standard input away, where that is a pipe.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If the system can't say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().with_context(|| format!("{} is not ours", self.name))?.is_none())
    }

    /// Waits for its end: its exit code (`None` inside for a signal), or `None` after `seconds`.
    ///
    /// # Errors
    /// If the system can't say.
    pub fn wait(&mut self, seconds: u64) -> Result<Option<Option<i32>>> {
        let polls_per_s = 200;
        for _ in 0..=seconds.saturating_mul(polls_per_s) {
            let ended =
                self.child.try_wait().with_context(|| format!("{} is not ours", self.name))?;
            if let Some(status) = ended {
                return Ok(Some(status.code()));
            }
            thread::sleep(POLL);
        }
        Ok(None)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process id is positive")?, signal)
            .with_context(|| format!("{} can't be signalled", self.name))
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_code_come_back() {
        let output = run(Command::new("sh").args(["-c", "echo a; echo b >&2; exit 3"]), 5).unwrap();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("a\n", "b\n"));
        assert_eq!(output.code, Some(3));
        assert!(output.ok().is_err());
    }

    #[test]
    fn input_arrives() {
        assert_eq!(feed(&mut Command::new("cat"), b"x", 5).unwrap().ok().unwrap(), "x");
    }

    #[test]
    fn what_does_not_end_is_killed() {
        let error = run(Command::new("sleep").arg("60"), 0).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}
