//! Makes an archive as agents of a bank fill it, many nodes on many days, by the real recorder, archiver and compaction, and
//! says what each of these takes: `cargo xtask bench --archive`, or
//! `cargo run --release -p archive --example lake -- --out DIR [--events N] [--json FILE]`.
//!
//! The same events lie beside it as other audit logs keep them: a few columns and the rest as JSON (`blob`).

#![expect(clippy::unwrap_used, reason = "a bench that fails may end")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the terminal is what this is for")]

mod blob;
mod chance;
mod check;
mod day;
mod floor;
mod people;
mod plan;
mod statements;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use plan::Plan;

/// What was done, and what it took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Events.
    pub(crate) events: u64,
    /// Rows, where they are others.
    pub(crate) rows: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
    /// Processor time of the thread, seconds.
    pub(crate) cpu: f64,
}

impl Work {
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.cpu += other.cpu;
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn say(&self, what: &str) -> serde_json::Value {
        let Self { events, rows, bytes, cpu } = *self;
        let per_event = bytes as f64 / events as f64;
        let (events_s, rows_s) = (events as f64 / cpu, rows as f64 / cpu);
        println!(
            "{what}: {events} events, {rows} rows, {per_event:.1} bytes an event, {rows_s:.0} rows and {events_s:.0} events \
             per CPU-second"
        );
        json!({
            "events": events, "rows": rows, "bytes": bytes, "cpu_s": cpu, "bytes_per_event": per_event,
            "rows_per_cpu_s": rows_s, "events_per_cpu_s": events_s,
        })
    }
}

/// What all days came to.
#[derive(Debug, Default)]
struct Totals {
    recorded: Work,
    sealed: Work,
    blob: Work,
    /// What of sealing each part takes, of one node's first day.
    parts: serde_json::Value,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut events, mut out, mut json) = (10_000_000, None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--events" => events = args.next().unwrap().parse().unwrap(),
            "--out" => out = args.next().map(PathBuf::from),
            "--json" => json = args.next().map(PathBuf::from),
            _ => panic!("unknown argument {arg}"),
        }
    }
    let out = out.expect("--out DIR");
    std::fs::create_dir_all(&out).unwrap();
    let plan = Plan::new(events);
    plan.check_room(&out);
    let begun = now(ClockId::Monotonic);
    let totals = record(&plan, &out);
    let wall = now(ClockId::Monotonic) - begun;
    println!("made in {wall:.0} s");
    let mut said = json!({
        "nodes": plan.nodes, "days": plan.days, "made_wall_s": wall,
        "record": totals.recorded.say("record"),
        "seal": totals.sealed.say("seal"),
        "seal_parts": totals.parts,
        "json": totals.blob.say("JSON column"),
        "json_days": plan.blob_days,
    });
    let archive = out.join("archive");
    said["compact"] = check::compact(&archive, plan::FIRST_DAY);
    said["verify"] = check::check(&archive);
    if let Some(json) = json {
        std::fs::write(json, format!("{said:#}\n")).unwrap();
    }
}

/// Has each node record and seal its days; as many nodes at once as there are processors.
fn record(plan: &Plan, out: &Path) -> Totals {
    let (next, totals) = (AtomicU32::new(0), Mutex::new(Totals::default()));
    let done = AtomicU32::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= plan.nodes {
                return;
            }
            let mut node = day::Node::start(plan, number, out);
            for day in 0..plan.days {
                let day::Day { recorded, sealed, blob, parts } = node.day(day);
                let mut totals = totals.lock().unwrap();
                totals.recorded.add(recorded);
                totals.sealed.add(sealed);
                totals.blob.add(blob);
                if let Some(parts) = parts {
                    totals.parts = parts;
                }
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                eprintln!(
                    "{done} of {} days of a node; {} million events",
                    plan.nodes * plan.days,
                    totals.sealed.events / 1_000_000
                );
            }
        }
    };
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
    totals.into_inner().unwrap()
}

/// A clock, in seconds.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn now(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Does something, and says what processor time the thread took for it.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = now(ClockId::ThreadCPUTime);
    let done = work();
    (done, now(ClockId::ThreadCPUTime) - before)
}
