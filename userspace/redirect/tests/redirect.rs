//! The hooks on this machine's kernel, with real processes in real cgroups. Needs root; fails,
//! never skips, where it cannot run. Each test has its own slice, pin directory and port; one runs
//! at a time, because arming moves this whole process.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test's set-up fails by panicking, and waits by the clock"
)]

mod bed;
mod existing;
mod guard;
#[cfg(kernel_log)]
mod kernel_log;
mod late;
mod lineage;
mod network;
mod tap;
mod unix;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use redirect::{Error, Kernel};
use types::addr::OrigDst;
use types::id::AgentName;

use bed::{Bed, Child, connect_script};

fn agent() -> AgentName {
    "psql".parse().unwrap()
}

#[test]
fn an_agents_connections_arrive_with_destination_and_identity() {
    let bed = Bed::new(15101);
    let kernel = bed.arm();
    let (v4, v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    for (target, host, listener) in [
        ("203.0.113.7:5432", "203.0.113.7", &v4),
        ("[2001:db8::5]:443", "2001:db8::5", &v6),
        ("203.0.113.9:6379", "::ffff:203.0.113.9", &v4),
    ] {
        let wanted: SocketAddr = target.parse().unwrap();
        let family = if host.contains(':') { "AF_INET6" } else { "AF_INET" };
        let start = format!(
            "import os,socket;s=socket.socket(socket.{family});os.setgid(4321);os.setuid(1234);s.connect"
        );
        let script = connect_script(&start, host, wanted.port());
        let child = Child::python(&enrolled.path, &script);
        let (socket, source) = bed::accept(listener);
        let accepted = kernel.accepted(std::os::fd::AsFd::as_fd(&socket), source).unwrap();
        assert_eq!(accepted.orig_dst, OrigDst(wanted));
        assert_eq!(accepted.source, source);
        assert_eq!(accepted.enrolled, enrolled.cgroup);
        let process = &accepted.process;
        assert_eq!((process.key.tgid, process.uid, process.gid), (child.pid(), 1234, 4321));
        assert_eq!(process.cgroup, enrolled.cgroup);
        assert_eq!(process.key.start_ns / 10_000_000, child.start_ticks());
        assert_eq!(process.exe.unwrap().ino, child.exe_inode());
        assert_eq!(*process.comm, *child.comm());
        assert_eq!(process.parent().unwrap().tgid, std::process::id());
        assert_eq!(child.said(), format!("peer {host} {}", wanted.port()));
    }
}

#[test]
fn only_enrolled_agents_are_redirected_and_others_below_agents_are_refused() {
    let bed = Bed::new(15102);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let target = std::net::TcpListener::bind(("127.0.0.1", 15112)).unwrap();

    // An outsider reaches its target, and the proxy's port only without a record.
    let outside = Child::connect(&bed.outside(), "127.0.0.1", 15112);
    bed::accept(&target);
    assert_eq!(outside.said(), "peer 127.0.0.1 15112");
    let direct = Child::connect(&bed.outside(), "127.0.0.1", 15102);
    let (socket, source) = bed::accept(&v4);
    let answer = kernel.accepted(std::os::fd::AsFd::as_fd(&socket), source);
    assert!(matches!(answer, Err(Error::NoRecord)), "{answer:?}");
    drop(direct);

    let stray = bed.agents().join("stray");
    std::fs::create_dir(&stray).unwrap();
    assert_eq!(Child::connect(&stray, "127.0.0.1", 15112).said(), "error 111");
    assert_eq!(Child::connect(&stray, "::1", 15112).said(), "error 111");

    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let udp = "import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.connect";
    assert_eq!(
        Child::python(&enrolled.path, &connect_script(udp, "203.0.113.7", 443)).said(),
        "error 111"
    );
    let udp = "import socket;s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM);s.connect";
    assert_eq!(Child::python(&enrolled.path, &connect_script(udp, "::1", 443)).said(), "error 111");
    kernel.revoke(enrolled.cgroup).unwrap();
    assert_eq!(Child::connect(&enrolled.path, "127.0.0.1", 15112).said(), "error 111");
}

#[test]
fn without_a_daemon_agents_are_refused_and_the_next_one_takes_over() {
    let bed = Bed::new(15103);
    let kernel = bed.arm();
    let listeners = bed.listen();
    let target = std::net::TcpListener::bind(("127.0.0.1", 15113)).unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let before = bed.programs();
    assert!(matches!(Kernel::arm(bed.options()), Err(Error::InUse(_))));
    drop((kernel, listeners));
    assert_eq!(Child::connect(&enrolled.path, "127.0.0.1", 15113).said(), "error 111");
    target.set_nonblocking(true).unwrap();
    assert!(target.accept().is_err(), "the agent went past the hooks");

    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let after = bed.programs();
    // Two of them on AF_UNIX.
    assert_eq!(after.len(), if kernel.unix_unheld().is_none() { 19 } else { 17 });
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((&old.0, old.1), (&new.0, new.1), "the same links");
        assert_ne!(old.2, new.2, "new programs");
    }
    assert_eq!(kernel.enrolled().unwrap(), std::slice::from_ref(&enrolled));
    let child = Child::connect(&enrolled.path, "127.0.0.1", 15113);
    let (socket, source) = bed::accept(&v4);
    let accepted = kernel.accepted(std::os::fd::AsFd::as_fd(&socket), source).unwrap();
    assert_eq!(accepted.orig_dst.0, "127.0.0.1:15113".parse().unwrap());
    assert_eq!(accepted.process.key.tgid, child.pid());
}

#[test]
fn a_connection_belongs_to_the_nearest_enrolled_agent() {
    let bed = Bed::new(15104);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let outer = kernel.enroll(&agent(), "outer", None).unwrap();
    let inner = kernel.enroll(&"sub.agent".parse().unwrap(), "inner", Some(outer.cgroup)).unwrap();
    let below = inner.path.join("plain");
    std::fs::create_dir(&below).unwrap();
    for (directory, owner) in [(&outer.path, &outer), (&inner.path, &inner), (&below, &inner)] {
        let child = Child::connect(directory, "203.0.113.7", 5432);
        let (socket, source) = bed::accept(&v4);
        let accepted = kernel.accepted(std::os::fd::AsFd::as_fd(&socket), source).unwrap();
        assert_eq!(accepted.enrolled, owner.cgroup);
        assert_eq!(kernel.nearest_enrolled(child.pid()).unwrap(), Some(owner.cgroup));
    }
    assert_eq!(kernel.nearest_enrolled(std::process::id()).unwrap(), None);
    assert_eq!(kernel.enrolled().unwrap(), [outer.clone(), inner.clone()]);
    assert!(kernel.withdraw(outer.cgroup).is_err(), "an agent is still below");
    std::fs::remove_dir(&below).unwrap();
    assert_eq!(kernel.ended().unwrap(), []);
    assert_eq!(kernel.ended().unwrap(), [inner.cgroup, outer.cgroup]);
    kernel.withdraw(inner.cgroup).unwrap();
    kernel.withdraw(outer.cgroup).unwrap();
    assert!(matches!(kernel.withdraw(outer.cgroup), Err(Error::NotEnrolled(_))));
}

#[test]
fn a_severed_link_is_made_anew() {
    let bed = Bed::new(15105);
    drop(bed.arm());
    std::fs::remove_dir(bed.agents()).unwrap();
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let _child = Child::connect(&enrolled.path, "203.0.113.7", 5432);
    let (socket, source) = bed::accept(&v4);
    kernel.accepted(std::os::fd::AsFd::as_fd(&socket), source).unwrap();
}

#[test]
fn links_of_another_version_are_taken_over_not_doubled() {
    let bed = Bed::new(15107);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let revoked = kernel.enroll(&agent(), "two", None).unwrap();
    kernel.revoke(revoked.cgroup).unwrap();
    drop(kernel);
    let before = bed.programs();
    bed.rename_version();
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let links = |programs: Vec<(_, u32, u32)>| -> Vec<_> {
        programs.into_iter().map(|(_, link, _)| link).collect()
    };
    assert_eq!(links(bed.programs()), links(before));
    assert_eq!(kernel.enrolled().unwrap().len(), 2);
    assert_eq!(Child::connect(&revoked.path, "203.0.113.7", 5432).said(), "error 111");
    let _child = Child::connect(&enrolled.path, "203.0.113.7", 5432);
    let (socket, source) = bed::accept(&v4);
    let accepted = kernel.accepted(std::os::fd::AsFd::as_fd(&socket), source).unwrap();
    assert_eq!(accepted.orig_dst.0, "203.0.113.7:5432".parse().unwrap());
}

#[test]
fn failed_connections_leave_nothing_behind() {
    let bed = Bed::new(15106);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    for _ in 0..3 {
        assert_eq!(Child::connect(&enrolled.path, "203.0.113.7", 5432).said(), "error 111");
    }
    flows_become(&bed, 0);
    // A backlog of one: the second connection stays a SYN, which only the hooks can have sent here.
    let full = "import socket,sys;s=socket.socket();s.bind(('127.0.0.1',15106));s.listen(0);\
                print('listens',flush=True);sys.stdin.read()";
    let listener = Child::python(&bed.proxy(), full);
    let _listener = listener.says("listens");
    let first = Child::connect(&enrolled.path, "203.0.113.7", 5432);
    let _first = first.says("peer 203.0.113.7 5432");
    let waiting = Child::connect(&enrolled.path, "203.0.113.7", 5432);
    flows_become(&bed, 1);
    drop(waiting);
    flows_become(&bed, 0);
}

fn flows_become(bed: &Bed, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while bed.flows() != count {
        assert!(Instant::now() < deadline, "{} flows, not {count}", bed.flows());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn without_room_for_its_record_a_connection_has_none() {
    let bed = Bed::new(15108);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    bed.fill_flows();
    let _child = Child::connect(&enrolled.path, "203.0.113.7", 5432);
    let (socket, source) = bed::accept(&v4);
    let answer = kernel.accepted(std::os::fd::AsFd::as_fd(&socket), source);
    assert!(matches!(answer, Err(Error::NoRecord)), "{answer:?}");
}

#[test]
fn an_agent_in_a_network_namespace_of_its_own_is_refused() {
    let bed = Bed::new(15109);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let start = "import ctypes,socket;assert ctypes.CDLL(None).unshare(0x40000000)==0;\
                 s=socket.socket();s.connect";
    // There loopback is down: without the hooks it would be ENETUNREACH.
    let script = connect_script(start, "127.0.0.1", 5432);
    assert_eq!(Child::python(&enrolled.path, &script).said(), "error 111");
    assert_eq!(Child::python(&bed.outside(), &script).said(), "error 101");
}

#[test]
fn a_socket_bound_to_a_device_is_redirected() {
    let bed = Bed::new(15110);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let devices = std::fs::read_dir("/sys/class/net").unwrap();
    let mut names = devices.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let device = names.find(|name| name != "lo").expect("a device other than loopback");
    let start = format!(
        "import socket;s=socket.socket();s.setsockopt(1,socket.SO_BINDTODEVICE,b'{device}');s.connect"
    );
    let _child = Child::python(&enrolled.path, &connect_script(&start, "203.0.113.7", 5432));
    let (socket, source) = bed::accept(&v4);
    let accepted = kernel.accepted(std::os::fd::AsFd::as_fd(&socket), source).unwrap();
    assert_eq!(accepted.orig_dst.0, "203.0.113.7:5432".parse().unwrap());
}

#[test]
fn a_process_too_deep_to_be_attributed_is_refused() {
    let bed = Bed::new(15111);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let mut deep = enrolled.path.clone();
    // The agent's cgroup is at level 3 at least, so these reach 14 and then 30.
    deep.extend((0..11).map(|_| "d"));
    std::fs::create_dir_all(&deep).unwrap();
    let _child = Child::connect(&deep, "203.0.113.7", 5432);
    let (socket, source) = bed::accept(&v4);
    kernel.accepted(std::os::fd::AsFd::as_fd(&socket), source).unwrap();
    deep.extend((0..16).map(|_| "d"));
    std::fs::create_dir_all(&deep).unwrap();
    assert_eq!(Child::connect(&deep, "203.0.113.7", 5432).said(), "error 111");
}

#[test]
fn the_probe_finds_what_arming_needs() {
    let checks = redirect::probe();
    assert_eq!(checks.len(), 11, "{checks:?}");
    assert!(
        checks.iter().all(|check| check.verdict != types::control::Verdict::Fail),
        "{checks:?}"
    );
}
