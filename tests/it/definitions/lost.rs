//! Catalogs that many want at once, and such as can't be read.

use super::*;

use integration::process::wait_until;

/// What the daemon's query starts with.
const QUERY: &str = "WITH RECURSIVE p(s, t, c)";

fn readings(stage: &Stage) -> usize {
    stage.bank.log().unwrap().lines().filter(|line| line.contains(QUERY)).count()
}

/// Sessions that start together, and go on, cause one reading; by the daemon's role, in a transaction
/// that only reads, on a connection that does not stay.
#[test]
fn sessions_that_start_together_cause_one_reading() {
    let stage = Stage::set(true, 300);
    let agent = Agent::new(&stage.daemon, world::READER, bank::ROLE, stage.bank.port());
    let script = "
import threading, psycopg
seen = []
def one():
    with psycopg.connect(autocommit=True) as c:
        for _ in range(3): seen.append(c.execute('SELECT city, ssn FROM customers WHERE id = 1').fetchone())
threads = [threading.Thread(target=one) for _ in range(40)]
for t in threads: t.start()
for t in threads: t.join()
print(len(seen), set(seen))
";
    let seen = agent.python(script).unwrap().ok().unwrap();
    assert!(seen.starts_with("120 {('Boise', '***-**-"), "{seen}");
    assert_eq!(readings(&stage), 1);
    let log = stage.bank.log().unwrap();
    assert!(log.contains("statement: BEGIN READ ONLY; SET LOCAL statement_timeout"), "{log}");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'vestibule_catalog'";
    wait_until("its connection is gone", 10, || Ok(stage.bank.sql(sql)?.trim() == "0")).unwrap();
    assert_eq!(stage.daemon.count("catalogs_lost").unwrap(), 0);
}

/// Nothing masked is seen without a catalog, and what reads no relation's values goes on.
fn is_held(stage: &Stage, why: &str) {
    let (mut reader, mut other) = (stage.talk(world::READER), stage.talk(world::READER));
    let mut writer = stage.talk(world::WRITER);
    for talk in [&mut reader, &mut other, &mut writer] {
        for read in [
            "SELECT ssn FROM customers",
            "SELECT note FROM other.mail",
            "SELECT upper(note) FROM other.mail",
            "SELECT full_name, city FROM customers",
            "SELECT note FROM kids",
        ] {
            for answer in [talk.ask(read), talk.ask_prepared(read)] {
                let text = answer.to_string();
                assert!(stage.is_clean(&answer) && !text.contains("Archer"), "{read}: {text}");
            }
        }
        let probe = talk.ask("SELECT count(*) FROM other.mail WHERE note LIKE '1%'");
        assert!(probe.to_string().contains("42501"), "{probe}");
        for (ask, want) in [
            ("SELECT 1 + 1", json!([["2"]])),
            ("SELECT count(*) FROM transfers", json!([["60000"]])),
            ("SHOW server_encoding", json!([["UTF8"]])),
            ("SELECT pg_catalog.current_database()", json!([["bank"]])),
            ("SELECT relname FROM pg_catalog.pg_class WHERE relname = 'cards'", json!([["cards"]])),
        ] {
            assert_eq!(talk.ask(ask), want, "{ask}");
        }
    }
    let agent = Agent::new(&stage.daemon, world::READER, bank::ROLE, stage.bank.port());
    for copy in ["COPY kids TO STDOUT", "COPY (SELECT note FROM other.mail) TO STDOUT"] {
        let copied = agent.psql(copy).unwrap().ok().unwrap();
        assert!(copied.lines().count() == 3 && stage.is_clean(&json!(copied)), "{copied}");
    }
    let insert = "INSERT INTO case_notes (marker, body) VALUES (4711, 'as before')";
    assert_eq!(writer.ask(insert), json!([]));
    let written = "SELECT count(*) FROM case_notes WHERE marker = 4711";
    assert_eq!(stage.bank.sql(written).unwrap().trim(), "1");
    // Once, however many sessions there were.
    let log = stage.daemon.log();
    let told: Vec<&str> = log.lines().filter(|l| l.contains("the catalog can't be read")).collect();
    assert!(told.len() == 1 && told[0].contains(why), "{log}");
    assert_eq!(stage.daemon.count("catalogs_lost").unwrap(), 1);
    let evidence = integration::Evidence::seal(&stage.daemon).unwrap();
    let lost = format!(
        "SELECT count(*) FROM control WHERE kind = 'catalog.lost' AND detail LIKE '%{why}%'"
    );
    assert_eq!(evidence.count(&lost).unwrap(), 1);
}

/// Who reads sees everything as it is again, a while after it can be read.
fn comes_back(stage: &Stage) {
    let mut reader = stage.talk(world::READER);
    let city = "SELECT city FROM customers WHERE id = 1";
    wait_until("the catalog is read", 20, || Ok(reader.ask(city) == json!([["Boise"]]))).unwrap();
    assert_eq!(stage.daemon.count("catalogs_lost").unwrap(), 0);
    assert!(stage.daemon.log().contains("the catalog is read again"));
}

#[test]
fn a_role_that_is_not_let_in_leaves_the_widest_masks() {
    let stage = Stage::before(Postgres::start().unwrap(), true, 300);
    is_held(&stage, "the target refused the credential");
    stage.bank.sql(ROLE).unwrap();
    comes_back(&stage);
}

#[test]
fn a_role_that_lacks_rights_leaves_the_widest_masks() {
    let bank = Postgres::start().unwrap();
    bank.sql(ROLE).unwrap();
    bank.sql("REVOKE EXECUTE ON FUNCTION pg_get_viewdef(oid) FROM PUBLIC").unwrap();
    let stage = Stage::before(bank, true, 300);
    is_held(&stage, "SQLSTATE 42501");
    stage.bank.sql("GRANT EXECUTE ON FUNCTION pg_get_viewdef(oid) TO vestibule_catalog").unwrap();
    comes_back(&stage);
}

#[test]
fn a_catalog_that_takes_too_long_leaves_the_widest_masks() {
    let stage = Stage::set(true, 300);
    // What the views are of stays locked, not against who reads.
    let mut holder = std::process::Command::new("psql");
    integration::agent::with_bank(&mut holder, integration::postgres::SUPERUSER, stage.bank.port());
    let lock =
        "BEGIN; LOCK TABLE other.mail IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600) /* held */";
    holder.args(["-XqAt", "-c", lock]).stdout(std::process::Stdio::null());
    let holder = Running::new("psql", &mut holder).unwrap();
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'other.mail'::regclass";
    wait_until("the lock is held", 10, || Ok(stage.bank.sql(held)?.trim() == "1")).unwrap();
    let mut reader = stage.talk(world::READER);
    let city = reader.ask("SELECT city FROM customers WHERE id = 1");
    assert!(!city.to_string().contains("Boise"), "{city}");
    assert_eq!(reader.ask("SELECT count(*) FROM transfers"), json!([["60000"]]));
    assert!(stage.daemon.log().contains("SQLSTATE 55P03"), "{}", stage.daemon.log());
    drop(holder);
    stage
        .bank
        .sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%/* held */'",
        )
        .unwrap();
    comes_back(&stage);
}

#[test]
fn a_catalog_that_is_too_large_leaves_the_widest_masks() {
    let bank = Postgres::start().unwrap();
    bank.sql(ROLE).unwrap();
    // 1,600 columns each, all of them classified.
    bank.sql(
        "DO $$ DECLARE columns text; BEGIN
           SELECT string_agg('c' || n || ' bool', ', ') INTO columns FROM generate_series(1, 1600) n;
           FOR n IN 1 .. 126 LOOP EXECUTE format('CREATE TABLE wide_%s (%s)', n, columns); END LOOP;
         END $$",
    )
    .unwrap();
    let stage = Stage::before(bank, true, 300);
    is_held(&stage, "the catalog is too large");
}
