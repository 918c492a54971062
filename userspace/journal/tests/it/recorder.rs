//! The recorder at work: order, groups, bounds, rotation, failure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::world::{World, close, controls, count, end, open, options, rows, segments};
use journal::clock::SystemClock;
use journal::record::Lsn;
use journal::recorder::{AppendError, Health, Recorder, Reserve};
use journal::row::{Row, Table};
use types::clock::Clock;

#[test]
fn a_session_becomes_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, recovery) = open(&options(dir.path())).unwrap();
    assert_eq!((recovery.last_lsn, recovery.rows), (Lsn(0), 0));
    world.open(&recorder, 1).unwrap();
    world.begin(&recorder, 1, 1).unwrap();
    end(&recorder, 1, 1).unwrap();
    let last = close(&recorder, 1).unwrap();
    recorder.wait(last).unwrap();
    assert_eq!((recorder.durable(), recorder.durable_rows()), (last, 4));
    let stats = recorder.stats();
    assert_eq!((stats.frames, stats.rows), (4, 3));
    recorder.close().unwrap();
    let rows = rows(dir.path());
    let [Row::Control(start), Row::Event(event), Row::Recording(recording), Row::Session(closed)] =
        rows.as_slice()
    else {
        panic!("{rows:?}")
    };
    assert_eq!((start.kind.as_str(), start.seq.0), ("log.start", 0));
    assert_eq!(event.statement.objects, ["cards.pans"]);
    assert_eq!(
        (event.decision.as_str(), event.session.rule_id.as_str()),
        ("deny", "no-bulk-delete")
    );
    assert_eq!((event.status.as_str(), event.masked_count), ("denied", 3));
    assert_eq!(event.duration_us, Some(1_000_000));
    assert!(event.statement.is_write);
    assert_eq!(recording.statement.as_deref(), Some("DELETE FROM cards.pans"));
    assert_eq!((closed.events_declared, closed.denied, closed.rows), (1, 1, 2));
    assert_eq!((closed.bytes_in, closed.bytes_out, closed.masked_count), (10, 20, 3));
    assert_eq!(closed.close_reason.as_deref(), Some("client"));
}

#[test]
fn order_is_enforced() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&options(dir.path())).unwrap();
    let refused = |result: Result<Lsn, AppendError>| {
        assert!(matches!(result, Err(AppendError::OutOfOrder(_))), "{result:?}");
    };
    refused(world.begin(&recorder, 1, 1));
    refused(close(&recorder, 1));
    world.open(&recorder, 1).unwrap();
    refused(world.open(&recorder, 1));
    refused(end(&recorder, 1, 1));
    world.begin(&recorder, 1, 1).unwrap();
    refused(world.begin(&recorder, 1, 1));
    end(&recorder, 1, 1).unwrap();
    refused(end(&recorder, 1, 1));
    // What was refused left no trace: the next frame takes the next place.
    let next = world.begin(&recorder, 1, 2).unwrap();
    assert_eq!(next, Lsn(5));
    let long = "x".repeat(100_000);
    let answer = recorder.control("policy.change", &long);
    assert_eq!(answer, Err(AppendError::TooLarge(100_000)));
    assert_eq!(close(&recorder, 1), Ok(Lsn(7)), "the open command ended as interrupted");
    recorder.close().unwrap();
    assert_eq!(recorder.control("late", "{}"), Err(AppendError::Closed));
    let rows = rows(dir.path());
    let statuses: Vec<_> = rows
        .iter()
        .filter_map(|row| if let Row::Event(row) = row { Some(row.status.as_str()) } else { None })
        .collect();
    assert_eq!(statuses, ["denied", "interrupted"]);
}

#[test]
fn thirty_two_writers_lose_nothing() {
    const WRITERS: u64 = 32;
    const COMMANDS: u32 = 50;
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&options(dir.path())).unwrap();
    std::thread::scope(|scope| {
        for writer in 1..=WRITERS {
            let (world, recorder) = (&world, recorder.clone());
            scope.spawn(move || {
                world.open(&recorder, writer).unwrap();
                for command in 1..=COMMANDS {
                    let begun = world.begin(&recorder, writer, command).unwrap();
                    recorder.wait(begun).unwrap();
                    assert!(recorder.durable() >= begun);
                    end(&recorder, writer, command).unwrap();
                }
                close(&recorder, writer).unwrap();
            });
        }
    });
    recorder.close().unwrap();
    let stats = recorder.stats();
    let expected = usize::try_from(WRITERS).unwrap() * usize::try_from(COMMANDS).unwrap();
    let rows = rows(dir.path());
    assert_eq!(count(&rows, Table::Events), expected);
    assert_eq!(count(&rows, Table::Recordings), expected);
    assert_eq!(count(&rows, Table::Sessions), 32);
    assert!(stats.commits < stats.frames, "frames are committed in groups: {stats:?}");
    assert!(segments(dir.path()).len() > 2);
}

#[test]
fn each_segment_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&options(dir.path())).unwrap();
    // Two sessions stay open over many segments, one of them with a command.
    world.open(&recorder, 1).unwrap();
    world.open(&recorder, 2).unwrap();
    world.begin(&recorder, 2, 1).unwrap();
    for command in 1..=600 {
        world.begin(&recorder, 1, command).unwrap();
        let end = end(&recorder, 1, command).unwrap();
        recorder.wait(end).unwrap();
    }
    end(&recorder, 2, 1).unwrap();
    close(&recorder, 1).unwrap();
    close(&recorder, 2).unwrap();
    recorder.close().unwrap();
    let all = rows(dir.path());
    let files = segments(dir.path());
    assert!(files.len() > 3, "{files:?}");
    let alone = tempfile::tempdir().unwrap();
    let last = files.last().unwrap();
    std::fs::copy(last, alone.path().join(last.file_name().unwrap())).unwrap();
    let end = rows(alone.path());
    assert!(end.len() < all.len() && end.len() > 5);
    assert_eq!(end, all[all.len() - end.len()..], "same rows, totals and places included");
    let Some(Row::Session(closed)) = end.iter().rev().nth(1) else { panic!("{end:?}") };
    assert_eq!(closed.events_declared, 600);
}

#[test]
fn rows_are_read_from_any_place() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&options(dir.path())).unwrap();
    world.open(&recorder, 1).unwrap();
    let mut limit = Lsn(0);
    for command in 1..=400 {
        world.begin(&recorder, 1, command).unwrap();
        limit = end(&recorder, 1, command).unwrap();
    }
    recorder.wait(limit).unwrap();
    let mut places = Vec::new();
    for from in [0, 1, 2, 333, 799, 800, 801] {
        // While the journal is open: up to what is durable.
        let mut source = journal::assemble::Rows::open(dir.path(), from, Some(limit)).unwrap();
        let first = source.next_row().unwrap().map(|row| row.seq().0);
        while source.next_row().unwrap().is_some() {}
        places.push((first, source.next_seq()));
    }
    let at = |first| (first, Some(801));
    let firsts = [Some(0), Some(1), Some(2), Some(333), Some(799), Some(800), None];
    assert_eq!(places, firsts.map(at));
}

#[test]
fn a_full_buffer_blocks_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let mut options = options(dir.path());
    options.pending_bytes_max = 2000;
    let (release, held) = mpsc::channel::<()>();
    let (entered, committed) = mpsc::channel::<()>();
    let hold = move |_| {
        entered.send(()).unwrap_or_default();
        held.recv().unwrap_or_default();
    };
    let (recorder, _) = Recorder::open(&options, Arc::new(SystemClock), Box::new(hold)).unwrap();
    world.open(&recorder, 1).unwrap();
    // From here on the committer is held: nothing it could take away from the buffer.
    committed.recv().unwrap();
    let mut taken = 0;
    let full = loop {
        match recorder.try_append(world.begin_frame(1, taken + 1)) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, AppendError::Full);
    assert!(taken < 40, "2,000 bytes do not hold {taken} frames");
    let passed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let lsn = world.begin(&recorder, 1, taken + 1).unwrap();
            passed.store(true, Ordering::SeqCst);
            lsn
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!passed.load(Ordering::SeqCst), "appending waits for space");
        drop(release);
        let lsn = waiting.join().unwrap();
        recorder.wait(lsn).unwrap();
    });
    close(&recorder, 1).unwrap();
    recorder.close().unwrap();
    let events = count(&rows(dir.path()), Table::Events);
    assert_eq!(events, usize::try_from(taken).unwrap() + 1);
}

#[test]
fn little_space_stops_what_begins_not_what_ends() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let mut options = options(dir.path());
    let (recorder, _) = open(&options).unwrap();
    world.open(&recorder, 1).unwrap();
    recorder.close().unwrap();
    drop(recorder);
    options.reserve = Reserve { percent: 100, bytes: 1 };
    let (told, health) = mpsc::channel();
    let (recorder, _) = Recorder::open(
        &options,
        Arc::new(SystemClock),
        Box::new(move |durable| drop(told.send(durable.health))),
    )
    .unwrap();
    assert_eq!(health.recv().unwrap(), Health::Pressure);
    assert_eq!(world.open(&recorder, 2), Err(AppendError::Pressure));
    let said = recorder.control("heartbeat", "{}").unwrap();
    recorder.wait(said).unwrap();
    recorder.close().unwrap();
    let controls = controls(&rows(dir.path()));
    assert_eq!(&controls[controls.len() - 2..], ["log.pressure", "heartbeat"]);
}

#[test]
fn whoever_gathers_may_commit() {
    const THREADS: u64 = 4;
    const COMMANDS: u32 = 300;
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&options(dir.path())).unwrap();
    std::thread::scope(|scope| {
        for number in 1..=THREADS {
            let (world, recorder) = (&world, &recorder);
            scope.spawn(move || {
                world.open(recorder, number).unwrap();
                for command in 1..=COMMANDS {
                    let lsn = recorder.gather(world.begin_frame(number, command)).unwrap();
                    recorder.commit_here();
                    recorder.wait(lsn).unwrap();
                    end(recorder, number, command).unwrap();
                }
                // The committing thread takes what nobody waits for.
                let last = close(recorder, number).unwrap();
                recorder.wait(last).unwrap();
            });
        }
    });
    recorder.close().unwrap();
    let events = count(&rows(dir.path()), Table::Events);
    assert_eq!(events as u64, THREADS * u64::from(COMMANDS));
}

/// The committing thread keeps its hands off what others gather and commit; it sees to it where they take longer
/// than it lets anything wait.
#[test]
fn what_is_gathered_is_left_to_who_gathers_it() {
    const COMMITS: u32 = 60;
    const WAITS_US: u64 = 8_000;
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&options(dir.path())).unwrap();
    let opened = world.open(&recorder, 1).unwrap();
    recorder.wait(opened).unwrap();
    let before = recorder.stats().commits;
    let mut slow = 0;
    for command in 1..=COMMITS {
        let since = SystemClock.now();
        recorder.gather(world.begin_frame(1, command)).unwrap();
        std::thread::sleep(Duration::from_millis(3));
        recorder.commit_here();
        slow += u64::from(SystemClock.now().us_since(since) > WAITS_US);
    }
    let made = recorder.stats().commits - before;
    assert!(made >= u64::from(COMMITS) - slow, "{made} commits, {slow} rounds were slow");
    assert!(made <= u64::from(COMMITS) + slow, "{made} commits, {slow} rounds were slow");
    recorder.close().unwrap();
}

/// A command that changes something and is open at two checkpoints has a row before it ends; what ends sooner has none.
#[test]
fn what_is_open_for_longer_than_a_checkpoint_has_a_row_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&options(dir.path())).unwrap();
    world.open(&recorder, 1).unwrap();
    let long = world.begin(&recorder, 1, 1).unwrap();
    world.begin(&recorder, 1, 2).unwrap();
    recorder.anchor().unwrap();
    end(&recorder, 1, 2).unwrap();
    world.begin(&recorder, 1, 3).unwrap();
    for _ in 0..2 {
        recorder.anchor().unwrap();
    }
    end(&recorder, 1, 1).unwrap();
    close(&recorder, 1).unwrap();
    recorder.close().unwrap();
    let rows = rows(dir.path());
    let begun = rows.iter().filter_map(|row| match row {
        Row::Control(row) if row.kind == "cmd.begin" => Some((row.seq.0, row.detail.clone())),
        _ => None,
    });
    let begun: Vec<_> = begun.collect();
    assert_eq!(begun.len(), 2, "{begun:?}");
    let (seq, detail) = &begun[0];
    let detail: serde_json::Value = serde_json::from_str(detail).unwrap();
    assert_eq!((&detail["command"], &detail["verb"]), (&1.into(), &"DELETE".into()));
    assert_eq!(detail["frame"], long.0);
    let ended = rows.iter().find(|row| matches!(row, Row::Event(row) if row.session_seq == 1));
    assert!(*seq < ended.unwrap().seq().0);
}
