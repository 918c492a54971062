//! A journal whose first segments were let go, beside its archive: by the node's own record it is sound, without it is not.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

mod common;

use std::fs;
use std::time::Duration;

use archive::verify::{self, Level, Options, Report, State};
use common::Node;
use journal::disk::Os;
use journal::prune::{self, Limits};
use journal::start::Start;
use types::clock::Clock;

/// Where the journal can begin, all of it being sealed.
fn due(node: &Node) -> Start {
    let limits =
        Limits { rows: node.seal().tree_size, now: node.clock.now(), keep: Duration::ZERO };
    prune::due(&node.journal(), &limits).unwrap().expect("segments can go").start
}

fn record(node: &mut Node, start: &Start) {
    node.last = node.recorder.control(Start::RECORD, &start.json().to_string()).unwrap();
}

fn options(node: &Node) -> Options {
    Options { journal: Some(node.journal()), ..Options::new(node.archive()) }
}

fn check(node: &Node) -> Report {
    verify::verify(&options(node)).unwrap()
}

fn says(report: &Report, what: &str) -> bool {
    report.notes.iter().any(|note| note.contains(what))
}

#[test]
fn what_the_node_let_go_and_recorded_is_no_finding() {
    let mut node = Node::sealed_twice();
    let mut state = State::default();
    assert!(verify::verify_from(&options(&node), &mut state).unwrap().is_ok());
    let start = due(&node);
    record(&mut node, &start);
    node.seal();
    let before = verify::verify_from(&options(&node), &mut state).unwrap();
    assert!(before.is_ok() && !says(&before, "let go"), "it is whole as yet: {before}");
    prune::let_go(&Os, &node.journal(), &start).unwrap();
    let what = format!("begins at record {}: the node let go", start.seq);
    let report = check(&node);
    assert!(report.is_ok() && says(&report, &what), "{report}");
    // The record was read before, and is not read again.
    let again = verify::verify_from(&options(&node), &mut state).unwrap();
    assert!(again.is_ok() && says(&again, &what), "{again}");
    // It goes on, seals, and is sound.
    node.session(40);
    node.seal();
    let report = check(&node);
    assert!(report.is_ok() && report.journal_rows > Some(700), "{report}");
}

#[test]
fn what_nobody_recorded_is_one() {
    let mut node = Node::sealed_twice();
    let start = due(&node);
    prune::let_go(&Os, &node.journal(), &start).unwrap();
    let finds = |node: &Node| {
        let report = check(node);
        assert!(!report.is_ok(), "{report}");
        assert!(report.findings.iter().all(|finding| finding.level == Level::Journal), "{report}");
        report.to_string()
    };
    let what = format!("begins at record {}, and no record says", start.seq);
    assert!(finds(&node).contains(&what));
    // A record is none before it is sealed.
    record(&mut node, &start);
    node.recorder.wait(node.last).unwrap();
    assert!(finds(&node).contains(&what));
    node.seal();
    assert!(check(&node).is_ok());
    // More is gone than it says, with and without a start that says so.
    let first = journal::segment::list(&node.journal()).unwrap().remove(0);
    fs::remove_file(&first.path).unwrap();
    assert!(finds(&node).contains("no record says"));
    let next = journal::segment::list(&node.journal()).unwrap().remove(0);
    let further = Start::of(journal::reader::SegmentReader::open(&next).unwrap().header());
    fs::write(node.journal().join("start"), further.json().to_string()).unwrap();
    assert!(finds(&node).contains(&format!("begins at record {}, and no", further.seq)));
}
