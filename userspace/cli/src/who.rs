//! `vestibule who`: whom agents act for.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use types::control::{ActingAgent, Request, Response, StandingLogin};

use crate::Output;
use crate::control::ask;

/// Show whom each agent acts for: the person, who vouches for the person, who acts between them, how many sessions
/// are open, and why an agent acts for nobody any more; and who is logged in on this host.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let response = ask(control, &Request::Who, Duration::from_secs(10))?;
    let Response::Who { agents, logins } = &response else {
        bail!("the daemon's answer is not about agents");
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table if agents.is_empty() => println!("no agent is enrolled"),
        Output::Table => {
            println!("{:<40} {:<32} {:>8}  CHAIN", "AGENT", "ACTS FOR", "SESSIONS");
            for agent in agents {
                let name = format!("{}.{}", agent.agent, agent.instance);
                let chain = agent.chain.join(" > ");
                println!("{name:<40} {:<32} {:>8}  {chain}", whom(agent), agent.sessions);
            }
        }
    }
    if args.output == Output::Table && !logins.is_empty() {
        println!("\n{:<20} {:<32} {:>8}  ISSUER", "LOGGED IN", "AS", "AGENTS");
        for StandingLogin { person, user, idp, agents, .. } in logins {
            println!("{person:<20} {user:<32} {:>8}  {idp}", agents.len());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn whom(agent: &ActingAgent) -> String {
    match agent {
        ActingAgent { ended: Some(why), .. } => format!("nobody any more ({why})"),
        ActingAgent { user: Some(user), .. } => user.clone(),
        ActingAgent { owner: Some(owner), .. } => format!("- (owner {owner})"),
        _ => "-".to_owned(),
    }
}
