//! What policy forbids does not happen, is answered by the protocol, and the session goes on.

use integration::world::WRITER;
use integration::{Agent, Daemon, Postgres, World, bank};

const COUNT_NOTES: &str = "SELECT count(*) FROM case_notes";

#[test]
fn a_refused_drop_is_answered_with_its_policy_and_the_session_goes_on() {
    let world = World::start().unwrap();
    let script = "DROP TABLE customers;\nSELECT id FROM customers WHERE id = 3;\n";
    let output = world.writer().psql_script(script).unwrap();
    assert!(output.stderr.contains("42501"), "{}", output.stderr);
    assert_eq!(output.stdout.trim(), "3", "{}", output.stderr);
    assert_eq!(world.bank.sql("SELECT count(*) FROM customers").unwrap().trim(), "20000");
    // The server never saw it.
    assert!(!world.bank.log().unwrap().contains("DROP TABLE"));
    // The agent was told the policy that the record names.
    let evidence = world.evidence().unwrap();
    let rows =
        evidence.duckdb("SELECT rule_id, error_code FROM events WHERE decision = 'deny'").unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["error_code"], "42501");
    let rule = rows[0]["rule_id"].as_str().unwrap();
    assert!(output.stderr.contains(rule), "{rule} is not named in: {}", output.stderr);
}

/// The superuser could do all of these: only policy stands before them.
#[test]
fn dangerous_statements_are_refused_even_to_a_superuser() {
    let world = World::start().unwrap();
    for sql in [
        "DELETE FROM customers",
        "UPDATE accounts SET balance = 0",
        "TRUNCATE transfers",
        "ALTER TABLE cards ADD COLUMN x int",
        "CREATE ROLE intruder SUPERUSER",
        "GRANT ALL ON customers TO public",
        "COPY customers TO PROGRAM 'cat > /dev/null'",
        "COPY customers TO '/dev/null'",
        "SELECT pg_read_file('/etc/passwd')",
        "DO $$ BEGIN DELETE FROM customers; END $$",
        "WITH gone AS (DELETE FROM customers RETURNING *) SELECT count(*) FROM gone",
        "EXPLAIN ANALYZE DELETE FROM customers",
        "EXPLAIN (ANALYZE, COSTS OFF) UPDATE accounts SET balance = 0",
        "PREPARE everyone AS DELETE FROM customers",
        "SELECT id FROM customers WHERE id = 1; DROP TABLE cards",
        "ALTER SYSTEM SET log_statement = 'none'",
        "SET ROLE app",
        "SET SESSION AUTHORIZATION app",
        "SELECT set_config('role', 'app', false)",
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/x')",
        "SELECT pg_ls_dir('.')",
        "SELECT * FROM dblink('host=127.0.0.1', 'SELECT 1') AS t(x int)",
        "SELECT query_to_xml('DELETE FROM customers', true, true, '')",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE RULE r AS ON INSERT TO case_notes DO INSTEAD DELETE FROM customers",
        "CREATE EXTENSION dblink",
        "LOAD 'auto_explain'",
        "SELECT customer_id <<>> 1 FROM accounts",
        "this does not parse",
    ] {
        let output = world.superuser().psql(sql).unwrap();
        assert!(output.stderr.contains("42501"), "{sql}: {} {}", output.stdout, output.stderr);
        assert_ne!(output.code, Some(0), "{sql}");
    }
    assert_eq!(world.bank.sql("SELECT count(*) FROM customers").unwrap().trim(), "20000");
    assert_eq!(world.bank.sql("SELECT count(*) FROM transfers").unwrap().trim(), "60000");
}

#[test]
fn several_statements_in_one_string_stand_or_fall_together() {
    let world = World::start().unwrap();
    let sql = "INSERT INTO case_notes (body) VALUES ('a'); DROP TABLE cards; INSERT INTO case_notes (body) VALUES ('b')";
    let output = world.writer().psql(sql).unwrap();
    assert!(output.stderr.contains("42501"), "{}", output.stderr);
    assert_eq!(world.bank.sql(COUNT_NOTES).unwrap().trim(), "0");
    let evidence = world.evidence().unwrap();
    let rows = evidence
        .duckdb("SELECT verb, status FROM events WHERE kind = 'db.query' ORDER BY session_seq")
        .unwrap();
    let told: Vec<(&str, &str)> =
        rows.iter().map(|r| (r["verb"].as_str().unwrap(), r["status"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [("INSERT", "skipped"), ("DROP TABLE", "denied"), ("INSERT", "skipped")],
        "each is decided and recorded"
    );
}

/// An error ends a transaction (PostgreSQL, "Transactions"): one of ours as well.
#[test]
fn in_a_transaction_a_refusal_fails_the_transaction() {
    let world = World::start().unwrap();
    let script = "BEGIN;\nINSERT INTO case_notes (body) VALUES ('lost');\nDROP TABLE cards;\n\
                  SELECT id FROM customers WHERE id = 1;\nCOMMIT;\nSELECT id FROM customers WHERE id = 2;\n";
    let output = world.writer().psql_script(script).unwrap();
    assert!(
        output.stderr.contains("42501") && output.stderr.contains("25P02"),
        "{}",
        output.stderr
    );
    let told: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(told, ["BEGIN", "INSERT 0 1", "ROLLBACK", "2"], "{}", output.stderr);
    assert_eq!(world.bank.sql(COUNT_NOTES).unwrap().trim(), "0");
}

#[test]
fn a_savepoint_survives_a_refusal() {
    let world = World::start().unwrap();
    let script = "BEGIN;\nINSERT INTO case_notes (body) VALUES ('kept');\nSAVEPOINT s;\nDROP TABLE cards;\n\
                  ROLLBACK TO s;\nCOMMIT;\n";
    let output = world.writer().psql_script(script).unwrap();
    assert!(output.stderr.contains("42501"), "{}", output.stderr);
    assert_eq!(world.bank.sql(COUNT_NOTES).unwrap().trim(), "1", "{}", output.stderr);
}

/// What may not be known of an agent is not permitted: default deny.
#[test]
fn an_agent_no_policy_names_may_do_nothing() {
    let world = World::start().unwrap();
    let agent = integration::Agent::new(
        &world.daemon,
        "nobody-named-this",
        integration::bank::ROLE,
        world.bank.port(),
    );
    let output = agent.psql("INSERT INTO case_notes (body) VALUES ('x')").unwrap();
    assert_ne!(output.code, Some(0));
    assert!(
        output.stderr.contains("42501") || output.stderr.contains("refused"),
        "{}",
        output.stderr
    );
    assert_eq!(world.bank.sql(COUNT_NOTES).unwrap().trim(), "0");
}

/// Policy knows whether a transaction is open, by the server's own word.
#[test]
fn policy_sees_the_state_of_the_transaction() {
    let policy = "@id(\"writes-in-transactions\") @reason(\"write inside BEGIN and COMMIT\")\n\
                  forbid (principal, action == Action::\"insert\", resource)\n\
                  when { context.transaction != \"open\" };\n\
                  @id(\"notes\") permit (principal == Agent::\"back-office\", action == Action::\"insert\", resource);";
    let server = Postgres::start().unwrap();
    let daemon = Daemon::start(server.port(), 1, &[("transactions.cedar", policy)]).unwrap();
    let agent = Agent::new(&daemon, WRITER, bank::ROLE, server.port());
    let script = "INSERT INTO case_notes (body) VALUES ('alone');\nBEGIN;\n\
                  INSERT INTO case_notes (body) VALUES ('within');\nCOMMIT;\n\
                  INSERT INTO case_notes (body) VALUES ('behind');\n";
    let output = agent.psql_script(script).unwrap();
    assert_eq!(
        output.stderr.matches("ERROR:  42501: write inside").count(),
        2,
        "{}",
        output.stderr
    );
    let told: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(told, ["BEGIN", "INSERT 0 1", "COMMIT"], "{}", output.stderr);
    assert_eq!(server.sql("SELECT body FROM case_notes").unwrap().trim(), "within");
}
