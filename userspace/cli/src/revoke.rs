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

/// Cut an agent off, or a person with every agent that acts for that person.
///
/// An agent's connections, and those of agents below it, are refused from now on, and open ones end
/// (ECONNABORTED). Its processes run on. There is no way back but a new start.
///
/// A person's sessions end with the protocol's own error, and statements under way are cancelled. Tokens of that
/// person do not count until `--lift`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The agent's name.
    #[arg(long, value_name = "NAME", required_unless_present = "subject")]
    agent: Option<AgentName>,
    /// Which start of it, as `vestibule status` names it; all where absent.
    #[arg(long, value_name = "ID", requires = "agent")]
    instance: Option<String>,
    /// The person: the issuer's key or the name, as `vestibule who` shows them.
    #[arg(long, value_name = "SUBJECT", conflicts_with = "agent")]
    subject: Option<String>,
    /// The issuer that knows the person; any where absent.
    #[arg(long, value_name = "URL", requires = "subject")]
    issuer: Option<String>,
    /// Have the person's tokens count again.
    #[arg(long, requires = "subject", conflicts_with = "reason")]
    lift: bool,
    /// Why; it is recorded, and must not be empty.
    #[arg(long, value_name = "TEXT", required_unless_present = "lift")]
    reason: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Listing and ending 100,000 sockets takes some seconds.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { agent, instance, subject, issuer, lift, reason, output } = args;
    let reason = reason.as_deref().unwrap_or_default().trim().to_owned();
    ensure!(*lift || !reason.is_empty(), "a reason must be given");
    let request = match (agent, subject) {
        (Some(agent), _) => {
            Request::Revoke { agent: agent.clone(), instance: instance.clone(), reason }
        }
        (None, Some(subject)) => {
            let (subject, idp) = (subject.clone(), issuer.clone());
            Request::RevokeSubject { subject, idp, reason: (!lift).then_some(reason) }
        }
        (None, None) => bail!("an agent or a person"),
    };
    let response = ask(control, &request, PATIENCE)?;
    let Response::Revoked { agents, sockets_ended } = &response else {
        bail!("the daemon's answer is not about revocation");
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table if *lift => println!("restored"),
        Output::Table if agents.is_empty() => println!("revoked; no agent acts for that person"),
        Output::Table => println!("{} revoked, {sockets_ended} sockets ended", agents.join(", ")),
    }
    Ok(ExitCode::SUCCESS)
}
