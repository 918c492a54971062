//! Large results: memory stays flat, every row arrives, nothing sensitive with it.

use std::fs;

use integration::{World, process};

/// How far memory may move over a large result.
const FLAT_BYTES: u64 = 32 << 20;

/// 180 MB through psql, by SELECT and by COPY OUT.
#[test]
fn memory_is_flat_over_a_large_result() {
    let world = World::start().unwrap();
    world.reader().psql("SELECT ssn FROM customers LIMIT 1000").unwrap().ok().unwrap();
    let pid = world.daemon.pid().unwrap();
    // 190,000 rows of about 940 bytes.
    let sql = "SELECT c.id, c.ssn, repeat(c.full_name, 90) FROM customers AS c CROSS JOIN generate_series(1, 10) AS n \
               WHERE c.id <= 19000";
    for statement in [sql.to_owned(), format!("COPY ({sql}) TO STDOUT")] {
        // proc(5): 5 resets the peak.
        fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
        let before = process::peak_bytes(pid).unwrap();
        let mut psql = world.reader().command("sh");
        psql.args(["-c", "psql -XAt -c \"$0\" | wc -cl", &statement]);
        let told = process::run(&mut psql, 400).unwrap().ok().unwrap();
        let counts: Vec<u64> = told.split_whitespace().map(|w| w.parse().unwrap()).collect();
        assert_eq!(counts[0], 190_000, "{statement}");
        assert!(counts[1] > 170_000_000, "{statement}: {} bytes", counts[1]);
        let grown = process::peak_bytes(pid).unwrap().saturating_sub(before);
        assert!(grown < FLAT_BYTES, "{statement}: {} MiB more", grown >> 20);
    }
}

/// A client that does not read holds its own session back, not the daemon's memory.
#[test]
fn a_slow_reader_costs_no_memory() {
    let world = World::start().unwrap();
    let pid = world.daemon.pid().unwrap();
    let script = "
import psycopg, select, time
with psycopg.connect(autocommit=True) as c:
    c.pgconn.send_query(b'SELECT t.*, u.* FROM transfers t CROSS JOIN generate_series(1, 20) u')
    c.pgconn.flush()
    time.sleep(4)
    c.cancel()
    print('held')
";
    world.reader().psql("SELECT id FROM transfers LIMIT 1000").unwrap().ok().unwrap();
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = process::peak_bytes(pid).unwrap();
    let seen = world.reader().python(script).unwrap();
    assert!(seen.stdout.starts_with("held"), "{} {}", seen.stdout, seen.stderr);
    assert!(process::peak_bytes(pid).unwrap().saturating_sub(before) < FLAT_BYTES);
}
