//! What keeps agents from everything but the proxy and the forwarder, and what is told of it.

mod datagrams;
mod egress;
mod events;
mod flows;
mod sockets;
mod uring;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use redirect::event::{Event, Events, Heard};

use crate::bed::Child;

/// What a Python expression of sockets comes to in a cgroup: its value, or the error's number.
pub(crate) fn try_in(cgroup: &Path, expression: &str) -> String {
    let script = format!(
        "import socket
from socket import *
try:
    print({expression},flush=True)
except OSError as e:
    print('error',e.errno,flush=True)"
    );
    Child::python(cgroup, &script).said()
}

/// Receives a datagram within ten seconds.
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

/// Waits for an event that answers; panics after five seconds.
pub(crate) fn event<T>(events: &mut Events, mut find: impl FnMut(&Event) -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut seen = Vec::new();
    loop {
        while let Some(event) = next(events) {
            if let Some(found) = find(&event) {
                return found;
            }
            seen.push(event);
        }
        assert!(Instant::now() < deadline, "not among {seen:?}");
        events.release();
        events.wait(Duration::from_millis(100)).unwrap();
    }
}

/// The next event, once it is settled, if there is one.
fn next(events: &mut Events) -> Option<Event> {
    loop {
        match events.hear() {
            Heard::Event(event) => return Some(event),
            Heard::Settling(patience) => std::thread::sleep(patience),
            Heard::Nothing => return None,
        }
    }
}

/// Waits until something is so many.
pub(crate) fn becomes(count: impl Fn() -> usize, expected: usize) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while count() != expected {
        assert!(Instant::now() < deadline, "{}, not {expected}", count());
        std::thread::sleep(Duration::from_millis(10));
    }
}
