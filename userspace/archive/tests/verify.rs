//! Verifying: what is sound passes, what was touched anywhere does not and is named.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use archive::decode;
use archive::verify::{Level, Options, Report, verify};
use archive::writer::TableFile;
use common::{Node, plant, tree};
use journal::row::{Row, Table};

fn check(archive: &Path, journal: Option<&Path>) -> Report {
    let (archive, journal) = (archive.to_owned(), journal.map(Path::to_owned));
    verify(&Options { journal, ..Options::new(archive) }).unwrap()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_archive_passes_alone_with_journal_and_with_a_kept_key() {
    let mut node = Node::sealed_twice();
    for journal in [None, Some(node.journal())] {
        let report = check(&node.archive(), journal.as_deref());
        assert!(report.is_ok(), "{report}");
        assert!(report.to_string().ends_with("OK: everything is as it was recorded\n"));
    }
    let key = Some(node.dir.path().join("keys/n1.vkey"));
    let options = Options { journal: Some(node.journal()), key, ..Options::new(node.archive()) };
    assert!(verify(&options).unwrap().is_ok());
    // What is not sealed yet is said and no fault.
    node.heartbeat();
    node.recorder.wait(node.last).unwrap();
    let report = check(&node.archive(), Some(&node.journal()));
    assert!(report.is_ok() && report.notes.iter().any(|n| n.contains("1 records are not sealed")));
}

#[test]
fn another_nodes_key_does_not_pass() {
    let node = Node::sealed_twice();
    let other = archive::key::Signer::load_or_create(&node.dir.path().join("other"), "n1").unwrap();
    let key = Some(node.dir.path().join("other/n1.vkey"));
    let report = verify(&Options { key, ..Options::new(node.archive()) }).unwrap();
    assert!(!report.is_ok() && report.findings[0].level == Level::Checkpoint, "{report}");
    drop(other);
}

#[test]
fn an_empty_archive_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!check(dir.path(), None).is_ok());
}

#[test]
fn one_flipped_byte_in_any_archive_file_is_found_and_the_file_named() {
    let node = Node::sealed_twice();
    let files = tree(&node.archive());
    let dir = node.dir.path().join("flipped");
    plant(&dir, &files);
    for (path, bytes) in &files {
        let last = bytes.len() - 1;
        let mut places: Vec<usize> = (0..8).map(|n| last * n / 8).chain([last, last / 3]).collect();
        places.dedup();
        for at in places {
            flip(&dir.join(path), at);
            let report = check(&dir, None);
            assert!(!report.is_ok(), "{} {at}", path.display());
            let name = path.to_str().unwrap();
            let named = report.to_string().contains(name);
            assert!(named || name.ends_with("key.vkey"), "{name} {at}: {report}");
            flip(&dir.join(path), at);
        }
    }
    assert!(check(&dir, None).is_ok());
}

#[test]
fn a_missing_and_an_added_file_are_found() {
    let node = Node::sealed_twice();
    let files = tree(&node.archive());
    for path in files.keys() {
        let file = node.archive().join(path);
        fs::remove_file(&file).unwrap();
        let report = check(&node.archive(), None);
        assert!(!report.is_ok(), "{}", path.display());
        fs::write(&file, &files[path]).unwrap();
    }
    let events = files.keys().find(|p| p.to_str().unwrap().contains("table=events")).unwrap();
    let added = node.archive().join(events).with_file_name("0-extra.parquet");
    fs::write(&added, &files[events]).unwrap();
    let report = check(&node.archive(), None);
    assert!(!report.is_ok() && report.to_string().contains("0-extra.parquet"), "{report}");
}

#[test]
fn one_flipped_byte_in_any_journal_segment_is_found() {
    let node = Node::sealed_twice();
    for segment in journal::segment::list(&node.journal()).unwrap() {
        let length = fs::read(&segment.path).unwrap().len();
        for at in [0, 5, length / 3, length / 2, length - 1] {
            flip(&segment.path, at);
            let report = check(&node.archive(), Some(&node.journal()));
            assert!(!report.is_ok(), "{} {at}", segment.path.display());
            assert!(report.findings.iter().all(|f| f.level == Level::Journal), "{report}");
            let name = segment.path.file_name().unwrap().to_str().unwrap();
            assert!(report.to_string().contains(name), "{report}");
            flip(&segment.path, at);
        }
    }
    // Records taken from its end.
    let last = journal::segment::list(&node.journal()).unwrap().pop().unwrap();
    fs::remove_file(last.path).unwrap();
    let report = check(&node.archive(), Some(&node.journal()));
    assert!(report.to_string().contains("missing from its end"), "{report}");
}

/// The events file that holds `seq`, written anew with one field of that row changed.
fn alter(archive: &Path, seq: u64) -> PathBuf {
    for path in tree(archive).into_keys().filter(|p| p.to_str().unwrap().contains("table=events")) {
        let path = archive.join(path);
        let mut rows = Vec::new();
        decode::rows(Table::Events, fs::read(&path).unwrap(), &mut |row| rows.push(row)).unwrap();
        if !rows.iter().any(|row| row.seq().0 == seq) {
            continue;
        }
        let mut file = TableFile::create(Table::Events, path.clone(), "x").unwrap();
        for mut row in rows {
            if let Row::Event(event) = &mut row
                && event.seq.0 == seq
            {
                event.decision = "allow".into();
            }
            file.push(row).unwrap();
        }
        file.finish(|_| path.clone()).unwrap();
        return path;
    }
    panic!("no row {seq}");
}

#[test]
fn a_changed_record_is_named() {
    let node = Node::sealed_twice();
    let files = tree(&node.archive());
    // 343 rows in the first seal; the refused DROP TABLE of each session is the last command.
    for (seq, exact) in [(341, false), (684, true)] {
        let dir = node.dir.path().join(format!("altered{seq}"));
        plant(&dir, &files);
        let path = alter(&dir, seq);
        let name = path.strip_prefix(&dir).unwrap().to_str().unwrap();
        let report = check(&dir, Some(&node.journal()));
        let named: Vec<_> = report.findings.iter().filter(|f| f.record.is_some()).collect();
        assert_eq!(named.len(), 1, "{report}");
        let record = named[0].record.as_deref().unwrap();
        assert!(record.starts_with(&format!("n1/0/{seq} events, session ")), "{record}");
        assert!(record.contains("DROP TABLE, deny"), "{record}");
        assert_eq!(named[0].path.as_deref(), Some(name));
        // Without the journal: the 256 it is among, or itself in the last ones.
        let report = check(&dir, None);
        let named: Vec<_> = report.findings.iter().filter(|f| f.record.is_some()).collect();
        assert_eq!(named.len(), 1, "{report}");
        let record = named[0].record.as_deref().unwrap();
        let due = if exact { "n1/0/684 now events" } else { "n1/0/256 to 511" };
        assert!(record.starts_with(due), "{record}");
    }
}

#[test]
fn files_written_anew_keep_the_root() {
    let node = Node::sealed_twice();
    let path = alter(&node.archive(), 1);
    // Row 1 was a masked read; put back what it said.
    let mut rows = Vec::new();
    decode::rows(Table::Events, fs::read(&path).unwrap(), &mut |row| rows.push(row)).unwrap();
    let mut file = TableFile::create(Table::Events, path.clone(), "elsewhere").unwrap();
    for mut row in rows.into_iter().rev() {
        if let Row::Event(event) = &mut row
            && event.seq.0 == 1
        {
            event.decision = "mask".into();
        }
        file.push(row).unwrap();
    }
    file.finish(|_| path.clone()).unwrap();
    let report = check(&node.archive(), Some(&node.journal()));
    assert!(!report.is_ok(), "the file is not the sealed one");
    assert!(report.findings.iter().all(|f| f.level == Level::Files), "{report}");
    assert!(report.notes.iter().any(|n| n.contains("rows are all as recorded")), "{report}");
}
