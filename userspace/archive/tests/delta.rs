//! Delta logs beside the tables: whatever happened, who reads by them finds the rows that lie there (asked with deltalake, and
//! DuckDB on the plain files).

#![expect(clippy::unwrap_used, reason = "a failed step of a test is the test's failure")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::compact::{self, Unwatched};
use archive::delta::{self, COMMITS_MAX, DeltaError, Kept, LOG};
use archive::layout;
use archive::retention::{self, DISPOSED, Gone, Periods};
use archive::verify::{self, Report};
use common::{Node, plant, tree};

const ORIGIN: &str = "vestibule/node/n1/0";

/// 398 days after 2026-11-21: its recordings are over.
const TODAY: i64 = 20_778 + 398;

/// The folder of a table's log.
fn log(archive: &Path, table: &str) -> PathBuf {
    let class = if table == "recordings" { layout::PAYLOAD } else { layout::STANDARD };
    archive.join(class).join(format!("table={table}/{LOG}"))
}

fn keep(archive: &Path) -> Vec<Kept> {
    delta::keep(archive, true).unwrap()
}

/// Commits that a pass wrote.
fn commits(archive: &Path) -> u64 {
    keep(archive).iter().map(|kept| kept.commits).sum()
}

fn verified(archive: &Path) -> Report {
    verify::verify(&verify::Options::new(archive)).unwrap()
}

/// That the archive is sound, and nothing is said of its logs.
fn sound(archive: &Path) {
    let report = verified(archive);
    assert!(report.is_ok(), "{report}");
    assert!(!report.notes.iter().any(|note| note.contains("Delta")), "{report}");
}

/// Whether deltalake finds the rows that DuckDB does, and what was said.
fn compare(archive: &Path) -> (bool, String) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut python = Command::new(source.join("target/venv/bin/python"));
    let output =
        python.arg(source.join("tests/conformance/delta.py")).arg(archive).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), said)
}

/// That the logs say what lies there after a pass, and another one has nothing to do.
fn kept(archive: &Path) {
    keep(archive);
    assert_eq!(commits(archive), 0, "a pass that follows another has nothing to do");
    sound(archive);
}

/// The same, and that whoever reads by them finds it.
fn same(archive: &Path) {
    kept(archive);
    let (is_same, said) = compare(archive);
    assert!(is_same, "{said}");
}

fn put_together(archive: &Path, before: i64) -> usize {
    let options = compact::Options { zstd_level: 1, ..compact::Options::new(archive, before) };
    let mut failed = |_: &compact::Due, error| panic!("{error}");
    compact::compact(&options, &mut Unwatched, &mut failed).unwrap().len()
}

/// What the newest commits of a log say of a kind of line.
fn lines(archive: &Path, table: &str, from: u64, kind: &str) -> Vec<serde_json::Value> {
    let log = log(archive, table);
    let all = (from..).map(|version| log.join(format!("{version:020}.json")));
    let texts = all.map_while(|path| fs::read_to_string(path).ok());
    let lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let values = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    values.filter_map(|value| value.get(kind).cloned()).collect()
}

fn version(archive: &Path, table: &str) -> u64 {
    keep(archive).into_iter().find(|kept| kept.table == table).unwrap().version
}

#[test]
fn who_reads_by_the_log_finds_what_lies_there_after_seals_and_compactions() {
    let mut node = Node::start(64 * 1024);
    let archive = node.archive();
    node.session(40);
    node.heartbeat();
    node.seal();
    assert_eq!(delta::keep(&archive, false).unwrap(), [], "none is made that was not asked for");
    let made = keep(&archive);
    assert_eq!(made.len(), 4);
    assert!(
        made.iter().all(|kept| (kept.version, kept.files, kept.commits) == (0, 1, 1)),
        "{made:?}"
    );
    same(&archive);
    // Around midnight, with a year between.
    for pause in [3_600, 398 * 86_400, 60] {
        node.sleep(pause * 1_000_000);
        node.session(20);
        node.heartbeat();
        node.seal();
        kept(&archive);
    }
    same(&archive);
    // Rows in other files are no other rows: nothing is taken away.
    let before = version(&archive, "events");
    assert!(put_together(&archive, 30_000) >= 6);
    same(&archive);
    let removed = lines(&archive, "events", before + 1, "remove");
    assert!(
        !removed.is_empty() && removed.iter().all(|line| line["dataChange"] == false),
        "{removed:?}"
    );
    let added = lines(&archive, "events", before + 1, "add");
    assert!(!added.is_empty() && added.iter().all(|line| line["dataChange"] == false), "{added:?}");
    assert!(lines(&archive, "events", before + 1, "metaData").is_empty());
    // A day that was put together gets more rows, and is put together again: the same names hold others.
    node.session(5);
    node.seal();
    assert!(put_together(&archive, 30_000) >= 1);
    same(&archive);
}

#[test]
fn a_table_is_append_only_but_for_the_commit_that_says_what_was_disposed_of() {
    let mut node = Node::start(64 * 1024);
    let archive = node.archive();
    for pause in [0, 398 * 86_400] {
        node.sleep(pause * 1_000_000);
        node.session(5);
        node.seal();
        kept(&archive);
    }
    // One of the days was put together before.
    assert!(put_together(&archive, 20_779) >= 3);
    kept(&archive);
    let due = retention::due(&archive, ORIGIN, &Periods::default(), TODAY, None).unwrap();
    let going: Vec<Gone> = due.iter().map(|due| Gone::from(&due.entry)).collect();
    assert!(!going.is_empty());
    let said = node.disposition(TODAY, going.clone());
    node.last = node.recorder.control(DISPOSED, &serde_json::to_string(&said).unwrap()).unwrap();
    node.seal();
    kept(&archive);
    let before = version(&archive, "recordings");
    retention::remove(&archive, ORIGIN, &going).unwrap();
    let behind = verified(&archive);
    assert!(
        behind.is_ok() && behind.notes.iter().any(|note| note.contains("is behind")),
        "{behind}"
    );
    assert!(!compare(&archive).0);
    same(&archive);
    assert_eq!(version(&archive, "recordings"), before + 2);
    let told = lines(&archive, "recordings", before + 1, "metaData");
    let is: Vec<_> = told.iter().map(|it| &it["configuration"]["delta.appendOnly"]).collect();
    assert_eq!(is, ["false", "true"]);
    assert!(
        lines(&archive, "recordings", before + 1, "remove")
            .iter()
            .all(|it| it["dataChange"] == true)
    );
}

#[test]
fn a_table_whose_last_file_went_has_a_log_without_files_and_views_without_rows() {
    let mut node = Node::start(64 * 1024);
    let archive = node.archive();
    node.session(5);
    node.seal();
    keep(&archive);
    let files = tree(&archive)
        .into_keys()
        .filter(|path| path.to_str().unwrap().contains("table=recordings/dt="));
    let names: Vec<String> = files.map(|path| path.display().to_string()).collect();
    archive::files::remove(&archive, names.iter().map(String::as_str)).unwrap();
    assert_eq!(commits(&archive), 2);
    let (is_same, said) = compare(&archive);
    assert!(is_same && said.contains("0 files, 0 rows"), "{said}");
    node.heartbeat();
    node.seal();
    let views = fs::read_to_string(archive.join(layout::VIEWS)).unwrap();
    let view = views.lines().find(|line| line.contains("VIEW recordings")).unwrap();
    assert!(view.ends_with("WHERE false;"), "{view}");
    node.session(5);
    node.seal();
    keep(&archive);
    assert!(compare(&archive).0);
}

#[test]
fn rows_of_several_nodes_in_a_file_have_no_node_in_the_log() {
    let (mut first, mut second) = (Node::start(64 * 1024), Node::start_as("n2%é", 64 * 1024));
    for node in [&mut first, &mut second] {
        node.session(8);
        node.heartbeat();
        node.seal();
    }
    let archive = first.archive();
    plant(&archive, &tree(&second.archive()));
    same(&archive);
    let added = lines(&archive, "events", 0, "add");
    let nodes: Vec<_> = added.iter().map(|add| &add["partitionValues"]["node"]).collect();
    assert_eq!(nodes, ["n1", "n2%é"]);
    assert!(added[1]["path"].as_str().unwrap().contains("/node=n2%25%C3%A9/"), "{added:?}");
    put_together(&archive, 30_000);
    same(&archive);
    let added = lines(&archive, "events", 1, "add");
    assert_eq!(added.len(), 1);
    assert!(added[0]["partitionValues"]["node"].is_null());
}

#[test]
fn whatever_ends_a_pass_the_next_one_heals_it() {
    let mut node = Node::start(64 * 1024);
    let archive = node.archive();
    for _ in 0..3 {
        node.session(5);
        node.heartbeat();
        node.seal();
        keep(&archive);
    }
    let (own, name) = (log(&archive, "events"), |version: u64| format!("{version:020}.json"));
    let staging = own.with_file_name(format!("{LOG}.unfinished"));
    let whole = tree(&archive);
    let newest = fs::read(own.join(name(2))).unwrap();
    let cases: [(&str, &dyn Fn()); 6] = [
        // The rename was not durable yet when power failed.
        ("the name is lost", &|| fs::remove_file(own.join(name(2))).unwrap()),
        ("a commit is half written", &|| {
            fs::rename(own.join(name(2)), own.join(name(2) + ".unfinished")).unwrap();
            fs::write(own.join(name(2) + ".unfinished"), &newest[..newest.len() / 2]).unwrap();
        }),
        ("a next commit is half written", &|| {
            fs::write(own.join(name(3) + ".unfinished"), b"{").unwrap();
        }),
        ("another log is under way", &|| {
            fs::create_dir(&staging).unwrap();
            fs::write(staging.join(name(0) + ".unfinished"), b"{").unwrap();
        }),
        ("the log before was not removed", &|| {
            fs::create_dir(&staging).unwrap();
            fs::write(staging.join(name(0)), &newest).unwrap();
            fs::write(staging.join(name(7)), &newest).unwrap();
        }),
        ("it was taken away and is not gone yet", &|| fs::rename(&own, &staging).unwrap()),
    ];
    for (what, spoil) in cases {
        spoil();
        let report = verified(&archive);
        assert!(report.is_ok(), "{what}: {report}");
        kept(&archive);
        assert!(own.is_dir() && (what.contains("taken away") || tree(&archive) == whole), "{what}");
        assert!(!staging.exists(), "{what}");
        assert!(
            fs::read_dir(&own).unwrap().all(|it| !it
                .unwrap()
                .path()
                .to_str()
                .unwrap()
                .ends_with("unfinished"))
        );
        fs::remove_dir_all(&own).unwrap();
        plant(&archive, &whole);
    }
    // A commit that is there is never written over, whoever wrote it meanwhile.
    fs::write(own.join(name(2)), &newest).unwrap();
    assert_eq!(commits(&archive), 0);
    assert_eq!(tree(&archive), whole);
    same(&archive);
}

#[test]
fn a_log_of_many_commits_is_made_anew_in_one_step() {
    let mut node = Node::start(64 * 1024);
    let archive = node.archive();
    node.session(5);
    node.seal();
    keep(&archive);
    let own = log(&archive, "events");
    let first = fs::read_to_string(own.join(format!("{:020}.json", 0))).unwrap();
    let id = lines(&archive, "events", 0, "metaData")[0]["id"].clone();
    let add = first.lines().last().unwrap();
    for version in 1..COMMITS_MAX {
        fs::write(own.join(format!("{version:020}.json")), format!("{add}\n")).unwrap();
    }
    assert_eq!(version(&archive, "events"), COMMITS_MAX - 1);
    node.session(5);
    node.seal();
    same(&archive);
    assert_eq!(version(&archive, "events"), 0);
    assert_ne!(lines(&archive, "events", 0, "metaData")[0]["id"], id, "who follows it begins anew");
    assert_eq!(delta::remove(&archive).unwrap().len(), 4);
    assert!(!own.exists());
    sound(&archive);
}

/// A node whose log of events has two commits, and that log's folder.
fn two_commits() -> (Node, PathBuf) {
    let mut node = Node::start(64 * 1024);
    let archive = node.archive();
    for _ in 0..2 {
        node.session(5);
        node.heartbeat();
        node.seal();
        keep(&archive);
    }
    sound(&archive);
    (node, log(&archive, "events"))
}

#[test]
fn what_is_not_ours_or_not_true_in_a_log_is_found() {
    let (node, own) = two_commits();
    let archive = node.archive();
    let (zero, one) = (own.join(format!("{:020}.json", 0)), own.join(format!("{:020}.json", 1)));
    let whole = tree(&own);
    let edit = |path: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{from}: {text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    let rows = lines(&archive, "events", 1, "add")[0]["stats"].as_str().unwrap().to_owned();
    let rows = rows.split([':', ',']).nth(1).unwrap().to_owned();
    let cases: [(&str, &str, &dyn Fn()); 12] = [
        ("other rows", "says 9", &|| {
            edit(&one, &format!("numRecords\\\":{rows}"), "numRecords\\\":9");
        }),
        ("other times", "says other times", &|| {
            edit(&one, "maxValues\\\":{\\\"ts\\\":\\\"2", "maxValues\\\":{\\\"ts\\\":\\\"1");
        }),
        ("other columns", "has other columns", &|| edit(&zero, "statement_norm", "statement_Norm")),
        ("another partition", "line 1", &|| edit(&one, "\"node\":\"n1\"", "\"node\":\"n2\"")),
        ("a field more", "line 1", &|| {
            edit(&one, "\"dataChange\"", "\"baseRowId\":1,\"dataChange\"");
        }),
        ("a file elsewhere", "line 1", &|| edit(&one, "\"path\":\"dt=", "\"path\":\"file:///dt=")),
        ("a transaction", "line 1", &|| edit(&one, "{\"add\"", "{\"txn\":{}}\n{\"add\"")),
        ("a higher version", "line 1", &|| {
            edit(&zero, "\"minReaderVersion\":1", "\"minReaderVersion\":3");
        }),
        ("no line", "cut off", &|| fs::write(&one, "").unwrap()),
        ("a gap", "its number", &|| fs::rename(&one, own.join(format!("{:020}.json", 2))).unwrap()),
        ("a checkpoint", "its name", &|| fs::write(own.join("_last_checkpoint"), "{}").unwrap()),
        ("a file of another's", "is in no manifest", &|| {
            fs::write(own.join("x.parquet"), "").unwrap();
        }),
    ];
    for (what, said, spoil) in cases {
        spoil();
        let report = verified(&archive);
        assert!(!report.is_ok() && report.to_string().contains(said), "{what}: {report}");
        assert!(
            report.findings.iter().all(|it| it.level == verify::Level::Files),
            "{what}: {report}"
        );
        // What can't be read is left to a person.
        match delta::keep(&archive, true) {
            Err(DeltaError::Foreign { path, .. }) => assert!(path.starts_with(&own), "{what}"),
            done => assert!(done.is_ok(), "{what}"),
        }
        delta::rebuild(&archive).unwrap();
        kept(&archive);
        fs::remove_dir_all(&own).unwrap();
        plant(&own, &whole);
    }
}

#[test]
fn a_log_that_lacks_a_file_is_behind_and_one_names_no_file_that_nothing_accounts_for() {
    let (node, own) = two_commits();
    let archive = node.archive();
    // One that lacks what lies there is behind, and no more than that.
    fs::remove_file(own.join(format!("{:020}.json", 1))).unwrap();
    let report = verified(&archive);
    assert!(
        report.is_ok() && report.to_string().contains("lacks 1 files, and names 0"),
        "{report}"
    );
    // Of what lies there a file that nothing accounts for is not named.
    let stray = own.with_file_name(
        "dt=2026-11-21/node=n1/0-00000000000000009999-00000000000000009999.parquet",
    );
    fs::copy(archive.join("std7y/v1/table=events").join(first_file(&archive)), &stray).unwrap();
    keep(&archive);
    assert_eq!(lines(&archive, "events", 0, "add").len(), 2);
}

/// A file of events, below the table's folder.
fn first_file(archive: &Path) -> String {
    lines(archive, "events", 0, "add")[0]["path"].as_str().unwrap().to_owned()
}
