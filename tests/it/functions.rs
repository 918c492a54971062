//! Beside statements: functions called by their OIDs, as libpq does with large objects; notifications.

use std::fs;
use std::path::Path;

use integration::bank::ROLE;
use integration::world::{READER, WRITER};
use integration::{Agent, Daemon, Evidence, Postgres, Supervisor, paths};

/// Lets the writer keep large objects, and read them where `no-statistics` does.
const KEEPS: &str = r#"
@id("writer-keeps-objects")
permit (principal == Agent::"back-office", action == Action::"call", resource)
when {
  ["pg_catalog.lo_creat", "pg_catalog.lo_open", "pg_catalog.lowrite", "pg_catalog.loread", "pg_catalog.lo_close",
   "pg_catalog.lo_unlink"].containsAll(context.functions)
};
"#;

fn start(policies: &[(&str, &str)]) -> (Postgres, Daemon) {
    let bank = Postgres::start().unwrap();
    let daemon = Daemon::start_with(Supervisor::None, bank.port(), 1, policies, "").unwrap();
    (bank, daemon)
}

/// Takes large objects out of a shipped policy, as an operator does who lets them be read.
fn readable() -> String {
    let shipped = fs::read_to_string(paths::policies().join("baseline.cedar")).unwrap();
    let readable = shipped.replace(
        "when { context.risk.statistics };",
        "when { context.risk.statistics && action != Action::\"call\" };",
    );
    assert_ne!(shipped, readable);
    readable
}

/// Has psql store a file's content as a large object and write it to another file; answers what it said.
fn store_and_fetch(agent: &Agent<'_>, from: &Path, to: &Path) -> String {
    let script = format!("\\lo_import {}\n\\lo_export :LASTOID {}\n", from.display(), to.display());
    agent.psql_script(&script).unwrap().stderr
}

#[test]
fn large_objects_are_decided_as_the_functions_they_are() {
    // Nothing is masked for anybody.
    let all = "@id(\"all\") permit (principal, action == Action::\"disclose\", resource);";
    let readable = readable();
    let policies = [("objects.cedar", KEEPS), ("baseline.cedar", &readable), ("masks.cedar", all)];
    let (bank, daemon) = start(&policies);
    let (file, back) = (daemon.directory().join("in"), daemon.directory().join("out"));
    // More than one message each way.
    let plain: Vec<u8> = (0..100_000_u32).flat_map(|n| (n % 251).to_be_bytes()).collect();
    fs::write(&file, &plain).unwrap();
    let agent = |name| Agent::new(&daemon, name, ROLE, bank.port());
    let told = store_and_fetch(&agent(WRITER), &file, &back);
    assert!(!told.contains("ERROR"), "{told} {}", daemon.log());
    assert_eq!(fs::read(&back).unwrap(), plain);
    // The server's own files are another matter, and so are others' calls.
    let refused = agent(WRITER).psql("SELECT lo_import('/etc/passwd')").unwrap();
    assert!(refused.stderr.contains("reads files"), "{refused:?}");
    let refused = store_and_fetch(&agent(READER), &file, &back);
    assert!(refused.contains("no policy permits call"), "{refused}");

    let evidence = Evidence::seal(&daemon).unwrap();
    let sql = "SELECT statement_norm AS called, count(*) AS times FROM events \
               WHERE kind = 'db.function' AND status = 'ok' GROUP BY ALL ORDER BY called";
    let rows = evidence.duckdb(sql).unwrap();
    let called: Vec<_> = rows.iter().map(|row| row["called"].as_str().unwrap()).collect();
    let names = ["lo_close", "lo_creat", "lo_open", "loread", "lowrite"];
    assert_eq!(called, names.map(|name| format!("FUNCTION pg_catalog.{name}")), "{rows:?}");
    let sql = "SELECT count(*) FROM events WHERE kind = 'db.function' AND status = 'denied'";
    assert!(evidence.count(sql).unwrap() >= 1);
}

#[test]
fn what_large_objects_hold_is_not_read_past_masks() {
    let readable = readable();
    let number = "her number is 512-34-6789, they say";
    for (policies, word) in [
        (vec![("objects.cedar", KEEPS), ("baseline.cedar", readable.as_str())], ""),
        // As shipped.
        (vec![("objects.cedar", KEEPS)], "large objects"),
    ] {
        let (bank, daemon) = start(&policies);
        let (file, back) = (daemon.directory().join("in"), daemon.directory().join("out"));
        fs::write(&file, number).unwrap();
        let agent = Agent::new(&daemon, WRITER, ROLE, bank.port());
        let told = store_and_fetch(&agent, &file, &back);
        assert!(told.contains(word) && told.contains("ERROR") != word.is_empty(), "{told}");
        let shown = fs::read_to_string(&back).unwrap_or_default();
        assert!(!shown.contains("512-34"), "{shown}");
        let kept = bank.sql("SELECT convert_from(data, 'UTF8') FROM pg_largeobject").unwrap();
        assert_eq!(kept.trim(), number);
    }
}

#[test]
fn notifications_come_while_nothing_is_asked_masked_and_recorded() {
    let (bank, daemon) = start(&[]);
    let script = "
import psycopg, sys
with psycopg.connect(autocommit=True) as c:
    c.execute('LISTEN gossip')
    print('ready', flush=True)
    for told in c.notifies(timeout=30, stop_after=2):
        print(told.channel, told.payload, flush=True)
    # The session is as before.
    print(c.execute('SELECT id FROM customers WHERE id = 7').fetchone()[0], flush=True)
";
    let agent = Agent::new(&daemon, READER, ROLE, bank.port());
    let mut listener = agent.start_python(script).unwrap();
    let mut told =
        std::io::BufRead::lines(std::io::BufReader::new(listener.take_stdout().unwrap()));
    let mut next = || told.next().unwrap().unwrap();
    assert_eq!(next(), "ready");
    bank.sql("NOTIFY gossip, 'nothing much'; NOTIFY gossip, 'hers is 512-34-6789'").unwrap();
    assert_eq!(next(), "gossip nothing much");
    let masked = next();
    assert!(masked.starts_with("gossip hers is ") && !masked.contains("512-34"), "{masked}");
    assert_eq!(next(), "7");
    listener.wait(20).unwrap();
    let evidence = Evidence::seal(&daemon).unwrap();
    let sql = "SELECT count(*) FROM control WHERE kind = 'session.notified' \
               AND json_extract_string(detail, '$.channel') = 'gossip' \
               AND json_extract(detail, '$.bytes')::INT IN (12, 19)";
    assert_eq!(evidence.count(sql).unwrap(), 2);
}
