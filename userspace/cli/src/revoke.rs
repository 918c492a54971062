//! `vestibule revoke`: cut an agent off.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args as ClapArgs;
use types::control::{Request, Response};
use types::id::AgentName;

use crate::Output;
use crate::control::ask;

/// Cut an agent off: its connections, and those of agents below it, are refused from now on, and
/// open ones end (ECONNABORTED). Its processes run on. There is no way back but a new start.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The agent's name.
    #[arg(long, value_name = "NAME")]
    agent: AgentName,
    /// Which start of it, as `vestibule status` names it; all where absent.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Why; it is recorded, and must not be empty.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Listing and ending 100,000 sockets takes some seconds.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { agent, instance, reason, output } = args;
    let reason = reason.trim().to_owned();
    ensure!(!reason.is_empty(), "a reason must be given");
    let request = Request::Revoke { agent: agent.clone(), instance: instance.clone(), reason };
    let response = ask(control, &request, PATIENCE)?;
    let Response::Revoked { agents, sockets_ended } = &response else {
        bail!("the daemon's answer is not about revocation");
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table => println!("{} revoked, {sockets_ended} sockets ended", agents.join(", ")),
    }
    Ok(ExitCode::SUCCESS)
}
