//! Opening a journal after crashes, damage and mistakes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::world::{NODE, World, controls, count, end, open, options, rows, segments};
use journal::record::Lsn;
use journal::recorder::Options;
use journal::recover::{Harm, OpenError};
use journal::row::{Row, Table};
use proptest::prelude::*;

const CRASH_DIR: &str = "JOURNAL_TEST_CRASH_DIR";

/// A process that writes, and says each frame it knows to be durable, is killed at any moment.
#[test]
fn sigkill_loses_no_acknowledged_frame() {
    if let Some(dir) = std::env::var_os(CRASH_DIR) {
        write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut commands_interrupted = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "recovery::sigkill_loses_no_acknowledged_frame", "--nocapture"])
            .env(CRASH_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lsn = |line: &str| line.strip_prefix("durable ").map(|lsn| Lsn(lsn.parse().unwrap()));
        let mut acknowledged = Lsn(0);
        for _ in 0..40 + round * 97 {
            acknowledged = lsn(&lines.next().unwrap().unwrap()).unwrap_or(acknowledged);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = lsn(&line).unwrap_or(acknowledged);
        }
        let (recorder, recovery) = open(&options(dir.path())).unwrap();
        assert!(acknowledged > Lsn(0));
        assert!(recovery.last_lsn >= acknowledged, "{recovery:?}, {acknowledged:?}");
        assert_eq!(recovery.sessions_closed, 1);
        commands_interrupted += recovery.commands_interrupted;
        recorder.close().unwrap();
    }
    let rows = rows(dir.path());
    assert_eq!(count(&rows, Table::Sessions), 6);
    assert!(commands_interrupted > 0, "a child is killed while it waits for a command");
    let status = |row: &Row| match row {
        Row::Event(row) => row.status == "interrupted",
        _ => false,
    };
    let interrupted = rows.iter().filter(|row| status(row)).count();
    assert_eq!(u64::try_from(interrupted).unwrap(), commands_interrupted);
    for row in &rows {
        if let Row::Session(row) = row {
            assert_eq!(row.close_reason.as_deref(), Some("daemon_crash"));
        }
    }
}

fn write_until_killed(dir: &Path) -> ! {
    let world = World::new();
    let (recorder, _) = open(&options(dir)).unwrap();
    world.open(&recorder, 1).unwrap();
    let mut out = std::io::stdout();
    for command in 1.. {
        let begun = world.begin(&recorder, 1, command).unwrap();
        recorder.wait(begun).unwrap();
        writeln!(out, "durable {}", begun.0).unwrap();
        end(&recorder, 1, command).unwrap();
    }
    unreachable!("it is killed before")
}

/// A journal of three segments, closed with a session open as a crash leaves it; returns its rows.
fn crashed(dir: &Path) -> Vec<Row> {
    let world = World::new();
    let (recorder, _) = open(&options(dir)).unwrap();
    world.open(&recorder, 1).unwrap();
    let mut command = 0;
    while segments(dir).len() < 3 || command % 100 != 0 {
        command += 1;
        world.begin(&recorder, 1, command).unwrap();
        let end = end(&recorder, 1, command).unwrap();
        recorder.wait(end).unwrap();
    }
    world.begin(&recorder, 1, command + 1).unwrap();
    recorder.close().unwrap();
    rows(dir)
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in segments(from) {
        std::fs::copy(&file, to.path().join(file.file_name().unwrap())).unwrap();
    }
    to
}

fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).unwrap() + 1
}

fn flip(path: &Path, place: impl FnOnce(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let place = place(used(&bytes));
    bytes[place] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn accepting(dir: &Path) -> Options {
    Options { accept_loss: true, ..options(dir) }
}

#[test]
fn what_was_open_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let before = crashed(dir.path());
    let (recorder, recovery) = open(&options(dir.path())).unwrap();
    recorder.close().unwrap();
    assert_eq!((recovery.sessions_closed, recovery.commands_interrupted), (1, 1));
    assert_eq!(recovery.dropped_bytes, 0);
    let after = rows(dir.path());
    assert_eq!(after[..before.len()], before);
    let [
        Row::Event(event),
        Row::Recording(_),
        Row::Session(closed),
        Row::Control(_),
        Row::Control(_),
    ] = &after[before.len()..]
    else {
        panic!("{:?}", &after[before.len()..])
    };
    assert_eq!(event.status, "interrupted");
    assert_eq!(closed.close_reason.as_deref(), Some("daemon_crash"));
    let events = count(&after, Table::Events);
    assert_eq!(usize::try_from(closed.events_declared).unwrap(), events);
    // Nothing is left to do the next time.
    let (_, again) = open(&options(dir.path())).unwrap();
    assert_eq!((again.sessions_closed, again.dropped_bytes), (0, 0));
    assert_eq!(controls(&after), ["log.start", "log.recovered", "log.start"]);
}

#[test]
fn a_torn_tail_is_cut_at_any_byte() {
    let origin = tempfile::tempdir().unwrap();
    let all = crashed(origin.path());
    let last = segments(origin.path()).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    let end = used(&bytes);
    for cut in (1..700).step_by(13) {
        let dir = copy(origin.path());
        let path = dir.path().join(last.file_name().unwrap());
        let mut torn = bytes.clone();
        torn[end - cut..].fill(0);
        std::fs::write(&path, torn).unwrap();
        let (recorder, recovery) = open(&options(dir.path())).unwrap();
        recorder.close().unwrap();
        assert!(recovery.dropped_bytes < 1000);
        let found = rows(dir.path());
        let kept = usize::try_from(recovery.rows).unwrap();
        assert!(kept <= all.len() && kept + 8 >= all.len(), "{recovery:?}");
        assert_eq!(found[..kept], all[..kept]);
        assert_eq!(count(&found, Table::Sessions), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever bit of the last segment changes: what stood in front of it stays or the journal is
    /// not opened; nothing made up appears.
    #[test]
    fn no_flipped_bit_passes(share in 0.0..1.0_f64, bit in 0_u8..8) {
        static ORIGIN: std::sync::OnceLock<(tempfile::TempDir, Vec<Row>)> =
            std::sync::OnceLock::new();
        let (origin, all) = ORIGIN.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            let rows = crashed(dir.path());
            (dir, rows)
        });
        let dir = copy(origin.path());
        let path = segments(dir.path()).pop().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation,
            clippy::cast_sign_loss, reason = "any place will do")]
        let place = (used(&bytes) as f64 * share) as usize;
        bytes[place] ^= 1 << bit;
        std::fs::write(&path, bytes).unwrap();
        match open(&options(dir.path())) {
            Ok((recorder, recovery)) => {
                recorder.close().unwrap();
                prop_assert!(recovery.dropped_bytes > 0);
                let kept = usize::try_from(recovery.rows).unwrap();
                // Only the last commit can look torn.
                prop_assert!(kept + 4 >= all.len(), "{recovery:?}");
                prop_assert_eq!(&rows(dir.path())[..kept], &all[..kept]);
            }
            Err(OpenError::Tampered { damage, .. }) => prop_assert_eq!(damage.segment, path),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}

type Hurt = fn(&[std::path::PathBuf]);

fn zero(path: &Path, from: usize, bytes: usize) {
    let mut all = std::fs::read(path).unwrap();
    all[from..from + bytes].fill(0);
    std::fs::write(path, all).unwrap();
}

fn shorten(path: &Path, bytes: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

fn exchange(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    std::fs::rename(one, &aside).unwrap();
    std::fs::rename(other, one).unwrap();
    std::fs::rename(aside, other).unwrap();
}

#[test]
fn damage_that_no_crash_does_keeps_it_closed() {
    let origin = tempfile::tempdir().unwrap();
    crashed(origin.path());
    let first = |number: usize| journal::segment::list(origin.path()).unwrap()[number].first_lsn;
    let missing = Harm::Missing { from: first(1), to: Lsn(first(2).0 - 1) };
    // The journal's end, where a frame of the last commit alone can be torn.
    let cases: [(&str, Hurt, usize, Harm); 11] = [
        ("a frame of the last segment", |s| flip(&s[2], |end| end / 2), 2, Harm::Changed),
        ("the last segment's header", |s| flip(&s[2], |_| 40), 2, Harm::Changed),
        ("a frame carried into it", |s| flip(&s[2], |_| 300), 2, Harm::Changed),
        ("a block of the last", |s| zero(&s[2], 4096, 4096), 2, Harm::Zeroed(4096)),
        ("a frame of the segment before", |s| flip(&s[1], |end| end - 1), 1, Harm::Rewritten),
        ("a block of the first", |s| zero(&s[0], 8192, 512), 0, Harm::Zeroed(8192)),
        ("the header of the first", |s| flip(&s[0], |_| 60), 0, Harm::Changed),
        ("a segment is missing", |s| std::fs::remove_file(&s[1]).unwrap(), 2, missing),
        ("a segment lost its tail", |s| shorten(&s[1], 30_001), 1, Harm::CutOff),
        ("two were exchanged", |s| exchange(&s[0], &s[1]), 0, Harm::Misplaced(first(1))),
        (
            "a copy stands for another",
            |s| drop(std::fs::copy(&s[0], &s[1])),
            1,
            Harm::Misplaced(first(0)),
        ),
    ];
    for (what, hurt, segment, expected) in cases {
        let dir = copy(origin.path());
        let files = segments(dir.path());
        hurt(&files);
        let before = tree(dir.path());
        let error = open(&options(dir.path())).map(drop).expect_err(what);
        let said = error.to_string();
        let OpenError::Tampered { damage, harm } = error else { panic!("{what}: {error}") };
        assert_eq!((&damage.segment, harm), (&files[segment], expected), "{what}: {said}");
        for part in [
            damage.segment.to_str().unwrap(),
            &format!("offset {}", damage.offset),
            &format!("record {}", damage.lsn.0),
            "--accept-loss",
        ] {
            assert!(said.contains(part), "{what}: {said}");
        }
        assert_eq!(tree(dir.path()), before, "{what}: a refused journal stays as it is");
        // A person accepts the loss: what is good stays, what is not is set aside and said.
        let (recorder, recovery) = open(&accepting(dir.path())).unwrap();
        recorder.close().unwrap();
        assert!(!recovery.set_aside.is_empty(), "{what}");
        for lost in &recovery.set_aside {
            assert!(lost.exists(), "{what}");
        }
        let rows = rows(dir.path());
        let accepted = rows.iter().find_map(|row| match row {
            Row::Control(row) if row.kind == "log.loss_accepted" => Some(row.detail.clone()),
            _ => None,
        });
        let accepted = accepted.expect(what);
        let name = recovery.set_aside[0].file_name().unwrap().to_str().unwrap();
        assert!(accepted.contains(name), "{what}: {accepted}");
        assert!(controls(&rows).contains(&"log.recovered".to_owned()), "{what}");
        // And it is whole again.
        let (recorder, _) = open(&options(dir.path())).unwrap();
        recorder.close().unwrap();
    }
}

fn tree(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    segments(dir).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// What a crash tears was never acknowledged, and no checkpoint covers it: below one it is tampering, and what is
/// left goes into no new row's place.
#[test]
fn a_tail_torn_below_a_checkpoint_is_tampering() {
    let origin = tempfile::tempdir().unwrap();
    let all = crashed(origin.path());
    let dir = copy(origin.path());
    let last = segments(dir.path()).pop().unwrap();
    let end = used(&std::fs::read(&last).unwrap());
    zero(&last, end - 700, 700);
    let sealed = u64::try_from(all.len()).unwrap();
    let before = tree(dir.path());
    let refused = Options { checkpointed_rows: sealed, ..options(dir.path()) };
    let error = open(&refused).map(drop).expect_err("it opened");
    let OpenError::RolledBack { segment, rows: found, checkpointed, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((segment, *checkpointed), (&last, sealed));
    assert!(*found < sealed && error.to_string().contains("--accept-loss"), "{error}");
    assert_eq!(tree(dir.path()), before, "a refused journal stays as it is");
    // With the loss accepted it goes on behind the checkpoint: the archive has what was before.
    let (recorder, recovery) = open(&Options { accept_loss: true, ..refused.clone() }).unwrap();
    recorder.close().unwrap();
    assert_eq!(recovery.set_aside.len(), before.len());
    let found = rows(dir.path());
    assert_eq!(found[0].seq().0, sealed);
    assert_eq!(controls(&found), ["log.loss_accepted", "log.recovered", "log.start"]);
    let (recorder, _) = open(&refused).unwrap();
    recorder.close().unwrap();
}

#[test]
fn only_one_writes_and_only_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (recorder, _) = open(&options(dir.path())).unwrap();
    assert!(matches!(open(&options(dir.path())), Err(OpenError::Locked(_))));
    drop(recorder);
    let mut other = options(dir.path());
    other.epoch = 2;
    let Err(OpenError::Foreign { node, epoch, .. }) = open(&other) else { panic!("opened") };
    assert_eq!((node.as_str(), epoch), (NODE, 1));
    // Even with loss accepted another's journal stays as it is.
    other.accept_loss = true;
    assert!(matches!(open(&other), Err(OpenError::Foreign { .. })));
    open(&options(dir.path())).unwrap();
}

#[test]
fn a_rollback_below_a_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rows = u64::try_from(crashed(dir.path()).len()).unwrap();
    let mut options = options(dir.path());
    options.checkpointed_rows = rows + 1;
    let Err(OpenError::RolledBack { rows: found, checkpointed, .. }) = open(&options) else {
        panic!("opened")
    };
    assert_eq!((found, checkpointed), (rows, rows + 1));
    options.checkpointed_rows = rows;
    open(&options).unwrap();
}

#[test]
fn a_crash_while_a_segment_is_made_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let before = crashed(dir.path());
    // Named but without a frame of its own: the crash came before the first commit.
    let last = segments(dir.path()).pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    let mut reader = journal::reader::SegmentReader::open(
        journal::segment::list(dir.path()).unwrap().last().unwrap(),
    )
    .unwrap();
    while reader.in_head() {
        reader.next_frame().unwrap();
    }
    let head = usize::try_from(reader.offset()).unwrap();
    let mut empty = whole;
    empty[head..].fill(0);
    std::fs::write(&last, empty).unwrap();
    std::fs::write(dir.path().join("00000000000000099999.vjl.new"), b"half made").unwrap();
    let (recorder, recovery) = open(&options(dir.path())).unwrap();
    recorder.close().unwrap();
    assert_eq!((recovery.sessions_closed, recovery.dropped_bytes), (1, 0));
    let after = rows(dir.path());
    let kept = usize::try_from(recovery.rows).unwrap();
    assert_eq!(after[..kept], before[..kept]);
    assert!(!dir.path().join("00000000000000099999.vjl.new").exists());
}
