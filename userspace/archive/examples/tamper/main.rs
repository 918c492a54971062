//! The tamper suite: archives made by the real writer are altered as one with the node's disk, its keys or another
//! host's files would, and `vestibule-verify` must find each by name; and must not take for an alteration what is
//! none. `cargo xtask tamper-test` runs it; `tamper [--quick] [--json FILE] [--only PART]`.

#![expect(clippy::unwrap_used, reason = "a suite that fails may end")]
#![expect(clippy::print_stdout, reason = "the terminal is what this is for")]

#[path = "../../tests/common/mod.rs"]
mod common;

mod anchors;
mod cases;
mod columns;
mod compacted;
mod delta;
mod disposed;
mod files;
mod keys;
mod pruned;
mod rewritten;
mod tools;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cases::{Case, Outcome};
use world::World;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut quick, mut json, mut only) = (false, None, String::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--json" => json = Some(PathBuf::from(args.next().unwrap())),
            "--only" => only = args.next().unwrap(),
            _ => panic!("unknown argument {arg}"),
        }
    }
    let world = World::build(quick);
    let mut cases = all(&world, quick);
    cases.retain(|case| case.name.contains(&only));
    let outcomes = run(&world, &cases);
    let count = |sound, is_right| {
        let of = |(case, outcome): &(&Case, &Outcome)| {
            case.sound == sound && outcome.wrong.is_none() == is_right
        };
        cases.iter().zip(&outcomes).filter(of).count()
    };
    let (missed, false_alarms) = (count(false, false), count(true, false));
    for (case, outcome) in cases.iter().zip(&outcomes) {
        if let Some(wrong) = &outcome.wrong {
            println!("WRONG {}: {wrong}", case.name);
        }
    }
    let attacks = cases.iter().filter(|case| !case.sound).count();
    println!(
        "{attacks} attacks, {missed} missed; {} sound archives of up to {} records, {false_alarms} false alarms",
        cases.len() - attacks,
        world.largest,
    );
    if let Some(path) = json {
        let text = serde_json::json!({
            "cases": cases.len(), "missed": missed, "false_alarms": false_alarms,
            "attacks": attacks, "sound": cases.len() - attacks, "records": world.largest,
        });
        std::fs::write(path, format!("{text:#}\n")).unwrap();
    }
    if missed + false_alarms > 0 || cases.is_empty() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn all(world: &World, quick: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    columns::add(world, quick, &mut cases);
    files::add(world, quick, &mut cases);
    keys::add(world, &mut cases);
    anchors::add(world, &mut cases);
    rewritten::add(world, quick, &mut cases);
    compacted::add(quick, &mut cases);
    delta::add(quick, &mut cases);
    disposed::add(&mut cases);
    pruned::add(&mut cases);
    cases
}

/// Runs the cases on all processors; a failed one is told at once.
fn run(world: &World, cases: &[Case]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Mutex<Option<Outcome>>> = cases.iter().map(|_| Mutex::new(None)).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { break };
                    let outcome = case.run(world);
                    let word = if outcome.wrong.is_some() { "WRONG" } else { "ok" };
                    println!("{word:5} {:70} {}", case.name, outcome.said);
                    *outcomes[at].lock().unwrap() = Some(outcome);
                }
            });
        }
    });
    outcomes.into_iter().map(|outcome| outcome.into_inner().unwrap().unwrap()).collect()
}
