//! Rows to others as they are committed: files, rsyslog over TCP and TLS, OpenTelemetry; and kills on both sides.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use integration::certificates::Certificates;
use integration::process::wait_until;
use integration::{Otlp, Rsyslog, World};
use serde_json::Value;

fn read(world: &World, times: usize) {
    for _ in 0..times {
        world.read().unwrap();
    }
}

fn forwards(world: &World) -> Vec<Value> {
    world.daemon.status().unwrap()["forwards"].as_array().unwrap().clone()
}

/// Waits until all that is durable when this is called was taken by all; answers the row behind it.
fn all_taken(world: &World) -> u64 {
    let rows =
        |one: &Value| one["next_row"].as_u64().unwrap() + one["rows_behind"].as_u64().unwrap();
    let due = forwards(world).iter().map(rows).max().unwrap();
    wait_until("all rows were taken", 90, || {
        let status = world.daemon.status()?;
        let all = status["forwards"].as_array().unwrap();
        Ok(all.iter().all(|one| one["next_row"].as_u64().unwrap() >= due))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:?}", forwards(world)));
    due
}

/// That every row up to `due` that is no recording came.
fn holds_all(world: &World, took: &BTreeSet<u64>, due: u64) {
    let evidence = world.evidence().unwrap();
    let union =
        "SELECT seq FROM events UNION SELECT seq FROM sessions UNION SELECT seq FROM control";
    let rows = evidence.duckdb(&format!("SELECT seq FROM ({union}) WHERE seq < {due}")).unwrap();
    let missing: Vec<u64> = rows
        .iter()
        .map(|row| row["seq"].as_u64().unwrap())
        .filter(|seq| !took.contains(seq))
        .collect();
    assert!(!rows.is_empty() && missing.is_empty(), "{missing:?} of {}", rows.len());
}

fn seqs_of_syslog(text: &str) -> BTreeSet<u64> {
    let number = |line: &str| -> u64 {
        let at = line.split_once(" seq=\"").unwrap_or_else(|| panic!("{line}")).1;
        at.split_once('"').unwrap().0.parse().unwrap()
    };
    text.lines().map(number).collect()
}

fn seqs_of_file(path: &Path) -> BTreeSet<u64> {
    let mut seqs = BTreeSet::new();
    for number in 0..200 {
        let end = if number == 0 { String::new() } else { format!(".{number}") };
        let text = fs::read_to_string(format!("{}{end}", path.display())).unwrap_or_default();
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            seqs.insert(row["seq"].as_u64().unwrap());
        }
    }
    seqs
}

fn seqs_of_otlp(otlp: &Otlp) -> BTreeSet<u64> {
    otlp.took().unwrap().iter().map(|record| record["seq"].as_u64().unwrap()).collect()
}

#[test]
fn every_row_reaches_every_receiver_though_all_are_killed() {
    let certificates = Certificates::make("DNS:localhost,IP:127.0.0.1").unwrap();
    let mut plain = Rsyslog::start(None).unwrap();
    let sealed = Rsyslog::start(Some(&certificates)).unwrap();
    let mut otlp = Otlp::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.jsonl");
    let rules = format!(
        "[[forward]]\nname = \"plain\"\nto = \"syslog+tcp://127.0.0.1:{}\"\nfrom_the_beginning = true\n\
         [[forward]]\nname = \"tls\"\nto = \"syslog+tls://localhost:{}\"\nca = \"{}\"\nfrom_the_beginning = true\n\
         [[forward]]\nname = \"otlp\"\nto = \"otlp+http://127.0.0.1:{}\"\nfrom_the_beginning = true\n\
         [[forward]]\nname = \"file\"\nto = \"file://{}\"\nrotate_bytes = 20000\nkeep = 100\nfrom_the_beginning = true\n",
        plain.port(),
        sealed.port(),
        certificates.path("bank.crt").display(),
        otlp.port(),
        file.display(),
    );
    let mut world = World::start_with(&rules).unwrap();
    read(&world, 3);
    all_taken(&world);

    // While one is away nothing waits for it, and it is said how far behind it is.
    plain.kill();
    otlp.kill();
    read(&world, 5);
    wait_until("it is said that they are away", 60, || {
        let all = world.daemon.status()?["forwards"].as_array().unwrap().clone();
        let is_away =
            |one: &Value| !one["error"].is_null() && one["rows_behind"].as_u64() > Some(0);
        Ok(all.iter().filter(|one| is_away(one)).count() == 2)
    })
    .unwrap();
    // The daemon is killed meanwhile, and again while all goes on.
    world.daemon.kill();
    world.daemon.restart().unwrap();
    read(&world, 2);
    plain.restart().unwrap();
    otlp.restart().unwrap();
    otlp.refuse(true).unwrap();
    world.daemon.kill();
    world.daemon.restart().unwrap();
    read(&world, 3);
    // Only a daemon that saw one refuse says that it goes on.
    wait_until("it is said that one refuses", 60, || {
        let all = world.daemon.status()?["forwards"].as_array().unwrap().clone();
        Ok(all.iter().any(|one| one["name"] == "otlp" && !one["error"].is_null()))
    })
    .unwrap();
    otlp.refuse(false).unwrap();
    let due = all_taken(&world);

    holds_all(&world, &seqs_of_syslog(&plain.took()), due);
    holds_all(&world, &seqs_of_syslog(&sealed.took()), due);
    holds_all(&world, &seqs_of_otlp(&otlp), due);
    holds_all(&world, &seqs_of_file(&file), due);
    assert!(fs::metadata(folder.path().join("rows.jsonl.1")).is_ok(), "it was set aside");
    // What they got is what policy lets be seen, and no recording.
    let ssn = world.bank.sql("SELECT ssn FROM customers WHERE id = 101").unwrap();
    assert!(!plain.took().contains(ssn.trim()));
    let record =
        otlp.took().unwrap().into_iter().find(|record| record["table"] == "events").unwrap();
    assert_eq!(record["whence"]["service.name"], "vestibule");
    assert!(record["time_ns"].as_u64() > Some(0) && record["severity"] == 9, "{record}");
    let body: Value = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["seq"], record["seq"]);
    let told = world.evidence().unwrap();
    let told =
        told.query("SELECT kind FROM control WHERE kind LIKE 'forward.%' ORDER BY seq").unwrap();
    let kinds: BTreeSet<_> = told.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["forward.failing", "forward.resumed"]);
}

#[test]
fn a_receiver_that_is_another_is_sent_nothing() {
    let (ours, theirs) = ("DNS:localhost", "DNS:elsewhere.example");
    let (ours, theirs) = (Certificates::make(ours).unwrap(), Certificates::make(theirs).unwrap());
    let receiver = Rsyslog::start(Some(&theirs)).unwrap();
    let rules = format!(
        "[[forward]]\nname = \"tls\"\nto = \"syslog+tls://localhost:{}\"\nca = \"{}\"\nfrom_the_beginning = true\n",
        receiver.port(),
        ours.path("bank.crt").display()
    );
    let world = World::start_with(&rules).unwrap();
    read(&world, 1);
    wait_until("it is said", 30, || {
        let all = world.daemon.status()?["forwards"].as_array().unwrap().clone();
        Ok(all[0]["error"].as_str().is_some_and(|why| why.contains("speaking TLS")))
    })
    .unwrap();
    assert_eq!(forwards(&world)[0]["next_row"], 0);
    assert_eq!(receiver.took(), "");
}
