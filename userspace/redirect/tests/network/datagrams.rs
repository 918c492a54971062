//! UDP of agents.

use std::net::{SocketAddr, UdpSocket};

use redirect::Error;
use redirect::event::Kind;

use super::{becomes, event, receive, try_in};
use crate::agent;
use crate::bed::{Bed, Child};

const EVERYWHERE: [&str; 5] =
    ["203.0.113.7", "2001:db8::5", "::ffff:203.0.113.9", "127.0.0.1", "::1"];

fn family(host: &str) -> &'static str {
    if host.contains(':') { "AF_INET6" } else { "AF_INET" }
}

fn connect(host: &str, port: u16) -> String {
    format!("socket({},SOCK_DGRAM).connect(('{host}',{port}))", family(host))
}

fn send(host: &str, port: u16) -> String {
    format!("socket({},SOCK_DGRAM).sendto(b'x',('{host}',{port}))", family(host))
}

/// Asks and prints the answer, its source, and the peer of a connected socket.
fn ask(host: &str, connected: bool) -> String {
    let family = family(host);
    let (begin, end) = if connected {
        (format!("s.connect(('{host}',53));s.send(b'question')"), "s.getpeername()[:2]")
    } else {
        (format!("s.sendto(b'question',('{host}',53))"), "()")
    };
    format!(
        "import socket,sys
s=socket.socket(socket.{family},socket.SOCK_DGRAM)
s.settimeout(10)
{begin}
answer,source=s.recvfrom(100)
print(answer.decode(),*source[:2],*{end},flush=True)
sys.stdin.read()"
    )
}

#[test]
fn datagrams_are_refused_whether_connected_or_not() {
    let bed = Bed::new(15120);
    let kernel = bed.arm();
    let (_v4, _v6) = bed.forward();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    for host in EVERYWHERE {
        assert_eq!(try_in(&enrolled.path, &connect(host, 443)), "error 111", "{host}");
        assert_eq!(try_in(&enrolled.path, &send(host, 443)), "error 111", "{host}");
    }
    kernel.revoke(enrolled.cgroup).unwrap();
    assert_eq!(try_in(&enrolled.path, &connect("203.0.113.7", 53)), "error 111");
    assert_eq!(try_in(&enrolled.path, &send("203.0.113.7", 53)), "error 111");
}

#[test]
fn an_unnamed_family_is_no_way_around() {
    let bed = Bed::new(15121);
    let kernel = bed.arm();
    let target = UdpSocket::bind(("127.0.0.1", 15621)).unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    // AF_UNSPEC in sendto(2) means AF_INET to a socket of that; ctypes, as Python knows no such.
    let script = "import ctypes,socket,struct
c=ctypes.CDLL(None,use_errno=True)
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
a=struct.pack('=HH4s8x',0,socket.htons(15621),socket.inet_aton('127.0.0.1'))
r=c.sendto(s.fileno(),b'x',1,0,a,16)
print(r,ctypes.get_errno(),flush=True)";
    assert_eq!(Child::python(&bed.outside(), script).said(), "1 0");
    receive(&target);
    assert_eq!(Child::python(&enrolled.path, script).said(), "-1 111");
}

#[test]
fn dns_goes_to_the_forwarder_and_comes_back_as_from_the_server() {
    let bed = Bed::new(15122);
    let kernel = bed.arm();
    let (v4, v6) = bed.forward();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    for (host, connected, forwarder) in [
        ("192.0.2.53", true, &v4),
        ("192.0.2.53", false, &v4),
        ("2001:db8::35", true, &v6),
        ("2001:db8::35", false, &v6),
        ("::ffff:192.0.2.53", true, &v4),
        ("::ffff:192.0.2.53", false, &v4),
        ("127.0.0.53", false, &v4),
    ] {
        let child = Child::python(&enrolled.path, &ask(host, connected));
        println!("{host}, connected: {connected}");
        let (question, peer) = receive(forwarder);
        assert_eq!(question, b"question");
        let accepted = kernel.datagram(bed.netns_cookie(), peer).unwrap();
        let server = SocketAddr::new(host.parse::<std::net::IpAddr>().unwrap().to_canonical(), 53);
        assert_eq!(accepted.orig_dst.0, server);
        assert_eq!(accepted.source, peer);
        assert_eq!(accepted.enrolled, enrolled.cgroup);
        assert_eq!(accepted.process.key.tgid, child.pid());
        forwarder.send_to(b"answer", peer).unwrap();
        let peername = if connected { format!(" {host} 53") } else { String::new() };
        let child = child.says(&format!("answer {host} 53{peername}"));
        assert_eq!(bed.datagrams(), 1);
        drop(child);
        becomes(|| bed.datagrams(), 0);
        let answer = kernel.datagram(bed.netns_cookie(), peer);
        assert!(matches!(answer, Err(Error::NoRecord)), "{answer:?}");
    }
}

#[test]
fn control_data_does_not_change_a_connected_sockets_way() {
    let bed = Bed::new(15128);
    let kernel = bed.arm();
    let (v4, v6) = bed.forward();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    // IP_TOS and IPV6_TCLASS: with control data the kernel asks the hooks once more.
    for (host, control, forwarder) in [
        ("192.0.2.53", "(0,1,bytes(4))", &v4),
        ("2001:db8::35", "(41,67,bytes(4))", &v6),
        ("::ffff:192.0.2.53", "(0,1,bytes(4))", &v4),
    ] {
        let script = format!(
            "import socket,sys
s=socket.socket(socket.{},socket.SOCK_DGRAM)
s.connect(('{host}',53))
print(s.sendmsg([b'question'],[{control}]),flush=True)
sys.stdin.read()",
            family(host)
        );
        let child = Child::python(&enrolled.path, &script).says("8");
        let (_, peer) = receive(forwarder);
        let accepted = kernel.datagram(bed.netns_cookie(), peer).unwrap();
        assert_eq!(accepted.process.key.tgid, child.pid());
    }
}

#[test]
fn an_outsiders_datagram_to_the_forwarder_has_no_record() {
    let bed = Bed::new(15123);
    let kernel = bed.arm();
    let (v4, _v6) = bed.forward();
    let direct =
        format!("socket(AF_INET,SOCK_DGRAM).sendto(b'x',('127.0.0.1',{}))", bed.dns_port());
    assert_eq!(try_in(&bed.outside(), &direct), "1");
    let (_, peer) = receive(&v4);
    let answer = kernel.datagram(bed.netns_cookie(), peer);
    assert!(matches!(answer, Err(Error::NoRecord)), "{answer:?}");
    // An agent doesn't get there but through port 53.
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    assert_eq!(try_in(&enrolled.path, &direct), "error 111");
}

#[test]
fn a_socket_that_asks_many_leaves_one_entry_a_family() {
    let bed = Bed::new(15124);
    let kernel = bed.arm();
    let (v4, _v6) = bed.forward();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    // Without its address given back by AF_UNSPEC, a socket keeps its port; with it, it gets more.
    let script = "import ctypes,socket,struct,sys
c=ctypes.CDLL(None)
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
for n in range(20):
    s.sendto(b'q',('192.0.2.53',53))
    c.connect(s.fileno(),struct.pack('=H14x',0),16)
print('asked',flush=True)
sys.stdin.read()";
    let child = Child::python(&enrolled.path, script).says("asked");
    let mut ports: Vec<u16> = (0..20).map(|_| receive(&v4).1.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() > 1, "the kernel gave one port for all");
    assert_eq!(bed.datagrams(), 1);
    drop(child);
    becomes(|| bed.datagrams(), 0);
}

#[test]
fn without_a_forwarder_dns_is_refused() {
    let bed = Bed::without_forwarder(15125);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    assert_eq!(try_in(&enrolled.path, &connect("192.0.2.53", 53)), "error 111");
    assert_eq!(try_in(&enrolled.path, &send("2001:db8::35", 53)), "error 111");
}

#[test]
fn without_room_for_its_sender_a_question_is_dropped() {
    let bed = Bed::new(15126);
    let kernel = bed.arm();
    let (v4, _v6) = bed.forward();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    bed.fill_datagrams();
    assert_eq!(try_in(&enrolled.path, &send("192.0.2.53", 53)), "error 1");
    v4.set_nonblocking(true).unwrap();
    assert!(v4.recv_from(&mut [0; 16]).is_err());
    let mut events = kernel.take_events().unwrap();
    assert_eq!(event(&mut events, |event| Some(event.kind)), Kind::Refused(5));
}

#[test]
fn what_the_daemon_allows_goes_out_and_no_longer_than_that() {
    let bed = Bed::new(15127);
    let kernel = bed.arm();
    let (v4, v6) =
        (UdpSocket::bind(("127.0.0.1", 15627)).unwrap(), UdpSocket::bind(("::1", 15627)).unwrap());
    let one = kernel.enroll(&agent(), "one", None).unwrap();
    let two = kernel.enroll(&agent(), "two", None).unwrap();
    for (host, target) in [("127.0.0.1", &v4), ("::1", &v6)] {
        let address = SocketAddr::new(host.parse().unwrap(), 15627);
        kernel.allow_datagrams(one.cgroup, address).unwrap();
        assert_eq!(try_in(&one.path, &send(host, 15627)), "1");
        receive(target);
        assert_eq!(try_in(&one.path, &connect(host, 15627)), "None");
        assert_eq!(try_in(&one.path, &send(host, 15628)), "error 111");
        assert_eq!(try_in(&two.path, &send(host, 15627)), "error 111");
    }
    // Once refused, a socket that was connected before is too: its packets don't go out.
    let script = "import socket,sys
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
s.connect(('127.0.0.1',15627))
print('connected',flush=True)
sys.stdin.readline()
try:
    print('sent',s.send(b'x'),flush=True)
except OSError as e:
    print('error',e.errno,flush=True)";
    let mut child = Child::python(&one.path, script).says("connected");
    bed.revoke(one.cgroup.0);
    child.go_on();
    assert_eq!(child.line(), "error 1");
    drop(child);
    kernel.withdraw(one.cgroup).unwrap();
    assert_eq!(bed.allowed(), 0);
}
