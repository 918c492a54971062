//! A server's own trail against the archive: `vestibule reconcile` on what pgaudit wrote of a real server.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use integration::postgres::{AUDITED, SUPERUSER};
use integration::process::{Output, run, wait_until};
use integration::world::WRITER_POLICY;
use integration::{Daemon, Postgres, World, bank};
use serde_json::Value;

/// A bank whose server keeps a trail; statements of agents are refused, asked for in every way, and rolled back.
fn audited() -> World {
    let bank = Postgres::with_settings(&AUDITED).unwrap();
    let daemon = Daemon::start(bank.port(), 2, &[WRITER_POLICY]).unwrap();
    World { daemon, bank }
}

const SCRIPT: &str = "
SELECT id, full_name FROM customers WHERE id = 101;
SELECT 1\\; SELECT count(*) FROM transfers\\; SELECT ssn FROM customers WHERE id = 102;
BEGIN; SELECT count(*) FROM cards; COMMIT;
PREPARE one(bigint) AS SELECT id FROM customers WHERE id = $1; EXECUTE one(1); EXECUTE one(2); DEALLOCATE one;
PREPARE one(bigint) AS SELECT id FROM customers WHERE id = $1; EXECUTE one(3);
BEGIN; DECLARE c CURSOR FOR SELECT id FROM customers ORDER BY id; FETCH 2 FROM c; FETCH 3 FROM c; COMMIT;
EXPLAIN SELECT id FROM customers;
DROP TABLE customers;
SELECT nothing FROM nowhere;
COPY (SELECT id FROM cards ORDER BY id LIMIT 3) TO STDOUT;
SET application_name = 'an agent of its own';
SELECT 'it''s \"quoted\"
over lines', id FROM customers WHERE id = 7;
";

const DRIVEN: &str = "
import psycopg
with psycopg.connect('', autocommit=True) as c:
    for at in range(30):
        c.execute('SELECT id FROM customers WHERE id = %s', (at,)).fetchall()
    with c.pipeline():
        for at in range(10):
            c.execute('SELECT count(*) FROM transfers WHERE id > %s', (at,))
    c.execute('SELECT id FROM customers WHERE id IN (%s, %s)', (1, 2), prepare=True).fetchall()
";

fn eventful(world: &World) {
    world.reader().psql_script(SCRIPT).unwrap();
    world.reader().python(DRIVEN).unwrap().ok().unwrap();
    let note = "INSERT INTO case_notes (body) VALUES ('seen')";
    world.writer().psql(note).unwrap().ok().unwrap();
}

/// Compares, once the server's collector has written that all sessions ended.
fn reconcile(world: &World, logs: &[PathBuf], more: &[&str]) -> (Output, Value) {
    let mut reconcile = world.daemon.cli();
    reconcile.args(["reconcile", "--output", "json", "--archive"]).arg(world.daemon.archive());
    let output = run(reconcile.args(more).args(logs), 60).unwrap();
    let said = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output, said)
}

fn settled(world: &World, sessions: usize) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let ended = |path: &Path| {
        std::fs::read_to_string(path).map(|text| text.matches("disconnection: ").count())
    };
    wait_until("the collector has written all", 30, || {
        let logs = world.bank.collected("json")?;
        let mut all = 0;
        for log in &logs {
            all += ended(log)?;
        }
        Ok(all >= sessions)
    })
    .unwrap();
    let forms = ["csv", "json"].map(|form| world.bank.collected(form).unwrap());
    let [csv, json] = forms;
    (csv, json)
}

fn kinds(said: &Value) -> Vec<&str> {
    let findings = said["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["kind"].as_str().unwrap()).collect()
}

#[test]
fn what_the_server_ran_is_what_is_recorded() {
    let world = audited();
    eventful(&world);
    let (csv, json) = settled(&world, 3);
    world.evidence().unwrap();
    let (output, said) = reconcile(&world, &csv, &["--complete", "--target", "bank"]);
    assert_eq!(kinds(&said), Vec::<&str>::new(), "{said:#}");
    assert_eq!(output.code, Some(0));
    assert_eq!(said["sessions"], 3, "{said:#}");
    // 30 + 10 + 1 of the driver, and the script's.
    assert!(said["recorded"].as_u64().unwrap() >= 60, "{said:#}");
    assert_eq!((&said["later"], &said["under_way"]), (&0.into(), &0.into()), "{said:#}");
    let (_, same) = reconcile(&world, &json, &["--complete", "--target", "bank"]);
    assert_eq!(same["recorded"], said["recorded"]);
    assert_eq!(same["findings"], said["findings"]);
}

#[test]
fn what_ran_beside_the_record_is_told() {
    let world = audited();
    eventful(&world);
    // Somebody with an agent's account, past vestibule; and one who writes the mark of a session that was.
    let past = |name: &str, sql: &str| {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-c", sql]).env("PGPASSWORD", bank::PASSWORD);
        psql.env("PGHOST", "127.0.0.1").env("PGPORT", world.bank.port().to_string());
        psql.env("PGUSER", bank::ROLE).env("PGDATABASE", bank::DATABASE).env("PGAPPNAME", name);
        run(&mut psql, 30).unwrap().ok().unwrap();
    };
    past("", "SELECT ssn FROM customers WHERE id = 1");
    let evidence = world.evidence().unwrap();
    let rows =
        evidence.query("SELECT session_id FROM sessions ORDER BY opened_at LIMIT 1").unwrap();
    let known = rows[0]["session_id"].as_str().unwrap().to_owned();
    past(&format!("vestibule/{known}"), "SELECT card_number FROM cards WHERE id = 2");
    past(&format!("vestibule/{known}"), "DROP TABLE IF EXISTS customers_no_more");
    past("vestibule/019e2f8a-0000-7000-8000-00000000000f", "SELECT 2");
    // Of an account that no agent has: nobody's business.
    world.bank.sql("SELECT count(*) FROM customers").unwrap();
    let (csv, _) = settled(&world, 8);
    world.evidence().unwrap();
    let (output, said) = reconcile(&world, &csv, &[]);
    assert_eq!(output.code, Some(1));
    let mut found = kinds(&said);
    found.sort_unstable();
    assert_eq!(found, ["unknown_session", "unrecorded", "unrecorded", "went_round"], "{said:#}");
    assert!(said["of_others"].as_u64().unwrap() >= 1, "{said:#}");
    let text = said.to_string();
    assert!(text.contains("SELECT card_number FROM cards WHERE id = $1"), "{text}");
    let in_words = |logs: &[PathBuf]| {
        let mut reconcile = world.daemon.cli();
        reconcile.arg("reconcile").arg("--archive").arg(world.daemon.archive());
        run(reconcile.args(logs), 60).unwrap()
    };
    let told = in_words(&csv);
    assert!(told.stdout.contains("an agents' account came past vestibule"), "{told:?}");
    // A log without pgaudit is no agreement.
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.csv");
    std::fs::File::create(&empty).unwrap().write_all(b"").unwrap();
    let refused = in_words(&[empty]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("pgaudit.log = 'all'"), "{refused:?}");
}

#[test]
fn what_was_refused_and_ran_is_told_and_so_is_what_left_no_trace() {
    let world = audited();
    world.reader().psql("DROP TABLE cards").unwrap();
    world.reader().psql("SELECT id FROM customers WHERE id = 5").unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    let refused = "SELECT session_id FROM events WHERE verb = 'DROP TABLE'";
    let session = evidence.query(refused).unwrap()[0]["session_id"].as_str().unwrap().to_owned();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-c", "DROP TABLE cards"]).env("PGPASSWORD", bank::PASSWORD);
    psql.env("PGHOST", "127.0.0.1").env("PGPORT", world.bank.port().to_string());
    psql.env("PGUSER", SUPERUSER).env("PGDATABASE", bank::DATABASE);
    psql.env("PGAPPNAME", format!("psql vestibule/{session}"));
    run(&mut psql, 30).unwrap().ok().unwrap();
    // Later than that, so that it is compared.
    std::thread::sleep(Duration::from_millis(20));
    let (csv, _) = settled(&world, 3);
    world.evidence().unwrap();
    let (_, said) = reconcile(&world, &csv, &["--complete"]);
    assert_eq!(kinds(&said), ["refused_yet_ran"], "{said:#}");
    // The same log without what the other session did.
    let log = std::fs::read_to_string(&csv[0]).unwrap();
    let cut: Vec<&str> = log.lines().filter(|line| !line.contains("id = 5")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.csv");
    std::fs::write(&path, cut.join("\n") + "\n").unwrap();
    let (_, said) = reconcile(&world, std::slice::from_ref(&path), &["--complete"]);
    assert!(kinds(&said).contains(&"no_trace"), "{said:#}");
    let (_, said) = reconcile(&world, &[path], &[]);
    assert_eq!(kinds(&said), ["refused_yet_ran"], "{said:#}");
}
