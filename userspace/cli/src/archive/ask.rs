//! `vestibule archive ask`: what auditors ask, by name.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use archive::query;
use archive::questions::{self, Question};
use clap::Args as ClapArgs;

use super::{Rows, Where};

/// Ask one of the ready questions, through the `duckdb` executable; without a name, list them.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Where,
    /// How to print the rows.
    #[arg(long, value_enum, default_value = "table")]
    output: Rows,
    /// Print the SQL in the place of its answer.
    #[arg(long)]
    print: bool,
    /// The question.
    #[arg(value_name = "QUESTION")]
    name: Option<String>,
    /// What it must be told, as `object=public.customers`.
    #[arg(value_name = "ARGUMENT=VALUE", value_parser = pair)]
    told: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not like ARGUMENT=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { place, output, print, name, told } = args;
    let Some(name) = name else {
        if matches!(output, Rows::Json) {
            println!("{}", serde_json::to_string(&questions::all().collect::<Vec<_>>())?);
        } else {
            questions::all().for_each(|question| list(&question));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let told: BTreeMap<String, String> = told.iter().cloned().collect();
    let sql = questions::named(name)?.sql(&told)?;
    if *print {
        println!("{sql};");
        return Ok(ExitCode::SUCCESS);
    }
    let Where { archive, duckdb } = place;
    super::say_elsewhere(archive);
    let status = query::run(archive, duckdb.as_deref(), output.mode(), &sql)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(question: &Question) {
    let none = if question.expects_none { " (expects no rows)" } else { "" };
    println!("{}\n    {}{none}", question.name, question.title);
    for argument in &question.arguments {
        let default = argument.default.as_ref().map(|is| format!(" ({is})")).unwrap_or_default();
        println!("      {}=…  {}{default}", argument.name, argument.about);
    }
}
