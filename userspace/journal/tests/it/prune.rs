//! Letting go of segments whose rows are safe elsewhere, and telling that from a hand that took them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use journal::clock::SystemClock;
use journal::disk::Os;
use journal::prune::{self, Due, Extent, Limits};
use journal::recorder::Options;
use journal::recover::{Harm, OpenError};
use journal::row::{Row, Table};
use journal::start::Start;
use types::clock::Clock;

use crate::world::{World, close, controls, count, end, open, options, rows, segments};

/// A journal of `many` segments and more, in which a session is open from the first to the last.
fn long(dir: &Path, many: usize) -> Vec<Row> {
    let world = World::new();
    let (recorder, _) = open(&options(dir)).unwrap();
    world.open(&recorder, 1).unwrap();
    let mut command = 0;
    while segments(dir).len() < many {
        command += 1;
        world.begin(&recorder, 1, command).unwrap();
        recorder.wait(end(&recorder, 1, command).unwrap()).unwrap();
    }
    close(&recorder, 1).unwrap();
    recorder.close().unwrap();
    rows(dir)
}

/// All rows before `rows` are archived, and nothing is too young.
fn safe(rows: u64) -> Limits {
    Limits { rows, now: SystemClock.now(), keep: Duration::ZERO }
}

fn due(dir: &Path, rows: u64) -> Due {
    prune::due(dir, &safe(rows)).unwrap().expect("something can go")
}

fn archived(dir: &Path, rows: u64) -> Options {
    Options { checkpointed_rows: rows, ..options(dir) }
}

#[test]
fn what_was_let_go_is_no_gap_and_the_rest_reads_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let before = long(dir.path(), 6);
    let all = u64::try_from(before.len()).unwrap();
    let whole = prune::extent(dir.path()).unwrap();
    let Due { start, segments: going, bytes } = due(dir.path(), all);
    assert_eq!(going, whole.segments - 2, "the last two stay");
    prune::let_go(&Os, dir.path(), &start).unwrap();
    let left = prune::extent(dir.path()).unwrap();
    assert_eq!(left, Extent { first_seq: start.seq, segments: 2, bytes: whole.bytes - bytes });
    let from = usize::try_from(start.seq).unwrap();
    assert!(from > 0);
    assert_eq!(rows(dir.path()), before[from..], "the session's rows as well, which began before");
    assert_eq!(prune::due(dir.path(), &safe(all)).unwrap(), None);
    // It opens, goes on, and can let go again.
    let (recorder, recovery) = open(&archived(dir.path(), all)).unwrap();
    assert_eq!((recovery.rows, recovery.accepted), (all, Vec::new()));
    recorder.close().unwrap();
    assert_eq!(rows(dir.path())[..before.len() - from], before[from..]);
    let again = due(dir.path(), all).start;
    assert!(again.seq > start.seq);
    prune::let_go(&Os, dir.path(), &again).unwrap();
    open(&archived(dir.path(), all)).unwrap().0.close().unwrap();
    assert_eq!(Start::parse(&again.json().to_string()), Some(again));
}

#[test]
fn nothing_goes_that_is_not_safe_elsewhere_or_too_young() {
    let dir = tempfile::tempdir().unwrap();
    let before = long(dir.path(), 5);
    let all = u64::try_from(before.len()).unwrap();
    let begins: Vec<u64> = journal::segment::list(dir.path())
        .unwrap()
        .iter()
        .map(|one| journal::reader::SegmentReader::open(one).unwrap().header().first_seq)
        .collect();
    assert_eq!(prune::due(dir.path(), &safe(begins[1] - 1)).unwrap(), None);
    assert_eq!(due(dir.path(), begins[1]).start.seq, begins[1]);
    assert_eq!(due(dir.path(), begins[3] - 1).start.seq, begins[2]);
    let young = Limits { keep: Duration::from_hours(1), ..safe(all) };
    assert_eq!(prune::due(dir.path(), &young).unwrap(), None);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(prune::due(empty.path(), &safe(all)).unwrap(), None);
}

/// A crash between the start and the last segment that goes, in whichever order these went.
#[test]
fn what_a_crash_left_is_passed_over_and_goes_the_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let before = long(dir.path(), 6);
    let all = u64::try_from(before.len()).unwrap();
    let files = segments(dir.path());
    let kept = fs::read(&files[1]).unwrap();
    let start = due(dir.path(), all).start;
    prune::let_go(&Os, dir.path(), &start).unwrap();
    fs::write(&files[1], &kept).unwrap();
    let from = usize::try_from(start.seq).unwrap();
    assert_eq!(rows(dir.path()), before[from..]);
    open(&archived(dir.path(), all)).unwrap().0.close().unwrap();
    prune::finish(&Os, dir.path(), start.seq - 1).unwrap();
    assert!(files[1].exists(), "its rows are not known to be safe");
    prune::finish(&Os, dir.path(), start.seq).unwrap();
    assert!(!files[1].exists());
    assert_eq!(rows(dir.path())[..before.len() - from], before[from..]);
}

#[test]
fn what_nobody_let_go_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let all = u64::try_from(long(dir.path(), 6).len()).unwrap();
    let files = journal::segment::list(dir.path()).unwrap();
    fs::remove_file(&files[0].path).unwrap();
    let refused = |options: &Options| match open(options).map(drop) {
        Err(OpenError::Tampered { damage, harm: Harm::Missing { from, to } }) => {
            (damage.segment, from.0, to.0)
        }
        other => panic!("{other:?}"),
    };
    let missing = (files[1].path.clone(), 1, files[1].first_lsn.0 - 1);
    assert_eq!(refused(&archived(dir.path(), all)), missing);
    // More than was let go.
    let start = due(dir.path(), all).start;
    prune::let_go(&Os, dir.path(), &start).unwrap();
    let left = journal::segment::list(dir.path()).unwrap();
    assert_eq!(left[0].first_lsn, start.lsn);
    fs::remove_file(&left[0].path).unwrap();
    let missing = (left[1].path.clone(), start.lsn.0, left[1].first_lsn.0 - 1);
    assert_eq!(refused(&archived(dir.path(), all)), missing);
    // A person accepts it: what is there stays, as its rows are archived up to it.
    let accepting = Options { accept_loss: true, ..archived(dir.path(), all) };
    let (recorder, recovery) = open(&accepting).unwrap();
    recorder.close().unwrap();
    assert!(recovery.accepted[0].contains("are missing before it"), "{recovery:?}");
    let rows = rows(dir.path());
    assert!(controls(&rows).contains(&"log.loss_accepted".to_owned()));
    assert_eq!(count(&rows, Table::Sessions), 1);
    open(&archived(dir.path(), all)).unwrap().0.close().unwrap();
}

#[test]
fn a_start_that_says_it_wrongly_keeps_it_closed() {
    let origin = tempfile::tempdir().unwrap();
    let all = u64::try_from(long(origin.path(), 6).len()).unwrap();
    let start = due(origin.path(), all).start;
    prune::let_go(&Os, origin.path(), &start).unwrap();
    let said = fs::read_to_string(origin.path().join("start")).unwrap();
    let newest = journal::segment::list(origin.path()).unwrap().pop().unwrap().first_lsn;
    let number = |name: &str, from: u64, to: u64| {
        said.replace(&format!("\"{name}\":{from}"), &format!("\"{name}\":{to}"))
    };
    let cases = [
        ("cut off", said[..30].to_owned(), all),
        ("of another row", number("first_seq", start.seq, start.seq - 1), all),
        ("of an earlier record", number("first_lsn", start.lsn.0, start.lsn.0 - 1), all),
        ("of a record to come", number("first_lsn", start.lsn.0, newest.0 + 1_000_000), all),
        ("of a record within a segment", number("first_lsn", start.lsn.0, start.lsn.0 + 1), all),
        ("rows that nobody archived", said.clone(), start.seq - 1),
    ];
    for (what, text, archived_rows) in cases {
        let dir = tempfile::tempdir().unwrap();
        for one in segments(origin.path()) {
            fs::copy(&one, dir.path().join(one.file_name().unwrap())).unwrap();
        }
        fs::write(dir.path().join("start"), &text).unwrap();
        let error = open(&archived(dir.path(), archived_rows)).map(drop).expect_err(what);
        assert!(
            matches!(error, OpenError::Start { .. } | OpenError::Tampered { .. }),
            "{what}: {error}"
        );
        assert!(error.to_string().contains("--accept-loss"), "{what}: {error}");
        assert_eq!(fs::read_to_string(dir.path().join("start")).unwrap(), text, "{what}");
        let accepting = Options { accept_loss: true, ..archived(dir.path(), archived_rows) };
        let (recorder, recovery) = open(&accepting).unwrap_or_else(|e| panic!("{what}: {e}"));
        recorder.close().unwrap();
        let aside = |name: &str| {
            recovery
                .set_aside
                .iter()
                .any(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name))
        };
        assert!(aside("start.vjl.lost"), "{what}: {recovery:?}");
        // What is archived up to it stays; where rows are in neither nothing can go on but behind the checkpoint.
        let kept = recovery.rows == all;
        assert_eq!(kept, archived_rows == all, "{what}: {recovery:?}");
        let (recorder, recovery) = open(&archived(dir.path(), archived_rows)).unwrap();
        recorder.close().unwrap();
        assert!(recovery.accepted.is_empty(), "{what}: it is whole again");
    }
}
