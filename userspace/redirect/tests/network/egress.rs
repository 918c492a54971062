//! Packets of agents' sockets, in a network namespace with rules of its own.

use std::net::TcpListener;
use std::process::Command;

use redirect::event::Kind;

use super::event;
use crate::agent;
use crate::bed::{self, Bed, Child};

/// In the namespace this runs in.
const INNER: &str = "VESTIBULE_TEST_NETNS";

/// Runs a test of this module by itself in a new network namespace; true in there.
fn in_own_netns(test: &str) -> bool {
    if std::env::var_os(INNER).is_some() {
        return true;
    }
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("network::egress::{test}"), "--nocapture"])
        .env(INNER, "1")
        .status()
        .unwrap();
    assert!(status.success());
    false
}

fn run(program: &str, words: &str) {
    let output = Command::new(program).args(words.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {words}: {said}");
}

/// Loopback, and a device to a network of which we are 192.0.2.1.
fn bring_up() {
    run("ip", "link set lo up");
    run("ip", "link add out type veth peer name far");
    run("ip", "link set far up");
    run("ip", "addr add 192.0.2.1/24 dev out");
    run("ip", "link set out up");
    run("nft", "add table ip escape");
    run("nft", "add chain ip escape output { type nat hook output priority -100 ; }");
}

fn redirect(port: u16, to: &str) {
    run("nft", "flush chain ip escape output");
    run(
        "nft",
        &format!("add rule ip escape output ip daddr 127.0.0.1 tcp dport {port} dnat to {to}"),
    );
}

/// Connects within two seconds; says the peer or why not.
fn connect() -> String {
    let start = "import socket;s=socket.socket();s.settimeout(2);s.connect";
    bed::connect_script(start, "127.0.0.1", 15160)
}

#[test]
fn a_rule_that_sends_the_proxys_port_elsewhere_is_no_way_out() {
    if !in_own_netns("a_rule_that_sends_the_proxys_port_elsewhere_is_no_way_out") {
        return;
    }
    bring_up();
    let bed = Bed::new(15160);
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let local = TcpListener::bind(("127.0.0.1", 15660)).unwrap();
    let own = TcpListener::bind(("192.0.2.1", 15660)).unwrap();
    for (to, listener, reason) in [("127.0.0.1:15660", &local, 12), ("192.0.2.1:15660", &own, 11)] {
        redirect(15160, to);
        // The rule works: an outsider gets there.
        let outsider = Child::python(&bed.outside(), &connect());
        bed::accept(listener);
        drop(outsider);
        let agent = Child::python(&enrolled.path, &connect());
        assert!(agent.said().starts_with("error"));
        assert!(listener.accept().is_err(), "the agent went past the proxy to {to}");
        let dropped = event(&mut events, |event| match event.kind {
            Kind::Refused(_) if event.destination == to.parse().ok() => Some(event.clone()),
            _ => None,
        });
        assert_eq!(dropped.kind, Kind::Refused(reason), "{dropped:?}");
        assert_eq!(dropped.cgroup, enrolled.cgroup);
    }
    run("nft", "flush chain ip escape output");
    let _agent = Child::python(&enrolled.path, &connect()).says("peer 127.0.0.1 15160");
    bed::accept(&v4);
}

#[test]
fn nothing_leaves_by_another_device() {
    if !in_own_netns("nothing_leaves_by_another_device") {
        return;
    }
    bring_up();
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
    let bed = Bed::new(15161);
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    // Ping has no hook but this; 8 is an echo request.
    let ping = |host: &str| {
        format!(
            "import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM,1)
try:
    print(s.sendto(bytes([8]+[0]*7),('{host}',0)),flush=True)
except OSError as e:
    print('error',e.errno,flush=True)"
        )
    };
    assert_eq!(Child::python(&bed.outside(), &ping("192.0.2.9")).said(), "8");
    assert_eq!(Child::python(&enrolled.path, &ping("192.0.2.9")).said(), "error 1");
    assert_eq!(Child::python(&enrolled.path, &ping("127.0.0.1")).said(), "8");
    let dropped = event(&mut events, |event| Some(event.clone()));
    assert_eq!((dropped.kind, dropped.protocol), (Kind::Refused(11), 1));
    assert_eq!(dropped.destination, Some("192.0.2.9:0".parse().unwrap()));

    // An allowed datagram leaves, and its neighbour doesn't: 127.0.0.1 by another device neither.
    kernel.allow_datagrams(enrolled.cgroup, "192.0.2.9:123".parse().unwrap()).unwrap();
    let send = |call: &str| {
        let script = format!(
            "import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
try:
    print({call},flush=True)
except OSError as e:
    print('error',e.errno,flush=True)"
        );
        Child::python(&enrolled.path, &script).said()
    };
    assert_eq!(send("s.sendto(b'x',('192.0.2.9',123))"), "1");
    assert_eq!(send("s.sendto(b'x',('192.0.2.8',123))"), "error 111");
    // IP_PKTINFO of another device.
    let device = "[(0,8,socket.if_nametoindex('out').to_bytes(4,'little')+bytes(8))]";
    assert_eq!(send(&format!("s.sendmsg([b'x'],{device},0,('192.0.2.53',53))")), "error 1");

    // An agent that listens there answers nobody. (Linux before 6.13 lets the SYN-ACK out.)
    let listen = "import socket,sys
s=socket.socket();s.bind(('192.0.2.1',15661));s.listen()
print('listens',flush=True)
c,_=s.accept()
c.send(b'x')
sys.stdin.read()";
    let _listener = Child::python(&enrolled.path, listen).says("listens");
    let reach = "import socket
s=socket.socket();s.settimeout(2)
try:
    s.connect(('192.0.2.1',15661))
    print(s.recv(1),flush=True)
except OSError as e:
    print('nothing',flush=True)";
    assert_eq!(Child::python(&bed.outside(), reach).said(), "nothing");
}

#[test]
fn source_routes_and_other_options_are_dropped() {
    if !in_own_netns("source_routes_and_other_options_are_dropped") {
        return;
    }
    bring_up();
    let bed = Bed::new(15162);
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    let (_v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    // Record route, which goes to loopback as well: three bytes and room for one address.
    let start = "import socket;s=socket.socket();s.settimeout(2);\
                 s.setsockopt(0,4,bytes([7,7,4,0,0,0,0,0]));s.connect";
    let options = bed::connect_script(start, "127.0.0.1", 5432);
    assert!(Child::python(&enrolled.path, &options).said().starts_with("error"));
    assert_eq!(event(&mut events, |event| Some(event.kind)), Kind::Refused(13));
}

#[test]
fn an_agent_joins_no_multicast_group() {
    if !in_own_netns("an_agent_joins_no_multicast_group") {
        return;
    }
    bring_up();
    let bed = Bed::new(15163);
    let kernel = bed.arm();
    let mut events = kernel.take_events().unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    // The group's address carries what is to be told; the other end of the device hears it.
    let join = |group: &str| {
        format!(
            "import socket,struct,time
group=socket.inet_pton(socket.{family},'{group}')
try:
    wire=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3))
    wire.bind(('far',0))
    wire.settimeout(0.1)
except OSError:
    wire=None
s=socket.socket(socket.{family},socket.SOCK_DGRAM)
out=socket.if_nametoindex('out')
try:
    {call}
except OSError as e:
    print('error',e.errno,flush=True)
    raise SystemExit
until=time.monotonic()+5
told=False
while not told and time.monotonic()<until:
    try:
        told=group in wire.recv(2000)
    except OSError:
        pass
print('told' if told else 'not told',flush=True)",
            family = if group.contains(':') { "AF_INET6" } else { "AF_INET" },
            call = if group.contains(':') {
                "s.setsockopt(41,20,group+struct.pack('=I',out))"
            } else {
                "s.setsockopt(0,35,group+struct.pack('=4sI',bytes(4),out))"
            }
        )
    };
    for group in ["ff1e:7365:6372:6574:2d6b:6579::1", "239.115.101.99"] {
        assert_eq!(Child::python(&bed.outside(), &join(group)).said(), "told");
        assert_eq!(Child::python(&enrolled.path, &join(group)).said(), "error 1");
        assert_eq!(event(&mut events, |event| Some(event.kind)), Kind::Refused(14));
    }
    // Other options pass, however long.
    let script = "import socket
s=socket.socket()
s.setsockopt(6,1,1)
try:
    s.setsockopt(0,4,bytes(8192))
except OSError as e:
    print(s.getsockopt(6,1),e.errno,flush=True)";
    assert_eq!(Child::python(&enrolled.path, script).said(), "1 22");
}
