//! `vestibuled`: the daemon. One per host.

mod agents;
mod app;
mod approvals;
mod archiver;
mod asker;
mod blinding;
mod bundle;
mod compactor;
mod config;
mod console;
mod control;
mod credential;
mod desk;
mod disarm;
mod durable;
mod enroller;
mod environment;
mod execs;
mod forwarding;
mod guard;
mod hub;
mod inside;
mod journal_prune;
mod journal_seal;
mod keeper;
mod kernel;
mod link;
mod names;
mod namespaces;
mod profile;
mod recordings;
mod retention;
mod rules;
mod secret;
mod shipping;
mod signing;
mod sources;
mod stamps;
mod store;
mod tap;
mod telemetry;
mod tls;
mod watch;
mod witnesses;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::app::Ended;
use crate::config::Config;
use crate::hub::HubConfig;

/// The daemon behind the double door: it takes over the sockets of enrolled agents, decides what
/// they ask for, and records it before it takes effect.
#[derive(Debug, Parser)]
#[command(name = "vestibuled", version)]
struct Cli {
    /// The configuration file [default: /etc/vestibule/vestibule.toml, of a hub /etc/vestibule/hub.toml].
    #[arg(long, env = "VESTIBULE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Be the hub where people answer what waits for approval on several hosts; it has a configuration of its own,
    /// needs no root, and touches nothing of this host.
    #[arg(long, conflicts_with_all = ["probe", "disarm"])]
    hub: bool,
    /// Check the configuration and the policies, and end.
    #[arg(long, conflicts_with_all = ["probe", "disarm", "config_schema"])]
    check: bool,
    /// Print what this host's kernel can do, as JSON, found by loading programs; and end.
    #[arg(long, conflicts_with_all = ["disarm", "config_schema"])]
    probe: bool,
    /// Let enrolled agents go free: remove the pinned hooks, and end. Recorded with the reason; no
    /// daemon may be running. `vestibule disarm` is for people.
    #[arg(long, value_name = "REASON", conflicts_with = "config_schema")]
    disarm: Option<String>,
    /// Start though the journal was damaged or rolled back: what is bad is set aside beside it, and that is recorded.
    /// Look into the damage first; a start without this says what and where it is.
    #[arg(long, conflicts_with_all = ["hub", "check", "probe", "config_schema"])]
    accept_loss: bool,
    /// Print the configuration's JSON Schema, and end.
    #[arg(long)]
    config_schema: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start();
    match run(&cli) {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::Severed) => ExitCode::FAILURE,
        Ok(Ended::Disarmed) => ExitCode::from(disarm::EXIT_STATUS),
        Err(error) => {
            eprintln!("vestibuled: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "--check, --probe and --config-schema answer on the terminal"
)]
fn run(cli: &Cli) -> Result<Ended> {
    let Cli { config: path, hub: is_hub, check, probe, disarm: reason, accept_loss, config_schema } =
        cli;
    if *is_hub {
        return run_hub(cli).map(|()| Ended::Stopped);
    }
    if *config_schema {
        let schema = schemars::schema_for!(Config);
        println!("{}", serde_json::to_string_pretty(&schema)?);
        return Ok(Ended::Stopped);
    }
    if *probe {
        println!("{}", serde_json::to_string(&redirect::probe())?);
        return Ok(Ended::Stopped);
    }
    let path = path.as_deref().unwrap_or(Path::new("/etc/vestibule/vestibule.toml"));
    let mut config = Config::load(path)?;
    config.accept_loss = *accept_loss;
    if *check {
        let source = sources::policies(&config.policy_dir)?;
        policy::PolicySet::compile(&source)
            .with_context(|| format!("{}", config.policy_dir.display()))?;
        println!("{}: ok", path.display());
        return Ok(Ended::Stopped);
    }
    match reason {
        Some(reason) => disarm::offline(&config, reason).map(|()| Ended::Stopped),
        None => app::run(&config, &environment::take(&credential::variables(&config)?)?),
    }
}

#[expect(clippy::print_stdout, reason = "--check and --config-schema answer on the terminal")]
fn run_hub(cli: &Cli) -> Result<()> {
    if cli.config_schema {
        let schema = schemars::schema_for!(HubConfig);
        println!("{}", serde_json::to_string_pretty(&schema)?);
        return Ok(());
    }
    let path = cli.config.as_deref().unwrap_or(Path::new("/etc/vestibule/hub.toml"));
    let config = HubConfig::load(path)?;
    if cli.check {
        config.check()?;
        println!("{}: ok", path.display());
        return Ok(());
    }
    hub::run(&config)
}
