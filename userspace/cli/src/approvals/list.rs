//! `vestibule approvals list`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use approval::control::{Ask, Told};
use approval::desk::Which;
use clap::Args as ClapArgs;
use comfy_table::Table;
use comfy_table::presets::NOTHING;

use super::{asked, row};
use crate::Output;

/// List the requests that wait, newest first.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Those that are over, too, as far as the daemon keeps them: about a day.
    #[arg(long)]
    all: bool,
    /// Those that are over, alone.
    #[arg(long, conflicts_with = "all")]
    over: bool,
    /// At most so many; up to 1,000.
    #[arg(long, value_name = "N", default_value_t = 100)]
    most: usize,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { all, over, most, output } = args;
    let which = match (all, over) {
        (true, _) => Which::All,
        (false, true) => Which::Over,
        (false, false) => Which::Waiting,
    };
    let told = asked(control, &Ask::List { which, most: *most })?;
    let Told::Requests { requests, total } = &told else {
        bail!("the daemon's answer is not a list");
    };
    match output {
        Output::Json => println!("{}", serde_json::to_string(&told)?),
        Output::Table if requests.is_empty() => println!("none"),
        Output::Table => {
            let mut table = Table::new();
            table.load_style(NOTHING);
            table.add_row(["REQUEST", "SINCE", "STATE", "WHO ASKS", "FOR"]);
            for standing in requests {
                table.add_row(row(standing));
            }
            println!("{table}");
            if requests.len() < *total {
                println!("… of {total}: see --most");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
