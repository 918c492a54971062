//! Cancel requests: one's own reach the statement, others' reach nothing, and each is recorded.

use std::io::{BufRead, BufReader, Write};

use integration::World;

use crate::by_hand::READ;

/// Runs for hours, unless it is cancelled.
const ENDLESS: &str = "SELECT count(*) FROM customers a, customers b, customers c";

#[test]
fn psql_and_psycopg_cancel_their_own() {
    let world = World::start().unwrap();
    let mut psql = world.reader().command("timeout");
    psql.args(["--foreground", "-s", "INT", "8", "psql", "-XAt", "-c", ENDLESS]);
    let seen = integration::process::run(&mut psql, 60).unwrap();
    assert!(seen.stderr.contains("canceling statement due to user request"), "{seen:?}");
    let script = format!(
        "
import psycopg, threading
try:
    # Servers before PostgreSQL 18 speak 3.0: the answer to what they don't know comes through.
    c = psycopg.connect(min_protocol_version='3.2', max_protocol_version='3.2')
    assert c.info.server_version >= 180000
    c.close()
except psycopg.OperationalError as e:
    assert 'protocol version' in str(e), e
for version in ('3.0', 'latest'):
  with psycopg.connect(autocommit=True, max_protocol_version=version) as c:
    newest = 30002 if version == 'latest' and c.info.server_version >= 180000 else 30000
    assert c.pgconn.full_protocol_version == newest, c.pgconn.full_protocol_version
    for cancel in (c.cancel, c.cancel_safe):
        timer = threading.Timer(1.0, cancel)
        timer.start()
        try:
            c.execute('{ENDLESS}')
            print('ended')
        except psycopg.errors.QueryCanceled as e:
            print(e.sqlstate)
        timer.join()
    # Nothing is under way: it must not hit what comes next.
    for _ in range(20):
        c.cancel_safe()
        assert c.execute('SELECT id FROM customers WHERE id = 5').fetchone() == (5,)
    # What a client knows of its server's process is so.
    print(c.info.backend_pid == c.execute('SELECT pg_backend_pid() FROM customers WHERE id = 1').fetchone()[0])
"
    );
    let seen = world.reader().python(&script).unwrap().ok().unwrap();
    assert_eq!(seen, "57014\n57014\nTrue\n".repeat(2), "{}", world.daemon.log());
    let evidence = world.evidence().unwrap();
    for (what, count) in [("forwarded", 5), ("nothing to cancel", 40)] {
        let sql = format!(
            "SELECT count(*) FROM control WHERE kind = 'session.cancel' \
             AND json_extract_string(detail, '$.what') = '{what}'"
        );
        assert_eq!(evidence.count(&sql).unwrap(), count, "{what}");
    }
    let logged = world.bank.log().unwrap().matches("canceling statement").count();
    assert_eq!(logged, 5);
}

/// Logs in by hand, says its key, asks something endless, and does as it is told.
const HOLDER: &str = "
import os, select, socket, struct, sys
address = (os.environ['PGHOST'], int(os.environ['PGPORT']))
def cancel(key):
    s = socket.create_connection(address, timeout=20)
    s.sendall(struct.pack('!ii', 12 + len(key) - 4, 80877102) + key)
    s.recv(1)
if len(sys.argv) > 1:
    cancel(bytes.fromhex(sys.argv[1]))
    sys.exit()
s = socket.create_connection(address, timeout=60)
body = struct.pack('!i', 196608) + b'user\\0app\\0database\\0bank\\0\\0'
s.sendall(struct.pack('!i', len(body) + 4) + body)
kind, body = b'', b''
while kind != b'Z':
    kind, body = message(s)
    if kind == b'K': key = body
sql = b'SELECT count(*) FROM customers a, customers b, customers c\\0'
s.sendall(b'Q' + struct.pack('!i', len(sql) + 4) + sql)
print(key.hex(), flush=True)
for line in sys.stdin:
    if line == 'look\\n':
        print('running' if not select.select([s], [], [], 2)[0] else message(s), flush=True)
    if line == 'cancel\\n':
        cancel(key)
        kind = b''
        while kind != b'E': kind, body = message(s)
        print(b'C57014' in body, flush=True)
        sys.exit()
";

#[test]
fn a_key_is_worth_nothing_to_others() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), integration::bank::PASSWORD).unwrap();
    let configuration = format!(
        "\n[[credential]]\ntarget = \"bank\"\naccount = \"app\"\nsecret_file = \"{}\"\n",
        secret.path().display()
    );
    let world = World::start_with(&configuration).unwrap();
    let mut holder = world.reader().start_python(&format!("{READ}{HOLDER}")).unwrap();
    let mut told = BufReader::new(holder.take_stdout().unwrap()).lines();
    let mut input = holder.take_stdin().unwrap();
    let mut next = || told.next().unwrap().unwrap();
    let key = next();
    // Another agent, and another start of the same one, with the very key; and a key of nobody.
    let script = format!("import sys\nsys.argv.append('{key}')\n{READ}{HOLDER}");
    world.writer().python(&script).unwrap().ok().unwrap();
    world.reader().python(&script).unwrap().ok().unwrap();
    let unknown = format!("import sys\nsys.argv.append('{}00000000')\n{READ}{HOLDER}", &key[..8]);
    world.reader().python(&unknown).unwrap().ok().unwrap();
    writeln!(input, "look").unwrap();
    assert_eq!(next(), "running", "{}", world.daemon.log());
    writeln!(input, "cancel").unwrap();
    assert_eq!(next(), "True", "{}", world.daemon.log());
    holder.wait(20).unwrap();
    let evidence = world.evidence().unwrap();
    for (reason, count) in [("of another agent", 2), ("of no open session", 1)] {
        let sql = format!(
            "SELECT count(*) FROM events WHERE kind = 'db.cancel' AND status = 'denied' \
             AND decision_reason LIKE '%{reason}%'"
        );
        assert_eq!(evidence.count(&sql).unwrap(), count, "{reason}");
    }
    let sql = "SELECT count(*) FROM events WHERE kind = 'db.cancel' AND status = 'ok'";
    assert_eq!(evidence.count(sql).unwrap(), 1);
}
