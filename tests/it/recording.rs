//! What is recorded of one statement: timings, columns, and where policy asks for it a longer piece of
//! the response and a digest of all of it.

use integration::daemon::Supervisor;
use integration::world::WRITER_POLICY;
use integration::{Daemon, Postgres, World};

const RECORD: &str = r#"
@id("record-reads")
@record("8KiB")
forbid (principal == Agent::"support-assistant", action == Action::"select", resource)
when { resource is Table && resource.name == "customers" };
"#;

/// Logs in by hand and digests what comes of each statement, up to ReadyForQuery.
const DIGEST: &str = "
import hashlib, os, socket, struct
s = socket.create_connection((os.environ['PGHOST'], int(os.environ['PGPORT'])), timeout=60)
f = s.makefile('rb')
def message():
    head = f.read(5)
    return head + f.read(struct.unpack('!i', head[1:])[0] - 4)
body = struct.pack('!i', 196608) + b'user\\0app\\0database\\0bank\\0\\0'
s.sendall(struct.pack('!i', len(body) + 4) + body)
while message()[:1] != b'Z': pass
for sql in (b'SELECT full_name, ssn FROM customers WHERE id <= 3000 ORDER BY id', b'SELECT ssn FROM customers WHERE id = 1/(id-id)'):
    s.sendall(b'Q' + struct.pack('!i', len(sql) + 5) + sql + b'\\0')
    digest = hashlib.sha256()
    while True:
        got = message()
        if got[:1] == b'Z': break
        digest.update(got)
    print(digest.hexdigest())
s.sendall(b'Q' + struct.pack('!i', 13) + b'SELECT 1\\0')
while message()[:1] != b'Z': pass
";

#[test]
fn a_response_is_recorded_as_it_was_seen() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), integration::bank::PASSWORD).unwrap();
    let configuration = format!(
        "\n[[credential]]\ntarget = \"bank\"\naccount = \"app\"\nsecret_file = \"{}\"\n",
        secret.path().display()
    );
    let bank = Postgres::start().unwrap();
    let extra = [WRITER_POLICY, ("record.cedar", RECORD)];
    let daemon =
        Daemon::start_with(Supervisor::None, bank.port(), 2, &extra, &configuration).unwrap();
    let world = World { daemon, bank };
    let seen = world.reader().python(DIGEST).unwrap().ok().unwrap();
    let digests: Vec<&str> = seen.lines().collect();
    let evidence = world.evidence().unwrap();
    for (digest, rows) in [(digests[0], 1), (digests[1], 1), ("none", 0)] {
        let sql = format!(
            "SELECT count(*) FROM recordings WHERE response_sha256 = '{digest}' AND statement LIKE 'SELECT%'"
        );
        assert_eq!(evidence.count(&sql).unwrap(), rows, "{digest} {}", world.daemon.log());
    }
    let kept = "SELECT count(*) FROM recordings WHERE length(response_sample) = 8192 \
                AND NOT regexp_matches(response_sample, '[0-9]{3}-[0-9]{2}-[0-9]{4}')";
    assert_eq!(evidence.count(kept).unwrap(), 1);
    let others =
        "SELECT count(*) FROM recordings WHERE statement = 'SELECT 1' AND response_sha256 IS NULL";
    assert_eq!(evidence.count(others).unwrap(), 1);
    let timed = "SELECT count(*) FROM events WHERE columns = 'customers.full_name, customers.id, customers.ssn' \
                 AND decided_us BETWEEN 0 AND duration_us AND first_byte_us BETWEEN decided_us AND duration_us \
                 AND sent_us BETWEEN decided_us AND first_byte_us AND duration_us - sent_us - upstream_us BETWEEN 0 AND 1 AND held_us IS NULL \
                 AND \"rows\" = 3000";
    assert_eq!(evidence.count(timed).unwrap(), 1);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}

/// Two statements by the extended protocol: one that changes a row, and one that fails.
const COMMANDS: &str = "
import psycopg
with psycopg.connect(autocommit=True) as c:
    c.execute('INSERT INTO case_notes (marker, body) VALUES (71, \\'new\\')')
    c.execute('UPDATE case_notes SET body = %s WHERE marker = %s', ('ssn 078-05-1120 seen', 71))
    try: c.execute('SELECT city FROM customers WHERE id = %s/0', (1,))
    except psycopg.Error as e: print(e.sqlstate)
";

#[test]
fn each_field_of_a_command_is_recorded() {
    let world = World::start().unwrap();
    assert_eq!(world.writer().python(COMMANDS).unwrap().ok().unwrap(), "22012\n");
    let evidence = world.evidence().unwrap();
    let sql = "SELECT statement, parameters, statement_norm, statement_fp <> 0 AS fp, verb, objects, columns, \
               \"rows\", bytes_in > 30 AS came, bytes_out > 10 AS went, status, error_code, decision, rule_id, held_us, \
               decided_us <= sent_us AND sent_us <= first_byte_us AND first_byte_us <= duration_us AS timed, \
               duration_us - sent_us - upstream_us BETWEEN 0 AND 1 AS shared, response_sample \
               FROM events JOIN recordings USING (session_id, session_seq) \
               WHERE verb IN ('UPDATE', 'SELECT') ORDER BY session_seq";
    let rows = evidence.duckdb(sql).unwrap();
    let [update, select] = &rows[..] else { panic!("{rows:?}") };
    let update_text = "UPDATE case_notes SET body = $1 WHERE marker = $2";
    assert_eq!(update["statement"], update_text);
    assert_eq!(update["statement_norm"], update_text);
    assert_eq!(update["parameters"], r#"["ssn ***-**-1120 seen","71"]"#);
    assert_eq!(update["columns"], "case_notes.body, case_notes.marker");
    assert_eq!(
        (&update["verb"], &update["rows"], &update["status"]),
        (&"UPDATE".into(), &1.into(), &"ok".into())
    );
    assert!(update["objects"].to_string().contains("case_notes"), "{update}");
    assert!(update["error_code"].is_null() && update["response_sample"].is_null(), "{update}");
    assert_eq!(select["parameters"], r#"["1"]"#);
    assert_eq!(select["statement"], "SELECT city FROM customers WHERE id = $1/0");
    assert_eq!(select["statement_norm"], "SELECT city FROM customers WHERE id = $1/$2");
    assert_eq!((&select["status"], &select["error_code"]), (&"error".into(), &"22012".into()));
    for row in &rows {
        for name in ["fp", "came", "went", "timed", "shared"] {
            assert_eq!(row[name], true, "{name} {row}");
        }
        assert!(row["held_us"].is_null() && row["decision"] == "allow", "{row}");
    }
}
