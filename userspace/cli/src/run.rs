//! `vestibule run`: start an agent behind the door.
//!
//! What the agent could get past the door with is taken away in this process, in the order in
//! which that is possible, and then the command replaces it.

mod environment;
mod filter;
mod inside;
mod privileges;
mod stdio;
mod user;
mod view;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args as ClapArgs;
use types::control::{Level, Profile, Request, Response};
use types::id::AgentName;

use crate::control::ask;
use crate::whom;
use user::User;

/// Start a command as an enrolled agent: every connection it makes goes through the door.
///
/// The command runs in a cgroup of its own, without capabilities and unable to gain any, without
/// open files but its standard ones, behind a filter of system calls (other socket families,
/// ptrace, mounts, namespaces, BPF, io_uring, …), and without sight of container engines' sockets,
/// D-Bus and cgroups. A profile in the daemon's configuration may leave some of that. It replaces
/// this process, so signals and the exit status are its own.
///
/// Inside an agent no root is needed: what is started is held as the outer agent is, has its own
/// name below that one's in policies and records, and acts for whom the outer one does unless a
/// token says otherwise. The outer agent's profile must name it in `starts`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The agent's name in policies and records.
    #[arg(long, value_name = "NAME")]
    agent: AgentName,
    #[command(flatten)]
    whom: whom::Args,
    /// The user to run as; else the profile's, else who called sudo, else the caller.
    #[arg(long, value_name = "NAME|UID")]
    user: Option<String>,
    /// The group to run as; else the profile's, else the user's own.
    #[arg(long, value_name = "NAME|GID")]
    group: Option<String>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How long the daemon may take; an issuer that it has to ask for its keys may take ten seconds.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { agent, whom, user, group, command } = args;
    let Some((program, arguments)) = command.split_first() else { bail!("no command is given") };
    if let Some(door) = inside::door(control) {
        let Response::Enrolled { .. } = inside::start(door, args)? else {
            bail!("the daemon's answer is not about enrollment");
        };
        close_fds::set_fds_cloexec(3, &[]);
        let failure = Command::new(program).args(arguments).exec();
        return Err(failure)
            .with_context(|| format!("{} can't be started", Path::new(program).display()));
    }
    let request = Request::Enroll { agent: agent.clone(), whom: whom.whom()? };
    let answer = ask(control, &request, PATIENCE)?;
    let Response::Enrolled { cgroup_path, profile, guarded, trust, .. } = answer else {
        bail!("the daemon's answer is not about enrollment");
    };
    stdio::check(&profile.allow)?;
    let user = user::choose(user.as_deref(), group.as_deref(), &profile)?;
    check_level(&profile, &user, guarded)?;
    single_threaded()?;
    let cgroup = open_cgroup(Path::new(&cgroup_path))?;
    // Sockets opened before enrollment belong to no agent's cgroup: none may come along.
    close_fds::set_fds_cloexec(3, &[]);
    view::narrow(control, &profile.keep_paths)?;
    let filters = filter::compile(&profile.allow)?;
    privileges::drop(&user, &profile.keep_capabilities)?;
    filter::install(&filters)?;
    let mut replacement = Command::new(program);
    replacement.args(arguments);
    environment::clean(&mut replacement, &profile.keep_environment, &user);
    if let Some(bundle) = trust {
        environment::trust(&mut replacement, &profile.keep_environment, &bundle);
    }
    // Last: guarded agents may do nothing of the above.
    join(cgroup)?;
    let failure = replacement.exec();
    Err(failure).with_context(|| format!("{} can't be started", Path::new(program).display()))
}

/// What is started must be held as well as its profile asks.
fn check_level(profile: &Profile, user: &User, guarded: bool) -> Result<()> {
    let Profile { name, allow, keep_capabilities, level, .. } = profile;
    let is_a1 = user.uid != 0 && keep_capabilities.is_empty() && allow.is_empty();
    match level {
        Some(Level::A1) => ensure!(
            is_a1 || guarded,
            "profile `{name}` asks for level A1: not root, no capability kept, nothing allowed"
        ),
        Some(Level::A2) => ensure!(
            guarded,
            "profile `{name}` asks for level A2, and the kernel's security hooks are not armed: \
             `vestibule doctor` says why"
        ),
        None => {}
    }
    if user.uid == 0 && !guarded {
        eprintln!(
            "vestibule: the agent runs as root: level A0 unless the kernel's security hooks are \
             armed; see --user"
        );
    }
    Ok(())
}

/// Credentials, filters and namespaces are set for one thread: there must be no other.
fn single_threaded() -> Result<()> {
    let threads = fs::read_dir("/proc/self/task").context("/proc/self/task can't be read")?.count();
    ensure!(threads == 1, "this process has {threads} threads, which can't be");
    Ok(())
}

/// Opens a cgroup to be joined when root is given up: who opened it decides who may (cgroups(7)).
fn open_cgroup(cgroup: &Path) -> Result<File> {
    File::options()
        .write(true)
        .open(cgroup.join("cgroup.procs"))
        .with_context(|| format!("can't join {}; `vestibule run` needs root", cgroup.display()))
}

/// Moves this process into a cgroup: "0" is the writer.
fn join(mut cgroup: File) -> Result<()> {
    cgroup.write_all(b"0").context("the agent's cgroup can't be joined")
}
