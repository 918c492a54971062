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
