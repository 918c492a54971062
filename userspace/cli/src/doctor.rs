//! `vestibule doctor`: what this host can do, found out by trying.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use types::control::{Check, Request, Response, Verdict};

use crate::Output;
use crate::control::{ask, program};

/// Check this host: kernel features (by loading programs, not by reading configuration), cgroups,
/// the daemon, its journal and disk. Exit status 1 if anything fails.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// The daemon's executable, asked where no daemon runs.
    #[arg(long, value_name = "FILE", default_value = "vestibuled")]
    daemon: PathBuf,
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let checks = match ask(control, &Request::Doctor, Duration::from_secs(30)) {
        Ok(Response::Doctor { checks }) => checks,
        Ok(_) => bail!("the daemon's answer is not about its checks"),
        Err(unreachable) => {
            let mut checks = probe(&args.daemon)?;
            checks.insert(
                0,
                Check {
                    name: "daemon".into(),
                    verdict: Verdict::Warn,
                    detail: format!("{unreachable:#}"),
                },
            );
            checks
        }
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&checks)?),
        Output::Table => println!("{}", table(&checks)),
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The kernel checks of the daemon's executable, run by itself.
fn probe(daemon: &Path) -> Result<Vec<Check>> {
    let daemon = program(daemon);
    let output = Command::new(&daemon)
        .arg("--probe")
        .output()
        .with_context(|| format!("{} can't be run; name it with --daemon", daemon.display()))?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("{} --probe: {}", daemon.display(), String::from_utf8_lossy(&output.stderr))
    })
}

fn table(checks: &[Check]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    for Check { name, verdict, detail } in checks {
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        table.add_row([word, name, detail]);
    }
    table
}
