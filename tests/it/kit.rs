//! The newcomer's test: from an evidence kit alone, with only Python and DuckDB.

use std::path::Path;
use std::process::Command;

use integration::process::{Output, run};
use integration::{World, paths};

/// Runs a program of the kit, with nothing of ours at hand.
fn python(kit: &Path, program: &str) -> Output {
    let mut python = Command::new(paths::python());
    python.env_clear().args(["-I", "-B"]).arg(kit.join(program)).current_dir("/");
    run(&mut python, 60).unwrap()
}

#[test]
fn a_newcomer_checks_a_kit_with_python_and_duckdb_alone() {
    let world = World::start().unwrap();
    let script = "SELECT full_name, ssn FROM customers WHERE id = 102;\nSELECT count(*) FROM transfers;\n\
                  SELECT nothing FROM nowhere;\nDROP TABLE customers;\n";
    world.reader().psql_script(script).unwrap();
    world.reader().psql("SELECT 1").unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    let found = evidence.query("SELECT session_id FROM events WHERE verb = 'DROP TABLE'").unwrap();
    let session = found[0]["session_id"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kit = folder.path().join("kit");
    let mut export = world.daemon.cli();
    export.args(["archive", "export", "kit", "--session", session, "--out"]).arg(&kit);
    let said = run(export.arg("--archive").arg(evidence.archive()), 60).unwrap().ok().unwrap();
    assert!(said.contains("5 events"), "{said}");
    let verified = python(&kit, "verify.py");
    assert_eq!(verified.code, Some(0), "{} {}", verified.stdout, verified.stderr);
    let checked = python(&kit, "check.py");
    assert_eq!(checked.code, Some(0), "{} {}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("14 numbers and 5 lines"), "{}", checked.stdout);
    // What a reader sees is what was masked for the agent.
    let raw = world.bank.sql("SELECT ssn FROM customers WHERE id = 102").unwrap();
    for path in ["report.html", "rows/events.jsonl", "rows/recordings.jsonl", "rows/control.jsonl"]
    {
        let text = std::fs::read_to_string(kit.join(path)).unwrap();
        assert!(!text.contains(raw.trim()), "{path}");
    }
    // The daemon said so before it signed, and signs nothing else.
    let later = world.evidence().unwrap();
    let signed = "SELECT detail FROM control WHERE kind = 'archive.attested'";
    let rows = later.duckdb(signed).unwrap();
    let manifest = std::fs::read(kit.join("manifest.json")).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0]["detail"].as_str().unwrap().contains(&sha256(&manifest)), "{rows:?}");
    // A report that says something else than the rows does not get through.
    let report = std::fs::read_to_string(kit.join("report.html")).unwrap();
    let other = report.replacen(
        "data-claim=\"refused\" value=\"1\"",
        "data-claim=\"refused\" value=\"0\"",
        1,
    );
    assert_ne!(report, other);
    std::fs::write(kit.join("report.html"), other).unwrap();
    let checked = python(&kit, "check.py");
    assert!(checked.stdout.contains("WRONG: verify.py, refused"), "{}", checked.stdout);
    let again = run(export.env("NOTHING", ""), 60).unwrap();
    assert!(again.code != Some(0) && again.stderr.contains("is there already"), "{}", again.stderr);
}

fn sha256(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bytes");
    std::fs::write(&file, bytes).unwrap();
    let said = run(Command::new("sha256sum").arg(&file), 10).unwrap().ok().unwrap();
    said.split(' ').next().unwrap().to_owned()
}
