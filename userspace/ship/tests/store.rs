//! Archives shipped to a real store's server, over ways that fail, by processes that are killed.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is the test's failure")]

#[path = "../../archive/tests/common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use archive::holds::{self, Hold, Release, Scope};
use archive::layout;
use archive::retention::{self, Disposition, Gone, Periods};
use archive::verify::{self, Options, Report};
use common::{Node, tree};
use integration::Moto;
use integration::process::wait_until;
use ship::ShipError;
use ship::check;
use ship::fetch::{self, Wanted};
use ship::hold;
use ship::pass::Shipper;
use ship::place::{Lock, Mode, Place};
use ship::prune::{self, Limits};
use ship::remote::{self, PART_BYTES, Put, Remote, Until};
use ship::state::State;

const ORIGIN: &str = "vestibule/node/n1/0";

fn place(url: &str, endpoint: &str) -> Place {
    let mut place = Place::new(url).unwrap();
    place.endpoint = Some(endpoint.to_owned());
    place.retry_pause = Duration::from_millis(2);
    place.credentials.set("AWS_ACCESS_KEY_ID", "tester".into());
    place.credentials.set("AWS_SECRET_ACCESS_KEY", "x".into());
    place
}

fn shipper(node: &Node, place: &Place) -> Shipper {
    let origin = format!("vestibule/node/{}/0", node.name);
    let state = node.dir.path().join("ship");
    Shipper::open(&node.archive(), &origin, &state, Remote::open(place).unwrap()).unwrap()
}

fn fetched(place: &Place) -> (tempfile::TempDir, fetch::Fetched) {
    let to = tempfile::tempdir().unwrap();
    let fetched = fetch::fetch(&mut Remote::open(place).unwrap(), to.path(), &Wanted::default());
    (to, fetched.unwrap())
}

#[track_caller]
fn sound(archive: &Path) -> Report {
    let report = verify::verify(&Options::new(archive)).unwrap();
    assert!(report.is_ok(), "{report}");
    report
}

/// The store's objects below a prefix and how often each was written.
fn versions(moto: &Moto, bucket: &str) -> BTreeMap<String, u64> {
    let said = moto
        .boto(&format!(
            "n = {{}}\nfor p in c.get_paginator('list_object_versions').paginate(Bucket='{bucket}'):\n  \
             for v in p.get('Versions', []): n[v['Key']] = n.get(v['Key'], 0) + 1\nprint(json.dumps(n))"
        ))
        .unwrap();
    serde_json::from_str(&said).unwrap()
}

/// Nothing but what changes by its nature was written twice.
#[track_caller]
fn written_once(moto: &Moto, bucket: &str) {
    for (name, count) in versions(moto, bucket) {
        let changes =
            ["/checkpoint", "/key.vkey", ".sql", ".md"].iter().any(|end| name.ends_with(end));
        assert!(changes || count == 1, "{name} was written {count} times");
    }
}

#[test]
fn what_is_shipped_is_what_is_here_and_verifies() {
    let moto = Moto::start().unwrap();
    moto.bucket("bank", true).unwrap();
    let s3 = place("s3://bank/site/a", &moto.endpoint());
    let folder = tempfile::tempdir().unwrap();
    let file = Place::new(&format!("file://{}", folder.path().display())).unwrap();
    for place in [s3, file] {
        let mut node = Node::start(64 * 1024);
        let mut shipper = shipper(&node, &place);
        assert_eq!(shipper.pass().unwrap().written, 0, "nothing is sealed");
        for commands in [3, 200, 40] {
            node.session(commands);
            node.heartbeat();
            let size = node.seal().tree_size;
            assert_eq!(shipper.backlog().unwrap().rows, size - shipper.state().size);
            let shipped = shipper.pass().unwrap();
            assert!(shipped.size == size && shipped.written > 4, "{shipped:?}");
            // At any time what was fetched is what was here.
            let (to, brought) = fetched(&place);
            assert_eq!(tree(to.path()), tree(&node.archive()));
            assert_eq!((brought.beyond.len(), brought.logs), (0, vec![(ORIGIN.to_owned(), size)]));
            sound(to.path());
        }
        assert_eq!(shipper.backlog().unwrap(), ship::pass::Backlog::default());
        assert_eq!(shipper.pass().unwrap().written, 0, "all is there");
        let report = check::check(shipper.remote(), true).unwrap();
        assert!(report.is_ok() && report.files > 6, "{report:?}");
        // State that is lost is found in the store: nothing is written again.
        fs::remove_dir_all(node.dir.path().join("ship")).unwrap();
        let again = self::shipper(&node, &place).pass().unwrap();
        assert!(again.written == 0 && again.there > 10, "{again:?}");
    }
    // A folder can be verified where it lies, with what earlier trees left there.
    sound(folder.path());
    written_once(&moto, "bank");
}

#[test]
fn a_killed_shipment_goes_on_and_writes_nothing_twice() {
    let moto = Moto::start().unwrap();
    moto.bucket("bank", true).unwrap();
    let way = moto.flaky(0).unwrap();
    let mut node = Node::start(64 * 1024);
    for commands in [30, 300, 10] {
        node.session(commands);
        node.seal();
    }
    let program = std::env::current_exe().unwrap();
    let program = program.parent().and_then(Path::parent).unwrap().join("examples/once");
    for kill_at in [3, 9, 20, 33, 50] {
        let before = way.counts().0;
        let mut child = Command::new(&program)
            .args([&node.archive(), &PathBuf::from(ORIGIN), &node.dir.path().join("ship")])
            .args(["s3://bank/p", &way.endpoint()])
            .envs([("AWS_ACCESS_KEY_ID", "tester"), ("AWS_SECRET_ACCESS_KEY", "x")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("it ships", 60, || {
            Ok(way.counts().0 >= before + kill_at || child.try_wait()?.is_some())
        })
        .unwrap();
        child.kill().ok();
        child.wait().unwrap();
    }
    let place = place("s3://bank/p", &moto.endpoint());
    let shipped = shipper(&node, &place).pass().unwrap();
    assert_eq!(
        shipped.size,
        State::load(&node.dir.path().join("ship"), "s3://bank/p", ORIGIN).unwrap().unwrap().size
    );
    let (to, _) = fetched(&place);
    assert_eq!(tree(to.path()), tree(&node.archive()));
    sound(to.path());
    written_once(&moto, "bank");
}

#[test]
fn half_of_all_requests_fail_for_an_hour_and_nothing_is_lost_or_overwritten() {
    let moto = Moto::start().unwrap();
    moto.bucket("bank", true).unwrap();
    let way = moto.flaky(20_261_121).unwrap();
    let place_of = |endpoint: &str| place("s3://bank/p", endpoint);
    let mut node = Node::start(64 * 1024);
    let mut shipper = shipper(&node, &place_of(&way.endpoint()));
    let mut failed = 0;
    // Twelve seals, five minutes apart.
    for minute in 0..12 {
        node.session(5 + minute);
        node.heartbeat();
        node.sleep(300_000_000);
        let size = node.seal().tree_size;
        // Sometimes the next seal comes before this one is there.
        for _ in 0..if minute % 3 == 1 { 1 } else { 50 } {
            match shipper.pass() {
                Ok(shipped) => {
                    assert_eq!(shipped.size, size);
                    break;
                }
                Err(error) => {
                    assert!(error.is_passing(), "{error}");
                    failed += 1;
                }
            }
        }
    }
    let done = (0..50).any(|_| shipper.pass().is_ok());
    let (requests, lost) = way.counts();
    assert!(done && lost > requests / 3, "{failed} passes failed, {lost} of {requests} requests");
    let (to, _) = fetched(&place_of(&moto.endpoint()));
    assert_eq!(tree(to.path()), tree(&node.archive()));
    sound(to.path());
    written_once(&moto, "bank");
}

#[test]
fn what_lies_in_the_way_is_a_conflict_and_stays() {
    let moto = Moto::start().unwrap();
    moto.bucket("bank", true).unwrap();
    let place = place("s3://bank/p", &moto.endpoint());
    let mut node = Node::start(64 * 1024);
    node.session(20);
    let sealed = node.seal();
    let files = sealed.files;
    let table = files.iter().find(|file| file.contains("table=events")).unwrap().clone();
    let log = layout::log_dir(ORIGIN);
    let tile = format!("{log}/tile/0/000.p/{}", sealed.tree_size);
    let readme = layout::README.to_owned();
    let newest = format!("{log}/{}", layout::CHECKPOINT);
    for name in [&table, &tile, &readme, &newest] {
        moto.boto(&format!("c.put_object(Bucket='bank', Key='p/{name}', Body=b'foreign')"))
            .unwrap();
        let Err(ShipError::Conflict { name: told, there, .. }) = shipper(&node, &place).pass()
        else {
            panic!("{name} was no conflict");
        };
        assert_eq!((&told, there), (name, remote::sum(b"foreign")));
        let there = Remote::open(&place).unwrap().sum(name).unwrap();
        assert_eq!(there, Some(remote::sum(b"foreign")), "{name} was overwritten");
        moto.boto(&format!(
            "for v in c.list_object_versions(Bucket='bank', Prefix='p/{name}')['Versions']: \
             c.delete_object(Bucket='bank', Key=v['Key'], VersionId=v['VersionId'])"
        ))
        .unwrap();
    }
    let mut shipper = shipper(&node, &place);
    shipper.pass().unwrap();
    // A host that was brought back ships nothing over what it shipped.
    let earlier = node.dir.path().join("earlier");
    common::plant(&earlier, &tree(&node.archive()));
    node.session(20);
    node.seal();
    shipper.pass().unwrap();
    let remote = Remote::open(&place).unwrap();
    let back =
        Shipper::open(&earlier, ORIGIN, &node.dir.path().join("ship"), remote).unwrap().pass();
    assert!(matches!(back, Err(ShipError::Rollback(_))), "{back:?}");
    let remote = Remote::open(&place).unwrap();
    let lost =
        Shipper::open(&earlier, ORIGIN, &node.dir.path().join("lost"), remote).unwrap().pass();
    assert!(matches!(lost, Err(ShipError::Conflict { .. })), "{lost:?}");
}

#[test]
fn hosts_share_a_prefix_and_know_nothing_of_each_other() {
    let moto = Moto::start().unwrap();
    moto.bucket("bank", true).unwrap();
    let place = place("s3://bank/all", &moto.endpoint());
    let mut nodes = [Node::start(64 * 1024), Node::start_as("n2", 64 * 1024)];
    for round in 0..3 {
        std::thread::scope(|scope| {
            for (at, node) in nodes.iter_mut().enumerate() {
                let place = &place;
                scope.spawn(move || {
                    node.session(10 + round);
                    // One host has a table that the other has not: their views differ.
                    if at == 1 && round > 0 {
                        node.heartbeat();
                    }
                    node.seal();
                    shipper(node, place).pass().unwrap();
                });
            }
        });
    }
    let (to, brought) = fetched(&place);
    assert_eq!(brought.logs.len(), 2);
    let report = sound(to.path());
    assert_eq!(report.logs.len(), 2);
    let there = tree(to.path());
    for node in &nodes {
        for (name, bytes) in tree(&node.archive()) {
            let is_text = name.starts_with("std7y/v1/views");
            assert!(is_text || there.get(&name) == Some(&bytes), "{}", name.display());
        }
    }
    written_once(&moto, "bank");
}

#[test]
fn objects_are_held_as_demanded_or_not_shipped_and_tampering_with_the_store_is_found() {
    let moto = Moto::start().unwrap();
    moto.bucket("open", false).unwrap();
    moto.bucket("worm", true).unwrap();
    let days = [("std7y".to_owned(), 2557), ("payload13m".to_owned(), 397)];
    let lock = Lock { mode: Mode::Compliance, days: days.into() };
    let locked = |bucket: &str| Place {
        lock: Some(lock.clone()),
        ..place(&format!("s3://{bucket}/p"), &moto.endpoint())
    };
    let mut node = Node::start(64 * 1024);
    node.session(20);
    let files = node.seal().files;
    let refused = shipper(&node, &locked("open")).pass();
    assert!(matches!(refused, Err(ShipError::Lock(_))), "{refused:?}");
    assert!(versions(&moto, "open").is_empty());
    let place = locked("worm");
    let mut shipper = shipper(&node, &place);
    shipper.pass().unwrap();
    let report = check::check(shipper.remote(), true).unwrap();
    assert!(report.is_ok() && report.locks == report.files, "{report:?}");
    let named = |table: &str| files.iter().find(|file| file.contains(table)).unwrap();
    let until = |table: &str| {
        let key = named(table);
        moto.boto(&format!(
            "h = c.head_object(Bucket='worm', Key='p/{key}')\n\
             print(h['ObjectLockMode'], h['ObjectLockRetainUntilDate'].date())"
        ))
        .unwrap()
    };
    // Sealed on 2026-11-21, to the end of the day that is due.
    assert_eq!(until("table=events").trim(), "COMPLIANCE 2033-11-22");
    assert_eq!(until("table=recordings").trim(), "COMPLIANCE 2027-12-24");
    let removed = moto.boto(&format!(
        "v = c.list_object_versions(Bucket='worm', Prefix='p/{}')['Versions'][0]\n\
         c.delete_object(Bucket='worm', Key=v['Key'], VersionId=v['VersionId'])",
        named("table=events")
    ));
    assert!(removed.unwrap_err().to_string().contains("AccessDenied"));
    // What the store's keeper can do nevertheless is found.
    let (events, sessions) = (named("table=events"), named("table=sessions"));
    moto.boto(&format!(
        "c.delete_object(Bucket='worm', Key='p/{events}')\n\
         c.put_object(Bucket='worm', Key='p/{sessions}', Body=b'x')\n\
         c.put_object(Bucket='worm', Key='p/{}', Body=b'x')",
        events.replace("n1/0-", "n1/9-")
    ))
    .unwrap();
    let report = check::check(shipper.remote(), false).unwrap();
    let all = |name: &str| -> String {
        report.findings.iter().filter(|it| it.name == *name).map(|it| it.text.as_str()).collect()
    };
    assert!(all(events).contains("is missing") && all(events).contains("hidden now"), "{report:?}");
    assert!(
        all(sessions).contains("written 2 times") && all(sessions).contains("1 bytes"),
        "{report:?}"
    );
    assert!(all(&events.replace("n1/0-", "n1/9-")).contains("added"), "{report:?}");
}

#[test]
fn what_holds_are_on_is_held_in_the_store_until_they_are_released_and_what_went_by_a_record_is_not_missing()
 {
    let moto = Moto::start().unwrap();
    moto.bucket("held", true).unwrap();
    let days = [("std7y".to_owned(), 2557), ("payload13m".to_owned(), 397)];
    let place = Place {
        lock: Some(Lock { mode: Mode::Governance, days: days.into() }),
        ..place("s3://held/p", &moto.endpoint())
    };
    let mut node = Node::start(64 * 1024);
    let session = node.session(20);
    let first = node.seal().files;
    node.sleep(86_400_000_000);
    node.session(5);
    let second = node.seal().files;
    let mut shipper = shipper(&node, &place);
    shipper.pass().unwrap();
    let mut apply = |node: &Node| {
        let state = node.dir.path().join("ship");
        shipper.pass().unwrap();
        let size = shipper.state().size;
        hold::apply(&node.archive(), ORIGIN, shipper.remote(), size, &state).unwrap()
    };
    assert_eq!(apply(&node), hold::Changed::default(), "nothing is held");
    let set = |node: &mut Node, name: &str, words: &str| {
        let hold = Hold {
            name: name.into(),
            scope: Scope::parse(&[words.to_owned()]).unwrap(),
            reason: "case 17".into(),
            by: "ann".into(),
            release_asked: Vec::new(),
        };
        let detail = serde_json::to_string(&hold).unwrap();
        node.last = node.recorder.control(holds::SET, &detail).unwrap();
        node.seal();
    };
    set(&mut node, "LH-1", &format!("session={session}"));
    let of = |files: &[String]| -> Vec<String> {
        let is_held = |file: &&String| file.contains("/table=") && !file.contains("table=control");
        files.iter().filter(is_held).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    };
    assert_eq!(apply(&node).held, of(&first));
    assert_eq!(apply(&node), hold::Changed::default(), "once");
    // Who may pass over the retention may not over the hold.
    let delete = |key: &str| {
        moto.boto(&format!(
            "v = c.list_object_versions(Bucket='held', Prefix='p/{key}')['Versions'][0]\n\
             c.delete_object(Bucket='held', Key=v['Key'], VersionId=v['VersionId'], BypassGovernanceRetention=True)"
        ))
    };
    let recordings = first.iter().find(|file| file.contains("table=recordings")).unwrap();
    assert!(delete(recordings).unwrap_err().to_string().contains("AccessDenied"));
    // What comes later and is of it is held, too.
    set(&mut node, "LH-2", "agent=reader");
    assert_eq!(apply(&node).held, of(&second));
    node.session(2);
    let third = node.seal().files;
    assert_eq!(apply(&node).held, of(&third));
    for name in ["LH-1", "LH-2"] {
        let release = Release { name: name.into(), by: "bob".into(), reason: "over".into() };
        let detail = serde_json::to_string(&release).unwrap();
        node.last = node.recorder.control(holds::RELEASED, &detail).unwrap();
    }
    node.seal();
    let released = apply(&node).released;
    assert_eq!(released.len(), of(&first).len() + of(&second).len() + of(&third).len());
    disposed(&moto, &mut node, &place, std::slice::from_ref(recordings));
    delete(recordings).unwrap();
    let report = check::check(&mut Remote::open(&place).unwrap(), true).unwrap();
    let told: String = report.findings.iter().map(|it| it.text.as_str()).collect();
    assert!(report.disposed == 1 && !told.contains("missing"), "{report:?}");
    let (to, _) = fetched(&place);
    assert!(!to.path().join(recordings).exists() && sound(to.path()).records_disposed > 0);
}

/// Files go here by a record, which is shipped; to a store that never had them, too.
fn disposed(moto: &Moto, node: &mut Node, place: &Place, names: &[String]) {
    let today = 20_778 + 398;
    let all = retention::due(&node.archive(), ORIGIN, &Periods::default(), today, None).unwrap();
    let files: Vec<Gone> = all
        .iter()
        .filter(|due| names.contains(&due.entry.path))
        .map(|due| Gone::from(&due.entry))
        .collect();
    assert_eq!(files.len(), names.len(), "{all:?}");
    let said = Disposition {
        origin: ORIGIN.into(),
        rule: "payload13m after 397 days".into(),
        before: layout::date(today - 397),
        approver: "ann@https://idp.example".into(),
        reason: "over".into(),
        size: 1,
        root: String::new(),
        files: files.clone(),
    };
    let detail = serde_json::to_string(&said).unwrap();
    node.last = node.recorder.control(retention::DISPOSED, &detail).unwrap();
    node.seal();
    retention::remove(&node.archive(), ORIGIN, &files).unwrap();
    shipper(node, place).pass().unwrap();
    moto.bucket("late", true).unwrap();
    let late = Place { lock: None, ..self::place("s3://late/p", &moto.endpoint()) };
    let state = tempfile::tempdir().unwrap();
    let remote = Remote::open(&late).unwrap();
    let mut late = Shipper::open(&node.archive(), ORIGIN, state.path(), remote).unwrap();
    assert!(late.pass().unwrap().size > 0);
    let report = check::check(late.remote(), true).unwrap();
    assert!(report.is_ok() && report.disposed == 1, "{report:?}");
}

#[test]
fn large_files_go_in_parts_and_go_on_after_a_break() {
    let moto = Moto::start().unwrap();
    moto.bucket("bank", true).unwrap();
    let way = moto.flaky(0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let bytes: Vec<u8> = (0..=5 * PART_BYTES / 8)
        .flat_map(|n| (n as u64).wrapping_mul(0x9e37_79b9).to_be_bytes())
        .collect();
    fs::write(&path, &bytes).unwrap();
    let due = remote::sum(&bytes);
    let mut kept = None;
    let mut straight = Remote::open(&place("s3://bank/p", &moto.endpoint())).unwrap();
    let mut broken = Remote::open(&place("s3://bank/p", &way.endpoint())).unwrap();
    let mut upload = None;
    let mut save = |upload: &Option<ship::state::Upload>| {
        kept.clone_from(upload);
        if upload.as_ref().is_some_and(|upload| upload.parts() == 3) {
            way.down(true);
        }
        Ok(())
    };
    let put = broken.create_file("large", &path, (due, Until(None)), &mut upload, &mut save);
    assert!(put.is_err_and(|error| error.is_passing()));
    assert_eq!(straight.length("large").unwrap(), None, "half of it is not there");
    assert_eq!(kept.as_ref().map(ship::state::Upload::parts), Some(3));
    let before = straight.moved();
    let put = straight.create_file("large", &path, (due, Until(None)), &mut kept, &mut |_| Ok(()));
    assert_eq!(put.unwrap(), Put::Written);
    // Three parts less one way, and all of it back to be read.
    let part = u64::try_from(PART_BYTES).unwrap();
    assert_eq!(straight.moved() - before, (due.bytes - 3 * part) + due.bytes);
    assert_eq!(kept, None);
    let put = straight.create_file("large", &path, (due, Until(None)), &mut kept, &mut |_| Ok(()));
    assert_eq!(put.unwrap(), Put::There);
    fs::write(&path, [bytes, vec![0]].concat()).unwrap();
    let other = remote::file_sum(&path).unwrap();
    let put =
        straight.create_file("large", &path, (other, Until(None)), &mut kept, &mut |_| Ok(()));
    assert!(matches!(put, Err(ShipError::Conflict { .. })), "{put:?}");
    written_once(&moto, "bank");
}

#[test]
fn files_go_here_only_once_they_are_safe_there_and_all_else_works_on() {
    let moto = Moto::start().unwrap();
    moto.bucket("bank", true).unwrap();
    let place = place("s3://bank/p", &moto.endpoint());
    let mut node = Node::start(64 * 1024);
    node.session(300);
    let first = node.seal().tree_size;
    node.session(30);
    node.heartbeat();
    let mut shipper = shipper(&node, &place);
    let limits = |upto: u64, day: i64| Limits { upto, day, now_us: 7 };
    let prune = |shipper: &mut Shipper, limits: Limits| {
        let state = shipper.state().clone();
        prune::prune(&node.archive(), shipper.remote(), &state, &limits)
    };
    // 2026-11-22, a day after all of it.
    let day = 20_779;
    assert_eq!(prune(&mut shipper, limits(u64::MAX, day)).unwrap(), [], "nothing is shipped");
    shipper.pass().unwrap();
    let whole = tree(&node.archive());
    assert_eq!(prune(&mut shipper, limits(first - 1, day)).unwrap(), [], "nothing is witnessed");
    assert_eq!(prune(&mut shipper, limits(first, day - 1)).unwrap(), [], "all of it is of today");
    let events: Vec<&PathBuf> =
        whole.keys().filter(|name| name.to_string_lossy().contains("table=events")).collect();
    let key = format!("p/{}", events[0].display());
    moto.boto(&format!(
        "import os\nb = c.get_object(Bucket='bank', Key='{key}')['Body'].read()\nopen('{0}', 'wb').write(b)\n\
         c.put_object(Bucket='bank', Key='{key}', Body=b'less')",
        node.dir.path().join("kept").display()
    ))
    .unwrap();
    let refused = prune(&mut shipper, limits(first, day)).unwrap_err();
    assert!(refused.to_string().contains("nothing is let go"), "{refused}");
    assert_eq!(tree(&node.archive()), whole);
    moto.boto(&format!(
        "c.put_object(Bucket='bank', Key='{key}', Body=open('{}', 'rb').read())",
        node.dir.path().join("kept").display()
    ))
    .unwrap();
    let gone = prune(&mut shipper, limits(first, day)).unwrap();
    let tables: Vec<&str> = gone.iter().filter_map(|entry| entry.table.as_deref()).collect();
    assert!(
        tables.contains(&"events")
            && tables.contains(&"recordings")
            && !tables.contains(&"control")
    );
    assert!(gone.iter().all(|entry| !node.archive().join(&entry.path).exists()));
    let report = sound(&node.archive());
    assert_eq!(report.records_elsewhere, gone.iter().map(|entry| entry.rows).sum::<u64>());
    assert!(report.to_string().contains("NOT READ here"), "{report}");
    // Sealed on, with other rows, and shipped on; the witness gets its proofs.
    let second = node.seal().tree_size;
    assert!(second > first);
    assert_eq!(shipper.pass().unwrap().size, second);
    sound(&node.archive());
    archive::continues::consistency(&node.archive(), ORIGIN, first - first % 256, second).unwrap();
    // What nobody accounts for is missing, and what is written anew beside it is no rewriting.
    let now = tree(&node.archive());
    let other = now.keys().find(|name| name.to_string_lossy().contains("table=sessions"));
    if let Some(other) = other {
        fs::remove_file(node.archive().join(other)).unwrap();
        let report = verify::verify(&Options::new(node.archive())).unwrap();
        assert!(report.findings.iter().any(|it| it.text.contains("missing")), "{report}");
        fs::write(node.archive().join(other), &now[other]).unwrap();
    }
    // And all of it comes back.
    let brought = fetch::fetch(shipper.remote(), &node.archive(), &Wanted::default()).unwrap();
    assert_eq!(brought.files, u64::try_from(gone.len()).unwrap());
    for (name, bytes) in &whole {
        if name.extension().is_some_and(|extension| extension == "parquet") {
            assert_eq!(fs::read(node.archive().join(name)).unwrap(), *bytes, "{}", name.display());
        }
    }
    assert_eq!(sound(&node.archive()).records_elsewhere, 0);
}

#[test]
fn days_are_brought_alone_and_the_rest_is_said_to_be_elsewhere() {
    let moto = Moto::start().unwrap();
    moto.bucket("bank", false).unwrap();
    let place = place("s3://bank", &moto.endpoint());
    let mut node = Node::start(64 * 1024);
    node.session(20);
    node.sleep(7_200_000_000);
    node.session(20);
    node.heartbeat();
    node.seal();
    shipper(&node, &place).pass().unwrap();
    let to = tempfile::tempdir().unwrap();
    let day = "2026-11-22".to_owned();
    let wanted = Wanted { from: Some(day.clone()), until: Some(day) };
    let brought = fetch::fetch(&mut Remote::open(&place).unwrap(), to.path(), &wanted).unwrap();
    assert!(brought.elsewhere >= 3, "{brought:?}");
    let report = sound(to.path());
    assert!(report.records_elsewhere > 20 && report.rows_read > 20, "{report}");
    let (files, stores) = archive::pruned::count(to.path()).unwrap();
    assert_eq!((files, stores), (brought.elsewhere, vec!["s3://bank".to_owned()]));
}
