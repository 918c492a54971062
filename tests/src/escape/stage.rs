//! Where attempts are made: a daemon, an agent, the same user and root beside it, and the world outside.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::actor::{Actor, Said};
use super::attempts::{Attempt, Setting};
use super::watch::Prey;
use super::{Level, Seen, ip, read};
use crate::process::{Running, run, wait_until};
use crate::{Daemon, paths};

/// The agent of all attempts; no policy lets it reach anything.
const AGENT: &str = "escapee";

/// `nobody`: owns nothing, belongs to nothing.
const USER: &str = "65534";

/// The sinks' port, here and at the cable's other end.
const SINK_PORT: u16 = 7001;

/// Where the cable leads to (RFC 2544's and RFC 3849's ranges would do as well; nobody routes these here).
const REMOTE: &str = "10.99.9.2";
const REMOTE6: &str = "fd99:9::2";

/// How long what was sent may take to be written down by a sink: 40 × 10 ms.
const ARRIVAL_STEPS: u32 = 40;
const ARRIVAL_STEP: Duration = Duration::from_millis(10);

/// Who makes an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A user without privileges, not enrolled.
    User,
    /// Root, not enrolled.
    Root,
}

/// All that attempts need, set once for a level.
#[derive(Debug)]
pub(super) struct Stage {
    level: Level,
    daemon: Daemon,
    agent: Actor,
    user: Actor,
    root: Actor,
    decoy: Running,
    attempts_made: u32,
    folder: TempDir,
    _outside: Vec<Running>,
}

impl Stage {
    /// Sets it: cable, sinks, daemon, actors.
    pub(super) fn set(level: Level) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("escape-").tempdir().context("no folder")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .context("its mode")?;
        let scripts = folder.path().join("scripts");
        let source = paths::root().join("tests/escape");
        run(Command::new("cp").arg("-r").arg(source).arg(&scripts), 10)?.ok()?;
        run(Command::new("chmod").args(["-R", "a+rX"]).arg(&scripts), 10)?.ok()?;
        fs::create_dir(folder.path().join("outside")).context("its folder")?;
        let outside = outside(folder.path())?;
        make_decoys(folder.path())?;
        // No target is reached in attempts: what comes to the daemon ends there.
        let daemon = Daemon::start(1, 1, &[])?;
        run(daemon.cli().args(["archive", "seal"]), 30)?.ok().context("archive seal")?;
        let agent = agent(&daemon, level, folder.path())?;
        let user = Actor::start(
            "user",
            handed(folder.path()).args(["setpriv"]).args(AS_USER).args(driver(folder.path())),
        )?;
        let root = Actor::start("root", handed(folder.path()).args(driver(folder.path())))?;
        let decoy = decoy()?;
        Ok(Self {
            level,
            daemon,
            agent,
            user,
            root,
            decoy,
            attempts_made: 0,
            folder,
            _outside: outside,
        })
    }

    /// Makes an attempt without enrollment: whether it had its effect, and what it said.
    pub(super) fn control(&mut self, role: Role, attempt: &Attempt) -> Result<(bool, Said)> {
        if !self.decoy.is_running()?
            || read(format!("/proc/{}/status", self.decoy.pid())).contains("T (stopped)")
        {
            self.decoy = decoy()?;
        }
        make_decoys(self.folder.path())?;
        let prey = Prey {
            pid: self.decoy.pid(),
            file: self.folder.path().join("decoy/events.parquet"),
            pins: self.folder.path().join("decoy"),
        };
        let (token, context) = self.context(&prey);
        let before = attempt.watch.look(&prey);
        let actor = match role {
            Role::User => &mut self.user,
            Role::Root => &mut self.root,
        };
        let said = actor.attempt(attempt.name, &context)?;
        let changed = attempt.watch.look(&prey) != before;
        let happened = changed || said.got == EFFECT || self.arrives(&token, said.went);
        Ok((happened, said))
    }

    /// Makes an attempt as the agent.
    pub(super) fn enrolled(&mut self, attempt: &Attempt) -> Result<(Seen, Said)> {
        let file = first_file(&self.daemon.archive()).context("the archive has no file")?;
        let prey = Prey { pid: self.daemon.pid()?, file, pins: self.daemon.pin_dir() };
        let (token, context) = self.context(&prey);
        let doors = self.came_to_the_door()?;
        let before = attempt.watch.look(&prey);
        if attempt.setting == Setting::DaemonDown {
            self.daemon.kill();
        }
        let said = self.agent.attempt(attempt.name, &context)?;
        let changed = attempt.watch.look(&prey) != before;
        let happened = changed || said.got == EFFECT || self.arrives(&token, said.went);
        self.repair()?;
        if happened {
            return Ok((Seen::Allowed, said));
        }
        let is_new = attempt.setting == Setting::Usual && self.came_to_the_door()? > doors;
        let seen = match (is_new, said.went) {
            (true, _) => Seen::Proxied,
            (false, true) => Seen::Contained,
            (false, false) => Seen::Refused,
        };
        Ok((seen, said))
    }

    /// What an attempt may know: everything. Secrecy of names and numbers protects nothing.
    fn context(&mut self, prey: &Prey) -> (String, Value) {
        self.attempts_made += 1;
        let token = format!("token-{}-{}", std::process::id(), self.attempts_made);
        let Prey { pid, file, pins } = prey;
        let context = json!({
            "token": token,
            "local": "127.0.0.1",
            "remote": REMOTE,
            "remote6": REMOTE6,
            "port": SINK_PORT,
            "proxy": self.daemon.port(),
            "pid": pid,
            "file": file,
            "pins": pins,
            "sockets": self.folder.path().join("outside/sockets"),
        });
        (token, context)
    }

    /// Whether a sink got the token; what was sent without an error may be on its way.
    fn arrives(&self, token: &str, went: bool) -> bool {
        let steps = if went { ARRIVAL_STEPS } else { ARRIVAL_STEPS / 8 };
        let mark = format!("{token} ");
        let log = self.folder.path().join("outside/arrivals");
        (0..steps).any(|_| {
            let is_there = read(&log).contains(&mark);
            if !is_there {
                thread::sleep(ARRIVAL_STEP);
            }
            is_there
        })
    }

    /// Connections that came to the daemon, served or not.
    fn came_to_the_door(&self) -> Result<u64> {
        Ok(self.daemon.count("sessions_total")? + self.daemon.count("connections_refused")?)
    }

    /// Sets right what an attempt, or its setting, has harmed.
    fn repair(&mut self) -> Result<()> {
        let is_stopped = |pid: u32| read(format!("/proc/{pid}/status")).contains("T (stopped)");
        if let Ok(pid) = self.daemon.pid()
            && is_stopped(pid)
        {
            self.daemon.kill();
        }
        if !self.daemon.is_running()? {
            self.daemon.restart()?;
        }
        if !self.agent.is_running() {
            self.agent = agent(&self.daemon, self.level, self.folder.path())?;
        }
        Ok(())
    }
}

/// What an attempt says that has looked at its effect itself.
const EFFECT: &str = "EFFECT";

const AS_USER: [&str; 5] = ["--reuid", USER, "--regid", USER, "--clear-groups"];

fn agent(daemon: &Daemon, level: Level, folder: &Path) -> Result<Actor> {
    let mut command = handed(folder);
    let cli = daemon.cli();
    command.arg(cli.get_program()).envs(cli.get_envs().filter_map(|(k, v)| Some((k, v?))));
    command.args(["run", "--agent", AGENT, "--"]);
    if level == Level::A1 {
        command.arg("setpriv").args(AS_USER).args(["--no-new-privs", "--bounding-set=-all"]);
    }
    Actor::start("agent", command.args(driver(folder)))
}

/// A command that starts another with sockets it had before.
fn handed(folder: &Path) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg("-IB").arg(folder.join("scripts/hand.py")).arg(SINK_PORT.to_string());
    command
}

/// The system's own: it is there for every user, also in a virtual machine.
const PYTHON: &str = "/usr/bin/python3";

fn driver(folder: &Path) -> [PathBuf; 3] {
    [PYTHON.into(), "-B".into(), folder.join("scripts/driver.py")]
}

fn decoy() -> Result<Running> {
    Running::new("decoy", Command::new("sleep").arg("3600").stdin(Stdio::null()))
}

/// Files like those of an archive, root's alone.
fn make_decoys(folder: &Path) -> Result<()> {
    let decoy = folder.join("decoy");
    fs::remove_dir_all(&decoy).ok();
    fs::create_dir(&decoy).context("the decoys' folder")?;
    fs::set_permissions(&decoy, fs::Permissions::from_mode(0o700)).context("its mode")?;
    fs::write(decoy.join("events.parquet"), "decoy").context("a decoy")
}

fn first_file(folder: &Path) -> Option<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    paths.sort();
    let file = paths.iter().find(|p| p.extension().is_some_and(|e| e == "parquet")).cloned();
    file.or_else(|| paths.iter().filter(|p| p.is_dir()).find_map(|p| first_file(p)))
}

/// Sinks here, and at the other end of a cable.
fn outside(folder: &Path) -> Result<Vec<Running>> {
    let script = folder.join("scripts/outside.py");
    let log = folder.join("outside/arrivals");
    ip("link set lo up")?;
    // icmp(7): who may send echo requests; a namespace starts with nobody.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").context("ping_group_range")?;
    let start = |place: &str| -> Result<Running> {
        let mut command = Command::new("unshare");
        command.args(if place == "remote" { ["--net"].as_slice() } else { [].as_slice() });
        command.args(["--", PYTHON, "-IB"]).arg(&script).arg(place).arg(&log);
        Running::new(place, command.stdin(Stdio::null()).stdout(Stdio::piped()))
    };
    let mut remote = start("remote")?;
    wait_ready(&mut remote)?;
    let pid = remote.pid();
    // The previous level's cable goes when its other end's namespace does.
    wait_until("the cable is there", 10, || {
        Ok(ip(&format!("link add cable type veth peer name cable netns {pid}")).is_ok())
    })?;
    for (address, side) in [("1", ""), ("2", "remote")] {
        for command in [
            "link set lo up".to_owned(),
            "link set cable up".to_owned(),
            format!("addr add 10.99.9.{address}/24 dev cable"),
            format!("addr add fd99:9::{address}/64 dev cable nodad"),
        ] {
            if side.is_empty() {
                ip(&command)?;
            } else {
                let mut inside = Command::new("nsenter");
                inside.args(["--net", "--target", &pid.to_string(), "ip"]);
                run(inside.args(command.split(' ')), 10)?.ok().context(command)?;
            }
        }
    }
    let mut local = start("local")?;
    wait_ready(&mut local)?;
    Ok(vec![remote, local])
}

fn wait_ready(process: &mut Running) -> Result<()> {
    let output = process.take_stdout().context("its output is a pipe")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).context("the sinks")?;
    if line.trim() != "ready" {
        bail!("the sinks do not start: {line}");
    }
    Ok(())
}
