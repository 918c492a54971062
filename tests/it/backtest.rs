//! Policies on what agents did: `vestibule policy backtest` over a real archive.

use std::path::{Path, PathBuf};

use integration::World;
use integration::process::run;
use integration::world::{READER, WRITER};
use serde_json::Value;

fn eventful() -> World {
    let world = World::start().unwrap();
    let statements = "SELECT id, full_name FROM customers WHERE id = 101;
        SELECT ssn, email FROM customers WHERE id = 102;
        SELECT count(*) FROM transfers;
        SELECT count(*) FROM transfers;
        DROP TABLE customers;
        EXPLAIN SELECT id FROM customers;";
    world.reader().psql_script(statements).unwrap();
    let note = "INSERT INTO case_notes (body) VALUES ('seen')";
    world.writer().psql(note).unwrap().ok().unwrap();
    world.evidence().unwrap();
    world
}

fn in_force(world: &World) -> PathBuf {
    world.daemon.directory().join("policies")
}

fn backtest(world: &World, policies: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let mut backtest = world.daemon.cli();
    backtest.args(["policy", "backtest", "--output", "json", "--archive"]);
    backtest.arg(world.daemon.archive()).args(more).arg(policies);
    let output = run(&mut backtest, 60).unwrap();
    let said = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.code, said)
}

/// The policies in force, with one file more, in a folder of its own.
fn changed(world: &World, name: &str, text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(in_force(world)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    std::fs::write(folder.path().join(name), text).unwrap();
    folder
}

#[test]
fn the_policies_in_force_decide_what_was_as_they_did() {
    let world = eventful();
    let (code, said) = backtest(&world, &in_force(&world), &["--check"]);
    assert_eq!(code, Some(0), "{said:#}");
    assert_eq!(said["changes"], Value::Array(Vec::new()), "{said:#}");
    // Every command, the two sessions' openings among them.
    assert_eq!(said["commands"], 9, "{said:#}");
    assert_eq!(said["under_same_policies"], said["commands"]);
    assert_eq!((&said["of_those_otherwise"], &said["more"]), (&0.into(), &0.into()));
    assert_eq!(said["not_decided"], serde_json::json!({}), "{said:#}");
}

#[test]
fn what_other_policies_would_refuse_hold_or_show_is_told() {
    let world = eventful();
    let stricter = "
@id(\"no-transfers\")
forbid (principal, action == Action::\"select\", resource)
when { resource is Table && resource.name == \"transfers\" };
@id(\"notes-are-seen\") @approve(\"groups=supervisors, people=1\")
forbid (principal, action == Action::\"insert\", resource);
";
    let folder = changed(&world, "stricter.cedar", stricter);
    let (code, said) = backtest(&world, folder.path(), &["--check"]);
    assert_eq!(code, Some(1), "{said:#}");
    assert_eq!(said["agents"][READER]["now_refused"], 2, "{said:#}");
    assert_eq!(said["agents"][WRITER]["now_held"], 1, "{said:#}");
    assert_eq!(said["under_same_policies"], 0);
    let changes = said["changes"].as_array().unwrap();
    assert_eq!(changes[0]["commands"], 2, "{said:#}");
    assert_eq!(changes[0]["rule"], "no-transfers");
    assert_eq!(changes[0]["statement"], "SELECT count(*) FROM transfers;");
    assert_eq!((&changes[1]["was"], &changes[1]["now"]), (&"allowed".into(), &"held".into()));
    // One agent alone.
    let (code, said) = backtest(&world, folder.path(), &["--check", "--agent", WRITER]);
    assert_eq!((code, said["agents"].as_object().unwrap().len()), (Some(1), 1), "{said:#}");
}

#[test]
fn what_other_masks_would_show_or_hide_is_told() {
    let world = eventful();
    // Names were nothing to hide, and e-mail addresses will be shown.
    let policies = std::fs::read_to_string(in_force(&world).join("classification.toml")).unwrap();
    let names = "\n[[class]]\nname = \"full_name\"\ncolumns = [\"customers.full_name\"]\n";
    let folder = changed(&world, "classification.toml", &(policies + names));
    let masks = folder.path().join("masks.cedar");
    let rule = "resource == DataClass::\"email\");";
    let but_for =
        format!("{} unless {{ principal == Agent::\"{READER}\" }};", &rule[..rule.len() - 1]);
    let text = std::fs::read_to_string(&masks).unwrap();
    assert!(text.contains(rule));
    std::fs::write(&masks, text.replace(rule, &but_for)).unwrap();
    let (code, said) = backtest(&world, folder.path(), &["--check"]);
    assert_eq!(code, Some(0), "{said:#}");
    assert_eq!(
        (&said["agents"][READER]["more_masked"], &said["agents"][READER]["less_masked"]),
        (&1.into(), &1.into()),
        "{said:#}"
    );
    let changes = said["changes"].as_array().unwrap();
    let of = |part: &str| {
        changes.iter().find(|one| one["statement"].as_str().unwrap().contains(part)).unwrap()
    };
    assert_eq!(of("full_name")["more_masked"], serde_json::json!(["full_name"]));
    assert_eq!(of("ssn")["less_masked"], serde_json::json!(["email"]));
}

/// What goes past vestibule is decided as if it had not: a capture of it, by a map.
#[test]
fn what_a_capture_holds_is_decided_per_agent() {
    let world = World::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (capture, map) = (folder.path().join("a.pcap"), folder.path().join("map.toml"));
    let said = format!(
        "[[agent]]\nname = \"{READER}\"\naddresses = [\"127.0.0.1\"]\n\n[[target]]\nname = \"bank\"\naddresses = [\"127.0.0.1:{}\"]\n",
        world.bank.port()
    );
    std::fs::write(&map, said).unwrap();
    crate::imported::captured(&world.bank, &capture, &[], || {
        world.bank.sql("SELECT count(*) FROM transfers").unwrap();
        world.bank.sql("SELECT ssn FROM customers WHERE id = 7").unwrap();
        world.bank.sql("UPDATE customers SET full_name = full_name WHERE id = 7").unwrap();
    });
    let run_with = |more: &[&str]| {
        let mut backtest = world.daemon.cli();
        backtest
            .args(["policy", "backtest", "--output", "json", "--check", "--capture"])
            .arg(&capture);
        let output = run(backtest.args(more).arg(in_force(&world)), 60).unwrap();
        let said: Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.code, said)
    };
    let (code, said) = run_with(&["--map", map.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{said:#}");
    let tally = &said["agents"][READER];
    // Four sessions with a statement each.
    assert_eq!(tally["commands"], 8, "{said:#}");
    assert_eq!(tally["more_masked"], 1, "{said:#}");
    let changes = said["changes"].as_array().unwrap();
    let of =
        |part: &str| changes.iter().find(|one| one["statement"].as_str().unwrap().contains(part));
    assert_eq!(of("ssn").unwrap()["more_masked"], serde_json::json!(["us_ssn"]), "{said:#}");
    assert_eq!(of("UPDATE").unwrap()["now"], "refused", "{said:#}");
    assert!(of("transfers").is_none(), "{said:#}");
    // Without a map it is nobody's, and decided so.
    let (_, said) = run_with(&["--agent", "unmapped"]);
    assert_eq!(said["agents"]["unmapped"]["now_refused"], 1, "{said:#}");
}
