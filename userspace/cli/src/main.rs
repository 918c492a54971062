//! `vestibule`: what operators, auditors and launchers of agents type.
//!
//! One file per subcommand; each talks to the daemon over its control socket or reads the archive.

#![expect(clippy::print_stdout, reason = "the terminal is what this program is for")]

mod approvals;
mod archive;
mod ca;
mod completions;
mod control;
mod deep;
mod disarm;
mod doctor;
mod enroll;
mod import;
mod login;
mod logout;
mod policy;
mod reconcile;
mod recordings;
mod report;
mod revoke;
mod run;
mod sessions;
mod signing;
mod status;
mod who;
mod whom;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// The double door for automated agents: start one, look at the daemon, check the evidence.
#[derive(Debug, Parser)]
#[command(name = "vestibule", version, propagate_version = true)]
struct Cli {
    /// The daemon's control socket.
    #[arg(
        long,
        global = true,
        env = "VESTIBULE_CONTROL",
        value_name = "SOCKET",
        default_value = "/run/vestibule/control.sock"
    )]
    control: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Login(login::Args),
    Logout(logout::Args),
    Enroll(enroll::Args),
    Revoke(revoke::Args),
    Who(who::Args),
    Sessions(sessions::Args),
    #[command(subcommand)]
    Approvals(approvals::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Disarm(disarm::Args),
    Verify(verifier::Args),
    Report(report::Args),
    Reconcile(reconcile::Args),
    Import(import::Args),
    #[command(subcommand)]
    Archive(archive::Args),
    #[command(subcommand)]
    Recordings(recordings::Args),
    #[command(subcommand)]
    Policy(policy::Args),
    #[command(subcommand)]
    Ca(ca::Args),
    Completions(completions::Args),
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    if let Some(code) = verifier::read_changed() {
        return code;
    }
    let Cli { control, command } = Cli::parse();
    let done = match command {
        Command::Run(args) => run::run(&control, &args),
        Command::Login(args) => login::run(&control, &args),
        Command::Logout(args) => logout::run(&control, &args),
        Command::Enroll(args) => enroll::run(&control, &args),
        Command::Revoke(args) => revoke::run(&control, &args),
        Command::Who(args) => who::run(&control, &args),
        Command::Sessions(args) => sessions::run(&control, &args),
        Command::Approvals(args) => approvals::run(&control, &args),
        Command::Status(args) => status::run(&control, &args),
        Command::Doctor(args) => doctor::run(&control, &args),
        Command::Disarm(args) => disarm::run(&control, &args),
        Command::Verify(args) => archive::verify(&args),
        Command::Report(args) => report::run(&control, &args),
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Archive(args) => archive::run(&control, &args),
        Command::Recordings(args) => recordings::run(&control, &args),
        Command::Policy(args) => policy::run(&args),
        Command::Ca(args) => ca::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("vestibule: {error:#}");
        ExitCode::from(2)
    })
}
