//! Days are put together; what was proven stays proven, whatever happens on the way.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archive::compact::{self, CompactError, Done, Due, Options, Step, Unwatched, Watch};
use archive::compacted;
use archive::verify::{self, Report, State};
use archive::{decode, files};
use common::{Node, plant, tree};
use journal::row::{Row, Table};

/// After all that tests record.
const NEVER: i64 = 30_000;

/// Two nodes' days around midnight in one archive, sealed in several steps each.
fn two_nodes() -> (Node, Node) {
    let (mut first, mut second) = (Node::start(64 * 1024), Node::start_as("n2", 64 * 1024));
    for _ in 0..2 {
        for node in [&mut first, &mut second] {
            node.session(12);
            node.heartbeat();
            node.seal();
            node.sleep(40 * 60 * 1_000_000);
            node.session(9);
        }
    }
    first.rotate(None);
    first.seal();
    second.seal();
    // As they lie at a collector: the texts are both's, the newer ones stay.
    plant(&first.archive(), &tree(&second.archive()));
    (first, second)
}

/// All days, compressed little: tests are many.
fn all_days(archive: &Path) -> Options {
    Options { zstd_level: 1, ..Options::new(archive, NEVER) }
}

/// All rows that whoever reads the folders finds, by log and number; none stands twice.
fn rows(archive: &Path) -> BTreeMap<(String, i32, u64), [u8; 32]> {
    let mut found = BTreeMap::new();
    for path in parquet(archive) {
        let name = path.to_str().unwrap();
        let table =
            Table::ALL.into_iter().find(|t| name.contains(&format!("table={}/", t.as_str())));
        let mut each = |row: Row| {
            let (mut node, mut epoch, mut at) = (String::new(), 0, 0);
            row.visit(&mut |value| {
                match (at, value) {
                    (0, journal::row::Value::Str(it)) => it.clone_into(&mut node),
                    (1, journal::row::Value::I32(it)) => epoch = it,
                    _ => {}
                }
                at += 1;
            });
            let before = found.insert((node, epoch, row.seq().0), row.leaf_hash());
            assert!(before.is_none(), "{} stands twice", row.seq().0);
        };
        decode::rows(table.unwrap(), fs::read(&path).unwrap(), &mut each).unwrap();
    }
    found
}

/// The tables' files.
fn parquet(archive: &Path) -> Vec<PathBuf> {
    let all = files::walk(archive).unwrap().into_iter();
    all.filter(|path| {
        let name = path.strip_prefix(archive).unwrap().to_str().unwrap();
        name.ends_with(".parquet") && !compacted::is_staged(name)
    })
    .collect()
}

fn check(archive: &Path) -> Report {
    verify::verify(&verify::Options::new(archive)).unwrap()
}

fn sound(archive: &Path) -> Report {
    let report = check(archive);
    assert!(report.is_ok(), "{report}");
    report
}

fn put_together(options: &Options) -> Vec<Done> {
    let mut failed = |due: &Due, error: CompactError| panic!("{due:?}: {error}");
    compact::compact(options, &mut Unwatched, &mut failed).unwrap()
}

#[test]
fn what_was_sealed_verifies_before_and_after_and_the_rows_are_the_same() {
    let (node, _other) = two_nodes();
    let archive = node.archive();
    let report = sound(&archive);
    let (before, count) = (rows(&archive), parquet(&archive).len());
    // Sorted in one go, or in many runs that are merged in two rounds: the bytes are the same.
    let mut outcomes = Vec::new();
    for run_bytes in [usize::MAX, 5_000] {
        let copy = tempfile::tempdir().unwrap();
        plant(copy.path(), &tree(&archive));
        let options = Options { run_bytes, ..all_days(copy.path()) };
        let done = put_together(&options);
        assert!(done.len() >= 6, "{} tables' days", done.len());
        assert_eq!(rows(copy.path()), before);
        let after = sound(copy.path());
        assert_eq!(after.rows_read, report.rows_read);
        assert_eq!(after.logs, report.logs, "roots and sizes are what they were");
        assert!(parquet(copy.path()).len() < count / 2);
        assert_eq!(put_together(&options), Vec::new(), "all is done");
        outcomes.push(tree(copy.path()));
    }
    let [one, many] = <[_; 2]>::try_from(outcomes).unwrap();
    assert_eq!(one.keys().collect::<Vec<_>>(), many.keys().collect::<Vec<_>>());
    assert!(one == many, "the bytes are the same however they were sorted");
}

/// DuckDB on the files as they lie, by the shipped views and questions; and a verifier that shares no code with this one.
#[test]
fn questions_have_the_same_answers_and_another_verifier_agrees() {
    let (node, _other) = two_nodes();
    let copy = tempfile::tempdir().unwrap();
    plant(copy.path(), &tree(&node.archive()));
    put_together(&all_days(copy.path()));
    let told =
        python(&["questions.py".as_ref(), node.archive().as_os_str(), copy.path().as_os_str()]);
    assert!(told.contains("same   refusals"), "{told}");
    let mut one = Node::start(64 * 1024);
    one.session(30);
    one.seal();
    one.session(9);
    one.seal();
    put_together(&all_days(&one.archive()));
    let told = python(&["verify.py".as_ref(), one.archive().as_os_str()]);
    assert!(told.contains(": OK"), "{told}");
}

fn python(args: &[&std::ffi::OsStr]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut python = Command::new(root.join("target/venv/bin/python"));
    python.arg(root.join("tests/conformance").join(args[0])).args(&args[1..]);
    let output = python.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told} {}", String::from_utf8_lossy(&output.stderr));
    told
}

#[test]
fn what_comes_later_is_put_to_it_and_a_state_goes_on() {
    let mut node = Node::start(64 * 1024);
    node.session(12);
    node.seal();
    let archive = node.archive();
    let options = all_days(&archive);
    put_together(&options);
    let mut state = State::default();
    let all = verify::Options::new(&archive);
    assert!(verify::verify_from(&all, &mut state).unwrap().is_ok());
    let again = verify::verify_from(&all, &mut state).unwrap();
    assert!(again.is_ok() && again.rows_read == 0, "{again}");
    node.session(25);
    node.seal();
    let more = verify::verify_from(&all, &mut state).unwrap();
    assert!(more.is_ok() && more.rows_read > 0 && more.rows_read < 100, "{more}");
    let due = rows(&archive);
    let done = put_together(&options);
    assert!(!done.is_empty());
    assert_eq!(rows(&archive), due);
    let whole = verify::verify_from(&all, &mut state).unwrap();
    assert!(whole.is_ok() && whole.rows_read > more.rows_read, "{whole}");
    assert!(whole.notes.iter().any(|note| note.contains("read again")), "{whole}");
    // Several files for a day, where it is large.
    let parts: BTreeSet<String> = compacted::all(&archive)
        .unwrap()
        .iter()
        .flat_map(|found| found.says.as_ref().unwrap().files.iter().map(|part| part.path.clone()))
        .collect();
    assert_eq!(parts.len(), parquet(&archive).len());
    node.session(9);
    node.seal();
    put_together(&Options { source_bytes: 10_000, ..options });
    let events = parquet(&archive).into_iter();
    assert!(events.filter(|path| path.to_str().unwrap().contains("=events/")).count() > 3);
    sound(&archive);
}

#[test]
fn days_stay_whose_files_are_not_as_sealed_not_here_or_not_shipped() {
    let (node, _other) = two_nodes();
    let archive = node.archive();
    assert_eq!(compact::plan(&Options::new(&archive, 20_000)).unwrap(), Vec::new(), "too young");
    let mut options = all_days(&archive);
    options.upto.insert("vestibule/node/n1/0".to_owned(), 10);
    let kept = compact::plan(&options).unwrap();
    assert!(kept.iter().any(|due| due.why.is_some()));
    let told = kept.iter().find_map(|due| due.why.clone()).unwrap().to_string();
    assert!(told.contains("is not shipped yet"), "{told}");
    options.upto.clear();
    let path =
        parquet(&archive).into_iter().find(|p| p.to_str().unwrap().contains("=events/")).unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut other = bytes.clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    fs::write(&path, other).unwrap();
    let mut failed = Vec::new();
    let mut tell = |due: &Due, error: CompactError| failed.push((due.table, error.to_string()));
    compact::compact(&options, &mut Unwatched, &mut tell).unwrap();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].0 == Table::Events && failed[0].1.contains("not as it was sealed"));
    fs::write(&path, bytes).unwrap();
    sound(&archive);
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    let told = compact::plan(&options).unwrap().remove(0).why.unwrap().to_string();
    assert!(told.contains("is not here"), "{told}");
    fs::rename(&away, &path).unwrap();
    assert_eq!(put_together(&options).len(), 1);
    sound(&archive);
}

/// What kills itself.
const OWN_NAME: &str = "whenever_it_is_killed_all_rows_are_there_once_and_the_next_one_ends_it";

/// Ends this process as `kill -9` does, at the step that is told.
struct Killed(usize);

impl Watch for Killed {
    fn record(&mut self, _: &Done) -> Result<(), CompactError> {
        Ok(())
    }

    fn step(&mut self, _: Step) {
        self.0 -= 1;
        if self.0 == 0 {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .unwrap();
        }
    }
}

#[test]
fn whenever_it_is_killed_all_rows_are_there_once_and_the_next_one_ends_it() {
    if let Ok(archive) = std::env::var("COMPACT_ARCHIVE") {
        // This is the process that is killed: the same test, started by itself.
        let step = std::env::var("COMPACT_STEP").unwrap().parse().unwrap();
        let options = Options { run_bytes: 9_000, ..all_days(Path::new(&archive)) };
        compact::compact(&options, &mut Killed(step), &mut |_, error| panic!("{error}")).unwrap();
        return;
    }
    let mut node = Node::start(64 * 1024);
    node.session(6);
    node.seal();
    node.session(5);
    node.seal();
    let sealed = tree(&node.archive());
    let before = rows(&node.archive());
    let root = tempfile::tempdir().unwrap();
    let (mut step, mut killed) = (1, 0);
    loop {
        let archive = root.path().join(step.to_string());
        plant(&archive, &sealed);
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", OWN_NAME]);
        child.env("COMPACT_ARCHIVE", &archive).env("COMPACT_STEP", step.to_string());
        let ended = child.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(rows(&archive), before, "killed at step {step}");
        let report = check(&archive);
        assert!(report.is_ok(), "killed at step {step}: {report}");
        if ended.success() {
            break;
        }
        killed += 1;
        put_together(&all_days(&archive));
        assert_eq!(rows(&archive), before, "ended after step {step}");
        assert!(!archive.join("std7y/v1/compacting/table=events").exists());
        fs::remove_dir_all(&archive).unwrap();
        // Every step of the first day, and then some of the others.
        step += if step < 9 { 1 } else { 13 };
    }
    assert!(killed > 8, "{killed} kills");
}

/// Tries a second one while it is under way.
struct Inside(PathBuf, bool);

impl Watch for Inside {
    fn record(&mut self, _: &Done) -> Result<(), CompactError> {
        Ok(())
    }
    fn step(&mut self, step: Step) {
        if step == Step::Written && !self.1 {
            let options = all_days(&self.0);
            let again = compact::compact(&options, &mut Unwatched, &mut |_, _| {});
            self.1 = matches!(again, Err(CompactError::Busy));
            assert!(check(&self.0).is_ok(), "it verifies while it is under way");
        }
    }
}

/// Seals and compactions hold one another off only where they must.
#[test]
fn two_at_once_are_one_and_what_is_foreign_stays() {
    let (node, _other) = two_nodes();
    let archive = node.archive();
    let mut inside = Inside(archive.clone(), false);
    compact::compact(&all_days(&archive), &mut inside, &mut |_, e| panic!("{e}")).unwrap();
    assert!(inside.1, "a second one is refused");
    let foreign =
        archive.join("std7y/v1/compacting/table=events/dt=2026-11-21/node=n1/0-7.parquet");
    files::write(&foreign, b"x", 0o600).unwrap();
    let refused = compact::compact(&all_days(&archive), &mut Unwatched, &mut |_, _| {});
    assert!(matches!(refused, Err(CompactError::Foreign(_))), "{refused:?}");
    assert!(foreign.exists());
}
