//! The real daemon, with its own configuration, slice, pins, port and folders.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::paths;
use crate::port::Port;
use crate::process::{Running, run, wait_until};
use crate::slice;

/// A policy that the harness adds to the shipped ones: file name and text.
pub type ExtraPolicy<'a> = (&'a str, &'a str);

/// Who starts the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// The test, each time anew.
    None,
    /// One as systemd is, with its file-descriptor store; it starts a daemon that ended again.
    Keeps,
    /// The same without the store.
    Forgets,
}

/// A daemon: running, or dead and to be started again.
#[derive(Debug)]
pub struct Daemon {
    process: Option<Running>,
    supervisor: Supervisor,
    programs: PathBuf,
    port: Port,
    dns_port: Port,
    directory: TempDir,
    environment: Vec<(String, PathBuf)>,
    arguments: Vec<String>,
}

impl Daemon {
    /// Starts a daemon in front of the target `bank` on 127.0.0.1 and waits until it is ready.
    ///
    /// # Errors
    /// If it is not built, this is not root, or it does not get ready; with the end of its log.
    pub fn start(bank_port: u16, workers: usize, extra: &[ExtraPolicy<'_>]) -> Result<Self> {
        Self::start_with(Supervisor::None, bank_port, workers, extra, "")
    }

    /// Starts a daemon as [`Self::start`] does, under a supervisor.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_under(
        supervisor: Supervisor,
        bank_port: u16,
        workers: usize,
        extra: &[ExtraPolicy<'_>],
    ) -> Result<Self> {
        Self::start_with(supervisor, bank_port, workers, extra, "")
    }

    /// Starts a daemon as [`Self::start_under`] does, with more at the end of its configuration: keys of
    /// `[kernel]` first, then other tables. A `[dns]` of its own says `port = DNS_PORT`, a `[journal]` how much stays free.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        supervisor: Supervisor,
        bank_port: u16,
        workers: usize,
        extra: &[ExtraPolicy<'_>],
        configuration: &str,
    ) -> Result<Self> {
        let mut own = Self::prepare(supervisor, bank_port, workers, extra, configuration)?;
        own.restart()?;
        Ok(own)
    }

    /// Starts a daemon as [`Self::start_with`] does, with more in its environment.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_among(
        supervisor: Supervisor,
        environment: &[(&str, &Path)],
        bank_port: u16,
        workers: usize,
        configuration: &str,
    ) -> Result<Self> {
        let mut own = Self::prepare(supervisor, bank_port, workers, &[], configuration)?;
        let named = environment.iter().map(|(name, value)| ((*name).into(), value.to_path_buf()));
        own.environment = named.collect();
        own.restart()?;
        Ok(own)
    }

    /// Starts a daemon as [`Self::start_with`] does, whose clock says that it is some days ago (libfaketime), until
    /// [`Self::come_to_today`].
    ///
    /// # Errors
    /// As [`Self::start`], and if libfaketime is not installed.
    pub fn start_days_ago(
        days: u32,
        bank_port: u16,
        workers: usize,
        extra: &[ExtraPolicy<'_>],
        configuration: &str,
    ) -> Result<Self> {
        let library =
            format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH);
        if !Path::new(&library).exists() {
            bail!("libfaketime is not installed: `cargo xtask setup` brings it");
        }
        let mut own = Self::prepare(Supervisor::None, bank_port, workers, extra, configuration)?;
        own.environment = vec![
            ("LD_PRELOAD".into(), library.into()),
            ("FAKETIME".into(), format!("-{days}d").into()),
            // What waits goes by the other clock.
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
            ("DONT_FAKE_MONOTONIC".into(), "1".into()),
        ];
        own.restart()?;
        Ok(own)
    }

    /// Ends a daemon of [`Self::start_days_ago`], and starts it with the clock as it is.
    ///
    /// # Errors
    /// As [`Self::restart`].
    pub fn come_to_today(&mut self) -> Result<()> {
        self.stop()?;
        self.environment.clear();
        self.restart()
    }

    fn prepare(
        supervisor: Supervisor,
        bank_port: u16,
        workers: usize,
        extra: &[ExtraPolicy<'_>],
        configuration: &str,
    ) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("the daemon needs root: it loads BPF programs");
        }
        let directory = tempfile::Builder::new().prefix("vestibule-").tempdir();
        let directory = directory.context("no temporary folder")?;
        // Clients' scripts lie below it, and agents may run as anyone.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
            .context("the temporary folder's mode")?;
        let (port, dns_port) = (slice::take()?, Port::take()?);
        let policies = directory.path().join("policies");
        run(Command::new("cp").arg("-r").arg(paths::policies()).arg(&policies), 10)?.ok()?;
        for (name, text) in extra {
            fs::write(policies.join(name), text).context("a policy can't be added")?;
        }
        let programs = paths::programs()?;
        let environment = Vec::new();
        let own = Self {
            process: None,
            supervisor,
            programs,
            port,
            dns_port,
            directory,
            environment,
            arguments: Vec::new(),
        };
        let port = own.dns_port.number().to_string();
        let is_given = configuration.contains("[dns]");
        let dns = if is_given { String::new() } else { format!("[dns]\nport = {port}\n\n") };
        let rest = configuration.replace("DNS_PORT", &port);
        let is_given = configuration.contains("[journal]");
        let journal = if is_given { "" } else { "[journal]\nreserve_bytes = 0\n\n" };
        let text = own.config_text(bank_port, workers, &format!("{journal}{dns}")) + &rest;
        fs::write(own.config(), text).context("the configuration")?;
        Ok(own)
    }

    /// Starts it (again) and waits until it is ready.
    ///
    /// # Errors
    /// If it does not get ready in 90 s; with the end of its log. A machine that emulates its processor takes 40.
    pub fn restart(&mut self) -> Result<()> {
        let log =
            File::options().create(true).append(true).open(self.log_path()).context("its log")?;
        let mut command = match self.supervisor {
            Supervisor::None => self.command(),
            Supervisor::Keeps => self.supervised("keep")?,
            Supervisor::Forgets => self.supervised("forget")?,
        };
        // A supervisor ends with its input.
        let stdin =
            if self.supervisor == Supervisor::None { Stdio::null() } else { Stdio::piped() };
        command.stdin(stdin).stdout(log.try_clone().context("its log")?).stderr(log);
        self.process = Some(Running::new("vestibuled", &mut command)?);
        let ready = wait_until("the daemon is ready", 90, || {
            let process = self.process.as_mut().context("it was started")?;
            if !process.is_running()? {
                bail!("the daemon ended");
            }
            // A look at its socket costs a thousandth of the program that asks it.
            Ok(UnixStream::connect(self.control_socket()).is_ok() && self.status().is_ok())
        });
        ready.with_context(|| format!("its log ends:\n{}", self.log_tail()))
    }

    /// Kills it with SIGKILL, as if the machine had lost it; and its supervisor, where it has one.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let is_supervisor = self.supervisor != Supervisor::None;
            if is_supervisor && process.signal(Signal::TERM).is_ok() {
                process.wait(10).ok();
            }
            process.kill();
        }
    }

    /// Kills it with SIGKILL and leaves it to its supervisor to start it again.
    ///
    /// # Errors
    /// If it does not answer, or another one is not there within 30 s.
    pub fn kill_under_supervisor(&mut self) -> Result<()> {
        let old = self.count("pid")?;
        let pid = Pid::from_raw(i32::try_from(old).context("a process id")?);
        kill_process(pid.context("a process id is positive")?, Signal::KILL)?;
        wait_until("another daemon", 30, || Ok(self.count("pid").is_ok_and(|pid| pid != old)))
            .with_context(|| format!("its log ends:\n{}", self.log_tail()))
    }

    /// Answers what the supervisor has noted, a line for each thing: seconds, `started PID fds=N
    /// NAMES`, `stored NAME`, `removed NAME`, `ready`, `ended PID`.
    pub fn supervision(&self) -> String {
        fs::read_to_string(self.directory.path().join("supervisor.log")).unwrap_or_default()
    }

    fn supervised(&self, keep: &str) -> Result<Command> {
        let script = self.directory.path().join("supervisor.py");
        fs::write(&script, include_str!("supervisor.py")).context("the supervisor")?;
        let socket = self.directory.path().join("notify.sock");
        fs::remove_file(&socket).ok();
        let mut command = Command::new(paths::python());
        command.arg(script).arg(socket).arg(self.directory.path().join("supervisor.log"));
        let daemon = self.command();
        command.args([keep, "--"]).arg(daemon.get_program()).args(daemon.get_args());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// If it does not end in 20 s, or not with success.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::TERM)?;
        match process.wait(20)? {
            Some(Some(0)) => Ok(()),
            ended => bail!("it ended with {ended:?}; its log ends:\n{}", self.log_tail()),
        }
    }

    /// Waits for its end, of itself; answers its exit code.
    ///
    /// # Errors
    /// If it does not end in `seconds`.
    pub fn wait(&mut self, seconds: u64) -> Result<Option<i32>> {
        let process = self.process.as_mut().context("the daemon is dead")?;
        let ended = process.wait(seconds)?.context("it goes on")?;
        self.process = None;
        Ok(ended)
    }

    /// Starts it, and kills it with SIGKILL after a time: at some point of its start.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start_for(&mut self, time: Duration) -> Result<()> {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Running::new("vestibuled", &mut command)?;
        std::thread::sleep(time);
        process.kill();
        Ok(())
    }

    /// Ends it, and starts it with more at the end of its configuration.
    ///
    /// # Errors
    /// As [`Self::restart`].
    pub fn restart_with(&mut self, configuration: &str) -> Result<()> {
        self.stop()?;
        let text = fs::read_to_string(self.config()).context("its configuration")?;
        fs::write(self.config(), format!("{text}\n{configuration}"))
            .context("its configuration")?;
        self.restart()
    }

    /// Has it start with this in its environment from now on.
    pub fn set_environment(&mut self, environment: &[(String, PathBuf)]) {
        environment.clone_into(&mut self.environment);
    }

    /// Runs another one with the same configuration.
    ///
    /// # Errors
    /// If it does not end by itself.
    pub fn another(&self) -> Result<crate::Output> {
        run(&mut self.command(), 30)
    }

    /// Starts it with more arguments (again) and waits until it is ready; its next start has none.
    ///
    /// # Errors
    /// As [`Self::restart`].
    pub fn restart_saying(&mut self, arguments: &[&str]) -> Result<()> {
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let started = self.restart();
        self.arguments.clear();
        started
    }

    /// Answers `vestibule disarm`, also where no daemon runs.
    pub fn disarm(&self, reason: &str) -> Command {
        let mut command = self.cli();
        command.args(["disarm", "--reason", reason, "--config"]).arg(self.config());
        command.arg("--daemon").arg(self.programs.join("vestibuled"));
        command
    }

    /// Answers where its hooks are pinned.
    pub fn pins(&self) -> PathBuf {
        slice::pins(&self.slice())
    }

    /// Answers its process id.
    ///
    /// # Errors
    /// If it is dead.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the daemon is dead")?.pid())
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// If the system can't say.
    pub fn is_running(&mut self) -> Result<bool> {
        self.process.as_mut().map_or(Ok(false), Running::is_running)
    }

    /// Answers what `vestibule status --output json` says.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn status(&self) -> Result<Value> {
        let output = run(self.cli().args(["status", "--output", "json"]), 10)?.ok()?;
        serde_json::from_str(&output).context("the status is not JSON")
    }

    /// Answers one number of its status.
    ///
    /// # Errors
    /// If the daemon does not answer, or has no such number.
    pub fn count(&self, name: &str) -> Result<u64> {
        let status = self.status()?;
        status.get(name).and_then(Value::as_u64).with_context(|| format!("no {name} in {status}"))
    }

    /// Answers the `vestibule` command, speaking to this daemon, with DuckDB in reach.
    pub fn cli(&self) -> Command {
        let mut command = Command::new(self.programs.join("vestibule"));
        command.env("VESTIBULE_CONTROL", self.run_dir().join("control.sock"));
        let mut path = paths::duckdb().parent().map(Path::as_os_str).unwrap_or_default().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        command.env("PATH", path);
        command
    }

    /// Answers the stand-alone verifier, which is to look at this daemon's archive and journal.
    pub fn verifier(&self) -> Command {
        let mut command = Command::new(self.programs.join("vestibule-verify"));
        command.arg("--archive").arg(self.archive()).arg("--journal").arg(self.journal());
        command
    }

    /// Answers the listener's port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Answers the UDP port of the forwarder of look-ups.
    pub fn dns_port(&self) -> u16 {
        self.dns_port.number()
    }

    /// Answers the journal's folder.
    pub fn journal(&self) -> PathBuf {
        self.state_dir().join("journal")
    }

    /// Answers the archive's folder.
    pub fn archive(&self) -> PathBuf {
        self.state_dir().join("archive")
    }

    /// Answers the folder that holds everything of this daemon.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Answers the folder of the BPF file system that holds its pins.
    pub fn pin_dir(&self) -> PathBuf {
        slice::pins(&self.slice())
    }

    /// Answers the path of its control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir().join("control.sock")
    }

    /// Answers its log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        const LINES: usize = 30;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
    }

    fn config_text(&self, bank_port: u16, workers: usize, dns: &str) -> String {
        let slice = self.slice();
        format!(
            "node = \"{slice}\"\nstate_dir = \"{state}\"\nrun_dir = \"{run}\"\npolicy_dir = \"{policy}\"\n\n\
             [listener]\nport = {port}\n\n[proxy]\nworkers = {workers}\n\n\
             [[target]]\nname = \"bank\"\naddress = \"127.0.0.1:{bank_port}\"\nprotocol = \"postgresql\"\n\n{dns}\
             [kernel]\nslice = \"{slice}\"\npin_dir = \"/sys/fs/bpf/{slice}\"\n",
            state = self.state_dir().display(),
            run = self.run_dir().display(),
            policy = self.directory.path().join("policies").display(),
            port = self.port.number(),
        )
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.programs.join("vestibuled"));
        command.arg("--config").arg(self.config()).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Answers the name of its slice: the listener's port makes it unique.
    pub fn slice(&self) -> String {
        slice::name(self.port.number())
    }

    /// The file of its configuration.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("vestibule.toml")
    }

    fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("vestibuled.log")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        // What is pinned outlives the daemon by design; an operator takes it away with a reason, which is recorded.
        // A daemon whose journal was spoilt can't record it: then it goes as what a killed test leaves.
        let disarmed = run(self.command().args(["--disarm", "the test instance ends"]), 90);
        if let Err(error) = disarmed.and_then(crate::Output::ok) {
            eprintln!("{} is taken away by hand: {error:#}", self.slice());
        }
        if let Err(error) = slice::remove(&self.slice()) {
            eprintln!("of {}: {error:#}", self.slice());
        }
    }
}
