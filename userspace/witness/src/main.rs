//! `vestibule-witness`: remembers the newest checkpoint of each log, and cosigns only what continues it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tlog::note::Algorithm;
use witness::keyfile::Key;
use witness::log::Witness;
use witness::server;

/// Witness the logs of vestibule's hosts (C2SP tlog-witness). Run it where those who run the hosts have no root.
#[derive(Debug, Parser)]
#[command(name = "vestibule-witness", version)]
struct Cli {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480")]
    listen: SocketAddr,
    /// The folder of what it remembers.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule-witness")]
    state: PathBuf,
    /// The logs: a line each, origin and key (`vestibule/node/NAME/0 NAME+…`).
    #[arg(long, value_name = "FILE")]
    logs: PathBuf,
    /// Its key: made where absent.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Its name.
    #[arg(long, value_name = "NAME")]
    name: String,
}

fn main() -> ExitCode {
    let Cli { listen, state, logs, key, name } = Cli::parse();
    let run = || -> std::io::Result<()> {
        let key = Key::load_or_create(&key, &name, Algorithm::Cosignature)?;
        let public = key.public.line();
        let witness = Witness::new(&state, key, &std::fs::read_to_string(logs)?)?;
        let listener = TcpListener::bind(listen)?;
        eprint!("listening on http://{}, key {public}", listener.local_addr()?);
        server::serve(&listener, &witness, &now_s)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vestibule-witness: {error}");
            ExitCode::FAILURE
        }
    }
}

fn now_s() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    u64::try_from(now.tv_sec).unwrap_or(0)
}
