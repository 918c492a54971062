//! What the kernel programs log in debug builds, through the reader to a `log::Log`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use types::id::CgroupId;

use crate::agent;
use crate::bed::{self, Bed, Child, connect_script};

/// Bytes of the ring, and of the smallest record in it.
const RING: usize = 128 * 1024;
const SMALLEST: usize = 64;

static SEEN: Seen = Seen(Mutex::new(Vec::new()));

/// Keeps every record as level and text.
struct Seen(Mutex<Vec<(Level, String)>>);

impl Log for Seen {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = (record.level(), record.args().to_string());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn flush(&self) {}
}

impl Seen {
    /// Must come before the hooks are armed.
    fn install() {
        // The second test of a process finds it installed.
        drop(log::set_logger(&SEEN));
        log::set_max_level(LevelFilter::Trace);
    }

    fn of(&self, cgroup: CgroupId) -> Vec<(Level, String)> {
        let name = format!(" cgroup={}", cgroup.0);
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = |(_, text): &&(Level, String)| {
            text.split_once(&name).is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(' '))
        };
        seen.iter().filter(ours).cloned().collect()
    }

    fn becomes(&self, cgroup: CgroupId, expected: &[(Level, String)]) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.of(cgroup) != expected {
            assert!(Instant::now() < deadline, "{:?}, not {expected:?}", self.of(cgroup));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn redirects_and_refusals_are_logged_with_process_cgroup_and_destination() {
    Seen::install();
    let bed = Bed::new(15114);
    let kernel = bed.arm();
    let (_v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let id = enrolled.cgroup;
    let mut expected = Vec::new();
    for (host, shown) in [("203.0.113.7", "203.0.113.7"), ("2001:db8::5", "[2001:db8::5]")] {
        let child = Child::connect(&enrolled.path, host, 5432);
        let text = format!("redirected {shown}:5432 tgid={} cgroup={}", child.pid(), id.0);
        expected.push((Level::Debug, text));
        let _child = child.says(&format!("peer {host} 5432"));
    }
    SEEN.becomes(id, &expected);

    kernel.revoke(id).unwrap();
    for (host, shown) in [("203.0.113.8", "203.0.113.8"), ("2001:db8::6", "[2001:db8::6]")] {
        let child = Child::connect(&enrolled.path, host, 443);
        let text = format!("refused {shown}:443 tgid={} cgroup={} reason=2", child.pid(), id.0);
        expected.push((Level::Warn, text));
        let _child = child.says("error 111");
    }
    let udp = "import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.connect";
    let child = Child::python(&enrolled.path, &connect_script(udp, "203.0.113.9", 53));
    let text = format!("refused 203.0.113.9:53 tgid={} cgroup={} reason=2", child.pid(), id.0);
    expected.push((Level::Warn, text));
    let _child = child.says("error 111");
    SEEN.becomes(id, &expected);
}

#[test]
fn a_full_ring_that_nobody_reads_changes_nothing_for_agents() {
    Seen::install();
    let bed = Bed::new(15115);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let revoked = kernel.enroll(&agent(), "two", None).unwrap();
    kernel.revoke(revoked.cgroup).unwrap();
    // The reader goes with it; the pinned programs keep the ring.
    drop(kernel);
    let script = format!(
        "import errno,socket
answers=set()
for n in range({}):
    s=socket.socket()
    answers.add(s.connect_ex(('203.0.113.7',5432)))
    s.close()
print(*answers,flush=True)",
        RING / SMALLEST + 1
    );
    assert_eq!(Child::python(&enrolled.path, &script).said(), "111");
    assert_eq!(Child::python(&revoked.path, &script).said(), "111");
    assert_eq!(SEEN.of(enrolled.cgroup), [], "somebody reads the ring");

    let _kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let child = Child::connect(&enrolled.path, "203.0.113.7", 5432);
    bed::accept(&v4);
    let text =
        format!("redirected 203.0.113.7:5432 tgid={} cgroup={}", child.pid(), enrolled.cgroup.0);
    SEEN.becomes(enrolled.cgroup, &[(Level::Debug, text)]);
}
