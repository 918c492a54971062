//! The report on controls: each of its questions is asked of a real archive, it is signed, and says no more than it can.

use std::path::Path;

use integration::process::{Output, run};
use integration::{World, paths};
use serde_json::Value;

fn report(world: &World, archive: &Path, more: &[&str]) -> Output {
    let mut report = world.daemon.cli();
    report.args(["report", "--duckdb"]).arg(paths::duckdb()).arg("--archive").arg(archive);
    run(report.args(more), 120).unwrap()
}

fn stands<'r>(report: &'r Value, id: &str) -> &'r str {
    let controls = report["controls"].as_array().unwrap();
    controls.iter().find(|one| one["id"] == id).unwrap()["standing"].as_str().unwrap()
}

#[test]
fn controls_are_reported_signed_and_none_is_met_that_is_not_shown() {
    let world = World::start().unwrap();
    world
        .reader()
        .psql("SELECT full_name, ssn FROM customers WHERE id = 102")
        .unwrap()
        .ok()
        .unwrap();
    world.reader().psql("DROP TABLE customers").unwrap();
    let evidence = world.evidence().unwrap();
    let archive = evidence.archive();
    let asked = report(&world, archive, &["--controls", "--json"]);
    let said: Value =
        serde_json::from_str(&asked.stdout).unwrap_or_else(|_| panic!("{}", asked.stderr));
    assert!(said["controls"].as_array().unwrap().len() >= 30);
    assert_eq!(said["verified"]["ok"], true);
    // Nobody was asked for approval here, no person logged in, and no store is locked.
    assert_eq!(stands(&said, "ffiec-is-ii.c.7"), "not_shown");
    assert_eq!(stands(&said, "sec-17a-4-f-2-i-b"), "not_shown");
    assert_eq!(stands(&said, "reg-s-p-glba-disposal"), "not_shown");
    assert_eq!(stands(&said, "pci-10.3"), "not_shown");
    // The periods in force are recorded, and people say whether they are right.
    assert_eq!(stands(&said, "pci-10.5.1"), "in_part");
    let periods = said["questions"]["retention"]["first"][0]["detail"].as_str().unwrap();
    assert!(periods.contains("\"payload13m_days\":397"), "{periods}");
    assert_eq!(stands(&said, "ffiec-authentication-2021"), "look_into");
    assert_eq!(stands(&said, "pci-10.2.2"), "met");
    assert_eq!(stands(&said, "sec-17a-4-f-2-ii"), "in_part");
    assert_eq!(stands(&said, "sec-17a-4-f-2-i-a"), "information");
    assert_eq!(stands(&said, "pci-10.2.1.4"), "information");
    assert_eq!(asked.code, Some(1));
    let masked = &said["questions"]["masked"]["first"][0];
    assert_eq!((masked["entity"].as_str(), masked["people"].is_null()), (Some("us_ssn"), false));
    let folder = tempfile::tempdir().unwrap();
    let (page, kept) = (folder.path().join("report.html"), world.daemon.archive());
    let out = page.to_str().unwrap();
    let made = report(&world, archive, &["--controls", "--out", out]);
    assert!(made.stdout.contains("not shown"), "{} {}", made.stdout, made.stderr);
    let text = std::fs::read_to_string(&page).unwrap();
    for outside in ["http://", "https://", "src=", "<script", "url("] {
        assert!(!text.contains(outside), "{outside}");
    }
    let key = std::fs::read_dir(kept.parent().unwrap().join("keys")).unwrap().flatten();
    let key = key.map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "vkey")).unwrap();
    let check = ["--check", out, "--key", key.to_str().unwrap()];
    let checked = report(&world, archive, &check);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let signed = "SELECT detail FROM control WHERE kind = 'archive.attested'";
    let rows = world.evidence().unwrap().duckdb(signed).unwrap();
    assert!(rows.len() == 1 && rows[0]["detail"].as_str().unwrap().contains("controls-report"));
    std::fs::write(&page, text.replacen("not shown", "as expected", 1)).unwrap();
    assert_ne!(report(&world, archive, &check).code, Some(0));
    // An archive that does not verify meets nothing that rests on it, and by days before there was anything nothing is shown.
    let copy = evidence.copy_to(&folder.path().join("copy")).unwrap();
    std::fs::remove_file(copy.archive().join("std7y/v1/README-AUDITOR.md")).unwrap();
    let asked = report(&world, copy.archive(), &["--controls", "--json"]);
    let said: Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!((stands(&said, "pci-10.3"), asked.code), ("look_into", Some(1)));
    let before = report(&world, archive, &["--controls", "--json", "--until", "2020-01-01"]);
    let said: Value = serde_json::from_str(&before.stdout).unwrap();
    assert_eq!(said["questions"]["masked"]["rows"], 0, "{said}");
    assert_eq!(stands(&said, "pci-10.2.2"), "not_shown");
    assert_eq!(
        report(&world, archive, &["--controls", "--json", "--since", "x' OR 1"]).code,
        Some(2)
    );
}
