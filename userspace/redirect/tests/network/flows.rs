//! What the kernel counts of a flow.

use std::io::{Read, Write};
use std::net::Shutdown;

use redirect::event::{Events, Kind};

use super::event;
use crate::agent;
use crate::bed::{self, Bed, Child};

/// More than socket buffers hold, and of no round size.
const UP: usize = 5_000_011;
const DOWN: usize = 7_000_003;

/// Connects, sends and receives so much, and closes as told.
fn agent_script(up: usize, down: usize, close: &str) -> String {
    format!(
        "import socket,sys,threading
s=socket.socket()
s.connect(('203.0.113.7',5432))
t=threading.Thread(target=lambda:s.sendall(b'u'*{up}))
t.start()
left={down}
while left:
    left-=len(s.recv(min(left,65536)))
t.join()
{close}
print('done',flush=True)
sys.stdin.read()"
    )
}

fn counts(events: &mut Events, tgid: u32) -> (u64, u64) {
    event(events, |event| match event.kind {
        Kind::FlowEnd { sent, received } if event.tgid == tgid => {
            assert_eq!(event.destination, Some("203.0.113.7:5432".parse().unwrap()));
            assert_eq!(event.protocol, 6);
            Some((sent, received))
        }
        _ => None,
    })
}

/// Who closes first, and whether by shutdown: the FINs pass in each order.
#[test]
fn bytes_are_those_of_the_application_whoever_closes_first() {
    let bed = Bed::new(15140);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let mut events = kernel.take_events().unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    for (close, agent_first) in [
        ("s.close()", true),
        ("s.shutdown(socket.SHUT_WR);assert s.recv(1)==b'';s.close()", true),
        ("assert s.recv(1)==b'';s.close()", false),
        ("s.shutdown(socket.SHUT_RD);s.close()", true),
    ] {
        let child = Child::python(&enrolled.path, &agent_script(UP, DOWN, close));
        let tgid = child.pid();
        let (mut socket, _) = bed::accept(&v4);
        socket.set_nonblocking(false).unwrap();
        let mut writer = socket.try_clone().unwrap();
        let down = std::thread::spawn(move || writer.write_all(&vec![b'd'; DOWN]));
        let mut received = vec![0; UP];
        socket.read_exact(&mut received).unwrap();
        down.join().unwrap().unwrap();
        if agent_first {
            assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
        } else {
            socket.shutdown(Shutdown::Write).unwrap();
        }
        drop(socket);
        let _child = child.says("done");
        assert_eq!(counts(&mut events, tgid), (UP as u64, DOWN as u64), "{close}");
    }
}

#[test]
fn a_flow_that_never_reached_the_proxy_ends_with_zeros() {
    let bed = Bed::new(15141);
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let child = Child::connect(&enrolled.path, "203.0.113.7", 5432);
    let tgid = child.pid();
    let _child = child.says("error 111");
    assert_eq!(counts(&mut events, tgid), (0, 0));
}
