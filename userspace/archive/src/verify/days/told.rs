//! What rows of days that were put together say beyond their leaves, kept until the step comes that they are of: as JSON, in
//! memory as far as it is little, then in a file that has no name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use super::spool::unnamed;
use crate::verify::facts::{Fact, Facts};

/// Bytes in memory at most. Beyond that they are in the folder for temporary files, some 100 B a session.
const HELD_MAX: usize = 64 * 1024 * 1024;

/// What is kept, by log.
#[derive(Debug, Default)]
pub(super) struct Told {
    logs: HashMap<String, Log>,
    held: usize,
    file: Option<File>,
    end: u64,
    /// What kept it from being kept; said when it is asked for.
    fault: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Log {
    /// JSON, one a line, of the days that are being read, and the least of their records.
    lines: Vec<u8>,
    least: Option<u64>,
    /// The same of days that were read.
    days: Vec<(u64, Place)>,
    /// What was looked at and is of later steps; the last first.
    open: Vec<Fact>,
}

#[derive(Debug)]
enum Place {
    Held(Vec<u8>),
    /// Where in the file, and how long.
    File(u64, usize),
}

impl Told {
    /// Keeps one.
    pub(super) fn push(&mut self, origin: &str, fact: &Fact) {
        if !self.logs.contains_key(origin) {
            self.logs.insert(origin.to_owned(), Log::default());
        }
        let Some(log) = self.logs.get_mut(origin) else { return };
        let seq = fact.seq();
        log.least = Some(log.least.map_or(seq, |least| least.min(seq)));
        if let Err(error) = serde_json::to_writer(&mut log.lines, fact) {
            self.fault.get_or_insert(error.into());
        }
        log.lines.push(b'\n');
    }

    /// Some days were read wholly.
    pub(super) fn end_days(&mut self) {
        for log in self.logs.values_mut() {
            let Some(least) = log.least.take() else { continue };
            let lines = std::mem::take(&mut log.lines);
            let place = if self.held + lines.len() <= HELD_MAX {
                self.held += lines.len();
                Ok(Place::Held(lines))
            } else {
                put(&mut self.file, &mut self.end, &lines)
            };
            match place {
                Ok(place) => log.days.push((least, place)),
                Err(error) => drop(self.fault.get_or_insert(error)),
            }
        }
    }

    /// Takes what records of a log within a range say.
    pub(super) fn take(&mut self, origin: &str, range: &Range<u64>) -> io::Result<Facts> {
        if let Some(error) = self.fault.take() {
            return Err(error);
        }
        let mut facts = Facts::default();
        let Some(log) = self.logs.get_mut(origin) else { return Ok(facts) };
        let (due, later) =
            std::mem::take(&mut log.days).into_iter().partition(|(least, _)| *least < range.end);
        log.days = later;
        let due: Vec<(u64, Place)> = due;
        let is_more = !due.is_empty();
        for (_, place) in due {
            let lines = match place {
                Place::Held(lines) => {
                    self.held -= lines.len();
                    lines
                }
                Place::File(offset, length) => {
                    let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
                    let mut bytes = vec![0; length];
                    file.seek(SeekFrom::Start(offset))?;
                    file.read_exact(&mut bytes)?;
                    bytes
                }
            };
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                log.open.push(serde_json::from_slice(line)?);
            }
        }
        if is_more {
            log.open.sort_by_key(|fact| std::cmp::Reverse(fact.seq()));
        }
        while let Some(fact) = log.open.pop_if(|fact| fact.seq() < range.end) {
            facts.add(fact);
        }
        Ok(facts)
    }
}

fn put(file: &mut Option<File>, end: &mut u64, bytes: &[u8]) -> io::Result<Place> {
    let file = match file {
        Some(file) => file,
        none => none.insert(unnamed()?),
    };
    file.seek(SeekFrom::Start(*end))?;
    file.write_all(bytes)?;
    let place = Place::File(*end, bytes.len());
    *end += u64::try_from(bytes.len()).unwrap_or(0);
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_taken_with_its_step_wherever_it_was_kept() {
        for held in [0, HELD_MAX] {
            let mut told = Told { held: HELD_MAX - held, ..Told::default() };
            for (origin, day) in [("a", [7, 3]), ("b", [1, 2]), ("a", [12, 9])] {
                for seq in day {
                    told.push(origin, &Fact::Commands(seq, format!("{origin}{seq}"), seq));
                    told.push(origin, &Fact::Digest(seq, "d".to_owned()));
                }
                told.end_days();
            }
            assert_eq!(told.file.is_some(), held == 0);
            for (origin, range, due) in
                [("a", 0..4, vec![3]), ("b", 0..4, vec![1, 2]), ("a", 4..10, vec![7, 9])]
            {
                let facts = told.take(origin, &range).unwrap();
                let mut found: Vec<u64> = facts.commands.values().copied().collect();
                found.sort_unstable();
                assert_eq!(found, due, "{origin} {range:?}");
                assert_eq!(facts.digests["d"], due[0]);
            }
            assert!(told.take("c", &(0..9)).unwrap().commands.is_empty());
            assert_eq!(told.take("a", &(10..20)).unwrap().commands["a12"], 12);
        }
    }
}
