//! Cgroups that others made: a unit's, a container's.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use redirect::{Error, Kernel};

use crate::agent;
use crate::bed::{self, Bed, Child};

/// A cgroup outside of the slice; removed when dropped.
struct Unit(PathBuf);

impl Unit {
    fn new(bed: &Bed, name: &str) -> Self {
        let root = bed.agents().ancestors().nth(2).unwrap().to_owned();
        let path = root.join(format!("{name}-{}.service", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        drop(std::fs::write(self.0.join("cgroup.kill"), "1"));
        for _ in 0..200 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// Connects at once and at each line, and says where to and whether the first connection ended.
const AGAIN: &str = "
import socket, sys
first = socket.create_connection(('127.0.0.1', PORT))
print('ready', flush=True)
for line in sys.stdin:
    try:
        socket.create_connection(('127.0.0.1', PORT))
        print('connected', flush=True)
    except OSError as e:
        print('error', e.errno, flush=True)
    try:
        first.settimeout(0.2)
        first.recv(1)
    except TimeoutError:
        print('open', flush=True)
    except OSError as e:
        print('ended', e.errno, flush=True)
";

fn redirected(kernel: &Kernel, listener: &TcpListener, unit: &Path) {
    let (socket, source) = bed::accept(listener);
    let accepted = kernel.accepted(socket.as_fd(), source).unwrap();
    let enrolled = kernel.enrolled().unwrap();
    let found = enrolled.iter().find(|enrolled| enrolled.cgroup == accepted.enrolled).unwrap();
    assert_eq!((found.path.as_path(), &found.agent), (unit, &agent()));
}

#[test]
fn a_cgroup_that_another_made_is_hooked_over_restarts_until_it_is_withdrawn() {
    let bed = Bed::new(15151);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let target = TcpListener::bind(("127.0.0.1", 15152)).unwrap();
    let unit = Unit::new(&bed, "vestibule-unit");
    let child = Child::python(&unit.0, &AGAIN.replace("PORT", "15152")).says("ready");
    let (_kept, _) = bed::accept(&target);

    let taken = kernel.enroll_existing(&agent(), "one", &unit.0).unwrap();
    assert_eq!((taken.processes.as_slice(), taken.sockets_ended), ([child.pid()].as_slice(), 1));
    assert_eq!(taken.left, Vec::<String>::new());
    assert_eq!(kernel.nearest_enrolled(child.pid()).unwrap(), Some(taken.enrolled.cgroup));
    child.go_on();
    redirected(&kernel, &v4, &unit.0);
    let child = child.says("connected").says(&format!("ended {}", libc::ECONNABORTED));

    drop(kernel);
    let kernel = bed.arm();
    child.go_on();
    redirected(&kernel, &v4, &unit.0);
    let child = child.says("connected");
    assert!(kernel.ended().unwrap().is_empty() && kernel.ended().unwrap().is_empty());

    kernel.withdraw(taken.enrolled.cgroup).unwrap();
    assert!(kernel.enrolled().unwrap().is_empty());
    child.go_on();
    drop(bed::accept(&target));
}

#[test]
fn a_cgroup_that_holds_the_door_or_an_agent_is_not_taken() {
    let bed = Bed::new(15153);
    let kernel = bed.arm();
    let unit = Unit::new(&bed, "vestibule-nested");
    let inner = unit.0.join("inner");
    std::fs::create_dir(&inner).unwrap();
    kernel.enroll_existing(&agent(), "one", &inner).unwrap();
    let root = bed.agents().ancestors().nth(2).unwrap().to_owned();
    for path in [&unit.0, &inner, &bed.agents(), &bed.proxy(), &root] {
        let refused = kernel.enroll_existing(&agent(), "two", path);
        assert!(
            matches!(refused, Err(Error::NotACgroupToEnrol(_))),
            "{}: {refused:?}",
            path.display()
        );
    }
    // One that is gone is forgotten.
    std::fs::remove_dir(&inner).unwrap();
    let ended = kernel.ended().unwrap();
    assert!(ended.is_empty());
    let ended = kernel.ended().unwrap();
    assert_eq!(ended.len(), 1);
    kernel.withdraw(ended[0]).unwrap();
    assert!(kernel.ended().unwrap().is_empty());
}
