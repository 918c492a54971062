//! Forward-secure seals: what was committed can't be rewritten, by nobody who comes later.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use journal::disk::Os;
use journal::frame::{FrameKind, Header};
use journal::record::Lsn;
use journal::recorder::{Options, Recorder, Seals};
use journal::recover::OpenError;
use journal::sealing::{self, Break, Checked, Secret};
use sha2::{Digest, Sha256};

use crate::world::{World, end, open, options, rows, segments};

fn secret() -> Secret {
    Secret::new([5; 32])
}

fn kept(dir: &Path) -> PathBuf {
    dir.join("seal")
}

fn sealed(dir: &Path, interval: Duration) -> Options {
    if !kept(dir).exists() {
        sealing::begin(&Os, &kept(dir), &secret()).unwrap();
    }
    let seals = Some(Seals { path: kept(dir), interval });
    Options { seals, segment_bytes: 1024 * 1024, ..options(dir) }
}

/// Commands of one session, each with a seal of its own.
fn run(recorder: &Recorder, world: &World, commands: std::ops::RangeInclusive<u32>) {
    for command in commands {
        let begun = world.begin(recorder, 1, command).unwrap();
        recorder.wait(begun).unwrap();
        end(recorder, 1, command).unwrap();
        recorder.wait(recorder.control("note", r#"{"amount":100}"#).unwrap()).unwrap();
    }
}

fn checked(dir: &Path) -> Checked {
    sealing::check(dir, &secret()).unwrap()
}

/// A frame of a segment as bytes.
struct Whole {
    header: Header,
    bytes: Vec<u8>,
}

fn frames(segment: &Path) -> Vec<Whole> {
    let bytes = fs::read(segment).unwrap();
    let (mut at, mut found) = (0, Vec::new());
    while let Some(header) = bytes.get(at..).and_then(|rest| Header::parse(rest.first_chunk()?)) {
        let end = at + header.frame_bytes();
        found.push(Whole { header, bytes: bytes[at..end].to_vec() });
        at = end;
    }
    found
}

/// Writes a segment of frames whose sums and chain are computed anew, as a writer would have them.
fn write_anew(segment: &Path, frames: &mut [Whole], mut chain: [u8; 32]) {
    let mut whole = Vec::new();
    for Whole { bytes, .. } in frames {
        let end = bytes.len() - 32;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..end]);
        bytes[4..8].copy_from_slice(&crc.to_be_bytes());
        let mut hash = Sha256::new();
        hash.update(chain);
        hash.update(&bytes[..4]);
        hash.update(&bytes[8..end]);
        chain = hash.finalize().into();
        bytes[end..].copy_from_slice(&chain);
        whole.extend_from_slice(bytes);
    }
    fs::write(segment, whole).unwrap();
}

fn genesis() -> [u8; 32] {
    journal::frame::genesis(crate::world::NODE, 1)
}

/// A journal of one segment with 20 commands, sealed after each commit, and closed.
fn written() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&sealed(dir.path(), Duration::ZERO)).unwrap();
    world.open(&recorder, 1).unwrap();
    run(&recorder, &world, 1..=20);
    recorder.close().unwrap();
    drop(recorder);
    assert_eq!(segments(dir.path()).len(), 1);
    dir
}

/// Changes a committed record, about in the middle, and what follows from it; answers its place and row.
fn rewrite(frames: &mut [Whole]) -> (Lsn, u64) {
    let middle = frames.len() / 2;
    let mut notes = frames.iter_mut().skip(middle);
    let note = notes.find(|frame| frame.header.kind == FrameKind::Control).unwrap();
    let text = b"\"amount\":100";
    let at = note.bytes.windows(text.len()).position(|part| part == text).unwrap();
    note.bytes[at..at + text.len()].copy_from_slice(b"\"amount\":999");
    (note.header.lsn, note.header.seq)
}

#[test]
fn what_is_rewritten_between_checkpoints_is_found_and_the_first_record_named() {
    let dir = written();
    let sound = checked(dir.path());
    assert!(sound.breaks.is_empty() && sound.seals > 40 && sound.behind == 0, "{sound:?}");
    let segment = &segments(dir.path())[0];
    let mut all = frames(segment);
    let (lsn, seq) = rewrite(&mut all);
    write_anew(segment, &mut all, genesis());
    // By itself the journal is whole: whoever has no secret sees nothing.
    assert!(rows(dir.path()).len() > 40);
    let found = checked(dir.path());
    let Some(Break::Changed { first, last, .. }) = found.breaks.first() else {
        panic!("{found:?}")
    };
    assert!(first.0 <= lsn && lsn <= *last, "{lsn:?} in {found:?}");
    assert!(first.1 <= seq, "{seq} in {found:?}");
    // Every commit is sealed: no more than the commit is in doubt.
    assert!(last.0 - first.0.0 <= 2, "{found:?}");
    // And all that comes after it, since the chain goes on from there.
    assert!(found.breaks.len() > 10, "{found:?}");
}

#[test]
fn the_key_that_is_there_afterwards_makes_no_earlier_seal() {
    let dir = written();
    let segment = &segments(dir.path())[0];
    let mut all = frames(segment);
    let (lsn, _) = rewrite(&mut all);
    write_anew(segment, &mut all, genesis());
    // The daemon's own file has nothing by which the seals of before could be made: not the first secret, nor any of
    // those that were used.
    let file = fs::read(kept(dir.path())).unwrap();
    let mut one = secret();
    let used = checked(dir.path()).seals + u64::try_from(checked(dir.path()).breaks.len()).unwrap();
    for index in 0..=used {
        let is_there = file.windows(32).any(|part| part == one.expose());
        assert_eq!(is_there, index == used, "{index} of {used}");
        one = one.next();
    }
    // What root does with it, to start and go on, is a seal more; none that was broken holds.
    let (recorder, _) = open(&sealed(dir.path(), Duration::ZERO)).unwrap();
    recorder.wait(recorder.control("note", "{}").unwrap()).unwrap();
    recorder.close().unwrap();
    let found = checked(dir.path());
    let Some(Break::Changed { first, .. }) = found.breaks.first() else { panic!("{found:?}") };
    assert!(first.0 <= lsn, "{found:?}");
}

#[test]
fn what_is_cut_off_behind_a_seal_keeps_the_journal_closed_and_stays_found() {
    let dir = written();
    let segment = &segments(dir.path())[0];
    let mut all = frames(segment);
    let cut = all.len() / 2;
    let cut =
        cut + all[cut..].iter().position(|frame| frame.header.kind == FrameKind::Seal).unwrap();
    all.truncate(cut + 1);
    write_anew(segment, &mut all, genesis());
    // It is as a crash could have left it, but for the key that is kept: that knows how many seals there were.
    let options = sealed(dir.path(), Duration::ZERO);
    let refused = open(&options).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::SealsMissing { .. }), "{refused}");
    let (recorder, recovery) = open(&Options { accept_loss: true, ..options }).unwrap();
    assert!(recovery.accepted.iter().any(|said| said.contains("lacks the seals")));
    recorder.close().unwrap();
    let found = checked(dir.path());
    let [Break::Missing { from, to, .. }] = found.breaks.as_slice() else { panic!("{found:?}") };
    assert!(from < to, "{found:?}");
}

#[test]
fn seals_that_are_taken_out_or_begun_anew_are_missed() {
    let dir = written();
    let segment = &segments(dir.path())[0];
    let mut all = frames(segment);
    all.retain(|frame| frame.header.kind != FrameKind::Seal);
    write_anew(segment, &mut all, genesis());
    assert_eq!(checked(dir.path()).sealed, None);
    let options = sealed(dir.path(), Duration::ZERO);
    assert!(matches!(open(&options), Err(OpenError::SealsMissing { .. })));

    let dir = written();
    fs::remove_file(kept(dir.path())).unwrap();
    sealing::begin(&Os, &kept(dir.path()), &Secret::new([6; 32])).unwrap();
    let options = sealed(dir.path(), Duration::ZERO);
    assert!(matches!(open(&options), Err(OpenError::SealsBegunAnew(_))));
    let (recorder, _) = open(&Options { accept_loss: true, ..options }).unwrap();
    recorder.close().unwrap();
    let found = checked(dir.path());
    assert!(matches!(found.breaks.first(), Some(Break::Other { .. })), "{found:?}");
    // Who has the other secret sees that theirs begin there.
    let theirs = sealing::check(dir.path(), &Secret::new([6; 32])).unwrap();
    assert!(theirs.breaks.is_empty() && theirs.seals > 0, "{theirs:?}");
}

#[test]
fn a_crash_between_a_seal_and_its_key_neither_loses_nor_uses_one_twice() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&sealed(dir.path(), Duration::ZERO)).unwrap();
    world.open(&recorder, 1).unwrap();
    run(&recorder, &world, 1..=3);
    let before = fs::read(kept(dir.path())).unwrap();
    recorder.wait(recorder.control("note", "{}").unwrap()).unwrap();
    recorder.close().unwrap();
    drop(recorder);
    let seals = checked(dir.path()).seals;
    // The seal was durable, and its key not given up: as if killed in between.
    fs::write(kept(dir.path()), before).unwrap();
    let (recorder, _) = open(&sealed(dir.path(), Duration::ZERO)).unwrap();
    recorder.wait(recorder.control("note", "{}").unwrap()).unwrap();
    recorder.close().unwrap();
    let found = checked(dir.path());
    assert!(found.breaks.is_empty() && found.seals > seals, "{found:?}");
}

#[test]
fn a_seal_comes_once_an_interval_by_itself_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let (recorder, _) = open(&sealed(dir.path(), Duration::from_hours(1))).unwrap();
    world.open(&recorder, 1).unwrap();
    run(&recorder, &world, 1..=50);
    recorder.close().unwrap();
    drop(recorder);
    // That of the start, and that of the end: however many commits there are.
    assert_eq!(checked(dir.path()).seals, 2);
    assert_eq!(checked(dir.path()).behind, 0);

    let dir = tempfile::tempdir().unwrap();
    let (recorder, _) = open(&sealed(dir.path(), Duration::from_millis(50))).unwrap();
    let last = recorder.control("note", "{}").unwrap();
    recorder.wait(last).unwrap();
    for _ in 0..600 {
        if recorder.seals().is_some_and(|(_, lsn)| lsn >= last) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // Nothing came after it.
    let (next, lsn) = recorder.seals().unwrap();
    assert!(lsn >= last && recorder.durable() == last, "{lsn:?} {last:?}");
    assert_eq!(checked(dir.path()).seals, next);
}

#[test]
fn seals_go_on_over_segments_and_starts() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let small = || Options { segment_bytes: 16 * 1024, ..sealed(dir.path(), Duration::ZERO) };
    for start in 0..3 {
        let (recorder, _) = open(&small()).unwrap();
        world.open(&recorder, 1).unwrap();
        run(&recorder, &world, start * 100 + 1..=start * 100 + 40);
        recorder.close().unwrap();
    }
    assert!(segments(dir.path()).len() > 5);
    let found = checked(dir.path());
    assert!(found.breaks.is_empty() && found.behind == 0 && found.seals > 200, "{found:?}");
    // Where the first segments are gone, what is left is checked.
    let first = segments(dir.path()).remove(0);
    fs::remove_file(first).unwrap();
    let found = checked(dir.path());
    assert!(found.breaks.is_empty() && found.seals > 100, "{found:?}");
}
