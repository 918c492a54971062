//! Limits over windows outlive the daemon: what was used before it was stopped or killed is counted
//! again from the journal.

use std::time::Duration;

use integration::{World, process};

const WINDOW: &str = r#"
@id("reads-by-time")
@limit("rows=1500/24s, bytes=1GiB/1h")
forbid (principal, action == Action::"select", resource);
"#;

/// After so long what was used has left the window: it, and a sixth of it.
const PASSED: Duration = Duration::from_secs(29);

/// How many rows come, and what ends them.
fn read(agent: &integration::Agent<'_>, rows: u32) -> String {
    let script = format!(
        "
import psycopg
n, end = 0, 'ended'
with psycopg.connect(autocommit=True) as c:
    try:
        for row in c.cursor().stream('SELECT id FROM customers LIMIT {rows}'): n += 1
    except psycopg.Error as e:
        end = e.sqlstate
print(n, end)
"
    );
    agent.python(&script).unwrap().ok().unwrap().trim().to_owned()
}

#[test]
fn a_restart_forgives_nothing_that_was_used() {
    let mut world = World::start_ruled(WINDOW).unwrap();
    assert_eq!(read(&world.reader(), 1000), "1000 ended");
    world.daemon.stop().unwrap();
    world.daemon.restart().unwrap();
    assert_eq!(read(&world.reader(), 1000), "500 53400", "{}", world.daemon.log());
    // Of what was under way nobody knows how much it brought.
    let slow = "import psycopg\nwith psycopg.connect() as c: c.execute('SELECT count(*) FROM customers a, customers b WHERE b.id < 4000 AND a.id + b.id < 0')";
    let writer = world.writer().start_python(slow).unwrap();
    process::wait_until("it is under way", 10, || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%b.id < 4000%' AND pid <> pg_backend_pid() AND state = 'active'";
        Ok(world.bank.sql(sql)?.trim() == "1")
    })
    .unwrap();
    world.daemon.kill();
    drop(writer);
    world.daemon.restart().unwrap();
    let refused = world.reader().psql("SELECT 1").unwrap();
    assert!(refused.stderr.contains("no more than 1500 rows in 24 s"), "{refused:?}");
    let refused = world.writer().psql("SELECT 1").unwrap();
    assert!(refused.stderr.contains("no more than 1500 rows in 24 s"), "{refused:?}");
    assert!(world.daemon.log().contains("windows of limits are counted from the journal"));
    std::thread::sleep(PASSED);
    assert_eq!(read(&world.reader(), 1000), "1000 ended", "{}", world.daemon.log());
    let evidence = world.evidence().unwrap();
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}
