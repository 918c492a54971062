//! Scripts that do something each time they are asked, and a process of an agent that runs them.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use integration::process::{Running, wait_until};
use integration::world::READER;
use integration::{Daemon, paths};

/// For each line on standard input, connects and asks for TLS: only the door answers that.
pub(crate) const CLIENT: &str = "
import socket, struct, sys
print('ready', flush=True)
for line in sys.stdin:
    try:
        # Not the address that the daemon connects from.
        s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10, ('127.0.0.2', 0))
        s.sendall(struct.pack('!II', 8, 80877103))
        print('answered' if s.recv(1) == b'N' else 'closed', flush=True)
    except OSError as e:
        print(type(e).__name__, flush=True)
";

/// A script that talks over its standard streams.
pub(crate) struct Talk {
    _process: Running,
    input: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running::new("python", &mut command).unwrap();
        let input = process.take_stdin().unwrap();
        let mut told = BufReader::new(process.take_stdout().unwrap()).lines();
        assert_eq!(told.next().unwrap().unwrap(), "ready");
        Self { _process: process, input, told }
    }

    pub(crate) fn says(&mut self) -> String {
        self.told.next().unwrap().unwrap()
    }

    /// Asks, and does not wait for the answer.
    pub(crate) fn leaves_unanswered(&mut self) {
        writeln!(self.input, "again").unwrap();
    }

    pub(crate) fn asks(&mut self) -> String {
        self.asks_for("again")
    }

    pub(crate) fn asks_for(&mut self, what: &str) -> String {
        writeln!(self.input, "{what}").unwrap();
        self.says()
    }
}

/// Starts an agent that does nothing.
pub(crate) fn enrolled(daemon: &Daemon) -> Running {
    let mut sleep = daemon.cli();
    sleep.args(["run", "--agent", READER, "--", "sleep", "600"]);
    let agent = Running::new("sleep", &mut sleep).unwrap();
    let is_in = || {
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", agent.pid()))?;
        Ok(cgroup.contains(READER))
    };
    wait_until("it is enrolled", 20, is_in).unwrap();
    agent
}

/// Answers a client ([`CLIENT`]) as [`run_in`] does.
pub(crate) fn join(agent: &Running, before: &str, port: u16) -> Command {
    run_in(agent, before, CLIENT, &[&port.to_string()])
}

/// Answers a script of the agent's that root puts into its cgroup, started by `before`: nothing but
/// the cgroup holds it.
pub(crate) fn run_in(agent: &Running, before: &str, script: &str, arguments: &[&str]) -> Command {
    let procs = cgroup(agent).join("cgroup.procs");
    let join = format!("echo $$ > {} && exec {before} \"$@\"", procs.display());
    let mut command = Command::new("sh");
    command.args(["-c", &join, "sh"]).arg(paths::python());
    command.args(["-c", script]).args(arguments);
    command
}

/// Answers the directory of an agent's cgroup.
pub(crate) fn cgroup(agent: &Running) -> PathBuf {
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", agent.pid())).unwrap();
    let within = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    cgroup_root().join(within)
}

/// Answers where cgroup v2 is mounted.
pub(crate) fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
    mount.split(' ').nth(4).unwrap().into()
}
