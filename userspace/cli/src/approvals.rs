//! `vestibule approvals`: what waits for people, and their answers.

mod deliveries;
mod list;
mod show;
mod vote;
mod watch;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use approval::control::{Ask, Told};
use approval::desk::Standing;
use approval::shown::plain;
use approval::vote::Answer;
use clap::Subcommand;
use types::clock::utc;
use types::control::{Request, Response};

use crate::control::ask;

/// Commands that policy holds until people approve them (`@approve`): see what waits, and answer.
///
/// You answer as the person who is logged in here (`vestibule login`), or whose token a file holds (`--token-file`), and
/// never to what you asked for, answer for or act in. What you are shown is what you approve: its digest goes with your
/// answer.
#[derive(Debug, Subcommand)]
pub(crate) enum Args {
    List(list::Args),
    Watch(watch::Args),
    Show(show::Args),
    /// Let a command go on, together with as many others as policy asks for.
    Approve(vote::Args),
    /// Refuse a command, whoever else answers; the agent is told the reason.
    Deny(vote::Args),
    /// Let a command through alone, at once, in an emergency. Policy grants this to its own groups; it is alerted,
    /// and marked in the archive.
    BreakGlass(vote::Args),
    Deliveries(deliveries::Args),
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    match args {
        Args::List(args) => list::run(control, args),
        Args::Watch(args) => watch::run(control, args),
        Args::Show(args) => show::run(control, args),
        Args::Approve(args) => vote::run(control, args, Answer::Approve),
        Args::Deny(args) => vote::run(control, args, Answer::Deny),
        Args::BreakGlass(args) => vote::run(control, args, Answer::BreakGlass),
        Args::Deliveries(args) => deliveries::run(control, args),
    }
}

/// How long the daemon may take; a vote waits for the disk, a token's issuer may take ten seconds.
const PATIENCE: Duration = Duration::from_secs(30);

fn asked(control: &Path, what: &Ask) -> Result<Told> {
    let request = Request::Approvals { ask: serde_json::to_value(what)? };
    let Response::Approvals { told } = ask(control, &request, PATIENCE)? else {
        bail!("the daemon's answer is not about approvals");
    };
    serde_json::from_value(told).context("the daemon's answer is not understood")
}

/// How a request stands, in a word or two.
fn state(standing: &Standing) -> String {
    let Standing { request, votes, grant, ended } = standing;
    match (grant, ended) {
        (Some(grant), _) if grant.broken_glass => "glass broken".to_owned(),
        (Some(_), _) => "granted".to_owned(),
        (None, Some(over)) => over.how.as_str().replace('_', " "),
        (None, None) => {
            let people = request.terms.iter().map(|wants| wants.people).max().unwrap_or(1);
            format!("waits, {} of {people}", votes.len())
        }
    }
}

/// One line on a request: when, which, how it stands, who asks where for what.
fn row(standing: &Standing) -> [String; 5] {
    let request = &standing.request;
    let agent = match &request.requester.user {
        Some(user) => format!("{} for {user}", request.requester.agent),
        None => request.requester.agent.clone(),
    };
    let does = request.accesses.join(", ");
    let does = if does.is_empty() { &request.verb } else { &does };
    [
        request.id.to_string(),
        utc(request.at_us),
        state(standing),
        line(&format!("{agent} at {}", request.target.name)),
        line(does),
    ]
}

/// A text in one line, without what a terminal would take for an order or an eye for something else.
fn line(text: &str) -> String {
    plain(text).replace(['\n', '\t'], " ")
}
