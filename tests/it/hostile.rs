//! Bytes that are no protocol, from the agent: the session ends or errs, the daemon goes on, and its
//! memory stays bounded.

use std::fs;

use integration::World;

use crate::by_hand::READ;

/// One agent that speaks the protocol by hand; `connect` answers a socket that has logged in.
const PRELUDE: &str = r#"
import base64, hashlib, hmac, os, socket, struct, sys
HOST, PORT = os.environ['PGHOST'], int(os.environ['PGPORT'])
def raw():
    s = socket.create_connection((HOST, PORT), timeout=20)
    return s
def send(s, kind, body):
    s.sendall(kind + struct.pack('!i', len(body) + 4) + body)
def connect():
    s = raw()
    body = struct.pack('!i', 196608) + b'user\0' + os.environ['PGUSER'].encode() + b'\0database\0bank\0\0'
    s.sendall(struct.pack('!i', len(body) + 4) + body)
    password = os.environ['PGPASSWORD'].encode()
    nonce = base64.b64encode(os.urandom(12)).decode()
    bare = 'n=,r=' + nonce
    assert message(s)[0] == b'R'
    first = ('n,,' + bare).encode()
    send(s, b'p', b'SCRAM-SHA-256\0' + struct.pack('!i', len(first)) + first)
    kind, body = message(s)
    server = body[4:].decode()
    fields = dict(f.split('=', 1) for f in server.split(','))
    salted = hashlib.pbkdf2_hmac('sha256', password, base64.b64decode(fields['s']), int(fields['i']))
    key = hmac.digest(salted, b'Client Key', 'sha256')
    without = 'c=biws,r=' + fields['r']
    signed = ','.join([bare, server, without]).encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, 'sha256')
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    send(s, b'p', (without + ',p=' + proof).encode())
    while message(s)[0] != b'Z': pass
    return s
def rest(s):
    """Reads until the end of the answer or of the connection: what error, if any, came."""
    code = ''
    try:
        while True:
            kind, body = message(s)
            if kind == b'E':
                fields = dict((f[:1], f[1:]) for f in body.split(b'\0') if f)
                code = fields.get(b'C', b'').decode()
            if kind == b'Z': return 'error ' + code if code else 'ready'
    except (EOFError, ConnectionError, socket.timeout) as e:
        return 'closed ' + code if not isinstance(e, socket.timeout) else 'stuck'
def push(s, data):
    try: s.sendall(data)
    except OSError: pass
def end(s):
    try: s.shutdown(socket.SHUT_WR)
    except OSError: pass
"#;

/// Runs each case as an agent and compares how it ends; then looks at the daemon.
/// `polite` of them break nothing and ask nothing.
#[track_caller]
fn check(cases: &[(&str, &[&str])], polite: usize) {
    let mut world = World::start().unwrap();
    // Warm: what one ordinary session needs is there before.
    world.reader().psql("SELECT ssn FROM customers LIMIT 100").unwrap().ok().unwrap();
    let before = resident_bytes(world.daemon.pid().unwrap());
    let mut wrong = Vec::new();
    for (case, expected) in cases {
        let script = format!("{READ}{PRELUDE}\n{case}");
        let seen = world.reader().python(&script).unwrap().ok().unwrap();
        if !expected.iter().any(|e| seen.trim() == *e || seen.trim().starts_with(&format!("{e} ")))
        {
            wrong.push(format!("{case}\n  saw {:?}, not one of {expected:?}", seen.trim()));
        }
        assert!(
            world.daemon.is_running().unwrap(),
            "{case} ended the daemon:\n{}",
            world.daemon.log()
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.reader().psql("SELECT id FROM customers WHERE id = 1").unwrap().ok().unwrap();
    // Twice the 16 MiB a message may have, for its reading and its parse, and 32 MiB for the allocator.
    let grown = resident_bytes(world.daemon.pid().unwrap()).saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    // Each was a session of its own, and is on record: what it asked, or what was wrong with it.
    let evidence = world.evidence().unwrap();
    let recorded = "SELECT count(*) FROM sessions";
    assert!(evidence.count(recorded).unwrap() >= cases.len() as u64 + 2);
    let silent = evidence
        .duckdb(
            "SELECT target_db, close_reason FROM sessions AS s WHERE close_reason IS NULL \
             OR NOT EXISTS (FROM events AS e WHERE e.session_id = s.session_id) \
             AND NOT EXISTS (FROM control WHERE kind = 'protocol.violation' \
                             AND json_extract_string(detail, '$.session_id') = s.session_id)",
        )
        .unwrap();
    assert_eq!(silent.len(), polite, "nothing is said of {silent:?}");
    assert_eq!(evidence.verify().unwrap().code, Some(0));
}

#[test]
fn startup_packets() {
    check(
        &[
            // 10 MB announced and sent: PostgreSQL's own limit is 10,000 bytes.
            (
                "s = raw(); push(s, struct.pack('!ii', 10_000_000, 196608) + b'x' * 9_999_992); print(rest(s))",
                &["closed"],
            ),
            ("s = raw(); push(s, struct.pack('!ii', 3, 196608)); print(rest(s))", &["closed"]),
            ("s = raw(); push(s, struct.pack('!ii', -1, 196608)); print(rest(s))", &["closed"]),
            (
                "s = raw(); push(s, struct.pack('!iii', 12, 0x7fff0000, 0)); print(rest(s))",
                &["closed"],
            ),
            ("s = raw(); push(s, os.urandom(4096)); end(s); print(rest(s))", &["closed"]),
            (
                "s = raw(); push(s, b'GET / HTTP/1.1\\r\\n\\r\\n'); end(s); print(rest(s))",
                &["closed"],
            ),
            ("s = raw(); push(s, b'\\0\\0\\0'); end(s); print(rest(s))", &["closed"]),
            // TLS is asked for: it is answered no, and the session may go on without.
            ("s = raw(); push(s, struct.pack('!ii', 8, 80877103)); print(s.recv(1))", &["b'N'"]),
            ("s = raw(); push(s, struct.pack('!ii', 8, 80877104)); print(s.recv(1))", &["b'N'"]),
        ],
        2,
    );
}

#[test]
fn messages() {
    check(
        &[
            (
                "s = connect(); send(s, b'Q', b'SELECT id FROM customers WHERE id = 1\\0'); print(rest(s))",
                &["ready"],
            ),
            ("s = connect(); send(s, b'\\x01', b'what'); print(rest(s))", &["closed", "error"]),
            (
                "s = connect(); push(s, b'Q' + struct.pack('!i', 2) + b'x' * 64); print(rest(s))",
                &["closed"],
            ),
            (
                "s = connect(); push(s, b'Q' + struct.pack('!i', -5) + b'x' * 64); print(rest(s))",
                &["closed"],
            ),
            (
                "s = connect(); push(s, b'Q' + struct.pack('!i', 0x7fffffff) + b'x' * 100_000); print(rest(s))",
                &["closed"],
            ),
            (
                "s = connect(); push(s, b'Q' + struct.pack('!i', 100) + b'x'); end(s); print(rest(s))",
                &["closed"],
            ),
            ("s = connect(); push(s, os.urandom(100_000)); end(s); print(rest(s))", &["closed"]),
            // A message without its closing zero.
            ("s = connect(); send(s, b'Q', b'SELECT 1'); print(rest(s))", &["closed", "error"]),
            (
                "s = connect(); send(s, b'P', b'name'); send(s, b'S', b''); print(rest(s))",
                &["closed", "error"],
            ),
            (
                "s = connect(); send(s, b'B', b'\\0\\0' + struct.pack('!h', 32767)); send(s, b'S', b''); print(rest(s))",
                &["closed", "error"],
            ),
        ],
        0,
    );
}

#[test]
fn statements() {
    check(
        &[
            // 10 MB of one statement: within the bound; too long to be let through unparsed.
            (
                "s = connect(); send(s, b'Q', b'SELECT id FROM customers WHERE full_name = \\'' + b'x' * 10_000_000 + b'\\'\\0'); print(rest(s))",
                &["ready", "error"],
            ),
            // 20 MB: above it.
            (
                "s = connect(); push(s, b'Q' + struct.pack('!i', 20_000_005) + b' ' * 20_000_000 + b'\\0'); print(rest(s))",
                &["closed"],
            ),
            // NUL within, and bytes that are not UTF-8: refused, and the session goes on.
            (
                "s = connect(); send(s, b'Q', b'SELECT 1\\0; DROP TABLE cards\\0'); print(rest(s))",
                &["closed", "error"],
            ),
            (
                "s = connect(); send(s, b'Q', b'SELECT \\'\\xff\\xfe\\'\\0'); print(rest(s))",
                &["error"],
            ),
            // Nesting that a recursive parser would not survive.
            (
                "s = connect(); send(s, b'Q', b'SELECT ' + b'(' * 100_000 + b'1' + b')' * 100_000 + b'\\0'); print(rest(s))",
                &["error"],
            ),
            (
                "s = connect(); send(s, b'Q', b'SELECT 1' + b' || 1' * 200_000 + b'\\0'); print(rest(s))",
                &["error"],
            ),
            ("s = connect(); send(s, b'Q', b'\\0'); print(rest(s))", &["ready"]),
            (
                "s = connect(); send(s, b'Q', b';' * 1_000_000 + b'\\0'); print(rest(s))",
                &["ready", "error"],
            ),
        ],
        0,
    );
}

/// Answers a process's resident memory (proc(5): VmRSS is in kB).
fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
