//! `vestibule approvals approve|deny|break-glass`: one person's answer to what that person was shown.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use approval::control::{Ask, Told};
use approval::shown::shown_sha256;
use approval::vote::{Answer, Voted};
use clap::Args as ClapArgs;
use types::id::RequestId;

use super::show::{fetched, print};
use super::{asked, state};
use crate::Output;
use crate::whom::sudo_uid;

/// An answer.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Which request, as `list` has it.
    #[arg(value_name = "REQUEST")]
    id: RequestId,
    /// Why: kept with the answer, and told the agent. Needed but for an approval; at most 1,000 bytes.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The file with your token (OpenID Connect, a JWT), in the place of a login on this host.
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
    /// The digest of what you were shown, as `show` prints it: it is not asked again whether you mean it, and if something
    /// else waits your answer does not count.
    #[arg(long, value_name = "SHA256")]
    shown: Option<String>,
    /// Answer what is shown now without being asked again.
    #[arg(long, conflicts_with = "shown")]
    yes: bool,
    /// How to print what became of it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn run(control: &Path, args: &Args, answer: Answer) -> Result<ExitCode> {
    let Args { id, reason, token_file, shown, yes, output } = args;
    if answer != Answer::Approve && reason.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
        bail!("--reason: why? It is kept with the answer, and the agent is told");
    }
    let shown_sha256 = match shown {
        Some(digest) => digest.trim().to_lowercase(),
        None => see(control, *id, answer, *yes, *output)?,
    };
    let vote = Ask::Vote {
        id: *id,
        answer,
        reason: reason.clone().unwrap_or_default(),
        shown_sha256,
        sudo_uid: sudo_uid()?,
        token_file: token_file.as_deref().map(std::path::absolute).transpose()?,
    };
    let told = asked(control, &vote)?;
    if *output == Output::Json {
        println!("{}", serde_json::to_string(&told)?);
    }
    match &told {
        Told::Voted { voted, approver, standing } => {
            if *output == Output::Table {
                println!("{}: {} ({})", approver, word(*voted), state(standing));
            }
            Ok(ExitCode::SUCCESS)
        }
        Told::NotCounted { reason, .. } => {
            eprintln!("vestibule: your answer does not count: {reason}");
            Ok(ExitCode::FAILURE)
        }
        _ => bail!("the daemon's answer is not about a vote"),
    }
}

/// Shows what waits, has it confirmed, and answers its digest.
fn see(control: &Path, id: RequestId, answer: Answer, yes: bool, output: Output) -> Result<String> {
    let (standing, alike) = fetched(control, id)?;
    if let Some(over) = &standing.ended {
        bail!("the request is over: {}", over.how.as_str());
    }
    if output == Output::Table {
        print(&standing, &alike);
    }
    // Of what was printed, by the same code; the daemon compares it with its own.
    let digest = shown_sha256(&standing.request);
    if yes {
        return Ok(digest);
    }
    if !io::stdin().is_terminal() || output != Output::Table {
        bail!("nobody is there to confirm it: --shown SHA256 as `show` printed it, or --yes");
    }
    let wanted = match answer {
        Answer::Approve => "approve",
        Answer::Deny => "deny",
        Answer::BreakGlass => "break the glass",
    };
    print!("Type `{wanted}` to answer so: ");
    io::stdout().flush()?;
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed).context("the terminal can't be read")?;
    if typed.trim() != wanted {
        bail!("not answered");
    }
    Ok(digest)
}

fn word(voted: Voted) -> &'static str {
    match voted {
        Voted::Already => "you said so before",
        Voted::Counted => "counted; more people are needed",
        Voted::Granted => "granted: the command goes on",
        Voted::Refused => "refused: the agent is told",
        Voted::Kept => "kept: the host takes it once it can be reached",
    }
}
