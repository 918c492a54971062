//! `vestibule archive replay`: a session in the terminal, as it went.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use archive::scan::{self, Filter, ScanError};
use clap::Args as ClapArgs;
use journal::row::{EventRow, RecordingRow, Row, Table};
use recording::entry::{Entry, Kind};
use recording::keys;
use types::clock::utc;
use types::id::SessionId;

use crate::recordings::open;
use crate::recordings::read::{Opener, entries};

/// Bytes of statements and answers that are held: a session of two thousand commands of 64 KiB each.
const HELD_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Show a session in the terminal as it went: each command, what was decided, and the answer as far as it is kept, as the
/// agent saw it. What a terminal would obey is shown by its number.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// So many times as fast as it went; 0: without waiting.
    #[arg(long, value_name = "TIMES", default_value_t = 1.0)]
    speed: f64,
    /// Wait no longer than this between two commands, in seconds as they are shown.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    idle_max: f64,
    /// Begin so many seconds after the first command.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    from: f64,
    /// Begin with this command.
    #[arg(long, value_name = "NUMBER", conflicts_with = "from")]
    command: Option<i32>,
    /// A private key that opens what is sealed of it; `vestibule recordings open` shows all of that.
    #[arg(long, value_name = "FILE", requires = "purpose")]
    key: Option<PathBuf>,
    /// What for it is opened; it is recorded, and must not be empty.
    #[arg(long, value_name = "TEXT", requires = "key")]
    purpose: Option<String>,
    /// The vault of wrapped keys.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/recordings/keys")]
    vault: PathBuf,
    /// The session.
    #[arg(value_name = "SESSION")]
    session: String,
}

#[derive(Default)]
struct Session {
    events: Vec<EventRow>,
    recordings: BTreeMap<i32, RecordingRow>,
    bytes: usize,
    is_cut: bool,
}

pub(super) fn run(control: &Path, args: &Args) -> Result<ExitCode> {
    let Args { archive, speed, idle_max, from, command, key: _, purpose: _, vault: _, session } =
        args;
    for (name, number) in [("--speed", *speed), ("--idle-max", *idle_max), ("--from", *from)] {
        ensure!((0.0..=1e6).contains(&number), "{name} is a number from 0 to 1,000,000");
    }
    let mut found = read(archive, session)?;
    found.unseal(control, args)?;
    let Some(begun) = found.events.first().map(|event| event.ts.0) else {
        bail!("session {session} has no command in this archive; is it sealed?");
    };
    let since = |us: i64| Duration::from_micros(u64::try_from(us.max(0)).unwrap_or(0));
    let longest = Duration::from_secs_f64(*idle_max);
    let pace = |us: i64| {
        if *speed > 0.0 { since(us).div_f64(*speed).min(longest) } else { Duration::ZERO }
    };
    let mut out = io::stdout().lock();
    let mut at = None;
    for event in &found.events {
        let offset = since(event.ts.0 - begun);
        let is_before = command.is_some_and(|first| event.session_seq < first);
        if is_before || offset.as_secs_f64() < *from {
            continue;
        }
        thread::sleep(at.map_or(Duration::ZERO, |last| pace(event.ts.0 - last)));
        let recording = found.recordings.get(&event.session_seq);
        asked(&mut out, event, recording, offset)?;
        thread::sleep(pace(event.duration_us.unwrap_or(0)));
        answered(&mut out, event, recording)?;
        at = Some(event.ts.0 + event.duration_us.unwrap_or(0));
    }
    if found.is_cut {
        writeln!(out, "… the session has more than is held: see `vestibule archive export kit`")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(archive: &Path, session: &str) -> Result<Session, ScanError> {
    let filter = Filter { sessions: vec![session.to_owned()], ..Filter::default() };
    let mut found = Session::default();
    for table in [Table::Events, Table::Recordings] {
        scan::scan(archive, table, &filter, &mut |row| {
            found.take(row);
            Ok::<(), ScanError>(())
        })?;
    }
    found.events.sort_by_key(|event| event.session_seq);
    Ok(found)
}

impl Session {
    /// Puts in what is sealed, where a key is given.
    fn unseal(&mut self, control: &Path, args: &Args) -> Result<()> {
        let Some(key) = &args.key else { return Ok(()) };
        let (session, key) = (args.session.parse::<SessionId>()?, keys::read_private(key)?);
        let opener = Opener::new(&args.vault, &key, session)?;
        open::note(control, &key, session, args.purpose.as_deref().unwrap_or_default())?;
        entries(&args.archive, &opener, &mut |_, entry| {
            self.add(entry);
            Ok(())
        })?;
        Ok(())
    }

    fn add(&mut self, entry: Entry<'_>) {
        let Entry { head, bytes } = entry;
        self.bytes += bytes.len();
        self.is_cut |= self.bytes > HELD_BYTES_MAX;
        let command = i32::try_from(head.command.0).unwrap_or(i32::MAX);
        let row = self.recordings.entry(command).or_default();
        let text = match head.kind {
            _ if self.is_cut => return,
            Kind::Statement => &mut row.statement,
            Kind::Parameters => &mut row.parameters,
            Kind::Answer => &mut row.response_sample,
            Kind::Sent | Kind::Received | Kind::Gap | Kind::End | Kind::CommandLine => return,
        };
        text.get_or_insert_default().push_str(&String::from_utf8_lossy(bytes));
    }

    fn take(&mut self, row: Row) {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.bytes += match &row {
            Row::Event(event) => 2_048 + event.statement_norm.len(),
            Row::Recording(one) => length(&one.statement) + length(&one.response_sample),
            Row::Session(_) | Row::Control(_) => 0,
        };
        self.is_cut |= self.bytes > HELD_BYTES_MAX;
        match row {
            _ if self.is_cut => {}
            // A part of what is sealed.
            Row::Recording(one) if one.sealed.is_some() => {}
            Row::Event(event) => self.events.push(*event),
            Row::Recording(one) => drop(self.recordings.insert(one.session_seq, *one)),
            Row::Session(_) | Row::Control(_) => {}
        }
    }
}

fn asked(
    out: &mut impl Write,
    event: &EventRow,
    recording: Option<&RecordingRow>,
    offset: Duration,
) -> io::Result<()> {
    let (seconds, at) = (offset.as_secs_f64(), utc(event.ts.0));
    writeln!(out, "\n[+{seconds:.3} s, {at}] #{} {}", event.session_seq, event.agent_id)?;
    let kept = recording.and_then(|one| one.statement.as_deref());
    writeln!(out, "> {}", shown(kept.unwrap_or(&event.statement_norm)))?;
    let asked = recording.and_then(|one| one.parameters.as_deref());
    if let Some(parameters) = asked.filter(|parameters| *parameters != "[]") {
        writeln!(out, "  with {}", shown(parameters))?;
    }
    let by = [&event.decision, " by ", &event.rule_id].concat();
    writeln!(out, "  {}: {}", shown(&by), shown(&event.decision_reason))?;
    out.flush()
}

fn answered(
    out: &mut impl Write,
    event: &EventRow,
    recording: Option<&RecordingRow>,
) -> io::Result<()> {
    let sample = recording.and_then(|one| one.response_sample.as_deref()).unwrap_or_default();
    for line in sample.lines() {
        writeln!(out, "< {}", shown(line))?;
    }
    let rows = event.rows.map(|rows| format!(", {rows} rows")).unwrap_or_default();
    let code = event.error_code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
    let masked = match event.masked_count {
        0 => String::new(),
        count => format!(", {count} values masked"),
    };
    let ms = event.duration_us.map(|us| format!(", {} ms", us / 1000)).unwrap_or_default();
    writeln!(out, "  {}{code}{rows}{masked}{ms}, {} B", event.status, event.bytes_out)?;
    out.flush()
}

/// Text that a terminal obeys nothing of.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // What changes the direction of text (Unicode UAX #9) hides what is there.
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match c {
            '\t' => out.push(' '),
            '\n' => out.push_str("\n  "),
            c if c.is_control() || turns => {
                let number = format!("<U+{:04X}>", u32::from(c));
                out.push_str(&number);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        assert_eq!(
            shown("a\u{1b}[2Jb\u{202e}c\u{7f}\r\tö"),
            "a<U+001B>[2Jb<U+202E>c<U+007F><U+000D> ö"
        );
        assert_eq!(shown("a\nb"), "a\n  b");
    }
}
