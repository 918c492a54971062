//! `vestibule archive export asciicast`: a session as a recording of a terminal.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args as ClapArgs;
use serde_json::json;

use super::hand_out;
use crate::archive::recorded::{Session, Source};
use crate::archive::transcript::beats;

/// Write a session as asciicast v2, which asciinema and its player show: a transcript of each command, what was decided, and
/// the answer as far as it is kept, as the agent saw it, in its own time. What a terminal would obey is shown by its number.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// Players wait no longer than this, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, visible_alias = "max-idle")]
    idle_max: u32,
    /// The terminal's width, in characters.
    #[arg(long, value_name = "COLUMNS", default_value_t = 120)]
    width: u16,
    /// The terminal's height, in lines.
    #[arg(long, value_name = "LINES", default_value_t = 40)]
    height: u16,
    /// Write it here; to the standard output where absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    hand_out(control, &args.source, args.out.as_deref(), |session, out| {
        Ok(write(session, args, out)?)
    })
}

fn write(session: &Session, args: &Args, mut out: impl Write) -> io::Result<()> {
    let Args { source: _, idle_max, width, height, out: _ } = args;
    let first = session.events.first();
    let title = first.map(|event| {
        format!(
            "{} at {}: {}",
            event.session.agent_id, event.session.target_name, event.session.session_id
        )
    });
    let header = json!({
        "version": 2,
        "width": width,
        "height": height,
        "timestamp": first.map_or(0, |event| event.ts.0.div_euclid(1_000_000)),
        "idle_time_limit": idle_max,
        "title": title,
    });
    writeln!(out, "{header}")?;
    for beat in beats(session) {
        // A terminal that is written to raw goes back by itself nowhere.
        let text = beat.text.replace('\n', "\r\n");
        writeln!(out, "{}", json!([beat.at.as_secs_f64(), "o", text]))?;
    }
    out.flush()
}
