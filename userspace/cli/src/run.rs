//! `vestibule run`: start an agent behind the door.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use types::control::{Request, Response};
use types::id::AgentName;

use crate::control::ask;

/// Start a command as an enrolled agent: every connection it makes goes through the door.
///
/// The command runs in a cgroup of its own, with the caller's user, environment and terminal and
/// no other open files. It replaces this process, so signals and the exit status are its own.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The agent's name in policies and records.
    #[arg(long, value_name = "NAME")]
    agent: AgentName,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { agent, command } = args;
    let Some((program, arguments)) = command.split_first() else { bail!("no command is given") };
    let request = Request::Enroll { agent: agent.clone() };
    let Response::Enrolled { cgroup_path, .. } = ask(control, &request, Duration::from_secs(10))?
    else {
        bail!("the daemon's answer is not about enrollment");
    };
    join(&PathBuf::from(cgroup_path))?;
    // Sockets opened before enrollment belong to no agent's cgroup: none may come along.
    close_fds::set_fds_cloexec(3, &[]);
    let failure = Command::new(program).args(arguments).exec();
    Err(failure).with_context(|| format!("{} can't be started", program.display()))
}

/// Moves this process into a cgroup (`cgroup.procs`, "0" is the writer: cgroups(7)).
fn join(cgroup: &Path) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("can't join {}; `vestibule run` needs root", cgroup.display()))
}
