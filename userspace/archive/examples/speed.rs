//! Measures sealing and verification: `cargo xtask bench --archive`, or
//! `cargo run --release -p archive --example speed -- [--quick] [--json FILE]`.

#![expect(clippy::unwrap_used, reason = "a bench that fails may end")]
#![expect(clippy::print_stdout, reason = "the terminal is what this is for")]

#[path = "../tests/common/mod.rs"]
mod common;

use archive::verify::{Options, Report, State, verify_from};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Wall and processor time, seconds.
struct Took {
    wall: f64,
    cpu: f64,
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
    let mut node = common::Node::start(64 * 1024 * 1024);
    for _ in 0..if quick { 20 } else { 200 } {
        node.session(2_500);
        node.recorder.wait(node.last).unwrap();
    }
    let (sealed, sealing) = timed(|| node.seal());
    let rows = sealed.tree_size;
    let mut lines = vec![line("seal", 1, rows, bytes(&node), &sealing)];
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in if all > 1 { vec![1, all] } else { vec![1] } {
        let (report, took) = timed(|| check(&node, threads, &mut State::default()));
        assert!(report.is_ok() && report.rows_read == rows, "{report}");
        lines.push(line("verify", threads, rows, report.bytes_read, &took));
    }
    let mut state = State::default();
    assert!(check(&node, all, &mut state).is_ok());
    let (report, took) = timed(|| check(&node, all, &mut state));
    assert!(report.is_ok() && report.rows_read == 0, "{report}");
    println!("again, with what was verified before: {:.3} s", took.wall);
    if let Some(file) = file {
        let text = json!({ "rows": rows, "cases": lines, "again_s": took.wall });
        std::fs::write(file, format!("{text:#}\n")).unwrap();
    }
}

fn check(node: &common::Node, threads: usize, state: &mut State) -> Report {
    verify_from(&Options { threads, ..Options::new(node.archive()) }, state).unwrap()
}

/// Bytes of the archive's Parquet files.
fn bytes(node: &common::Node) -> u64 {
    let files = archive::files::walk(&node.archive()).unwrap();
    let parquet = files.iter().filter(|path| path.extension().is_some_and(|end| end == "parquet"));
    parquet.map(|path| path.metadata().unwrap().len()).sum()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn line(what: &str, threads: usize, rows: u64, bytes: u64, took: &Took) -> serde_json::Value {
    let Took { wall, cpu } = took;
    let (rows_s, rows_cpu_s) = (rows as f64 / wall, rows as f64 / cpu);
    let (gb_cpu_s, per_row) = (bytes as f64 / 1e9 / cpu, bytes as f64 / rows as f64);
    println!(
        "{what:6} {threads} threads: {rows} rows, {per_row:.1} B/row, {wall:.2} s, {rows_s:.0} rows/s, \
         {rows_cpu_s:.0} rows per CPU-second, {gb_cpu_s:.3} GB of Parquet per CPU-second"
    );
    json!({
        "what": what, "threads": threads, "wall_s": wall, "cpu_s": cpu, "rows_per_s": rows_s,
        "rows_per_cpu_s": rows_cpu_s, "gb_per_cpu_s": gb_cpu_s, "bytes_per_row": per_row,
    })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let now = |clock| {
        let time = clock_gettime(clock);
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
        seconds
    };
    let clocks = [ClockId::Monotonic, ClockId::ProcessCPUTime];
    let before = clocks.map(now);
    let done = work();
    let after = clocks.map(now);
    (done, Took { wall: after[0] - before[0], cpu: after[1] - before[1] })
}
