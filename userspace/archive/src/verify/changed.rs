//! Reads files that are not as they were written, in another process: whatever is in them, it
//! ends there.

use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};

use journal::row::{Row, Table};

use super::columns::OF_THE_LOG;
use super::statistics;
use crate::key::Rotation;
use crate::merkle::Hash;
use crate::{decode, layout};
use types::hex::{hex, unhex};

/// What a program is called with, before table, sealed length and path, to print a changed file's rows.
pub const READ_CHANGED: &str = "--read-changed";

const GAVE_UP: &str = "not readable as Parquet: the decoder gave up";

/// A row of a changed file.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) seq: u64,
    pub(super) leaf: Hash,
    /// What the row says it is.
    pub(super) what: String,
    /// The detail of a record by which one key follows another, or files went.
    pub(super) rotation: Option<String>,
}

/// What reading a changed file came to, where all its rows could be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    /// Why it is no mere rewriting, see [`statistics::lie`].
    pub(super) lie: Option<String>,
}

/// Calls `each` with the rows that can be read from the file at `path`, of `sealed_bytes` bytes when it was
/// sealed; the error says why not all can. `reader` is the program that reads it, called `--read-changed TABLE BYTES PATH`; without one this process does.
pub(super) fn rows(
    reader: Option<&Path>,
    table: Table,
    path: &Path,
    sealed_bytes: u64,
    each: &mut dyn FnMut(Found),
) -> Result<Changed, String> {
    let Some(program) = reader else {
        let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
        let mut row = |row: Row| each(found(&row));
        decode::changed_rows(table, bytes.clone(), &mut row).map_err(|e| e.to_string())?;
        let look = || statistics::lie(table, &bytes.into(), Some(sealed_bytes));
        let lie = catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| Some(GAVE_UP.to_owned()));
        return Ok(Changed { lie });
    };
    let mut child = Command::new(program)
        .args([READ_CHANGED, table.as_str(), &sealed_bytes.to_string()])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let (mut fault, mut lie) = (None, None);
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            match (line.strip_prefix('!'), line.strip_prefix('~')) {
                (Some(text), _) => fault = Some(text.trim().to_owned()),
                (_, Some(text)) => lie = Some(text.trim().to_owned()),
                (None, None) if line.starts_with('^') => {
                    parse_rotation(&line).into_iter().for_each(&mut *each);
                }
                (None, None) => parse(&line).into_iter().for_each(&mut *each),
            }
        }
    }
    let ended = child.wait().map_err(|e| e.to_string())?;
    match fault {
        Some(fault) => Err(fault),
        None if ended.success() => Ok(Changed { lie }),
        None => Err(GAVE_UP.to_owned()),
    }
}

/// What the other process does: writes a line `seq leaf what` for every row of the file that can
/// be read, a line `! why` if that is not all, and a line `~ why` if it is no mere rewriting. False if it was
/// not all.
pub fn print(
    path: &Path,
    table: &str,
    sealed_bytes: u64,
    out: &mut dyn Write,
) -> std::io::Result<bool> {
    let unknown = || std::io::Error::other("no such table");
    let table = layout::table(table).ok_or_else(unknown)?;
    let bytes = std::fs::read(path)?;
    let mut failed = Ok(());
    let mut each = |row: Row| {
        let Found { seq, leaf, what, rotation } = found(&row);
        // A line break in a detail is none of ours.
        let rotation = rotation.map(|detail| detail.replace(['\n', '\r'], " "));
        if failed.is_ok() {
            failed = match rotation {
                Some(detail) => writeln!(out, "^{seq} {} {detail}", hex(&leaf)),
                None => writeln!(out, "{seq} {} {what}", hex(&leaf)),
            };
        }
    };
    let done = decode::rows(table, bytes.clone(), &mut each);
    failed?;
    out.flush()?;
    let Err(error) = done else {
        if let Some(lie) = statistics::lie(table, &bytes.into(), Some(sealed_bytes)) {
            writeln!(out, "~ {}", lie.replace(char::is_control, "?"))?;
        }
        return Ok(true);
    };
    writeln!(out, "! {error}")?;
    out.flush()?;
    if let Some((column, row)) = decode::damage(table, &bytes) {
        writeln!(out, "! column {column} is unreadable from the file's row {row} on")?;
    }
    Ok(false)
}

/// A row in a few words, on one line.
pub(super) fn describe(row: &Row) -> String {
    let words = match row {
        Row::Event(row) => {
            let time = layout::time(row.ts.0);
            format!(
                "events, session {} #{}, {} {}, {} ({}), {time}",
                row.session.session_id,
                row.session_seq,
                row.statement.kind,
                row.statement.verb,
                row.decision,
                row.status
            )
        }
        Row::Session(row) => format!(
            "sessions, session {}, agent {}, closed {}",
            row.session_id,
            row.agent_id,
            layout::time(row.ts.0)
        ),
        Row::Control(row) => format!("control, {}, {}", row.kind, layout::time(row.ts.0)),
        Row::Recording(row) => format!(
            "recordings, session {} #{}, {}",
            row.session_id,
            row.session_seq,
            layout::time(row.ts.0)
        ),
    };
    // A changed file's words go to a terminal.
    words.chars().map(|c| if c.is_control() { '?' } else { c }).take(300).collect()
}

fn found(row: &Row) -> Found {
    let rotation = match row {
        Row::Control(row) if OF_THE_LOG.contains(&row.kind.as_str()) => Some(row.detail.clone()),
        _ => None,
    };
    Found { seq: row.seq().0, leaf: row.leaf_hash(), what: describe(row), rotation }
}

fn parse(line: &str) -> Option<Found> {
    let (seq, rest) = line.split_once(' ')?;
    let (leaf, what) = rest.split_once(' ')?;
    let (leaf, what) = (unhex(leaf)?, what.to_owned());
    Some(Found { seq: seq.parse().ok()?, leaf, what, rotation: None })
}

fn parse_rotation(line: &str) -> Option<Found> {
    let found = parse(line.strip_prefix('^')?)?;
    let what = format!("control, {}", Rotation::KIND);
    Some(Found { rotation: Some(found.what), what, ..found })
}
