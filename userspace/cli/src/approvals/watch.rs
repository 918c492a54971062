//! `vestibule approvals watch`: what comes and goes, as it does.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use approval::control::{Ask, Told};
use approval::desk::{Standing, Which};
use clap::Args as ClapArgs;
use types::id::RequestId;

use super::{asked, row, state};
use crate::Output;

/// Show requests as they come, are answered and end, until Ctrl-C; a daemon that is started again is waited for.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// How to print it: a line each, or a JSON object a line.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Requests that are looked at after a change: more within one change are seen by `list`.
const SEEN_MOST: usize = 1_000;

/// How long a daemon that does not answer, or answers that nothing changed, is left alone.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let mut known = look(control)?;
    for standing in known.values().filter(|standing| standing.ended.is_none()) {
        say(standing, args.output)?;
    }
    let (mut seen, mut is_away) = (0, false);
    loop {
        let looked = watched(control, seen).and_then(|now| Ok((now, look(control)?)));
        let (now, found) = match looked {
            Ok(found) => found,
            Err(error) => {
                if !is_away {
                    eprintln!("vestibule: {error:#}; waiting for it");
                }
                (is_away, seen) = (true, 0);
                std::thread::sleep(PATIENCE);
                continue;
            }
        };
        if now == seen {
            std::thread::sleep(PATIENCE);
        }
        (seen, is_away) = (now, false);
        let mut changed: Vec<_> = found
            .values()
            .filter(|one| {
                known.get(&one.request.id).is_none_or(|before| state(before) != state(one))
            })
            .collect();
        changed.sort_by_key(|one| one.request.id);
        for standing in changed {
            say(standing, args.output)?;
        }
        known = found;
    }
}

fn watched(control: &Path, seen: u64) -> Result<u64> {
    match asked(control, &Ask::Watch { seen })? {
        Told::Changed { seen } => Ok(seen),
        _ => bail!("the daemon's answer is not about a change"),
    }
}

fn look(control: &Path) -> Result<HashMap<RequestId, Standing>> {
    match asked(control, &Ask::List { which: Which::All, most: SEEN_MOST })? {
        Told::Requests { requests, total: _ } => {
            Ok(requests.into_iter().map(|one| (one.request.id, one)).collect())
        }
        _ => bail!("the daemon's answer is not a list"),
    }
}

fn say(standing: &Standing, output: Output) -> Result<()> {
    match output {
        Output::Json => println!("{}", serde_json::to_string(standing)?),
        Output::Table => println!("{}", row(standing).join("  ")),
    }
    Ok(io::stdout().flush()?)
}
