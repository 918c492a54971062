//! `vestibule archive replay`: a session in the terminal, as it went.

mod keys;
mod player;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;

use super::recorded::{Session, Source};
use super::transcript::{Beat, beats};
use keys::Keys;
use player::{Next, Pace, Player};

/// Show a session in the terminal as it went: each command, what was decided, and the answer as far as it is kept, as the
/// agent saw it. What a terminal would obey is shown by its number.
///
/// On a terminal: space pauses and goes on; right goes on to what comes next, left goes back to the command before; up and
/// down double and halve the speed; q ends.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// So many times as fast as it went; 0: without waiting.
    #[arg(long, value_name = "TIMES", default_value_t = 1.0)]
    speed: f64,
    /// Wait no longer than this between two commands, in seconds as they are shown.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, visible_alias = "max-idle")]
    idle_max: f64,
    /// Begin so many seconds after the first command.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    from: f64,
    /// End so many seconds after the first command.
    #[arg(long, value_name = "SECONDS")]
    to: Option<f64>,
    /// Begin with this command.
    #[arg(long, value_name = "NUMBER", conflicts_with = "from")]
    command: Option<i32>,
    #[command(flatten)]
    source: Source,
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { speed, idle_max, from, to, command, source } = args;
    let numbers = [
        ("--speed", *speed),
        ("--idle-max", *idle_max),
        ("--from", *from),
        ("--to", to.unwrap_or_default()),
    ];
    for (name, number) in numbers {
        ensure!((0.0..=1e6).contains(&number), "{name} is a number from 0 to 1,000,000");
    }
    let session = Session::read(control, source)?;
    let mut shown = beats(&session);
    shown.retain(|beat| {
        let second = beat.at.as_secs_f64();
        second >= *from
            && to.is_none_or(|to| second <= to)
            && command.is_none_or(|first| beat.command >= first)
    });
    let pace = Pace { speed: *speed, longest: Duration::from_secs_f64(*idle_max) };
    let is_watched = io::stdin().is_terminal() && io::stdout().is_terminal();
    let keys = if is_watched { Keys::listen().ok() } else { None };
    play(Player::new(&shown, pace), keys.as_ref())?;
    if session.is_cut {
        let hint = "the session has more than is held: see `vestibule archive export kit`";
        writeln!(io::stdout(), "… {hint}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn play(mut player: Player<'_>, keys: Option<&Keys>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    loop {
        match player.next() {
            Next::Show(Beat { text, .. }) => {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            Next::Wait(time) => match keys {
                None => {
                    std::thread::sleep(time.unwrap_or_default());
                    player.waited();
                }
                Some(keys) => match keys.wait(time) {
                    None => player.waited(),
                    Some(key) => {
                        if let Some(said) = player.press(key) {
                            writeln!(out, "── {said} ──")?;
                        }
                    }
                },
            },
            Next::End => return Ok(()),
        }
    }
}
