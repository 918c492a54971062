//! `cargo xtask test`: every check there is; a check that can't run has failed.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use integration::paths;

use crate::command::{cargo, processors, run as run_command, run_logged};
use crate::setup::{self, Scope};
use crate::term::{heading, now, say, say_took};
use crate::tidy;

/// The fuzzer's targets, and how long each runs, in seconds.
const FUZZ: [(&str, u32); 4] =
    [("postgres_session", 30), ("sql_analysis", 25), ("masks", 25), ("http_requests", 10)];

/// Runs the checks and the tests; the last line says how many passed and failed.
///
/// # Errors
/// If anything failed; all of it has run then.
pub(crate) fn run(fuzz: bool, filter: Option<&str>) -> Result<()> {
    look_for_room()?;
    setup::ensure(Scope::Test)?;
    let fuzzers = (fuzz && filter.is_none()).then(|| thread::spawn(fuzz_all));
    let mut failed = Vec::new();
    if filter.is_none() {
        check(&mut failed, "format", run_fmt);
        check(&mut failed, "tidy", tidy::run);
        check(&mut failed, "clippy", run_clippy);
    }
    timed("build", run_build)?;
    if filter.is_none() {
        check(&mut failed, "escape", crate::escape::run_built);
        check(&mut failed, "tamper", crate::tamper::run_quick);
        check(&mut failed, "crash", crate::crash::run_quick);
    }
    if let Some(fuzzers) = fuzzers {
        // Tests measure times and memory: they have the machine to themselves.
        check(&mut failed, "fuzz", || {
            fuzzers.join().map_err(|_| anyhow!("the fuzzers panicked"))?
        });
    }
    let counts = timed("tests", || nextest(filter))?;
    if !failed.is_empty() {
        say(format_args!("\nfailed checks: {}", failed.join(", ")));
    }
    say(format_args!("\n{} passed, {} failed", counts.passed, counts.failed));
    if counts.failed > 0 || counts.passed == 0 || !failed.is_empty() {
        bail!("not all is well");
    }
    Ok(())
}

/// Runs one check; the others run, too, where it fails.
fn check(failed: &mut Vec<&'static str>, name: &'static str, run: impl FnOnce() -> Result<()>) {
    if let Err(error) = timed(name, run) {
        say(format_args!("{error:#}"));
        failed.push(name);
    }
}

/// Runs something under a heading, and says how long it took.
fn timed<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    heading(name);
    let begun = now();
    let done = run();
    say_took(name, begun);
    done
}

fn run_fmt() -> Result<()> {
    run_command(cargo(None).args(["fmt", "--all", "--check"]))
}

fn run_clippy() -> Result<()> {
    run_command(cargo(None).args(["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]))
}

/// The tests, and beside them the programs that integration tests run.
fn run_build() -> Result<()> {
    run_command(cargo(None).args(["build", "--quiet", "--all-targets"]))
}

/// Beside the other checks, which leave a processor idle now and then: a parser in C takes one core minutes to compile
/// with the sanitizer, and then each target runs for its time on one core.
fn fuzz_all() -> Result<()> {
    let mut fuzz = cargo(Some("nightly"));
    run_logged("fuzz", fuzz.args(["fuzz", "build", "--fuzz-dir", "tests/fuzz"]))?;
    for (target, seconds) in FUZZ {
        let time = format!("-max_total_time={seconds}");
        // What it finds goes to the first folder; the seeds in the tree stay as they are.
        let found = paths::root().join("target/fuzz-corpus").join(target);
        let seeds = paths::root().join("tests/fuzz/corpus").join(target);
        std::fs::create_dir_all(&found).context("the fuzzer's folder")?;
        let mut fuzz = cargo(Some("nightly"));
        fuzz.args(["fuzz", "run", "--fuzz-dir", "tests/fuzz", target]);
        fuzz.arg(found).arg(seeds).args(["--", &time]);
        run_logged(&format!("fuzz-{target}"), &mut fuzz)?;
    }
    Ok(())
}

/// What building everything takes of the disk (5 GB), the fuzzers and what setup brings (3 GB), the tests' servers (2 GB).
const ROOM_BYTES: u64 = 10_000_000_000;

/// The tests' part of it, once everything is built.
const ROOM_BUILT_BYTES: u64 = 2_000_000_000;

/// Looks for the room that all of it takes: a full disk fails in the middle and says something else.
fn look_for_room() -> Result<()> {
    let root = paths::root();
    let is_built = root.join("target/debug/vestibuled").exists();
    let needed = if is_built { ROOM_BUILT_BYTES } else { ROOM_BYTES };
    let disk = rustix::fs::statvfs(root).context("how much room the disk has")?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < needed {
        bail!(
            "the disk has {} MB free, and this takes {} MB: make room (`cargo clean` gives back what older builds left)",
            free / 1_000_000,
            needed / 1_000_000
        );
    }
    Ok(())
}

/// Tests that run at once on each processor: they wait for servers to start and for times to pass, which leaves it idle for
/// half of the time where it has one.
const TESTS_PER_PROCESSOR: usize = 2;

/// How the tests went.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Runs the tests, shows what nextest says, and answers its summary.
fn nextest(filter: Option<&str>) -> Result<Counts> {
    let mut nextest = cargo(None);
    let at_once = processors() * TESTS_PER_PROCESSOR;
    nextest.args(["nextest", "run", "--no-fail-fast", "--test-threads", &at_once.to_string()]);
    nextest.args(filter);
    let mut child =
        nextest.stderr(Stdio::piped()).spawn().context("cargo nextest can't be started")?;
    let stderr = child.stderr.take().context("its messages are a pipe")?;
    let mut counts = Counts::default();
    for line in BufReader::new(stderr).lines() {
        let line = line.context("its messages can't be read")?;
        if let Some(found) = summary(&line) {
            counts = found;
        }
        say(&line);
    }
    let status = child.wait().context("cargo nextest is not ours")?;
    if !status.success() && counts.failed == 0 {
        bail!("cargo nextest failed before the tests: {status}");
    }
    Ok(counts)
}

/// Reads `Summary [ 2.1s] 9 tests run: 7 passed (1 slow), 1 failed, 1 timed out, 0 skipped`.
fn summary(line: &str) -> Option<Counts> {
    let (_, told) = line.trim_start().strip_prefix("Summary")?.split_once("run: ")?;
    let mut counts = Counts::default();
    for part in told.split(", ") {
        let (number, word) = part.split_once(' ')?;
        let number: u64 = number.parse().ok()?;
        match word.split(' ').next()? {
            "passed" => counts.passed += number,
            "skipped" => {}
            // "failed", "timed out", "exec failed": whatever is not passed has failed.
            _ => counts.failed += number,
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::{Counts, summary};

    #[test]
    fn a_summary_is_read() {
        for (line, passed, failed) in [
            ("     Summary [   2.097s] 4 tests run: 4 passed, 0 skipped", 4, 0),
            (
                "Summary [ 9s] 9 tests run: 6 passed (1 slow), 1 failed, 2 timed out, 0 skipped",
                6,
                3,
            ),
            ("Summary [ 9s] 3/9 tests run: 2 passed, 1 exec failed, 0 skipped", 2, 1),
        ] {
            assert_eq!(summary(line), Some(Counts { passed, failed }), "{line}");
        }
        assert_eq!(summary("PASS [ 0.1s] it reads"), None);
    }
}
