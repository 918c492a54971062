//! Processes that run already when they are enrolled.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::AsFd;

use redirect::Error;

use crate::agent;
use crate::bed::{self, Bed, Child};

/// Connects, keeps an unconnected socket too, and at each line tries one of both, or a new one.
const HOLD: &str = "
import ctypes, socket, sys
target = ('127.0.0.1', PORT)
connected = socket.create_connection(target)
unconnected = socket.socket()
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
inside = socket.socketpair()
libc = ctypes.CDLL(None, use_errno=True)
def say(name, attempt):
    try:
        print(name, 'ok', attempt(), flush=True)
    except OSError as e:
        print(name, 'error', e.errno, flush=True)
def revive():
    libc.connect(connected.fileno(), ctypes.create_string_buffer(16), 16)
    connected.connect(target)
print('ready', flush=True)
sys.stdin.readline()
say('old', lambda: connected.recv(1))
say('revived', revive)
say('unconnected', lambda: unconnected.connect(target))
say('datagram', lambda: datagrams.sendto(b'x', target))
say('inside', lambda: inside[0].send(b'x'))
say('new', lambda: socket.create_connection(target).getpeername()[1])
sys.stdin.read()
";

fn arrives(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    !matches!(listener.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn a_running_process_is_taken_in_and_its_old_sockets_lead_nowhere() {
    let bed = Bed::new(15131);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let target = TcpListener::bind(("127.0.0.1", 15132)).unwrap();
    let child = Child::python(&bed.outside(), &HOLD.replace("PORT", "15132")).says("ready");
    let (_kept, _) = bed::accept(&target);
    let taken = kernel.enroll_running(&agent(), "late", child.pid()).unwrap();
    assert_eq!(taken.processes, [child.pid()]);
    assert_eq!(taken.sockets_ended, 3);
    assert_eq!(kernel.nearest_enrolled(child.pid()).unwrap(), Some(taken.enrolled.cgroup));
    child.go_on();
    let (socket, source) = bed::accept(&v4);
    let accepted = kernel.accepted(socket.as_fd(), source).unwrap();
    assert_eq!(accepted.enrolled, taken.enrolled.cgroup);
    assert_eq!(accepted.process.key.tgid, child.pid());
    assert!(!arrives(&target), "an old socket led past the door");
    let mut child = child.says(&format!("old error {}", libc::ECONNABORTED));
    for name in ["revived", "unconnected", "datagram"] {
        let line = child.line();
        assert!(line.starts_with(&format!("{name} error ")), "{line}");
    }
    assert_eq!(child.line(), "inside ok 1");
    assert_eq!(child.line(), "new ok 15132");
    let again = kernel.enroll_running(&agent(), "again", child.pid());
    assert!(matches!(again, Err(Error::NotTaken { .. })), "{again:?}");
}

/// Children come along, also those that are born meanwhile.
#[test]
fn children_of_a_running_process_come_along() {
    let bed = Bed::new(15133);
    let kernel = bed.arm();
    let script = "
import os, subprocess, sys
child = subprocess.Popen(['sleep', '600'])
print('ready', flush=True)
sys.stdin.read()
child.kill()";
    let child = Child::python(&bed.outside(), script).says("ready");
    let taken = kernel.enroll_running(&agent(), "late", child.pid()).unwrap();
    assert_eq!(taken.processes.len(), 2);
    for process in &taken.processes {
        assert_eq!(kernel.nearest_enrolled(*process).unwrap(), Some(taken.enrolled.cgroup));
    }
}

/// What can't be ended is refused, and all is as it was.
#[test]
fn a_process_with_a_way_out_is_left_as_it_was() {
    let bed = Bed::new(15134);
    let kernel = bed.arm();
    let target = TcpListener::bind(("127.0.0.1", 15135)).unwrap();
    let path = std::env::temp_dir().join(format!("vestibule-late-{}", std::process::id()));
    let foreign = std::os::unix::net::UnixListener::bind(&path).unwrap();
    for (way, named) in [
        (format!("way = socket.socket(socket.AF_UNIX); way.connect('{}')", path.display()), "Unix"),
        ("way = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)".to_owned(), "netlink"),
        ("way = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)".to_owned(), "packet"),
        (
            "way = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)".to_owned(),
            "neither TCP nor UDP",
        ),
        (
            "import ctypes; ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(120))"
                .to_owned(),
            "io_uring",
        ),
    ] {
        let script = format!(
            "import socket, sys\nconnected = socket.create_connection(('127.0.0.1', 15135))\n{way}\n\
             print('ready', flush=True)\nsys.stdin.readline()\nconnected.send(b'x')\n\
             print('sent', flush=True)\nsys.stdin.read()"
        );
        let child = Child::python(&bed.outside(), &script).says("ready");
        let (_kept, _) = bed::accept(&target);
        let refused = kernel.enroll_running(&agent(), "late", child.pid());
        let Err(Error::Foreign { tgid, what, .. }) = refused else { panic!("{way}: {refused:?}") };
        assert_eq!(tgid, child.pid());
        assert!(what.contains(named), "{what}");
        assert_eq!(kernel.nearest_enrolled(child.pid()).unwrap(), None);
        assert!(kernel.enrolled().unwrap().is_empty());
        child.go_on();
        drop(child.says("sent"));
    }
    drop(foreign);
    std::fs::remove_file(path).unwrap();
}

/// Revocation refuses new connections and ends those there are.
#[test]
fn a_revoked_agents_connections_end() {
    let bed = Bed::new(15136);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let script = "
import socket, sys
s = socket.create_connection(('203.0.113.7', 5432))
print('ready', flush=True)
try:
    s.recv(1)
except OSError as e:
    print('error', e.errno, flush=True)
sys.stdin.read()";
    let child = Child::python(&enrolled.path, script).says("ready");
    let (_kept, _) = bed::accept(&v4);
    assert!(kernel.revoke(enrolled.cgroup).unwrap() >= 1);
    assert_eq!(child.said(), format!("error {}", libc::ECONNABORTED));
}
