//! Segments of the journal go once their rows are safe elsewhere, by a sealed record; what goes by a hand is found.

use std::fs;
use std::path::PathBuf;

use integration::process::{run, wait_until};
use integration::{Rsyslog, World};
use serde_json::Value;

fn segments(world: &World) -> Vec<PathBuf> {
    let all = fs::read_dir(world.daemon.journal()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> =
        all.filter(|path| path.extension().is_some_and(|end| end == "vjl")).collect();
    all.sort();
    all
}

/// Has agents read until there are so many segments.
fn fill(world: &World, many: usize) {
    let mut reads = 0;
    while segments(world).len() < many {
        world.read().unwrap();
        reads += 1;
        assert!(reads < 500, "{:?}", segments(world));
    }
}

fn prune(world: &World, arguments: &[&str]) -> Value {
    let mut cli = world.daemon.cli();
    cli.args(["archive", "prune-journal", "--output", "json"]).args(arguments);
    let said = run(&mut cli, 120).unwrap().ok().unwrap();
    serde_json::from_str(&said).unwrap()
}

fn seal(world: &World) {
    run(world.daemon.cli().args(["archive", "seal"]), 60).unwrap().ok().unwrap();
}

fn verified(world: &World) -> String {
    run(&mut world.daemon.verifier(), 120).unwrap().ok().unwrap()
}

#[test]
fn what_is_safe_elsewhere_goes_by_a_record_and_what_goes_by_a_hand_is_found() {
    let mut receiver = Rsyslog::start(None).unwrap();
    let rules = format!(
        "[journal]\nreserve_bytes = 0\nsegment_bytes = 16384\nprune = \"sealed\"\nkeep_days = 0\n\
         [[forward]]\nname = \"siem\"\nto = \"syslog+tcp://127.0.0.1:{}\"\nfrom_the_beginning = true\n",
        receiver.port()
    );
    let mut world = World::start_with(&rules).unwrap();
    fill(&world, 6);
    let all = segments(&world);
    let first = fs::read(&all[0]).unwrap();
    // Nothing goes that is in no archive.
    let said = prune(&world, &[]);
    assert_eq!((&said["segments"], &said["first_row"]), (&0.into(), &0.into()), "{said}");
    assert_eq!(segments(&world)[..all.len()], all);

    // Nor what a receiver has not taken.
    receiver.kill();
    fill(&world, all.len() + 3);
    seal(&world);
    let held = prune(&world, &["--dry-run"]);
    let siem = held["limits"].as_array().unwrap().iter().find_map(|limit| {
        limit
            .as_str()
            .unwrap()
            .strip_prefix("forwarded to `siem`: rows before ")?
            .parse::<u64>()
            .ok()
    });
    let siem = siem.expect("it is said how far the receiver is");
    assert!(held["first_row"].as_u64().unwrap() <= siem, "{held}");
    receiver.restart().unwrap();
    let sealed = || {
        let status = world.daemon.status()?;
        let forward = &status["forwards"][0];
        Ok(forward["next_row"].as_u64() > Some(siem) && forward["rows_behind"] == 0)
    };
    wait_until("the receiver took all", 60, sealed).unwrap();

    // First it is said, then done; the archive knows, and the rest reads as before.
    let due = prune(&world, &["--dry-run"]);
    assert!(due["segments"].as_u64().unwrap() >= 6, "{due}");
    assert_eq!(segments(&world)[0], all[0]);
    assert!(!verified(&world).contains("let go of what was before"));
    let gone = prune(&world, &[]);
    assert_eq!((&gone["segments"], &gone["first_row"]), (&due["segments"], &due["first_row"]));
    assert!(segments(&world)[0] > all[5]);
    let status = world.daemon.status().unwrap();
    assert_eq!(status["journal"]["first_row"], gone["first_row"], "{status}");
    assert!(verified(&world).contains("the node let go of what was before, and recorded that"));
    let evidence = world.evidence().unwrap();
    let record = evidence.query("SELECT detail FROM control WHERE kind = 'log.pruned'").unwrap();
    let [record] = record.as_slice() else { panic!("{record:?}") };
    let detail: Value = serde_json::from_str(record["detail"].as_str().unwrap()).unwrap();
    assert_eq!((&detail["first_seq"], &detail["rule"]), (&gone["first_row"], &"sealed".into()));

    // It starts again and goes on; what a crash had left of them is passed over, and goes.
    world.daemon.kill();
    fs::write(&all[0], &first).unwrap();
    world.daemon.restart().unwrap();
    world.read().unwrap();
    seal(&world);
    verified(&world);
    prune(&world, &[]);
    assert!(!all[0].exists());
    verified(&world);

    what_nobody_let_go_is_found(&mut world);
    world.read().unwrap();
    seal(&world);
    verified(&world);
}

/// It does not start, and the verifier says so; put back, it starts.
fn what_nobody_let_go_is_found(world: &mut World) {
    fill(world, 4);
    world.daemon.stop().unwrap();
    let next = segments(world).remove(0);
    let bytes = fs::read(&next).unwrap();
    fs::remove_file(&next).unwrap();
    let refused = world.daemon.another().unwrap();
    assert!(refused.stderr.contains("are missing before it"), "{refused:?}");
    let found = run(&mut world.daemon.verifier(), 120).unwrap();
    assert_eq!(found.code, Some(14), "{found:?}");
    assert!(found.stdout.contains("no record says that what was before was let go"), "{found:?}");
    fs::write(&next, bytes).unwrap();
    world.daemon.restart().unwrap();
}
