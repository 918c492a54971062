//! Sealing: what is written, in steps, after crashes, and that it is all of the journal.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use archive::decode;
use archive::seal::SealError;
use common::{Node, plant, tree};
use journal::row::{Row, Table};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// The archived rows by sequence number.
fn rows(files: &Files) -> BTreeMap<u64, Row> {
    let mut rows = BTreeMap::new();
    for (path, bytes) in files {
        let name = path.to_str().unwrap();
        let Some(table) =
            Table::ALL.into_iter().find(|t| name.contains(&format!("table={}/", t.as_str())))
        else {
            continue;
        };
        decode::rows(table, bytes.clone(), &mut |row| {
            assert!(rows.insert(row.seq().0, row).is_none(), "{name}");
        })
        .unwrap();
    }
    rows
}

#[test]
fn every_record_becomes_its_row() {
    let mut node = Node::start(1 << 20);
    let session = node.session(3);
    node.heartbeat();
    let sealed = node.seal();
    let files = tree(&node.archive());
    let rows = rows(&files);
    // log.start, 4 commands with a recording each, the session, the heartbeat.
    assert_eq!(sealed.tree_size, 11);
    assert!(rows.keys().copied().eq(0..11));
    let Row::Event(event) = &rows[&7] else { panic!("{:?}", rows[&7]) };
    assert_eq!((event.statement.verb.as_str(), event.decision.as_str()), ("DROP TABLE", "deny"));
    assert_eq!(event.statement.objects, ["public.customers"]);
    assert_eq!(event.error_code.as_deref(), Some("42501"));
    let Row::Event(event) = &rows[&1] else { panic!() };
    assert_eq!((event.decision.as_str(), event.masked_count), ("mask", 2));
    assert_eq!(event.statement.statement_norm, "SELECT name FROM customers WHERE id = $");
    assert_eq!(event.duration_us, Some(1000));
    let Row::Recording(recording) = &rows[&2] else { panic!() };
    assert_eq!(recording.statement.as_deref(), Some("SELECT name FROM customers WHERE id = 1"));
    assert_eq!(recording.parameters.as_deref(), Some(r#"["4711",null]"#));
    let Row::Session(row) = &rows[&9] else { panic!() };
    assert_eq!(row.session_id, session.to_string());
    assert_eq!((row.events_declared, row.denied, row.rows), (4, 1, 9));
    let Row::Control(row) = &rows[&10] else { panic!() };
    assert_eq!((row.flows_observed, row.clock_state.as_deref()), (Some(7), Some("synced")));
    // Recordings lie under the shorter retention class, and `dt` is the row's day.
    let has = |start: &str| files.keys().any(|path| path.to_str().unwrap().starts_with(start));
    assert!(has("payload13m/v1/table=recordings/dt=2026-11-21/node=n1/"));
    assert!(has("std7y/v1/table=events/dt=2026-11-21/node=n1/"));
}

#[test]
fn nothing_to_seal_writes_nothing() {
    let mut node = Node::start(1 << 20);
    node.session(2);
    let sealed = node.seal();
    let before = tree(&node.archive());
    let again = node.seal();
    assert!(!sealed.files.is_empty() && again.files.is_empty());
    assert_eq!((again.tree_size, &again.root), (sealed.tree_size, &sealed.root));
    assert_eq!(tree(&node.archive()), before);
}

#[test]
fn small_steps_restarts_and_one_step_give_the_same_rows_and_root() {
    // 16 KiB segments: sessions stay open over many, so that frames are carried.
    let mut node = Node::start(16 * 1024);
    let long = node.open();
    node.begin(long, 1, "SELECT pg_sleep(1)");
    for round in 0..6 {
        node.session(40);
        node.sleep(20 * 60 * 1_000_000);
        if round == 3 {
            node.end(long, 1, false);
            node.restart();
        }
        node.seal();
    }
    let segments = fs::read_dir(node.journal()).unwrap().count();
    assert!(segments > 5, "{segments} segments");
    let steps = node.seal();
    let whole = node.dir.path().join("whole");
    let one = node.seal_into(&whole).unwrap();
    assert_eq!((one.tree_size, &one.root), (steps.tree_size, &steps.root));
    let in_steps = rows(&tree(&node.archive()));
    assert_eq!(in_steps, rows(&tree(&whole)));
    assert!(in_steps.keys().copied().eq(0..one.tree_size));
    // The day changed on the way.
    let names: Vec<String> =
        tree(&whole).keys().map(|path| path.to_str().unwrap().to_owned()).collect();
    for day in ["dt=2026-11-21", "dt=2026-11-22"] {
        assert!(names.iter().any(|name| name.contains(&format!("table=events/{day}"))), "{day}");
    }
    // The session that the restart found open is closed, its totals kept over the segments.
    let closed = in_steps.values().find_map(|row| match row {
        Row::Session(row) if row.session_id == long.to_string() => Some(row),
        _ => None,
    });
    let closed = closed.unwrap();
    assert_eq!(closed.close_reason.as_deref(), Some("daemon_crash"));
    assert_eq!((closed.events_declared, closed.rows), (1, 3));
}

/// A crash after any file of a step leaves what the next seal makes whole.
#[test]
fn a_crash_after_any_file_is_made_good() {
    let mut node = Node::start(1 << 20);
    node.session(200);
    node.seal();
    let before = tree(&node.archive());
    node.session(150);
    let sealed = node.seal();
    let after = tree(&node.archive());
    let order = |path: &PathBuf| {
        let name = path.to_str().unwrap();
        ["parquet", "/views/", "/manifest/", "/tile/", "/checkpoints/", "/checkpoint"]
            .iter()
            .position(|part| name.contains(part))
    };
    let mut new: Vec<_> = after.iter().filter(|(p, b)| before.get(*p) != Some(b)).collect();
    new.sort_by_key(|(path, _)| order(path));
    assert!(new.len() > 5 && new.last().unwrap().0.ends_with("checkpoint"));
    for count in 0..new.len() {
        let dir = node.dir.path().join(format!("crash{count}"));
        plant(&dir, &before);
        for (number, (path, bytes)) in new.iter().take(count + 1).enumerate() {
            if number < count {
                archive::files::write(&dir.join(path), bytes, 0o644).unwrap();
            } else {
                let name = dir.join(format!("{}.unfinished", path.display()));
                fs::create_dir_all(name.parent().unwrap()).unwrap();
                fs::write(name, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
        let again = node.seal_into(&dir).unwrap();
        assert_eq!((again.tree_size, &again.root), (sealed.tree_size, &sealed.root), "{count}");
        let files = tree(&dir);
        assert!(files.keys().eq(after.keys()), "{count}");
        assert_eq!(rows(&files), rows(&after), "{count}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut node = Node::start(16 * 1024);
    node.session(200);
    node.seal();
    let archive = node.archive();
    // Another node's key.
    let keys = node.dir.path().join("keys");
    fs::rename(&keys, node.dir.path().join("kept")).unwrap();
    assert!(matches!(node.seal_into(&archive), Err(SealError::Log(_))));
    fs::remove_dir_all(&keys).unwrap();
    fs::rename(node.dir.path().join("kept"), &keys).unwrap();
    // A journal without its first segments.
    let first = journal::segment::list(&node.journal()).unwrap().remove(0).path;
    let away = node.dir.path().join("first");
    fs::rename(&first, &away).unwrap();
    let fresh = node.seal_into(&node.dir.path().join("fresh"));
    assert!(matches!(fresh, Err(SealError::Gap { expected: 0, .. })), "{fresh:?}");
    fs::rename(&away, &first).unwrap();
    // A journal that was rolled back to its first segment.
    for segment in journal::segment::list(&node.journal()).unwrap().iter().skip(1) {
        fs::remove_file(&segment.path).unwrap();
    }
    let back = node.seal_into(&archive);
    assert!(matches!(back, Err(SealError::RolledBack { .. })), "{back:?}");
    // A changed tile.
    let tile = tree(&archive).into_keys().find(|p| p.to_str().unwrap().contains("/tile/0/"));
    let tile = archive.join(tile.unwrap());
    let mut bytes = fs::read(&tile).unwrap();
    bytes[5] ^= 1;
    fs::write(&tile, bytes).unwrap();
    assert!(matches!(node.seal_into(&archive), Err(SealError::Log(_))));
}
