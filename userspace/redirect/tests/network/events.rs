//! What the daemon hears of refusals.

use redirect::event::Kind;

use super::{event, next, try_in};
use crate::agent;
use crate::bed::{Bed, Child};

#[test]
fn every_refusal_is_told_with_reason_destination_and_process() {
    let bed = Bed::new(15150);
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let cases = [
        ("socket(AF_INET,SOCK_DGRAM).connect(('203.0.113.7',443))", 7, 17, "203.0.113.7:443"),
        (
            "socket(AF_INET6,SOCK_DGRAM).sendto(b'x',('2001:db8::5',443))",
            7,
            17,
            "[2001:db8::5]:443",
        ),
        ("socket(AF_INET,SOCK_DGRAM,136)", 10, 136, "0.0.0.0:0"),
        ("socket().bind(('127.0.0.1',15150))", 9, 6, "127.0.0.1:15150"),
    ];
    for (call, reason, protocol, to) in cases {
        assert!(try_in(&enrolled.path, call).starts_with("error"), "{call}");
        let (cgroup, tgid) = event(&mut events, |event| {
            let ours = event.kind == Kind::Refused(reason) && event.protocol == protocol;
            let there = event.destination == to.parse().ok();
            (ours && there).then_some((event.cgroup, event.tgid))
        });
        assert_eq!(cgroup, enrolled.cgroup, "{call}");
        assert_ne!(tgid, 0, "{call}");
    }
}

#[test]
fn a_connect_from_an_unknown_namespace_is_announced() {
    let bed = Bed::new(15151);
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let script = "import ctypes,socket
assert ctypes.CDLL(None).unshare(0x40000000)==0
print(socket.socket().connect_ex(('203.0.113.7',5432)),flush=True)";
    let child = Child::python(&enrolled.path, script);
    let tgid = child.pid();
    let _child = child.says("111");
    let (netns, to) = event(&mut events, |event| {
        (event.kind == Kind::UnknownNetns && event.tgid == tgid)
            .then_some((event.netns_cookie, event.destination))
    });
    assert_ne!(netns, bed.netns_cookie());
    assert_eq!(to, Some("203.0.113.7:5432".parse().unwrap()));
}

#[test]
fn a_full_ring_counts_what_it_loses_and_lets_nothing_through() {
    let bed = Bed::new(15152);
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    // The ring holds 1 MiB; an event takes 100 bytes at least.
    let script = "import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
answers=set()
for n in range(20000):
    try:
        s.sendto(b'x',('203.0.113.7',443)); answers.add(0)
    except OSError as e:
        answers.add(e.errno)
print(*answers,flush=True)";
    assert_eq!(Child::python(&enrolled.path, script).said(), "111");
    let told = std::iter::from_fn(|| next(&mut events)).count() as u64;
    let dropped = events.dropped().unwrap();
    assert!(dropped > 0 && told > 1000, "{told} told, {dropped} dropped");
    assert_eq!(told + dropped, 20_000);
    // What was heard takes room until it is released; with room again, events are told again.
    assert_eq!(Child::python(&enrolled.path, script).said(), "111");
    assert_eq!(events.dropped().unwrap(), dropped + 20_000);
    events.release();
    assert_eq!(Child::python(&enrolled.path, script).said(), "111");
    assert_eq!(next(&mut events).unwrap().kind, Kind::Refused(7));
}

#[test]
fn what_was_heard_and_not_released_is_told_to_the_next() {
    let bed = Bed::new(15153);
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let send = |port: u16| {
        let call = format!("socket(AF_INET,SOCK_DGRAM).sendto(b'x',('203.0.113.7',{port}))");
        assert!(try_in(&enrolled.path, &call).starts_with("error"));
    };
    let port_of = |event: Option<redirect::event::Event>| event?.destination.map(|to| to.port());
    (1..=3).for_each(send);
    assert_eq!(port_of(next(&mut events)), Some(1));
    events.release();
    assert_eq!(port_of(next(&mut events)), Some(2));
    drop((events, kernel));
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    assert_eq!(port_of(next(&mut events)), Some(2));
    assert_eq!(port_of(next(&mut events)), Some(3));
    assert_eq!(next(&mut events), None);
}
