//! `vestibule logout`: what `vestibule login` began ends.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use types::control::{Request, Response};

use crate::Output;
use crate::control::ask;
use crate::whom::sudo_uid;

/// End your login on this host, and the sessions of every agent that you started under it; the issuer is told to renew it
/// no more. The browser's own session at the issuer stays.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let request = Request::Logout { sudo_uid: sudo_uid()? };
    let response = ask(control, &request, Duration::from_secs(20))?;
    let Response::LoggedOut { login, agents, not_revoked } = &response else {
        bail!("the daemon's answer is not about a login");
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table => {
            println!("{} is logged out; {} agents ended", login.user, agents.len());
            for agent in agents {
                println!("  {agent}");
            }
        }
    }
    if let Some(why) = not_revoked {
        eprintln!("vestibule: {} could not be told: {why}", login.idp);
    }
    Ok(ExitCode::SUCCESS)
}
