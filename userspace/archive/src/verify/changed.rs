//! Reads files that are not as they were written, in another process: whatever is in them, it
//! ends there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use journal::row::{Row, Table};

use crate::merkle::Hash;
use crate::note::unhex;
use crate::{decode, layout};
use types::hex::hex;

/// A row of a changed file.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) seq: u64,
    pub(super) leaf: Hash,
    /// What the row says it is.
    pub(super) what: String,
}

/// Calls `each` with the rows that can be read from the file at `path`; the error says why not
/// all can. `reader` is the program that reads it, called `verify --read-changed PATH
/// --read-table TABLE`; without one this process does.
pub(super) fn rows(
    reader: Option<&Path>,
    table: Table,
    path: &Path,
    each: &mut dyn FnMut(Found),
) -> Result<(), String> {
    let Some(program) = reader else {
        let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
        let mut row = |row: Row| each(found(&row));
        return decode::changed_rows(table, bytes, &mut row).map_err(|e| e.to_string());
    };
    let mut child = Command::new(program)
        .args(["verify", "--read-table", table.as_str(), "--read-changed"])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut fault = None;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            match line.strip_prefix('!') {
                Some(text) => fault = Some(text.trim().to_owned()),
                None => parse(&line).into_iter().for_each(&mut *each),
            }
        }
    }
    let ended = child.wait().map_err(|e| e.to_string())?;
    match fault {
        Some(fault) => Err(fault),
        None if ended.success() => Ok(()),
        None => Err("not readable as Parquet: the decoder gave up".to_owned()),
    }
}

/// What the other process does: writes a line `seq leaf what` for every row of the file that can
/// be read, and a line `! why` if that is not all. False if it was not all.
pub fn print(path: &Path, table: &str, out: &mut dyn Write) -> std::io::Result<bool> {
    let unknown = || std::io::Error::other("no such table");
    let table = layout::table(table).ok_or_else(unknown)?;
    let bytes = std::fs::read(path)?;
    let mut failed = Ok(());
    let mut each = |row: Row| {
        let Found { seq, leaf, what } = found(&row);
        if failed.is_ok() {
            failed = writeln!(out, "{seq} {} {what}", hex(&leaf));
        }
    };
    let done = decode::rows(table, bytes.clone(), &mut each);
    failed?;
    out.flush()?;
    let Err(error) = done else { return Ok(true) };
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
                row.session_id, row.session_seq, row.kind, row.verb, row.decision, row.status
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
    Found { seq: row.seq().0, leaf: row.leaf_hash(), what: describe(row) }
}

fn parse(line: &str) -> Option<Found> {
    let (seq, rest) = line.split_once(' ')?;
    let (leaf, what) = rest.split_once(' ')?;
    Some(Found { seq: seq.parse().ok()?, leaf: unhex(leaf)?, what: what.to_owned() })
}
