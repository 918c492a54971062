//! `vestibule sessions`: what is open.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use types::control::{OpenSession, Request, Response};
use types::id::AgentName;

use crate::Output;
use crate::control::ask;

/// Show the open sessions: who acts, for whom, at which target, how many commands so far.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Of this agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<AgentName>,
    /// Of this person: the issuer's key or the name, as `vestibule who` shows them.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// At most so many; up to 10,000.
    #[arg(long, value_name = "N", default_value_t = 100)]
    most: usize,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { agent, subject, most, output } = args;
    let (agent, subject) = (agent.clone(), subject.clone());
    let request = Request::Sessions { agent, subject, most: *most };
    let response = ask(control, &request, Duration::from_secs(10))?;
    let Response::Sessions { sessions, total } = &response else {
        bail!("the daemon's answer is not about sessions");
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table if sessions.is_empty() => println!("none is open"),
        Output::Table => {
            println!(
                "{:<36} {:<24} {:<24} {:>8}  CHAIN",
                "SESSION", "ACTS FOR", "TARGET", "COMMANDS"
            );
            for one in sessions {
                let OpenSession { session, user, commands, chain, .. } = one;
                let user = user.as_deref().unwrap_or("-");
                let (place, chain) = (place(one), chain.join(" > "));
                println!("{session:<36} {user:<24} {place:<24} {commands:>8}  {chain}");
            }
            if sessions.len() < *total {
                println!("… of {total}: see --most, --agent, --subject");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `account@target/database`, as far as known.
fn place(session: &OpenSession) -> String {
    let OpenSession { target, database, account, .. } = session;
    let account = account.as_deref().map_or_else(String::new, |account| format!("{account}@"));
    let database = database.as_deref().map_or_else(String::new, |name| format!("/{name}"));
    format!("{account}{target}{database}")
}
