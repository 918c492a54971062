//! Measures what the kernel programs cost: runs and nanoseconds of each per connection, packet,
//! datagram, process and TLS call; the rate of connects with and without them; and that they do not
//! run for processes outside of the agents' slice.
//!
//! Clients are processes of their own, put into the agent's cgroup or left outside. The kernel
//! counts only while costs are measured, not while rates are.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

mod bed;
mod client;
mod cost;
mod report;

use bed::{Bed, Who};
use client::{Answer, Load};
use cost::CostRow;
use report::{RateRow, Report};

/// Measure the kernel programs.
#[derive(Parser)]
struct Cli {
    /// A tenth of everything.
    #[arg(long)]
    quick: bool,
    /// Write the rows as JSON here.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a child of this does.
#[derive(Subcommand)]
enum Role {
    /// Load, and an answer in JSON.
    Client {
        load: Load,
        /// The server's port on 127.0.0.1.
        port: u16,
        count: u32,
    },
    /// A server that echoes, on this port of 127.0.0.1.
    Server { port: u16 },
}

fn main() -> ExitCode {
    let Cli { quick, json, role } = Cli::parse();
    let done = match role {
        Some(Role::Client { load, port, count }) => client::run(load, port, count),
        Some(Role::Server { port }) => client::serve(port),
        None => measure(if quick { 10 } else { 1 })
            .and_then(|report| report::publish(&report, json.as_deref())),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Rounds of what is compared.
const ROUNDS: usize = 9;

/// What is done so often that one more does not matter, divided by `divisor`.
fn measure(divisor: u32) -> Result<Report> {
    let mut bed = Bed::new()?;
    let mut costs = Vec::new();
    for (load, count) in [
        (Load::Connect, 5000),
        (Load::Echo, 50_000),
        (Load::Datagram, 5000),
        (Load::Refused, 5000),
        (Load::Process, 500),
        (Load::Tls, 20_000),
    ] {
        eprintln!("costs: {}", load.name());
        bed.tap(load == Load::Tls)?;
        costs.extend(cost::of(&mut bed, load, count / divisor)?);
    }
    let outside = outsiders(&costs)?;
    let mut rates = connects(&mut bed, 2000 / divisor)?;
    rates.extend(tls(&mut bed, 20_000 / divisor)?);
    Ok(Report { costs, outside, rates })
}

/// Runs of programs that concern agents alone, while only outsiders did anything: none.
fn outsiders(costs: &[CostRow]) -> Result<u64> {
    let strays = |row: &&CostRow| row.who == Who::Outsider && !row.is_global && row.runs > 0;
    let strays: Vec<&CostRow> = costs.iter().filter(strays).collect();
    ensure!(strays.is_empty(), "programs ran for outsiders: {strays:?}");
    let connects = |row: &&CostRow| row.who == Who::Outsider && row.load == Load::Connect;
    Ok(costs.iter().find(connects).context("outsiders connected")?.count)
}

/// Connects with and without the programs, interleaved: each round begins with the other.
fn connects(bed: &mut Bed, count: u32) -> Result<Vec<RateRow>> {
    let mut answers: [Vec<Answer>; 2] = Default::default();
    for round in 0..ROUNDS {
        eprintln!("connects: round {} of {ROUNDS}", round + 1);
        for step in 0..2 {
            let (index, who) =
                if (round + step) % 2 == 0 { (0, Who::Outsider) } else { (1, Who::Agent) };
            let answer = bed.run(who, Load::Connect, count)?;
            answers.get_mut(index).context("two of them")?.push(answer);
        }
    }
    let [outside, inside] = answers;
    Ok(vec![
        RateRow::new("connect, direct", &outside)?,
        RateRow::new("connect, enrolled", &inside)?,
    ])
}

/// A write and a read of libssl, without taps and with them.
fn tls(bed: &mut Bed, count: u32) -> Result<Vec<RateRow>> {
    let ways = [
        ("TLS write and read, no taps", Who::Outsider, false),
        ("TLS write and read, tapped, not an agent", Who::Outsider, true),
        ("TLS write and read, tapped, an agent", Who::Agent, true),
    ];
    let mut answers = vec![Vec::new(); ways.len()];
    for round in 0..ROUNDS {
        eprintln!("TLS: round {} of {ROUNDS}", round + 1);
        for step in 0..ways.len() {
            let index = (round + step) % ways.len();
            let (_, who, on) = ways.get(index).context("a way")?;
            bed.tap(*on)?;
            let answer = bed.run(*who, Load::Tls, count)?;
            answers.get_mut(index).context("a way")?.push(answer);
        }
    }
    ways.into_iter().zip(answers).map(|((way, ..), rounds)| RateRow::new(way, &rounds)).collect()
}
