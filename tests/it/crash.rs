//! kill -9: agents are refused while the daemon is dead, and nothing that reached the server is lost.

use std::io::{BufRead, BufReader, Write};

use integration::World;

/// Tries to connect whenever a line comes in, and says how that went.
const TRY_AGAIN: &str = "
import sys, psycopg
print('ready')
for line in sys.stdin:
    try:
        with psycopg.connect(connect_timeout=5) as c:
            seen = c.execute('SELECT id FROM customers WHERE id = 6').fetchone()[0]
        print(seen)
    except psycopg.OperationalError as e:
        print('refused', repr(str(e)))
";

#[test]
fn while_the_daemon_is_dead_agents_are_refused() {
    let mut world = World::start().unwrap();
    let mut agent = world.reader().start_python(TRY_AGAIN).unwrap();
    let mut told = BufReader::new(agent.take_stdout().unwrap()).lines();
    let mut input = agent.take_stdin().unwrap();
    assert_eq!(told.next().unwrap().unwrap(), "ready");
    let mut ask = || {
        writeln!(input, "again").unwrap();
        told.next().unwrap().unwrap()
    };
    assert_eq!(ask(), "6", "{}", world.daemon.log());
    world.daemon.kill();
    let arrived = || world.bank.log().unwrap().matches("statement: ").count();
    let before = arrived();
    for _ in 0..5 {
        let seen = ask();
        assert!(seen.starts_with("refused "), "{seen}");
    }
    assert_eq!(arrived(), before);
    world.daemon.restart().unwrap();
    assert_eq!(ask(), "6", "{}", world.daemon.log());
}

/// Writes one transaction after the other, and says the number of each that was acknowledged.
const WRITE_ON: &str = "
import psycopg
with psycopg.connect() as c:
    n = 0
    while True:
        n += 1
        c.execute('INSERT INTO case_notes (marker, body) VALUES (%s, %s)', (n, 'crash'))
        c.execute('SELECT id FROM customers WHERE id = %s', (n,))
        c.commit()
        print(n, flush=True)
";

#[test]
fn what_the_server_acknowledged_is_in_the_journal_after_kill_9() {
    let mut world = World::start().unwrap();
    let mut agent = world.writer().start_python(WRITE_ON).unwrap();
    let mut told = BufReader::new(agent.take_stdout().unwrap()).lines();
    let acknowledged = told.by_ref().take(40).last().unwrap().unwrap();
    world.daemon.kill();
    drop(agent);
    world.daemon.restart().unwrap();
    // What the server itself says it received and ran; its log is not ours to spoil.
    let ran = world.bank.log().unwrap().matches("INSERT INTO case_notes").count() as u64;
    assert!(ran >= acknowledged.parse::<u64>().unwrap());
    let kept: u64 =
        world.bank.sql("SELECT count(*) FROM case_notes").unwrap().trim().parse().unwrap();
    let evidence = world.evidence().unwrap();
    let recorded = evidence.count("SELECT count(*) FROM events WHERE verb = 'INSERT'").unwrap();
    assert!(recorded >= kept.max(ran), "recorded {recorded}, ran {ran}, kept {kept}");
    let verified = evidence.verify_with_journal().unwrap();
    assert_eq!(verified.code, Some(0), "{} {}", verified.stdout, verified.stderr);
}

#[test]
fn a_daemon_that_is_asked_to_end_ends_and_can_come_back() {
    let mut world = World::start().unwrap();
    world.reader().psql("SELECT id FROM customers WHERE id = 1").unwrap().ok().unwrap();
    world.daemon.stop().unwrap();
    world.daemon.restart().unwrap();
    world.reader().psql("SELECT id FROM customers WHERE id = 2").unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    let reads = evidence.count("SELECT count(*) FROM events WHERE verb = 'SELECT'").unwrap();
    assert_eq!(reads, 2);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

/// A torn last frame is cut off, and said; what stood before it stays.
#[test]
fn a_torn_tail_is_cut_and_said() {
    let mut world = World::start().unwrap();
    world.writer().psql("INSERT INTO case_notes (body) VALUES ('whole')").unwrap().ok().unwrap();
    // The last frame is not the insert's.
    world.reader().psql("SELECT id FROM customers WHERE id = 1").unwrap().ok().unwrap();
    world.daemon.kill();
    let newest = newest_segment(&world.daemon.journal());
    let bytes = std::fs::read(&newest).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    let mut torn = bytes;
    for byte in torn.iter_mut().take(end + 1).skip(end - 2) {
        *byte ^= 0xff;
    }
    std::fs::write(&newest, torn).unwrap();
    world.daemon.restart().unwrap();
    let evidence = world.evidence().unwrap();
    let recovered = "SELECT count(*) FROM control WHERE kind = 'log.recovered' \
                     AND json_extract(detail, '$.dropped_bytes')::int > 0";
    assert_eq!(evidence.count(recovered).unwrap(), 1, "{}", world.daemon.log());
    assert_eq!(evidence.count("SELECT count(*) FROM events WHERE verb = 'INSERT'").unwrap(), 1);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

/// Bytes of an acknowledged record are changed: no start but by a person's word, which is recorded.
#[test]
fn a_damaged_journal_keeps_the_daemon_down_until_the_loss_is_accepted() {
    let mut world = World::start().unwrap();
    for id in 1..=5 {
        let sql = format!("INSERT INTO case_notes (body) VALUES ('note {id}')");
        world.writer().psql(&sql).unwrap().ok().unwrap();
    }
    world.daemon.kill();
    let newest = newest_segment(&world.daemon.journal());
    let mut bytes = std::fs::read(&newest).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[end / 2] ^= 0x10;
    std::fs::write(&newest, &bytes).unwrap();
    let refused = world.daemon.another().unwrap();
    assert_ne!(refused.code, Some(0));
    for part in [newest.to_str().unwrap(), "offset ", "record ", "were changed", "--accept-loss"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert_eq!(std::fs::read(&newest).unwrap(), bytes, "it stays as it is");
    world.daemon.restart_saying(&["--accept-loss"]).unwrap();
    world.reader().psql("SELECT id FROM customers WHERE id = 1").unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    let accepted = "SELECT count(*) FROM control WHERE kind = 'log.loss_accepted' \
                    AND json_extract(detail, '$.files_set_aside')::int = 1";
    assert_eq!(evidence.count(accepted).unwrap(), 1, "{}", world.daemon.log());
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

fn newest_segment(folder: &std::path::Path) -> std::path::PathBuf {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "vjl"))
        .collect();
    found.sort();
    found.pop().unwrap()
}
