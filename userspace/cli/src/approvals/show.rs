//! `vestibule approvals show`: all that an approver decides on.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use approval::control::{Ask, Told};
use approval::desk::Standing;
use approval::shown::{shown, shown_sha256};
use approval::vote::{Answer, Vote};
use clap::Args as ClapArgs;
use types::clock::utc;
use types::id::RequestId;

use super::{asked, line, state};
use crate::Output;

/// Show one request: who asks, acting for whom, for what, by which policy; who answered; past ones like it. The text
/// is what an approval commits to; characters other than printable ASCII stand by their numbers, as <U+202E>.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Which, as `list` has it.
    #[arg(value_name = "REQUEST")]
    id: RequestId,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { id, output } = args;
    match output {
        Output::Json => {
            println!("{}", serde_json::to_string(&asked(control, &Ask::Show { id: *id })?)?);
        }
        Output::Table => {
            let (standing, alike) = fetched(control, *id)?;
            print(&standing, &alike);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A request, and past ones like it.
pub(super) fn fetched(control: &Path, id: RequestId) -> Result<(Standing, Vec<Standing>)> {
    match asked(control, &Ask::Show { id })? {
        Told::Shown { standing, alike } => Ok((*standing, alike)),
        _ => bail!("the daemon's answer is not a request"),
    }
}

/// Prints what an approval commits to, between rules, and what else helps.
pub(super) fn print(standing: &Standing, alike: &[Standing]) {
    let Standing { request, votes, grant, ended } = standing;
    println!("{RULE}\n{}\n{RULE}", shown(request));
    if ended.is_none() {
        println!("shown: {}", shown_sha256(request));
    } else {
        println!("without literals: {}", line(&request.normalized));
    }
    println!(
        "state: {}; asked {}, until {}",
        state(standing),
        utc(request.at_us),
        utc(request.expires_us)
    );
    if let Some(rows) = request.rows_estimated {
        println!("rows by the server's estimate: {rows}");
    }
    for Vote { approver, answer, reason, at_us, way, .. } in votes {
        let answer = match answer {
            Answer::Approve => "approved",
            Answer::Deny => "refused",
            Answer::BreakGlass => "broke the glass",
        };
        let reason = if reason.is_empty() { String::new() } else { format!(": {}", line(reason)) };
        println!(
            "{answer} by {} ({}) {} by {way}{reason}",
            line(&approver.user),
            line(&approver.key()),
            utc(*at_us)
        );
    }
    if let Some(grant) = grant {
        println!(
            "grant: {} until {}, used {} times",
            grant.covers,
            utc(grant.expires_us),
            grant.spent
        );
    }
    if let Some(reason) = ended.as_ref().and_then(|over| over.reason.as_ref()) {
        println!("the reason given: {}", line(reason));
    }
    for past in alike {
        println!("before: {} {} {}", utc(past.request.at_us), past.request.id, state(past));
    }
}

/// What no line of a request is: those begin with a name and a colon, and a statement ends before one.
const RULE: &str = "----------------------------------------------------------------";
