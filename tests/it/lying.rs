//! A server that lies. Only here something stands in for PostgreSQL, because a real one does not lie.

use std::process::{Command, Stdio};

use integration::daemon::Daemon;
use integration::port::Port;
use integration::process::{Running, wait_until};
use integration::world::READER;
use integration::{Agent, Evidence, bank, paths};

/// Accepts any login, and answers any query with the lie that the database's name asks for.
const SERVER: &str = r"
import socket, socketserver, struct, sys
def m(kind, body=b''): return kind + struct.pack('!i', len(body) + 4) + body
def column(name): return name + b'\0' + struct.pack('!ihihih', 0, 0, 25, -1, -1, 0)
def description(*names): return m(b'T', struct.pack('!h', len(names)) + b''.join(map(column, names)))
def row(*values): return m(b'D', struct.pack('!h', len(values)) + b''.join(struct.pack('!i', len(v)) + v for v in values))
DONE, READY, SECRET = m(b'C', b'SELECT 1\0'), m(b'Z', b'I'), b'512-34-6789'
LIES = {
  b'honest': description(b'id') + row(b'1') + DONE + READY,
  b'more_values': description(b'id') + row(b'1', SECRET) + DONE + READY,
  b'fewer_values': description(b'id', b'ssn') + row(b'1') + DONE + READY,
  b'no_description': row(SECRET) + DONE + READY,
  b'long_value': description(b'id') + m(b'D', struct.pack('!hi', 1, 1000) + SECRET) + DONE + READY,
  b'negative_value': description(b'id') + m(b'D', struct.pack('!hi', 1, -7) + SECRET) + DONE + READY,
  b'short_description': m(b'T', struct.pack('!h', 9) + column(b'id')) + row(SECRET) + DONE + READY,
  b'negative_count': m(b'T', struct.pack('!h', -1)) + m(b'D', struct.pack('!h', -1)) + DONE + READY,
  b'unknown_type': m(b'\x02', SECRET) + READY,
  b'huge_length': b'D' + struct.pack('!i', 0x7ffffff0) + SECRET,
  b'tiny_length': b'D' + struct.pack('!i', 1) + SECRET,
  b'unasked_copy': m(b'H', struct.pack('!bh', 0, 0)) + m(b'd', SECRET + b'\n') + m(b'c') + DONE + READY,
  b'unasked_copy_of_columns': m(b'H', struct.pack('!bhh', 0, 1, 0)) + m(b'd', SECRET + b'\n') + m(b'c') + DONE + READY,
  b'unasked_stream': m(b'W', struct.pack('!bh', 0, 0)) + m(b'd', SECRET + b'\n') + m(b'c') + DONE + READY,
  b'unasked_copy_in': m(b'G', struct.pack('!bhh', 0, 1, 0)) + m(b'd', SECRET + b'\n') + DONE + READY,
  b'twice_ready': description(b'id') + row(b'1') + DONE + READY + row(SECRET) + READY,
  b'cut': description(b'id') + row(SECRET)[:7],
}
class Session(socketserver.BaseRequestHandler):
    def exactly(self, n):
        b = b''
        while len(b) < n:
            part = self.request.recv(n - len(b))
            if not part: raise EOFError
            b += part
        return b
    def handle(self):
        try:
            while True:
                size, = struct.unpack('!i', self.exactly(4))
                startup = self.exactly(size - 4)
                if size != 8: break
                self.request.sendall(b'N')
            words = startup[4:].split(b'\0')
            lie = LIES[dict(zip(words[::2], words[1::2]))[b'database']]
            self.request.sendall(m(b'R', struct.pack('!i', 0)) + m(b'S', b'client_encoding\0UTF8\0') + m(b'K', struct.pack('!ii', 1, 2)) + READY)
            while True:
                kind, size = struct.unpack('!ci', self.exactly(5))
                body = self.exactly(size - 4)
                if kind == b'X': return
                if kind != b'Q': continue
                if b'customers' not in body:
                    # The door's own question: there is such a table, and nothing of it is classified.
                    known = struct.pack('!h', 8) + b''.join(struct.pack('!i', len(v)) + v for v in (b'l', b'20000', b'public', b'customers', b'9'))
                    self.request.sendall(description(*[b'a'] * 8) + m(b'D', known + b'\xff' * 12) + DONE + READY)
                    continue
                self.request.sendall(lie)
                if lie == LIES[b'cut']: return
        except (EOFError, OSError, KeyError): pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(('127.0.0.1', int(sys.argv[1])), Session).serve_forever()
";

#[test]
fn no_lie_gets_a_value_past_the_masks_or_ends_the_daemon() {
    let port = Port::take().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("server.py");
    std::fs::write(&script, SERVER).unwrap();
    let mut command = Command::new(paths::python());
    command.arg(&script).arg(port.number().to_string()).stdout(Stdio::null());
    let _server = Running::new("lying server", &mut command).unwrap();
    wait_until("the lying server listens", 10, || {
        Ok(std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok())
    })
    .unwrap();
    let mut daemon = Daemon::start(port.number(), 1, &[]).unwrap();
    let ask = |daemon: &Daemon, lie: &str| {
        let agent = Agent::new(daemon, READER, bank::ROLE, port.number());
        let mut psql = agent.command("psql");
        psql.env("PGDATABASE", lie).env("PGCONNECT_TIMEOUT", "10");
        let output =
            integration::process::run(psql.args(["-XAt", "-c", "SELECT id FROM customers"]), 30)
                .unwrap();
        format!("{}{}", output.stdout, output.stderr)
    };
    assert_eq!(ask(&daemon, "honest").lines().next(), Some("1"), "{}", daemon.log());
    let lies = [
        "more_values",
        "fewer_values",
        "no_description",
        "long_value",
        "negative_value",
        "short_description",
        "negative_count",
        "unknown_type",
        "huge_length",
        "tiny_length",
        "unasked_copy",
        "unasked_copy_of_columns",
        "unasked_stream",
        "unasked_copy_in",
        "twice_ready",
        "cut",
    ];
    for lie in lies {
        let seen = ask(&daemon, lie);
        assert!(!seen.contains("512-34-6789"), "{lie}: {seen}");
        assert!(daemon.is_running().unwrap(), "{lie} ended the daemon:\n{}", daemon.log());
    }
    assert_eq!(ask(&daemon, "honest").lines().next(), Some("1"), "{}", daemon.log());
    let evidence = Evidence::seal(&daemon).unwrap();
    let sessions = evidence.count("SELECT count(*) FROM sessions").unwrap();
    assert!(sessions >= lies.len() as u64 + 2, "{sessions}");
    assert_eq!(evidence.verify().unwrap().code, Some(0));
}
