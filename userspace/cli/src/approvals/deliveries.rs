//! `vestibule approvals deliveries`: what webhooks were told, and what they are still to be told.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use approval::control::{Ask, Delivery, HookStanding, Told};
use clap::Args as ClapArgs;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use types::clock::utc;

use super::{asked, line};
use crate::Output;

/// Show how webhooks stand: messages that are due, and what was delivered or given up last.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// At most so many that are due, and as many that are done.
    #[arg(long, value_name = "N", default_value_t = 50)]
    most: usize,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let told = asked(control, &Ask::Deliveries { most: args.most })?;
    let Told::Deliveries { hooks, deliveries } = &told else {
        bail!("the daemon's answer is not about webhooks");
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&told)?),
        Output::Table if hooks.is_empty() => println!("there is no [[webhook]]"),
        Output::Table => {
            println!("{}", of_hooks(hooks));
            if !deliveries.is_empty() {
                println!("\n{}", of_deliveries(deliveries));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn of_hooks(hooks: &[HookStanding]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.add_row(["WEBHOOK", "DUE", "SINCE", "DELIVERED", "GIVEN UP", "LAST ERROR", "EVENTS"]);
    for HookStanding { hook, events, due, oldest_us, delivered, given_up, error } in hooks {
        let since = oldest_us.map_or_else(|| "-".to_owned(), utc);
        let error = error.as_deref().unwrap_or("-");
        let numbers = [due.to_string(), since, delivered.to_string(), given_up.to_string()];
        let [due, since, delivered, given_up] = numbers;
        table.add_row([hook, &due, &since, &delivered, &given_up, error, &events.join(", ")]);
    }
    table
}

fn of_deliveries(deliveries: &[Delivery]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.add_row(["WEBHOOK", "MESSAGE", "STATE", "ATTEMPTS", "WHEN", "LAST ERROR"]);
    for Delivery { hook, message, state, attempts, at_us, error } in deliveries {
        let (attempts, when) = (attempts.to_string(), utc(*at_us));
        let error = line(error.as_deref().unwrap_or("-"));
        table.add_row([hook, message, state, &attempts, &when, &error]);
    }
    table
}
