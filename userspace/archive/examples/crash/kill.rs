//! kill -9: a process that records is killed at any moment, again and again over one journal. Whatever it was told
//! to be durable, and said so, must be there.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use journal::clock::SystemClock;
use journal::recorder::Recorder;
use journal::row::Row;

use crate::disk::Dice;
use crate::power::{Counts, Trial, is_sealed};
use crate::world::{self, World};

/// Threads that record in the process.
const WRITERS: u64 = 6;

/// Kills of one journal, then it is looked at.
const KILLS: u64 = 10;

/// Kills a process `crashes` times; each journal lives for [`KILLS`].
pub(crate) fn run(trial: Trial) -> Counts {
    let mut dice = Dice(trial.seed);
    let mut counts = Counts::default();
    while counts.crashes < trial.crashes {
        let kills = KILLS.min(trial.crashes - counts.crashes);
        counts.add(one_journal(kills, &mut dice, trial));
    }
    counts
}

fn one_journal(kills: u64, dice: &mut Dice, trial: Trial) -> Counts {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let mut counts = Counts { crashes: kills, ..Counts::default() };
    let mut told = BTreeSet::new();
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--writer".as_ref(), journal.as_os_str()])
            .arg((kill * 100).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next();
        std::thread::sleep(Duration::from_micros(dice.below(40_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died; a line that was cut off says nothing.
        for line in first.into_iter().chain(lines).map_while(Result::ok) {
            told.extend(line.strip_suffix('.').map(str::to_owned));
        }
    }
    match Recorder::open(&world::options(&journal), Arc::new(SystemClock), Box::new(|_| {})) {
        Ok((recorder, _)) => recorder.close().unwrap(),
        Err(error) => {
            eprintln!("seed {}: {error}", trial.seed);
            counts.gaps += 1;
            return counts;
        }
    }
    let recorded: BTreeSet<_> = world::rows(&journal).iter().filter_map(command).collect();
    for missing in told.difference(&recorded) {
        eprintln!("seed {}: command {missing} is lost", trial.seed);
        counts.lost += 1;
    }
    if told.is_empty() || !is_sealed(&journal, trial) {
        counts.gaps += 1;
    }
    counts
}

/// A command as the process names it: its session and its number there.
fn command(row: &Row) -> Option<String> {
    let Row::Event(row) = row else { return None };
    Some(format!("{} {}", row.session.session_id, row.session_seq))
}

/// Records until it is killed, and says of each command that it is durable, once it is.
pub(crate) fn write(dir: &Path, from: u64) -> ! {
    let (recorder, _) =
        Recorder::open(&world::options(dir), Arc::new(SystemClock), Box::new(|_| {})).unwrap();
    let world = World::new();
    std::thread::scope(|scope| {
        for number in from + 1..=from + WRITERS {
            let (world, recorder) = (&world, recorder.clone());
            scope.spawn(move || {
                world.open(&recorder, number).unwrap();
                for command in 1.. {
                    let begun = world.begin(&recorder, number, command).unwrap();
                    recorder.wait(begun).unwrap();
                    let line = format!("{} {command}.\n", world::session(number));
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                    world::end(&recorder, number, command).unwrap();
                }
            });
        }
    });
    unreachable!("it is killed before")
}
