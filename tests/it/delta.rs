//! Delta logs that the daemon keeps up: read with deltalake, beside DuckDB on the plain files.

use std::path::Path;
use std::process::Command;

use integration::process::run;
use integration::{World, paths};

/// What deltalake finds by the logs, which is what DuckDB finds in the files.
fn same(archive: &Path) -> String {
    let mut python = Command::new(paths::python());
    python.arg(paths::root().join("tests/conformance/delta.py")).arg(archive);
    run(&mut python, 60).unwrap().ok().unwrap()
}

fn archive(world: &World, arguments: &[&str]) -> String {
    let mut archive = world.daemon.cli();
    run(archive.arg("archive").args(arguments), 60).unwrap().ok().unwrap()
}

fn delta(world: &World, arguments: &[&str]) -> String {
    let mut delta = world.daemon.cli();
    delta.args(["archive", "delta", "--archive"]).arg(world.daemon.archive()).args(arguments);
    run(&mut delta, 60).unwrap().ok().unwrap()
}

fn sound(world: &World) {
    let found = run(&mut world.daemon.verifier(), 60).unwrap();
    assert!(found.code == Some(0) && !found.stdout.contains("Delta"), "{}", found.stdout);
}

#[test]
fn delta_logs_that_the_daemon_keeps_up_say_what_lies_there() {
    let mut world = World::start_with("[archive]\ndelta = true\n").unwrap();
    let folder = world.daemon.archive();
    for (version, files) in [(0, 1), (1, 2)] {
        world.read().unwrap();
        archive(&world, &["seal"]);
        let expected = format!("events     version {version}, {files} files");
        let said = same(&folder);
        assert!(said.contains(&expected), "{said}");
        sound(&world);
    }
    archive(&world, &["compact", "--before", "9999-12-31"]);
    let said = same(&folder);
    assert!(said.contains("events     version 2, 1 files"), "{said}");
    sound(&world);
    // By hand there is nothing to do; anew it has one commit.
    let said = delta(&world, &[]);
    assert!(said.contains("events: 1 files at version 2, as it was"), "{said}");
    let said = delta(&world, &["--rebuild"]);
    assert!(said.contains("events: 1 files at version 0, brought up"), "{said}");
    same(&folder);
    assert!(delta(&world, &["--remove"]).contains("4 logs are gone"));
    sound(&world);
    world.read().unwrap();
    archive(&world, &["seal"]);
    same(&folder);
    world.daemon.stop().unwrap();
}

#[test]
fn a_delta_log_made_by_hand_is_kept_up() {
    let world = World::start().unwrap();
    let log = world.daemon.archive().join("std7y/v1/table=events/_delta_log");
    world.read().unwrap();
    archive(&world, &["seal"]);
    assert!(!log.exists(), "nobody asked for it");
    delta(&world, &[]);
    world.read().unwrap();
    archive(&world, &["seal"]);
    let said = same(&world.daemon.archive());
    assert!(said.contains("events     version 1, 2 files"), "{said}");
    sound(&world);
}
