//! Drives approvals of many hosts through two hubs on one database, and kills one of the hubs again and again.
//!
//! The hubs are real processes, votes come by their API, and each host is a real journal, a real book and the real link;
//! only the agents' commands are left out. It fails if a vote that was acknowledged is not at its host exactly once,
//! or if a request is lost.

mod host;
mod voter;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use integration::hub::{HubRules, certificates, database};
use integration::idp::CLIENT;
use integration::{Hub, Idp, Postgres};
use serde::Serialize;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior};

use host::SimulatedHost;
use voter::{Approvers, Cast};

/// Drive approvals through two hubs.
#[derive(Parser)]
struct Cli {
    /// For so many seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// A tenth of that.
    #[arg(long)]
    quick: bool,
    /// Requests, each with a vote, in a second.
    #[arg(long, default_value_t = 120)]
    rate: u32,
    /// Hosts.
    #[arg(long, default_value_t = 8)]
    hosts: usize,
    /// Seconds between two kills; the hub is back before.
    #[arg(long, default_value_t = 4)]
    kill_every: u64,
    /// Vote by the desk's own code in this process, in the place of the hubs' API.
    #[arg(long)]
    by_desk: bool,
    /// Write the result as JSON here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Told {
    hosts: usize,
    seconds: f64,
    kills: u64,
    requests: usize,
    votes_acknowledged: usize,
    votes_per_second: f64,
    /// Acknowledged before the host had said anything.
    kept: usize,
    /// Acknowledged as having been there already: the first answer was lost with a hub.
    already: usize,
    /// Asked again, or of the other hub.
    retries: u64,
    acknowledged_p50_ms: f64,
    acknowledged_p99_ms: f64,
    acknowledged_max_ms: f64,
    votes_lost: usize,
    votes_twice: usize,
    requests_lost: usize,
}

/// The audience of people's tokens for the API.
const AUDIENCE: &str = "https://bank.example/approvals";

fn main() -> ExitCode {
    let Err(error) = run(&Cli::parse()) else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run(cli: &Cli) -> Result<()> {
    let seconds = if cli.quick { cli.seconds.div_ceil(10) } else { cli.seconds };
    let names: Vec<String> = (1..=cli.hosts).map(|host| format!("host-{host}.bench")).collect();
    let (files, server, provider) = (certificates(&names)?, Postgres::start()?, Idp::start()?);
    let store = database(&server)?;
    let console = if cli.by_desk { String::new() } else { console(&provider) };
    let certificates = &files;
    let start = |name: &str| {
        let rules = HubRules {
            name,
            certificates,
            hosts: &names,
            revoked: "",
            store: &store,
            more: &console,
        };
        Hub::start(&rules)
    };
    let (steady, other) = (start("hub-1")?, start("hub-2")?);
    let mut approvers = Approvers::new(&provider, AUDIENCE, [&steady, &other])?;
    let (urls, kept) = ([steady.url(), other.url()], Arc::new(Mutex::new(other)));
    let (stop, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let killer = {
        let (kept, stop, kills) = (Arc::clone(&kept), Arc::clone(&stop), Arc::clone(&kills));
        let every = Duration::from_secs(cli.kill_every.max(1));
        std::thread::spawn(move || kill(&kept, every, &stop, &kills))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let approvers = Rc::new(local.block_on(&runtime, async {
        if cli.by_desk {
            approvers.by_desk(&server).await?;
        }
        anyhow::Ok(approvers)
    })?);
    let mut told = local.block_on(&runtime, async {
        let hosts = names.iter().map(|name| SimulatedHost::start(name, &files, &urls));
        let hosts: Vec<SimulatedHost> = hosts.collect::<Result<_>>()?;
        while !hosts.iter().all(SimulatedHost::is_connected) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (casts, took) =
            drive(&hosts, &approvers, cli.rate, Duration::from_secs(seconds)).await?;
        stop.store(true, Ordering::SeqCst);
        settle(&hosts, &casts).await?;
        judge(&hosts, &casts, took)
    })?;
    stop.store(true, Ordering::SeqCst);
    killer.join().map_err(|_| anyhow::anyhow!("the killer panicked"))??;
    told.kills = kills.load(Ordering::SeqCst);
    told.retries = approvers.retries();
    say(cli, &told)?;
    let unsettled =
        server.sql_in("hub", "select count(*) from vestibule_hub.votes where outcome is null")?;
    ensure!(unsettled.trim() == "0", "{unsettled} votes are without an outcome at the hubs");
    let texts = server.sql_in("hub", "select count(*) from vestibule_hub.texts")?;
    ensure!(texts.trim() == "0", "{texts} texts are left");
    ensure!(told.votes_lost + told.votes_twice + told.requests_lost == 0, "something is lost");
    ensure!(told.kills > 0, "no hub was killed");
    Ok(())
}

/// What a hub is told of its console.
fn console(provider: &Idp) -> String {
    let issuer = provider.issuer();
    format!(
        "[console]\nlisten = \"CONSOLE\"\nexternal_url = \"http://CONSOLE\"\nissuer = \"{issuer}\"\n\
         groups = [\"dba\"]\napi_audience = \"{AUDIENCE}\"\n\
         [[issuer]]\nurl = \"{issuer}\"\naudiences = [\"{AUDIENCE}\", \"{CLIENT}\"]\n\
         client = {{ id = \"{CLIENT}\", secret_env = \"HUB_CLIENT_SECRET\" }}\n"
    )
}

/// Kills a hub and starts it again, until it is told to stop.
fn kill(hub: &Mutex<Hub>, every: Duration, stop: &AtomicBool, kills: &AtomicU64) -> Result<()> {
    let mut waited = Duration::ZERO;
    loop {
        let step = Duration::from_millis(50);
        std::thread::sleep(step);
        if stop.load(Ordering::SeqCst) {
            return Ok(());
        }
        waited += step;
        if waited >= every {
            waited = Duration::ZERO;
            let mut hub = hub.lock().unwrap_or_else(PoisonError::into_inner);
            hub.kill();
            kills.fetch_add(1, Ordering::SeqCst);
            // Long enough for hosts and people to find out.
            std::thread::sleep(Duration::from_millis(500));
            hub.restart()?;
        }
    }
}

/// Asks at hosts in turn, `rate` times a second, and has each request voted on.
async fn drive(
    hosts: &[SimulatedHost],
    approvers: &Rc<Approvers>,
    rate: u32,
    time: Duration,
) -> Result<(Vec<Cast>, Duration)> {
    let mut interval = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (begun, mut voting) = (Instant::now(), Vec::new());
    let mut number: usize = 0;
    while begun.elapsed() < time {
        interval.tick().await;
        let host =
            number.checked_rem(hosts.len()).and_then(|at| hosts.get(at)).context("no host")?;
        let request = host.ask(number)?;
        let approvers = Rc::clone(approvers);
        let vote = async move { approvers.vote(number, request).await };
        voting.push(tokio::task::spawn_local(vote));
        number += 1;
    }
    let mut casts = Vec::with_capacity(voting.len());
    for vote in voting {
        casts.push(vote.await??);
    }
    Ok((casts, begun.elapsed()))
}

/// Waits until hosts have what was acknowledged, or a minute.
async fn settle(hosts: &[SimulatedHost], casts: &[Cast]) -> Result<()> {
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        let waiting: usize = hosts.iter().map(SimulatedHost::waiting).sum();
        let backlog: usize = hosts.iter().map(SimulatedHost::backlog).sum();
        if (waiting == 0 && backlog == 0) || Instant::now() >= until {
            // The last outcomes are on their way.
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Ok(());
        }
        ensure!(!casts.is_empty(), "nobody voted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Holds what was acknowledged against the hosts' journals.
fn judge(hosts: &[SimulatedHost], casts: &[Cast], took: Duration) -> Result<Told> {
    let mut told = Told { hosts: hosts.len(), seconds: took.as_secs_f64(), ..Told::default() };
    let mut journals = std::collections::HashMap::new();
    for host in hosts {
        journals.extend(host.journal()?);
    }
    let mut times = Vec::with_capacity(casts.len());
    for Cast { request, voted, ms } in casts {
        times.push(*ms);
        told.kept += usize::from(voted == "kept");
        told.already += usize::from(voted == "already");
        let Some(seen) = journals.get(request) else {
            told.requests_lost += 1;
            continue;
        };
        told.votes_lost += usize::from(seen.votes == 0 || seen.grants != 1);
        told.votes_twice += usize::from(seen.votes > 1);
    }
    told.requests = journals.len();
    told.requests_lost += journals.len().saturating_sub(casts.len());
    told.votes_acknowledged = casts.len();
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    {
        told.votes_per_second = casts.len() as f64 / told.seconds;
    }
    times.sort_by(f64::total_cmp);
    let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100).copied();
    told.acknowledged_p50_ms = at(50).context("no votes")?;
    told.acknowledged_p99_ms = at(99).context("no votes")?;
    told.acknowledged_max_ms = at(100).context("no votes")?;
    Ok(told)
}

fn say(cli: &Cli, told: &Told) -> Result<()> {
    let text = serde_json::to_string_pretty(told)?;
    if let Some(path) = &cli.json {
        std::fs::write(path, text.clone() + "\n").with_context(|| path.display().to_string())?;
    }
    writeln!(std::io::stdout().lock(), "{text}").context("standard output")
}
