//! `vestibule-verify`: is the evidence what was recorded? By itself, for whoever trusts nobody's daemon.

use std::process::ExitCode;

use clap::Parser;

/// Check an archive of vestibule, without vestibule.
#[derive(Debug, Parser)]
#[command(name = "vestibule-verify", version)]
struct Cli {
    #[command(flatten)]
    args: verifier::Args,
}

fn main() -> ExitCode {
    if let Some(code) = verifier::read_changed() {
        return code;
    }
    verifier::run(&Cli::parse().args).unwrap_or_else(|error| {
        eprintln!("vestibule-verify: {error:#}");
        ExitCode::from(2)
    })
}
