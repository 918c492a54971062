//! The crash suite: power losses on a disk that is simulated sector by sector, and kill -9 of a process that records.
//! `cargo xtask crash-test` runs it, and kills real daemons beside; `crash [--quick] [--json FILE] [--lying-disk]`.
//!
//! With `--lying-disk` the disk answers syncs that it does not make: records must be lost then, or the suite could
//! not fail.

#![expect(clippy::unwrap_used, reason = "a suite that fails may end")]
#![expect(clippy::print_stdout, reason = "the terminal is what this is for")]

#[path = "../../../journal/tests/disk/mod.rs"]
mod disk;
mod kill;
mod power;
#[path = "../../../journal/tests/it/world.rs"]
#[expect(dead_code, reason = "the suite uses a part of it")]
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use power::{Counts, Trial};

/// Power losses of one load.
const OF_ONE_LOAD: u64 = 20;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut quick, mut json, mut lies) = (false, None, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--lying-disk" => lies = true,
            "--json" => json = Some(PathBuf::from(args.next().unwrap())),
            "--writer" => {
                let dir = PathBuf::from(args.next().unwrap());
                kill::write(&dir, args.next().unwrap().parse().unwrap());
            }
            _ => panic!("unknown argument {arg}"),
        }
    }
    // 20 kills of a real daemon make the full run's thousand (`xtask`).
    let (losses, kills) = if quick { (80, 10) } else { (700, 280) };
    let kills = if lies { 0 } else { kills };
    let power = all(losses, lies);
    println!(
        "{} power losses: {} acknowledged records lost, {} journals with a gap",
        power.crashes, power.lost, power.gaps
    );
    let trial = Trial { seed: seed(), crashes: kills, lies: false, seals: true };
    let killed = kill::run(trial);
    println!(
        "{} kills: {} acknowledged records lost, {} journals with a gap",
        killed.crashes, killed.lost, killed.gaps
    );
    let mut counts = power;
    counts.add(killed);
    if let Some(path) = json {
        let Counts { crashes, lost, gaps } = counts;
        let text = serde_json::json!({ "crashes": crashes, "lost": lost, "gaps": gaps });
        std::fs::write(path, format!("{text:#}\n")).unwrap();
    }
    if counts.lost + counts.gaps > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Loads on all processors, each with its share of the power losses.
fn all(losses: u64, lies: bool) -> Counts {
    let (begun, first) = (AtomicU64::new(0), seed());
    println!("seed {first}");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let work = || {
            let mut counts = Counts::default();
            loop {
                let number = begun.fetch_add(1, Ordering::Relaxed);
                if number * OF_ONE_LOAD >= losses {
                    return counts;
                }
                let seed = first.wrapping_add(number);
                counts.add(power::run(Trial { seed, crashes: OF_ONE_LOAD, lies, seals: true }));
            }
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in running {
            counts.add(thread.join().unwrap());
        }
    });
    counts
}

/// Another one each time; what fails says which it was.
fn seed() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(now.as_micros()).unwrap()
}
