//! What is over may go once a sealed record says so; what is held may not; what goes otherwise is missing.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is the test's failure")]

mod common;

use std::fs;
use std::path::Path;

use archive::compact::{self, Unwatched};
use archive::compacted;
use archive::holds::{self, Hold, Release, Scope};
use archive::retention::{self, DISPOSED, Disposition, Due, Gone, Kept, Periods};
use archive::verify::{self, Level, Options, Report, State};
use common::{Node, tree};

const ORIGIN: &str = "vestibule/node/n1/0";

/// 2026-11-21, the day of the first session.
const FIRST_DAY: i64 = 20_778;

/// Its recordings are over, its events are not.
const TODAY: i64 = FIRST_DAY + 398;

fn node() -> (Node, String) {
    let mut node = Node::start(64 * 1024);
    let session = node.session(300);
    node.heartbeat();
    node.seal();
    node.sleep(398 * 86_400_000_000);
    node.session(20);
    node.heartbeat();
    node.seal();
    (node, session.to_string())
}

fn record(node: &mut Node, kind: &str, detail: &impl serde::Serialize) {
    node.last = node.recorder.control(kind, &serde_json::to_string(detail).unwrap()).unwrap();
    node.seal();
}

fn due(node: &Node) -> Vec<Due> {
    retention::due(&node.archive(), ORIGIN, &Periods::default(), TODAY, None).unwrap()
}

fn verified(node: &Node) -> Report {
    verify::verify(&Options::new(node.archive())).unwrap()
}

#[test]
fn what_is_over_is_told_by_class_and_what_is_held_stays() {
    let (mut node, session) = node();
    let all = due(&node);
    assert!(!all.is_empty());
    for Due { entry, class, is_here, kept } in &all {
        assert_eq!(
            (*class, *is_here, kept, entry.table.as_deref()),
            ("payload13m", true, &None, Some("recordings"))
        );
        assert!(entry.path.contains("dt=2026-11-21"), "{}", entry.path);
    }
    let hold = |name: &str, words: &str| Hold {
        name: name.into(),
        scope: Scope::parse(&words.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap(),
        reason: "case 17".into(),
        by: "ann".into(),
        release_asked: Vec::new(),
    };
    let key = ("n1".to_owned(), "LH-7".to_owned());
    let release = |by: &str| Release { name: "LH-7".into(), by: by.into(), reason: "over".into() };
    for (words, is_held) in [
        (format!("session={session}"), true),
        ("agent=reader target=core".to_owned(), true),
        ("actor=ada days=2026-11-01..2026-11-30".to_owned(), true),
        ("days=2026-11-21".to_owned(), true),
        ("days=2026-11-22..".to_owned(), false),
        ("agent=writer".to_owned(), false),
        ("actor=ada days=2026-12-01..".to_owned(), false),
    ] {
        record(&mut node, holds::SET, &hold("LH-7", &words));
        let held: Vec<_> = due(&node).into_iter().map(|due| due.kept).collect();
        let expected = is_held.then(|| Kept::Held("LH-7".to_owned()));
        assert!(!held.is_empty() && held.iter().all(|held| *held == expected), "{words}: {held:?}");
        record(&mut node, holds::RELEASE_ASKED, &release("ann"));
        let asked = holds::in_force(&node.archive()).unwrap()[&key].release_asked.clone();
        assert_eq!(asked, ["ann"], "one is not enough");
        record(&mut node, holds::RELEASED, &release("bob"));
        assert!(holds::in_force(&node.archive()).unwrap().is_empty());
    }
    let standing =
        &retention::report(&node.archive(), &Periods::default(), TODAY).unwrap()["payload13m"];
    assert_eq!((standing.due > 0, standing.held, standing.disposed), (true, 0, 0));
    // A record of a hold that can't be read holds everything.
    record(&mut node, holds::SET, &serde_json::json!({ "name": "LH-8" }));
    assert!(retention::due(&node.archive(), ORIGIN, &Periods::default(), TODAY, None).is_err());
}

#[test]
fn a_disposition_accounts_for_exactly_what_it_lists() {
    let (mut node, _) = node();
    let going: Vec<Gone> = due(&node).iter().map(|due| Gone::from(&due.entry)).collect();
    let rows: u64 = going.iter().map(|gone| gone.rows).sum();
    let mut state = State::default();
    assert!(verify::verify_from(&Options::new(node.archive()), &mut state).unwrap().is_ok());
    let missing = |node: &Node, path: &str| {
        let report = verified(node);
        let is_it =
            |it: &&verify::Finding| it.path.as_deref() == Some(path) && it.level == Level::Files;
        assert!(
            report.findings.iter().any(|it| is_it(&it) && it.text.contains("missing")),
            "{report}"
        );
    };
    // Gone without a record, and with records that say something else.
    let path = node.archive().join(&going[0].path);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    missing(&node, &going[0].path);
    let changed = |change: fn(&mut Disposition)| {
        let mut other = node.disposition(TODAY, going.clone());
        change(&mut other);
        other
    };
    let wrong = [
        changed(|it| it.files[0].sha256 = "00".repeat(32)),
        changed(|it| it.files[0].rows += 1),
        changed(|it| it.files[0].last_seq += 1),
        changed(|it| it.files[0].path.push('x')),
        changed(|it| it.origin = "vestibule/node/n2/0".into()),
    ];
    for wrong in wrong {
        record(&mut node, DISPOSED, &wrong);
        missing(&node, &going[0].path);
    }
    // And with one that says just this.
    fs::write(&path, bytes).unwrap();
    let right = node.disposition(TODAY, going.clone());
    record(&mut node, DISPOSED, &right);
    retention::remove(&node.archive(), ORIGIN, &going).unwrap();
    let report = verified(&node);
    assert!(report.is_ok(), "{report}");
    assert_eq!((report.records_disposed, report.records_elsewhere), (rows, 0));
    assert!(verify::verify_from(&Options::new(node.archive()), &mut state).unwrap().is_ok());
    assert!(due(&node).is_empty());
    // The log goes on, and nothing more is excused.
    node.session(3);
    node.seal();
    assert!(verified(&node).is_ok());
    let other = tree(&node.archive())
        .into_keys()
        .find(|name| name.to_string_lossy().contains("table=recordings"));
    let other = other.unwrap();
    fs::remove_file(node.archive().join(&other)).unwrap();
    missing(&node, &other.display().to_string());
}

/// Puts all days together; answers how many.
fn put_together(archive: &Path) -> usize {
    let options = compact::Options { zstd_level: 1, ..compact::Options::new(archive, 30_000) };
    let mut failed = |_: &compact::Due, error| panic!("{error}");
    compact::compact(&options, &mut Unwatched, &mut failed).unwrap().len()
}

#[test]
fn a_day_that_was_put_together_goes_as_one_and_what_is_held_in_it_stays() {
    let (mut node, session) = node();
    let hold = |words: &str| Hold {
        name: "LH-7".into(),
        scope: Scope::parse(&[words.to_owned()]).unwrap(),
        reason: "case 17".into(),
        by: "ann".into(),
        release_asked: Vec::new(),
    };
    let archive = node.archive();
    let before = due(&node);
    let rows: u64 = before.iter().map(|due| due.entry.rows).sum();
    assert!(put_together(&archive) >= 6);
    let after = due(&node);
    let entries = |all: &[Due]| all.iter().map(|due| due.entry.clone()).collect::<Vec<_>>();
    assert_eq!(entries(&after), entries(&before), "what is due is what was sealed");
    assert!(after.iter().all(|due| due.is_here && due.kept.is_none()), "{after:?}");
    record(&mut node, holds::SET, &hold(&format!("session={session}")));
    for due in due(&node) {
        assert_eq!(due.kept, Some(Kept::Held("LH-7".to_owned())), "{}", due.entry.path);
    }
    let standing = &retention::report(&archive, &Periods::default(), TODAY).unwrap()["payload13m"];
    assert_eq!((standing.files, standing.elsewhere, standing.disposed), (2, 0, 0), "{standing:?}");
    assert_eq!((standing.due, standing.held), (standing.due.max(1), standing.due));
    for by in ["ann", "bob"] {
        let kind = if by == "ann" { holds::RELEASE_ASKED } else { holds::RELEASED };
        let release = Release { name: "LH-7".into(), by: by.into(), reason: "over".into() };
        record(&mut node, kind, &release);
    }
    // Without a sealed record of all of it, nothing goes.
    let going: Vec<Gone> = due(&node).iter().map(|due| Gone::from(&due.entry)).collect();
    let refused = retention::remove(&archive, ORIGIN, &going).unwrap_err().to_string();
    assert!(refused.contains("no sealed record says that it goes"), "{refused}");
    let said = node.disposition(TODAY, going.clone());
    record(&mut node, DISPOSED, &said);
    let whole = verified(&node);
    assert!(whole.is_ok() && whole.records_disposed == 0, "{whole}");
    retention::remove(&archive, ORIGIN, &going).unwrap();
    let report = verified(&node);
    assert!(report.is_ok(), "{report}");
    assert_eq!((report.records_disposed, report.records_elsewhere), (rows, 0));
    let left = tree(&archive).into_keys().filter(|name| {
        let name = name.to_string_lossy();
        name.contains("table=recordings/dt=2026-11-21") || name.contains("compacting/")
    });
    assert_eq!(left.count(), 0);
    assert!(due(&node).is_empty());
    retention::remove(&archive, ORIGIN, &going).unwrap();
    // What went is not waited for by the next compaction, and goes on being accounted for.
    put_together(&archive);
    assert!(compact::plan(&compact::Options::new(&archive, 30_000)).unwrap().is_empty());
    assert!(verified(&node).is_ok());
    assert_eq!(verified(&node).records_disposed, rows);
}

#[test]
fn rows_of_two_logs_in_one_file_do_not_go_by_the_word_of_one() {
    let (node, _) = node();
    let mut other = Node::start_as("n2", 64 * 1024);
    other.session(3);
    other.seal();
    common::plant(&node.archive(), &tree(&other.archive()));
    put_together(&node.archive());
    for due in due(&node) {
        let kept = due.kept.unwrap();
        assert_eq!(kept, Kept::Together("vestibule/node/n2/0".to_owned()));
        assert!(kept.to_string().contains("put together with rows of"), "{kept}");
    }
    let lists = compacted::all(&node.archive()).unwrap();
    assert!(lists.iter().any(|found| found.says.as_ref().unwrap().rows_by_log().len() == 2));
}

#[test]
fn a_disposition_that_was_cut_short_leaves_nothing_that_counts() {
    let (mut node, _) = node();
    let archive = node.archive();
    put_together(&archive);
    let going: Vec<Gone> = due(&node).iter().map(|due| Gone::from(&due.entry)).collect();
    let said = node.disposition(TODAY, going.clone());
    record(&mut node, DISPOSED, &said);
    // As it lies where the daemon was killed after the day was taken away and before it was gone.
    let [live, away] = ["table", "compacting/table"]
        .map(|below| archive.join(format!("payload13m/v1/{below}=recordings")));
    fs::create_dir_all(&away).unwrap();
    fs::rename(live.join("dt=2026-11-21"), away.join("dt=2026-11-21")).unwrap();
    let report = verified(&node);
    assert!(report.is_ok() && report.records_disposed > 0, "{report}");
    assert!(due(&node).is_empty());
    put_together(&archive);
    assert!(!away.exists());
    assert!(verified(&node).is_ok());
}
