//! `vestibule enroll`: bring a running process behind the door.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use types::control::{Request, Response};
use types::id::AgentName;

use crate::control::ask;
use crate::{Output, whom};

/// Enrol a running process and its children as a new instance of an agent.
///
/// Their TCP and UDP sockets, listening ones as well, end (ECONNABORTED): those would lead past the
/// door. A process that holds anything else that leads elsewhere is refused and runs on as it was: a
/// Unix socket connected to another process, netlink or packet sockets, io_uring, BPF. What it may
/// do stays as it is: `vestibule run` takes more away.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The process.
    #[arg(long, value_name = "PID")]
    pid: u32,
    /// The agent's name in policies and records.
    #[arg(long, value_name = "NAME")]
    agent: AgentName,
    #[command(flatten)]
    whom: whom::Args,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Freezing takes 5 s at most; looking at 4,096 processes' descriptors some seconds more.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { pid, agent, whom, output } = args;
    let (agent, whom) = (agent.clone(), whom.whom()?);
    let request = Request::EnrollRunning { agent: agent.clone(), pid: *pid, whom };
    let response = ask(control, &request, PATIENCE)?;
    let Response::Taken { instance, processes, sockets_ended } = &response else {
        bail!("the daemon's answer is not about enrollment");
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table => println!(
            "{agent}.{instance}: {} processes enrolled, {sockets_ended} sockets ended",
            processes.len()
        ),
    }
    Ok(ExitCode::SUCCESS)
}
