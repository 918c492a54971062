//! `vestibule disarm`: let agents go free, with a reason that stays.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args as ClapArgs;
use types::control::{Request, Response};

use crate::control::{ask, program};

/// Let enrolled agents go free: from then on their connections go where they say, unseen.
///
/// This is the one way to do so. Who asked and why is on disk before anything is taken away; then
/// the hooks go, sessions are cut and the daemon ends. Starting it again arms the host again.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Why; it is recorded, and must not be empty.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The daemon's configuration, for a host where no daemon runs.
    #[arg(
        long,
        env = "VESTIBULE_CONFIG",
        value_name = "FILE",
        default_value = "/etc/vestibule/vestibule.toml"
    )]
    config: PathBuf,
    /// The daemon's executable, likewise.
    #[arg(long, value_name = "FILE", default_value = "vestibuled")]
    daemon: PathBuf,
}

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { reason, config, daemon } = args;
    let reason = reason.trim();
    ensure!(!reason.is_empty(), "a reason must be given");
    // A daemon that is there and refuses is not gone around.
    if UnixStream::connect(control).is_ok() {
        let request = Request::Disarm { reason: reason.to_owned() };
        match ask(control, &request, Duration::from_mins(1))? {
            Response::Disarmed => {}
            _ => bail!("the daemon's answer is not about disarming"),
        }
    } else {
        let program = program(daemon);
        let status = Command::new(&program)
            .arg("--config")
            .arg(config)
            .args(["--disarm", reason])
            .status()
            .with_context(|| {
                format!("{} can't be run; name it with --daemon", program.display())
            })?;
        ensure!(status.success(), "not disarmed");
    }
    println!("disarmed: agents connect directly until vestibuled runs again");
    Ok(ExitCode::SUCCESS)
}
