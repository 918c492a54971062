//! Where attempts are made: a daemon, an agent, the same user and root beside it, and the world outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::actor::{Actor, Said};
use super::attempts::{Attempt, Setting};
use super::decoy::{Decoys, unmount};
use super::outside::{self, PYTHON, REMOTE, REMOTE6, SINK_PORT};
use super::watch::{Prey, state};
use super::{Level, Seen, read};
use crate::daemon::Supervisor;
use crate::process::{Running, run};
use crate::{Daemon, paths};

/// The agent of all attempts; no policy lets it reach anything.
const AGENT: &str = "escapee";

/// `nobody`: owns nothing, belongs to nothing.
const USER: &str = "65534";

/// How long what was sent may take to be written down by a sink: 40 × 10 ms.
const ARRIVAL_STEPS: u32 = 40;
const ARRIVAL_STEP: Duration = Duration::from_millis(10);

/// Who makes an attempt without being enrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A user without privileges.
    User,
    /// Root.
    Root,
}

/// All that attempts need, set once for a level.
#[derive(Debug)]
pub(super) struct Stage {
    level: Level,
    agent: Actor,
    user: Actor,
    root: Actor,
    daemon: Daemon,
    decoys: Decoys,
    attempts_made: u32,
    cgroup_root: PathBuf,
    outside: [Running; 2],
    folder: TempDir,
}

impl Stage {
    /// Sets it: cable, sinks, daemon, actors.
    pub(super) fn set(level: Level) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("escape-").tempdir().context("no folder")?;
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).context("its mode")?;
        let scripts = folder.path().join("scripts");
        let source = paths::root().join("tests/escape");
        run(Command::new("cp").arg("-r").arg(source).arg(&scripts), 10)?.ok()?;
        run(Command::new("chmod").args(["-R", "a+rX"]).arg(&scripts), 10)?.ok()?;
        fs::create_dir(folder.path().join("outside")).context("its folder")?;
        let outside = outside::start(folder.path())?;
        let cgroup_root = cgroup_root()?;
        let decoys = Decoys::new(folder.path(), &cgroup_root)?;
        // No target is reached in attempts: what comes to the daemon ends there.
        let more = if level == Level::A2 { ROOT_HELD } else { "guard = \"off\"\n" };
        let daemon = Daemon::start_with(Supervisor::None, 1, 1, &[], more)?;
        run(daemon.cli().args(["archive", "seal"]), 60)?.ok().context("archive seal")?;
        let agent = Actor::start(
            "agent",
            &mut agent(&daemon, level, handed(folder.path()), folder.path()),
        )?;
        let user = Actor::start("user", &mut as_user(handed(folder.path()), folder.path()))?;
        let root = Actor::start("root", handed(folder.path()).args(driver(folder.path())))?;
        let attempts_made = 0;
        Ok(Self {
            level,
            agent,
            user,
            root,
            daemon,
            decoys,
            attempts_made,
            cgroup_root,
            outside,
            folder,
        })
    }

    /// Makes an attempt without enrollment: whether it had its effect, and what it said.
    pub(super) fn control(&mut self, role: Role, attempt: &Attempt) -> Result<(bool, Said)> {
        let prey = self.decoys.whole()?;
        let (token, mut context) = self.context(&prey);
        // Nobody is at this port, so that it can be taken; what stands for the proxy is a sink.
        context["proxy"] = json!(7010);
        context["stand_in"] = json!(SINK_PORT);
        let before = attempt.watch.look(&prey);
        let said = if attempt.setting == Setting::StandardOutput {
            let start = handed_output(self.folder.path());
            let command = match role {
                Role::User => as_user(start, self.folder.path()),
                Role::Root => with_driver(start, self.folder.path()),
            };
            alone(command, attempt, &context)?
        } else if attempt.setting == Setting::Late {
            Actor::start("late", &mut self.late(role, attempt, &context))?
                .attempt(attempt.name, &context)?
        } else {
            let actor = if role == Role::User { &mut self.user } else { &mut self.root };
            actor.attempt(attempt.name, &context)?
        };
        let effect = || attempt.watch.look(&prey) != before;
        let happened = said.got == EFFECT || self.happens(&token, said.went, effect);
        Ok((happened, said))
    }

    /// Makes an attempt as the agent.
    pub(super) fn enrolled(&mut self, attempt: &Attempt) -> Result<(Seen, Said)> {
        let prey = self.prey()?;
        let (token, context) = self.context(&prey);
        let doors = self.came_to_the_door()?;
        let before = attempt.watch.look(&prey);
        if attempt.setting == Setting::DaemonDown {
            self.daemon.kill();
        }
        let said = if attempt.setting == Setting::StandardOutput {
            let start = handed_output(self.folder.path());
            alone(agent(&self.daemon, self.level, start, self.folder.path()), attempt, &context)?
        } else if attempt.setting == Setting::Late {
            let role = if self.level == Level::A1 { Role::User } else { Role::Root };
            let mut late = Actor::start("late", &mut self.late(role, attempt, &context))?;
            let mut enroll = self.daemon.cli();
            enroll.args(["enroll", "--agent", AGENT, "--pid", &late.pid().to_string()]);
            run(&mut enroll, 60)?.ok().context("late enrollment")?;
            late.attempt(attempt.name, &context)?
        } else {
            self.agent.attempt(attempt.name, &context)?
        };
        let effect = || attempt.watch.look(&prey) != before;
        let happened = said.got == EFFECT || self.happens(&token, said.went, effect);
        self.repair(&prey)?;
        if happened {
            return Ok((Seen::Allowed, said));
        }
        let is_new = attempt.setting != Setting::DaemonDown && self.came_to_the_door()? > doors;
        let seen = match (is_new, said.went) {
            (true, _) => Seen::Proxied,
            (false, true) => Seen::Contained,
            (false, false) => Seen::Refused,
        };
        Ok((seen, said))
    }

    /// A driver of one attempt, which waits in its middle.
    fn late(&self, role: Role, attempt: &Attempt, context: &Value) -> Command {
        let folder = self.folder.path();
        let mut command = match role {
            Role::User => as_user(Command::new("env"), folder),
            Role::Root => with_driver(Command::new("env"), folder),
        };
        command.args(["--late", attempt.name]).arg(context.to_string());
        command
    }

    /// The daemon's own things.
    fn prey(&self) -> Result<Prey> {
        let pins = self.daemon.pin_dir();
        let slice = pins.file_name().context("the pins have a folder")?;
        Ok(Prey {
            pid: self.daemon.pid()?,
            cgroup: self.cgroup_root.join(slice).join("proxy"),
            file: first_file(&self.daemon.archive()).context("the archive has no file")?,
            pins,
        })
    }

    /// What an attempt may know: everything. Secrecy of names and numbers protects nothing.
    fn context(&mut self, prey: &Prey) -> (String, Value) {
        self.attempts_made += 1;
        let token = format!("token-{}-{}", std::process::id(), self.attempts_made);
        let Prey { pid, cgroup, file, pins } = prey;
        let [remote, _] = &self.outside;
        let context = json!({
            "token": token,
            "local": "127.0.0.1",
            "remote": REMOTE,
            "remote6": REMOTE6,
            "port": SINK_PORT,
            "proxy": self.daemon.port(),
            "pid": pid,
            "pid_cgroup": cgroup,
            "holder": self.root.pid(),
            "remote_pid": remote.pid(),
            "file": file,
            "pins": pins,
            "control": self.daemon.control_socket(),
            "image": std::env::var("VESTIBULE_ESCAPE_IMAGE").unwrap_or_default(),
            "sockets": self.folder.path().join("outside/sockets"),
        });
        (token, context)
    }

    /// Whether a sink got the token or there is another effect; what went without an error may be on its way.
    fn happens(&self, token: &str, went: bool, effect: impl Fn() -> bool) -> bool {
        let steps = if went { ARRIVAL_STEPS } else { ARRIVAL_STEPS / 8 };
        let mark = format!("{token} ");
        let log = self.folder.path().join("outside/arrivals");
        (0..steps).any(|_| {
            let is_there = effect() || read(&log).contains(&mark);
            if !is_there {
                thread::sleep(ARRIVAL_STEP);
            }
            is_there
        })
    }

    /// Connections that came to the daemon, served or not.
    fn came_to_the_door(&self) -> Result<u64> {
        let status = self.daemon.status()?;
        let count = |name: &str| status.get(name).and_then(Value::as_u64).context("no such count");
        Ok(count("sessions_total")? + count("connections_refused")?)
    }

    /// Sets right what an attempt, or its setting, has harmed.
    fn repair(&mut self, prey: &Prey) -> Result<()> {
        if let Ok(pid) = self.daemon.pid()
            && state(pid) != "lives"
        {
            self.daemon.kill();
        }
        if let Some(folder) = prey.file.parent() {
            unmount(folder);
        }
        if !self.daemon.is_running()? {
            self.daemon.restart()?;
        }
        if !self.agent.is_running() {
            let folder = self.folder.path();
            let mut command = agent(&self.daemon, self.level, handed(folder), folder);
            self.agent = Actor::start("agent", &mut command)?;
        }
        Ok(())
    }
}

/// What an attempt says that has looked at its effect itself.
const EFFECT: &str = "EFFECT";

/// Root with everything that the launcher can leave it: what holds it then are the kernel's hooks.
const ROOT_HELD: &str = r#"
guard = "required"
protect = ["/etc", "/var/spool/cron/crontabs", "/run/systemd/system", "/root/.ssh", "/usr/local/bin"]

[[profile]]
name = "unheld"
agents = ["escapee"]
user = "0"
group = "0"
allow = ["ptrace", "io_uring", "namespaces", "mount", "bpf", "perf_events", "keyring", "userfaultfd",
         "file_handles", "netlink", "vsock", "any_socket", "stdio_sockets"]
keep_capabilities = ["chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
         "setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock",
         "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot",
         "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write",
         "audit_control", "setfcap", "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend",
         "audit_read", "perfmon", "bpf", "checkpoint_restore"]
keep_paths = ["/"]
"#;

/// Adds to a command what starts an agent's driver.
fn agent(daemon: &Daemon, level: Level, mut command: Command, folder: &Path) -> Command {
    let cli = daemon.cli();
    command.arg(cli.get_program()).envs(cli.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.args(["run", "--agent", AGENT]);
    if level == Level::A1 {
        command.args(["--user", USER, "--group", USER]);
    }
    command.arg("--").args(driver(folder));
    command
}

fn as_user(mut command: Command, folder: &Path) -> Command {
    command.args(["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]);
    with_driver(command, folder)
}

fn with_driver(mut command: Command, folder: &Path) -> Command {
    command.args(driver(folder));
    command
}

/// Runs a driver for one attempt; its output is the attempt's.
fn alone(mut command: Command, attempt: &Attempt, context: &Value) -> Result<Said> {
    let output = run(command.arg(attempt.name).arg(context.to_string()), 30)?;
    Ok(Said { went: output.code == Some(0), got: output.stderr })
}

/// A command that starts another with sockets it had before.
fn handed(folder: &Path) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg("-IB").arg(folder.join("scripts/hand.py")).arg(SINK_PORT.to_string());
    command
}

fn handed_output(folder: &Path) -> Command {
    let mut command = handed(folder);
    command.arg("--standard-output");
    command
}

fn driver(folder: &Path) -> [PathBuf; 3] {
    [PYTHON.into(), "-B".into(), folder.join("scripts/driver.py")]
}

fn first_file(folder: &Path) -> Option<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    paths.sort();
    let file = paths.iter().find(|p| p.extension().is_some_and(|e| e == "parquet")).cloned();
    file.or_else(|| paths.iter().filter(|p| p.is_dir()).find_map(|p| first_file(p)))
}

/// Where cgroup 2 is mounted (proc_pid_mountinfo(5): the fifth field).
fn cgroup_root() -> Result<PathBuf> {
    let mounts = read("/proc/self/mountinfo");
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).context("no cgroup 2")?;
    line.split(' ').nth(4).map(PathBuf::from).context("a mount has a place")
}
