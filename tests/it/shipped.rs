//! A daemon that ships its archive: to a store that comes and goes, and has something in the way.

use std::fs;
use std::path::Path;
use std::process::Command;

use integration::process::{run, wait_until};
use integration::{Moto, World, paths};
use serde_json::Value;

fn seal(world: &World) {
    run(world.daemon.cli().args(["archive", "seal"]), 60).unwrap().ok().unwrap();
}

fn standing(world: &World) -> Value {
    world.daemon.status().unwrap()["ship"].clone()
}

#[track_caller]
fn shipped(world: &World) {
    let is_shipped = || {
        let now = standing(world);
        let is_all = now["rows_behind"] == 0 && now["error"].is_null();
        Ok(is_all && now["size"].as_u64().is_some_and(|size| size > 0))
    };
    if let Err(error) = wait_until("all is shipped", 60, is_shipped) {
        panic!("{error}: {}", standing(world));
    }
}

#[test]
fn a_daemon_ships_what_it_seals_through_a_store_that_comes_and_goes() {
    let moto = Moto::start().unwrap();
    moto.bucket("evidence", true).unwrap();
    let way = moto.flaky(0).unwrap();
    let credentials = moto.credentials().unwrap();
    let configuration = format!(
        "[archive.ship]\nurl = \"s3://evidence/site-a\"\nendpoint = \"{}\"\ncredentials = \"{}\"\n\
         [archive.ship.lock]\nmode = \"governance\"\n",
        way.endpoint(),
        credentials.display()
    );
    let world = World::start_with(&configuration).unwrap();
    world.reader().psql("SELECT id FROM customers WHERE id = 101").unwrap().ok().unwrap();
    seal(&world);
    shipped(&world);
    // The store goes away: nothing waits for it, what is behind is said, and it catches up.
    way.down(true);
    world.reader().psql("SELECT id FROM customers WHERE id = 102").unwrap().ok().unwrap();
    seal(&world);
    wait_until("it is missed", 60, || {
        let now = standing(&world);
        let is_behind = now["rows_behind"].as_u64().is_some_and(|rows| rows > 0);
        Ok(now["error"].is_string() && is_behind && now["oldest_us"].is_i64())
    })
    .unwrap();
    way.down(false);
    wait_until("it is back", 90, || Ok(standing(&world)["error"].is_null())).unwrap();
    shipped(&world);
    brought_back(&moto, &credentials);
    // Something lies where the newest checkpoint goes: it stays, and that is recorded.
    let node = world.daemon.status().unwrap()["node"].as_str().unwrap().to_owned();
    let key = format!("site-a/std7y/v1/log/vestibule/node/{node}/1/checkpoint");
    moto.boto(&format!("c.put_object(Bucket='evidence', Key='{key}', Body=b'foreign')")).unwrap();
    seal(&world);
    wait_until("the conflict is said", 60, || {
        Ok(standing(&world)["error"]
            .as_str()
            .is_some_and(|why| why.contains("nothing was overwritten")))
    })
    .unwrap();
    let there =
        moto.boto(&format!("print(c.get_object(Bucket='evidence', Key='{key}')['Body'].read())"));
    assert_eq!(there.unwrap().trim(), "b'foreign'");
    recorded(&world, &credentials);
    asked(&world);
}

/// What is brought back is what is here, and verifies.
fn brought_back(moto: &Moto, credentials: &Path) {
    let to = tempfile::tempdir().unwrap();
    let command = |name: &str| {
        let mut command = Command::new(paths::programs().unwrap().join("vestibule"));
        command.args([
            "archive",
            name,
            "--from",
            "s3://evidence/site-a",
            "--endpoint",
            &moto.endpoint(),
        ]);
        command.arg("--credentials").arg(credentials);
        command
    };
    let copy = to.path().join("copy");
    run(command("fetch").arg("--to").arg(&copy), 60).unwrap().ok().unwrap();
    let verify = paths::programs().unwrap().join("vestibule-verify");
    let verified = run(Command::new(&verify).arg("--archive").arg(&copy), 60).unwrap();
    assert_eq!(verified.code, Some(0), "{}", verified.stdout);
    let checked =
        run(command("remote-check").args(["--read", "--lock", "governance"]), 60).unwrap();
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
}

/// The copies are evidence for controls.
fn asked(world: &World) {
    let evidence = world.evidence().unwrap();
    let copies = evidence.ask("copies", &[]).unwrap();
    let of = |kind: &str| copies.iter().find(|row| row["kind"] == kind);
    let detail = of("ship.shipped").unwrap()["detail"].as_str().unwrap();
    assert!(detail.contains("\"lock\":\"GOVERNANCE\""), "{detail}");
    assert!(of("ship.conflict").is_some(), "{copies:?}");
    let mut report = world.daemon.cli();
    report.args(["report", "--controls", "--json", "--duckdb"]).arg(paths::duckdb());
    let told = run(report.arg("--archive").arg(evidence.archive()), 120).unwrap();
    let said: Value = serde_json::from_str(&told.stdout).unwrap();
    let controls = said["controls"].as_array().unwrap();
    let stands = |id: &str| &controls.iter().find(|one| one["id"] == id).unwrap()["standing"];
    assert_eq!(
        (stands("pci-10.3"), stands("sec-17a-4-f-2-i-b")),
        (&"information".into(), &"in_part".into())
    );
}

/// Each thing once, and no secret.
fn recorded(world: &World, credentials: &Path) {
    let evidence = world.evidence().unwrap();
    let kinds = evidence.duckdb("SELECT kind, count(*) AS n FROM control GROUP BY kind").unwrap();
    let count =
        |kind: &str| kinds.iter().find(|row| row["kind"] == kind).map(|row| row["n"].clone());
    for kind in ["ship.shipped", "ship.failed", "ship.resumed", "ship.conflict"] {
        assert!(count(kind).is_some(), "{kind}: {kinds:?}");
    }
    assert_eq!(count("ship.failed"), Some(1.into()), "each reason once");
    let secret = "secret-of-a-store-that-is-gone-soon";
    let log = world.daemon.log();
    let details = evidence.duckdb("SELECT detail FROM control").unwrap();
    assert!(fs::read_to_string(credentials).unwrap().contains(secret));
    assert!(!log.contains(secret) && !format!("{details:?}").contains(secret));
}
