//! Measures the journal against the disk under it: `cargo xtask bench --journal`, or
//! `cargo run --release -p journal --example commits -- [--quick] [--json FILE]`.
//!
//! Writers are as the daemon's workers have them: two threads, each with its share of the sessions; a session's next
//! command comes when the last one is durable, and a thread commits what its sessions gathered. After each round fio
//! does the least that makes as many bytes durable: one write of a commit's size and one fdatasync, again and again,
//! on one file that was written before.

#![expect(clippy::unwrap_used, reason = "a bench that fails may end")]
#![expect(clippy::print_stdout, reason = "the terminal is what this is for")]
#![expect(clippy::cast_precision_loss, reason = "rates are rounded anyway")]

#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "the bench uses a part of it")]
mod world;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use journal::clock::SystemClock;
use journal::record::Lsn;
use journal::recorder::{Options, Recorder, Stats};
use types::clock::{Clock, Timestamp};
use world::World;

/// Writers of a round.
const WRITERS: [u64; 3] = [1, 64, 1024];

/// One round: what the journal did, and fio.
struct Round {
    commands_per_s: f64,
    commits_per_s: f64,
    commit_bytes: u64,
    p99_us: u64,
    fio_per_s: f64,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut quick, mut file) = (false, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--json" => file = args.next(),
            _ => panic!("unknown argument {arg}"),
        }
    }
    // Beside the target folder's files: the disk that this is built on, not one in memory.
    let dir = tempfile::tempdir_in("target").unwrap();
    let (rounds, seconds) = if quick { (3, 1) } else { (7, 3) };
    println!("writers  commands/s  commits/s  B/commit  p99 µs  fio fdatasync/s  ratio");
    let mut cases = Vec::new();
    for writers in WRITERS {
        let rounds: Vec<Round> =
            (0..rounds).map(|_| round(dir.path(), writers, Duration::from_secs(seconds))).collect();
        let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
        let (commands, commits, bytes, p99, fio) = (
            of(|round| round.commands_per_s),
            of(|round| round.commits_per_s),
            of(|round| round.commit_bytes as f64),
            of(|round| round.p99_us as f64),
            of(|round| round.fio_per_s),
        );
        // Round by round: what else the machine did was the same for both.
        let ratio = of(|round| round.commits_per_s / round.fio_per_s);
        println!(
            "{writers:7}  {commands:10.0}  {commits:9.0}  {bytes:8.0}  {p99:6.0}  {fio:15.0}  {ratio:5.2}"
        );
        cases.push(serde_json::json!({
            "writers": writers, "commands_per_s": commands, "commits_per_s": commits,
            "commit_bytes": bytes, "p99_us": p99, "fio_per_s": fio, "ratio": ratio,
        }));
    }
    if let Some(file) = file {
        let text = serde_json::json!({ "cases": cases });
        std::fs::write(file, format!("{text:#}\n")).unwrap();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn round(dir: &Path, writers: u64, time: Duration) -> Round {
    let home = dir.join("journal");
    let options = Options { segment_bytes: 64 * 1024 * 1024, ..world::options(&home) };
    let (recorder, _) = Recorder::open(&options, Arc::new(SystemClock), Box::new(|_| {})).unwrap();
    let world = World::new();
    let begun = SystemClock.now();
    let before = recorder.stats();
    let threads = writers.min(2);
    let shares: Vec<Vec<u64>> = (0..threads)
        .map(|thread| (1..=writers).filter(|number| number % threads == thread).collect())
        .collect();
    let mut waited: Vec<u64> = std::thread::scope(|scope| {
        let running: Vec<_> = shares
            .iter()
            .map(|share| {
                let (recorder, world) = (recorder.clone(), &world);
                scope.spawn(move || write(&recorder, world, share, (begun, time)))
            })
            .collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let took = SystemClock.now().us_since(begun) as f64 / 1e6;
    let Stats { commits, bytes, .. } = recorder.stats();
    let (commits, bytes) = (commits - before.commits, bytes - before.bytes);
    recorder.close().unwrap();
    std::fs::remove_dir_all(&home).unwrap();
    waited.sort_unstable();
    let commit_bytes = (bytes / commits.max(1)).max(1);
    Round {
        commands_per_s: waited.len() as f64 / took,
        commits_per_s: commits as f64 / took,
        commit_bytes,
        p99_us: waited[(waited.len() - 1) * 99 / 100],
        fio_per_s: fio(dir, commit_bytes, time),
    }
}

/// One thread's sessions, each with one command at a time; answers how long each waited, microseconds.
fn write(
    recorder: &Recorder,
    world: &World,
    sessions: &[u64],
    (begun, time): (Timestamp, Duration),
) -> Vec<u64> {
    let mut waited = Vec::new();
    let mut waiting: Vec<(u64, u32, Lsn, Timestamp)> = sessions
        .iter()
        .map(|&session| {
            let lsn = world.open(recorder, session).unwrap();
            (session, 0, lsn, SystemClock.now())
        })
        .collect();
    loop {
        recorder.commit_here();
        let (now, durable) = (SystemClock.now(), recorder.durable());
        let is_over = now.us_since(begun) > u64::try_from(time.as_micros()).unwrap();
        for (session, command, lsn, since) in waiting.iter_mut().filter(|it| it.2 <= durable) {
            if *command > 0 {
                waited.push(now.us_since(*since));
                world::end(recorder, *session, *command).unwrap();
            }
            *command += 1;
            *lsn = recorder.gather(world.begin_frame(*session, *command)).unwrap();
            *since = now;
        }
        if is_over {
            return waited;
        }
    }
}

/// How often in a second fio writes so many bytes and makes them durable.
fn fio(dir: &Path, bytes: u64, time: Duration) -> f64 {
    let output = Command::new("fio")
        .args(["--name=floor", "--rw=write", "--ioengine=psync", "--fdatasync=1", "--overwrite=1"])
        .args(["--size=64m", "--time_based", "--output-format=json"])
        .arg(format!("--bs={bytes}"))
        .arg(format!("--runtime={}", time.as_secs()))
        .arg(format!("--directory={}", dir.display()))
        .output()
        .expect("fio is there: cargo xtask setup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    said["jobs"][0]["write"]["iops"].as_f64().unwrap()
}
