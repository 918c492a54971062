//! Levels beyond the bytes: what makes each fail is named, what can't be told is said, and nothing is alarmed that is in order.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is the test's failure")]

mod common;

use std::fs;

use archive::compact::{self, Unwatched};
use archive::holds::{self, Hold, Release, Scope};
use archive::retention::{self, Disposition, Gone, Periods};
use archive::verify::{self, Level, Options, Report, State, Verdict};
use common::{Node, plant, tree};
use serde_json::json;
use sha2::Digest;

const ORIGIN: &str = "vestibule/node/n1/0";

fn at(node: &Node, level: u8) -> Report {
    let options = Options { level: Some(level), ..Options::new(node.archive()) };
    verify::verify(&options).unwrap()
}

/// What is said of it is the same once its days were put together.
fn at_and_put_together(node: &Node, level: u8) -> Report {
    let report = at(node, level);
    let copy = tempfile::tempdir().unwrap();
    plant(copy.path(), &tree(&node.archive()));
    let compaction =
        compact::Options { zstd_level: 1, ..compact::Options::new(copy.path(), NEVER) };
    let mut failed = |_: &compact::Due, error| panic!("{error}");
    assert!(!compact::compact(&compaction, &mut Unwatched, &mut failed).unwrap().is_empty());
    let options = Options { level: Some(level), ..Options::new(copy.path()) };
    let after = verify::verify(&options).unwrap();
    assert_eq!(said(&after), said(&report), "{after}");
    report
}

/// After all that tests record.
const NEVER: i64 = 30_000;

/// What a report says that is about rows.
fn said(report: &Report) -> (Vec<String>, Vec<Verdict>, u64, u64) {
    let mut findings: Vec<String> = report.findings.iter().map(|it| it.text.clone()).collect();
    findings.sort();
    let verdicts = report.levels.iter().map(|level| level.verdict).collect();
    (findings, verdicts, report.rows_read, report.records_disposed)
}

fn record(node: &mut Node, kind: &str, detail: &serde_json::Value) {
    node.last = node.recorder.control(kind, &detail.to_string()).unwrap();
}

/// A heartbeat with these counts: observed, proxied, past, dropped, open, refused.
fn beat(node: &mut Node, [observed, proxied, past, drops, open, refused]: [i64; 6]) {
    let detail = json!({
        "flows_observed": observed, "flows_proxied": proxied, "flows_denied": 0, "flows_bypassed": past,
        "flows_failed": 0, "ring_drops": drops, "clock_state": "synced", "sessions_open": open,
        "connections_refused": refused, "connections_local": 0,
    });
    record(node, "heartbeat", &detail);
}

fn policies(node: &mut Node, digest: &str) {
    let text = "permit (principal, action, resource);";
    let sha256 = types::hex::hex(&sha2::Sha256::digest(text));
    let (mut first, second) = (json!({ "new_digest": digest, "name": "a.cedar" }), text.len() / 2);
    for (part, text) in [&text[..second], &text[second..]].into_iter().enumerate() {
        first["part"] = part.into();
        first["parts"] = 2.into();
        first["text"] = text.into();
        record(node, "policy.text", &first);
    }
    let files = json!([{ "name": "a.cedar", "bytes": text.len(), "sha256": sha256 }]);
    record(
        node,
        "policy.loaded",
        &json!({ "new_digest": digest, "old_digest": null, "files": files }),
    );
}

/// An ordinary node: two sessions, a heartbeat each minute, and the policies that decide.
fn ordinary() -> Node {
    let mut node = Node::start(64 * 1024);
    policies(&mut node, &"03".repeat(32));
    for n in 0..6 {
        beat(&mut node, [n, n, 0, 0, 0, 0]);
        node.session(3);
        node.sleep(60_000_000);
    }
    beat(&mut node, [7, 6, 0, 0, 0, 0]);
    node.seal();
    node
}

#[track_caller]
fn failed(report: &Report, level: Level, text: &str) {
    let of_level: Vec<_> = report.findings.iter().filter(|it| it.level == level).collect();
    assert!(of_level.iter().any(|it| it.text.contains(text)), "{text}: {report}");
    assert_eq!(report.verdict(level), Verdict::Fails);
    assert_eq!(report.lowest_failed(), Some(level), "{report}");
}

#[track_caller]
fn sound(report: &Report, levels: &[Level]) {
    assert!(report.is_ok(), "{report}");
    for level in levels {
        assert_eq!(report.verdict(*level), Verdict::Holds, "{level:?}: {report}");
    }
}

#[test]
fn an_ordinary_archive_passes_each_level_and_a_level_stops_there() {
    let node = ordinary();
    let all =
        [Level::Files, Level::Rows, Level::Checkpoint, Level::Completeness, Level::Governance];
    sound(&at_and_put_together(&node, 5), &all);
    let told = at(&node, 5).to_string();
    for line in
        ["L4 completeness: as recorded", "L5 governance: as recorded", "L3 witnesses: NOT CHECKED"]
    {
        assert!(told.contains(line), "{line}: {told}");
    }
    let report = at(&node, 4);
    assert_eq!(report.verdict(Level::Governance), Verdict::NotChecked);
    let json: serde_json::Value =
        serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    let levels = json["levels"].as_array().unwrap();
    assert_eq!(levels.len(), 8);
    assert_eq!(
        (&levels[4]["verdict"], &levels[5]["verdict"]),
        (&json!("passed"), &json!("not checkable"))
    );
    assert_eq!(levels[5]["why"], "it was not asked for");
    // What was verified before is not read again, and what that leaves open is said, not alarmed.
    let mut state = State::default();
    let options = Options { level: Some(5), ..Options::new(node.archive()) };
    assert!(verify::verify_from(&options, &mut state).unwrap().is_ok());
    let again = verify::verify_from(&options, &mut state).unwrap();
    assert!(again.is_ok() && again.verdict(Level::Governance) == Verdict::NotChecked, "{again}");
    // A fault of a level beyond the one that was asked for is not looked for.
    fs::remove_file(node.archive().join("std7y/v1/README-AUDITOR.md")).unwrap();
    assert_eq!(at(&node, 0).lowest_failed(), Some(Level::Files));
}

#[test]
fn an_archive_that_says_nothing_of_policies_or_time_is_not_alarmed() {
    let mut node = Node::start(64 * 1024);
    node.session(5);
    node.seal();
    let report = at(&node, 5);
    assert!(report.is_ok(), "{report}");
    for (level, why) in [
        (Level::Completeness, "no heartbeat is in it"),
        (Level::Governance, "no record says which policies were in force"),
    ] {
        assert_eq!(report.verdict(level), Verdict::NotChecked, "{report}");
        assert!(report.to_string().contains(why), "{report}");
    }
}

#[test]
fn what_was_missed_is_named() {
    type Fault = fn(&mut Node);
    let cases: [(&str, Fault); 6] = [
        ("200 seconds without a heartbeat", |node| {
            node.sleep(200_000_000);
            beat(node, [7, 6, 0, 0, 0, 0]);
        }),
        ("2 connections went past the proxy", |node| beat(node, [9, 6, 2, 0, 0, 0])),
        ("4 events of the kernel were lost", |node| beat(node, [7, 6, 0, 4, 0, 0])),
        ("went back within a run", |node| beat(node, [3, 3, 0, 0, 0, 0])),
        ("more became of connections", |node| beat(node, [7, 9, 0, 0, 0, 0])),
        ("3 connections that the kernel saw go to the proxy became neither", |node| {
            for _ in 0..3 {
                beat(node, [10, 9, 0, 0, 0, 0]);
            }
        }),
    ];
    for (number, (text, fault)) in cases.into_iter().enumerate() {
        let mut node = ordinary();
        fault(&mut node);
        node.seal();
        let report = if number == 0 { at_and_put_together(&node, 4) } else { at(&node, 4) };
        failed(&report, Level::Completeness, text);
        // Whoever asks for less is told as before.
        sound(&at(&node, 2), &[Level::Rows]);
    }
    // A connection that is open, and one that was refused, are accounted for.
    let mut node = ordinary();
    for _ in 0..3 {
        beat(&mut node, [10, 9, 0, 0, 2, 1]);
    }
    node.seal();
    sound(&at(&node, 4), &[Level::Completeness]);
    // A node that ended and came back says so: no silence of a run.
    let mut node = ordinary();
    node.restart();
    node.sleep(900_000_000);
    node.session(1);
    beat(&mut node, [1, 1, 0, 0, 0, 0]);
    node.seal();
    sound(&at(&node, 4), &[Level::Completeness]);
}

fn hold(name: &str, words: &str) -> serde_json::Value {
    let hold = Hold {
        name: name.into(),
        scope: Scope::parse(&[words.to_owned()]).unwrap(),
        reason: "case 17".into(),
        by: "ann".into(),
        release_asked: Vec::new(),
    };
    serde_json::to_value(hold).unwrap()
}

fn release(by: &str) -> serde_json::Value {
    serde_json::to_value(Release { name: "LH-7".into(), by: by.into(), reason: "over".into() })
        .unwrap()
}

/// A disposition of the node's recordings by the rule.
fn disposition(node: &Node) -> Disposition {
    let today = 20_778 + 398;
    let due = retention::due(&node.archive(), ORIGIN, &Periods::default(), today, None).unwrap();
    node.disposition(today, due.iter().map(|due| Gone::from(&due.entry)).collect())
}

#[test]
fn what_was_not_done_by_the_rules_is_named() {
    type Fault = fn(&mut Node);
    let cases: [(&str, Fault); 8] = [
        ("decided and are not in the log", |node| {
            policies(node, &"04".repeat(32));
            let session = node.open();
            node.begin(session, 1, "SELECT 1");
            node.end(session, 1, false);
            node.close(session);
            node.last = node.recorder.control("x", "{}").unwrap();
        }),
        ("a.cedar of policies 05 is not in the log word for word", |node| {
            let files = json!([{ "name": "a.cedar", "bytes": 1, "sha256": "00" }]);
            record(node, "policy.loaded", &json!({ "new_digest": "05", "files": files }));
        }),
        ("hold LH-7 was released without two people", |node| {
            record(node, holds::SET, &hold("LH-7", "agent=reader"));
            record(node, holds::RELEASED, &release("bob"));
        }),
        ("hold LH-7 was released without two people", |node| {
            record(node, holds::SET, &hold("LH-7", "agent=reader"));
            record(node, holds::RELEASE_ASKED, &release("bob"));
            record(node, holds::RELEASED, &release("bob"));
        }),
        ("names a root that was not signed", |node| {
            let said = Disposition { size: 3, ..disposition(node) };
            record(node, retention::DISPOSED, &serde_json::to_value(said).unwrap());
        }),
        ("was disposed of before its time", |node| {
            let said = Disposition { before: "2026-11-21".into(), ..disposition(node) };
            record(node, retention::DISPOSED, &serde_json::to_value(said).unwrap());
        }),
        ("was disposed of under hold LH-8", |node| {
            let said = disposition(node);
            record(node, holds::SET, &hold("LH-8", "days=2026-11-01..2026-11-30"));
            record(node, retention::DISPOSED, &serde_json::to_value(said).unwrap());
        }),
        ("was no rule in force", |node| {
            let periods = json!({ "std7y_days": 2557, "payload13m_days": 1000 });
            record(node, "archive.retention", &periods);
            let said = disposition(node);
            record(node, retention::DISPOSED, &serde_json::to_value(said).unwrap());
        }),
    ];
    for (text, fault) in cases.iter().skip(1) {
        let mut node = ordinary();
        fault(&mut node);
        node.seal();
        let is_both = text.contains("word for word");
        let report = if is_both { at_and_put_together(&node, 5) } else { at(&node, 5) };
        failed(&report, Level::Governance, text);
        sound(&at(&node, 4), &[Level::Rows]);
    }
    // Policies that are recorded, but not those that decided.
    let mut node = Node::start(64 * 1024);
    (cases[0].1)(&mut node);
    node.seal();
    failed(&at_and_put_together(&node, 5), Level::Governance, cases[0].0);
    // All of it by the rules.
    let mut node = ordinary();
    record(&mut node, "archive.retention", &json!({ "std7y_days": 2557, "payload13m_days": 397 }));
    record(&mut node, holds::SET, &hold("LH-7", "agent=writer"));
    record(&mut node, holds::RELEASE_ASKED, &release("ann"));
    record(&mut node, holds::RELEASED, &release("bob"));
    let said = disposition(&node);
    record(&mut node, retention::DISPOSED, &serde_json::to_value(&said).unwrap());
    node.seal();
    retention::remove(&node.archive(), ORIGIN, &said.files).unwrap();
    let report = at_and_put_together(&node, 5);
    sound(&report, &[Level::Completeness, Level::Governance]);
    assert!(report.records_disposed > 0, "{report}");
}
