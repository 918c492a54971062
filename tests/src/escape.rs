//! Attempts to get past the door, one per way that is known, and what became of each.
//!
//! An attempt (`tests/escape`, Python) runs up to three times: not enrolled, as the same user and, if that has
//! no effect, as root; then enrolled. The first shows that the attempt works at all: one that can't succeed
//! without enrollment proves nothing, and its row says so. What counts is the effect outside: a sink got the
//! token, a watched file or process changed, a secret was read. What a call answered only tells a refusal from
//! an effect that stayed inside.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result};

mod actor;
pub mod attempts;
mod decoy;
mod outside;
pub mod report;
mod stage;
mod watch;

pub use attempts::{ATTEMPTS, Attempt};
pub use report::Row;

use stage::Stage;

/// What holds an agent (issue: assurance levels).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A user without privileges: cgroup hooks, seccomp, no capability.
    A1,
    /// Root with all capabilities: the BPF LSM programs as well.
    A2,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::A1 => "A1",
            Self::A2 => "A2",
        })
    }
}

impl FromStr for Level {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::A1, Self::A2];
        all.into_iter().find(|l| l.to_string() == text).with_context(|| format!("no level {text}"))
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A call of it failed, and nothing came of it.
    Refused,
    /// It came to the daemon instead of where it wanted to go.
    Proxied,
    /// Its calls succeeded, and nothing came of it outside.
    Contained,
    /// It had its effect.
    Allowed,
    /// Without enrollment it has no effect on this kernel either.
    Unproven,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Refused => "refused",
            Self::Proxied => "proxied",
            Self::Contained => "contained",
            Self::Allowed => "allowed",
            Self::Unproven => "unproven",
        })
    }
}

impl FromStr for Seen {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Refused, Self::Proxied, Self::Contained, Self::Allowed, Self::Unproven];
        all.into_iter()
            .find(|s| s.to_string() == text)
            .with_context(|| format!("no outcome {text}"))
    }
}

/// Makes the attempts whose names contain `filter`, or one of the texts between its commas, at the levels, one after
/// the other. This process must have
/// a network and a mount namespace of its own: what attempts do to routes, filters and `/etc` stays in there.
///
/// # Errors
/// If the stage can't be set; what an attempt does is a row.
pub fn run(levels: &[Level], filter: &str, mut told: impl FnMut(&Row)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for level in levels {
        let mut stage = Stage::set(*level).with_context(|| format!("the stage for {level}"))?;
        for attempt in ATTEMPTS.iter().filter(|a| matches(a.name, filter)) {
            let row = make(&mut stage, attempt, *level)?;
            told(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn matches(name: &str, filter: &str) -> bool {
    filter.split(',').any(|part| name.contains(part))
}

fn make(stage: &mut Stage, attempt: &'static Attempt, level: Level) -> Result<Row> {
    let mut note = String::new();
    let mut proven = false;
    for role in Attempt::controls(level) {
        let (happened, said) = stage.control(*role, attempt)?;
        note = said.got;
        proven = happened;
        if proven {
            break;
        }
    }
    let seen = if proven {
        let (seen, said) = stage.enrolled(attempt)?;
        note = said.got;
        seen
    } else {
        Seen::Unproven
    };
    let kernel = kernel();
    let (attempt, expected) = (attempt.name.to_owned(), attempt.expected(level, &kernel));
    Ok(Row { attempt, level, kernel, expected, seen, note })
}

/// Answers the running kernel's release.
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn ip(arguments: &str) -> Result<()> {
    crate::process::run(Command::new("ip").args(arguments.split(' ')), 10)?
        .ok()
        .with_context(|| format!("ip {arguments}"))?;
    Ok(())
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
