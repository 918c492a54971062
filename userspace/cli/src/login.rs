//! `vestibule login`: who answers for the agents that are started from here on.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use types::control::{Request, Response, StandingLogin};

use crate::control::ask;
use crate::whom::sudo_uid;

/// Log in on this host, in a browser anywhere: agents that you start from then on act for you, and end when you log out,
/// here or at the issuer.
///
/// Prints where to go and the code to type there (RFC 8628), and waits; Ctrl-C gives it up. The login is of whoever
/// logged in to the host (the kernel's login uid), else of who called sudo, and stands until `vestibule logout`, the
/// issuer's own end of it, or a restart of the daemon.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The issuer, where the daemon has clients at several.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
}

/// How long the daemon may take; an issuer that it asks may take ten seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the daemon is asked how it stands.
const INTERVAL: Duration = Duration::from_millis(500);

/// The status of what Ctrl-C ended (128 and SIGINT's number, as shells have it).
const INTERRUPTED: u8 = 130;

pub(crate) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    // From here on signals wait until they are looked for.
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().context("signals can't be held back")?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&signals, flags).context("signals can't be seen")?;
    let request = Request::Login { issuer: args.issuer.clone(), sudo_uid: sudo_uid()? };
    let answer = ask(control, &request, PATIENCE)?;
    let Response::LoginBegun {
        login,
        verification_uri,
        verification_uri_complete,
        user_code,
        expires_in_s,
    } = answer
    else {
        bail!("the daemon's answer is not about a login");
    };
    println!("Open {verification_uri} and type the code {user_code}");
    if let Some(complete) = verification_uri_complete {
        println!("or open {complete}");
    }
    let is_terminal = io::stdout().is_terminal();
    if !is_terminal {
        println!("waiting, {expires_in_s} s at most");
    }
    io::stdout().flush()?;
    let mut waited = Duration::ZERO;
    loop {
        if signals.read_signal().context("signals can't be seen")?.is_some() {
            let withdrawn = ask(control, &Request::LoginWithdraw { login }, PATIENCE);
            eprintln!("\nnot logged in");
            return withdrawn.map(|_| ExitCode::from(INTERRUPTED));
        }
        let progress = ask(control, &Request::LoginProgress { login: login.clone() }, PATIENCE);
        if is_terminal && !matches!(progress, Ok(Response::LoginProgress { login: None })) {
            println!();
        }
        match progress? {
            Response::LoginProgress { login: None } => {}
            Response::LoginProgress { login: Some(login) } => {
                told(&login);
                return Ok(ExitCode::SUCCESS);
            }
            _ => bail!("the daemon's answer is not about a login"),
        }
        if is_terminal {
            let left_s = expires_in_s.saturating_sub(waited.as_secs());
            print!("\rwaiting, the code stands for {left_s} s \u{1b}[K");
            io::stdout().flush()?;
        }
        std::thread::sleep(INTERVAL);
        waited += INTERVAL;
    }
}

fn told(login: &StandingLogin) {
    let StandingLogin { user, sub, idp, renewed, person, .. } = login;
    println!("{person} is logged in as {user} ({sub} at {idp})");
    if !renewed {
        println!("the issuer does not renew it: it ends with the token");
    }
}
