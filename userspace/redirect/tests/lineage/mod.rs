//! Whom agents' processes descend from and what they were started as, as the kernel saw it.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use redirect::Kernel;
use types::accepted::Accepted;
use types::exec::Exec;
use types::principal::ProcessKey;

use crate::agent;
use crate::bed::{self, Bed, Child, connect_script};

fn next(kernel: &Kernel, listener: &TcpListener) -> Accepted {
    let (socket, source) = bed::accept(listener);
    kernel.accepted(socket.as_fd(), source).unwrap()
}

fn execs(kernel: &Kernel) -> Vec<Exec> {
    let mut found = Vec::new();
    kernel.take_execs(&mut |exec| found.push(exec));
    found
}

fn arguments(exec: &Exec) -> Vec<&str> {
    let text = str::from_utf8(&exec.arguments).unwrap();
    text.trim_end_matches('\0').split('\0').collect()
}

fn tgids(ancestors: &[ProcessKey]) -> Vec<u32> {
    ancestors.iter().map(|ancestor| ancestor.tgid).collect()
}

/// The agent forks, the child becomes a session's leader and forks, then both parents end: the
/// connection still names them, though the kernel's own parent is another by then.
#[test]
fn double_fork_and_setsid_keep_the_true_parents() {
    let bed = Bed::new(15120);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let script = "
import os,socket,sys,time
def born():
    return int(open('/proc/self/stat').read().rsplit(') ',1)[1].split()[19])
top, top_born = os.getpid(), born()
if os.fork() == 0:
    os.setsid()
    middle, middle_born = os.getpid(), born()
    if os.fork() == 0:
        while os.getppid() == middle:
            time.sleep(0.001)
        print(os.getpid(), middle, middle_born, top, top_born, os.getppid(), flush=True)
        s = socket.socket(); s.connect(('203.0.113.7', 5432))
    os._exit(0)
os.wait()
sys.stdin.read()";
    let child = Child::python(&enrolled.path, script);
    let top = child.pid();
    let accepted = next(&kernel, &v4);
    let said: Vec<u64> = child.said().split(' ').map(|number| number.parse().unwrap()).collect();
    let [own, middle, middle_born, first, first_born, adopter] = said[..] else {
        panic!("{said:?}")
    };
    let process = &accepted.process;
    let provenance = &process.provenance;
    assert_eq!((u64::from(process.key.tgid), u64::from(top)), (own, first));
    assert!(adopter != middle && adopter != first, "it has been adopted");
    assert!(provenance.whole);
    let seen: Vec<_> = provenance
        .ancestors
        .iter()
        .take(2)
        .map(|key| (u64::from(key.tgid), key.start_ns / 10_000_000))
        .collect();
    assert_eq!(seen, [(middle, middle_born), (first, first_born)]);
    // Above the agent: this test, as its launcher.
    assert_eq!(provenance.ancestors[2].tgid, std::process::id());
    assert_eq!(provenance.image.unwrap().tgid, top, "it runs what its grandparent started");
}

#[test]
fn what_a_process_was_started_as_is_known_after_its_end() {
    let bed = Bed::new(15121);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let script = connect_script("import socket;s=socket.socket();s.connect", "203.0.113.7", 5432);
    let child = Child::python(&enrolled.path, &script);
    assert!(std::process::Command::new("/bin/true").status().unwrap().success());
    let accepted = next(&kernel, &v4);
    let exe = std::fs::metadata(format!("/proc/{}/exe", child.pid())).unwrap();
    drop(child);
    let image = accepted.process.provenance.image.expect("its exec was seen");
    let execs = execs(&kernel);
    let exec = execs.iter().rev().find(|exec| exec.image == image).expect("in the ring");
    let arguments = arguments(exec);
    assert!(arguments[0].ends_with("python3"), "{arguments:?}");
    assert_eq!(arguments[1..], ["-I", "-S", "-c", &script]);
    assert_eq!((exec.process, exec.cut), (accepted.process.key, false));
    assert!(exec.path.ends_with(b"/python3"), "{:?}", exec.path);
    assert_eq!(exec.exe, accepted.process.exe);
    assert_eq!(exec.exe.unwrap().ino, exe.ino());
    // Nobody else's is in the ring.
    assert!(execs.iter().all(|exec| !exec.path.ends_with(b"/true")));
}

#[test]
fn arguments_beyond_a_page_are_cut() {
    let bed = Bed::new(15122);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    for length in [10, 4000, 4096, 5000, 100_000] {
        let script = format!("print('ran') #{}", "x".repeat(length));
        assert_eq!(Child::python(&enrolled.path, &script).said(), "ran");
        let found = execs(&kernel);
        let exec = found.last().unwrap();
        let whole = format!("{}\0-I\0-S\0-c\0{script}\0", arguments(exec)[0]);
        assert_eq!(exec.cut, whole.len() >= 4096, "{length}");
        assert!(whole.as_bytes().starts_with(&exec.arguments), "{length}");
        assert_eq!(exec.arguments.len(), whole.len().min(4095), "{length}");
    }
}

#[test]
fn what_holds_a_process_back_is_read_at_its_connect() {
    let bed = Bed::new(15123);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let connect = |start: &str| {
        let child = Child::python(&enrolled.path, &connect_script(start, "203.0.113.7", 5432));
        let accepted = next(&kernel, &v4);
        drop(child);
        assert_eq!(accepted.confinement, accepted.process.provenance.confinement);
        accepted.confinement.unwrap()
    };
    let free = connect("import socket;s=socket.socket();s.connect");
    assert_eq!((free.euid, free.no_new_privs, free.seccomp_filter), (0, false, false));
    assert_ne!(free.effective_capabilities, 0);
    // PR_SET_NO_NEW_PRIVS is 38, PR_SET_SECCOMP 22, SECCOMP_MODE_FILTER 2; the one instruction
    // returns SECCOMP_RET_ALLOW.
    let held = connect(
        "import ctypes,os,socket,struct;c=ctypes.CDLL(None);os.setgid(4321);os.setuid(1234);\
         assert c.prctl(38,1,0,0,0)==0;\
         i=ctypes.create_string_buffer(struct.pack('HBBI',6,0,0,0x7fff0000),8);\
         p=ctypes.create_string_buffer(struct.pack('HxxxxxxP',1,ctypes.addressof(i)),16);\
         assert c.prctl(22,2,p,0,0)==0;\
         s=socket.socket();s.connect",
    );
    assert_eq!((held.euid, held.effective_capabilities), (1234, 0));
    assert_eq!((held.no_new_privs, held.seccomp_filter), (true, true));
    let effective = connect("import os,socket;os.seteuid(1234);s=socket.socket();s.connect");
    assert_eq!((effective.euid, effective.effective_capabilities), (1234, 0));
}

/// Between two daemons the programs go on: neither forks nor execs are lost.
#[test]
fn without_a_daemon_descent_is_still_followed() {
    let bed = Bed::new(15124);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    drop(kernel);
    let script = "
import os,socket,sys
r,w=os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.read(r,1)
        s = socket.socket(); s.connect(('203.0.113.7', 5432))
    os._exit(0)
os.wait()
print('forked', flush=True)
sys.stdin.readline()
os.write(w,b'x')
sys.stdin.read()";
    let child = Child::python(&enrolled.path, script).says("forked");
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    child.hears("go");
    let accepted = next(&kernel, &v4);
    let provenance = &accepted.process.provenance;
    assert!(provenance.whole);
    assert_eq!(provenance.ancestors[1].tgid, child.pid(), "{:?}", tgids(&provenance.ancestors));
    let image = provenance.image.unwrap();
    assert!(execs(&kernel).iter().any(|exec| exec.image == image));
    assert_eq!(kernel.lost().unwrap(), redirect::Lost::default());
}

/// Descendants for which there was no room connect all the same, and their records say that their
/// parents are as they stand; so do starts after that, which may be descendants that were missed.
#[test]
fn without_room_descent_is_not_claimed() {
    let bed = Bed::new(15125);
    let kernel = bed.arm();
    let (v4, _v6) = bed.listen();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let script = "
import os,socket,sys
print('runs', flush=True)
sys.stdin.readline()
if os.fork() == 0:
    s = socket.socket(); s.connect(('203.0.113.7', 5432))
    os._exit(0)
os.wait()
sys.stdin.read()";
    let child = Child::python(&enrolled.path, script).says("runs");
    bed.fill_processes();
    child.hears("go");
    let accepted = next(&kernel, &v4);
    let provenance = &accepted.process.provenance;
    assert!(!provenance.whole && provenance.image.is_none());
    assert_eq!(provenance.ancestors[0].tgid, child.pid(), "{:?}", tgids(&provenance.ancestors));
    assert_eq!(accepted.enrolled, enrolled.cgroup);
    assert!(kernel.lost().unwrap().processes >= 1);
    bed.empty_processes();
    let _later = Child::connect(&enrolled.path, "203.0.113.7", 5432);
    let provenance = next(&kernel, &v4).process.provenance;
    assert!(!provenance.whole && provenance.image.is_some());
}

#[test]
fn entries_leave_with_their_processes() {
    let bed = Bed::new(15126);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    // Threads and an exec by a thread that is not the leader are part of it.
    let script = "
import os,subprocess,sys,threading
for _ in range(50):
    if os.fork() == 0:
        t = threading.Thread(target=lambda: None); t.start(); t.join()
        os._exit(0)
    os.wait()
if os.fork() == 0:
    threading.Thread(target=lambda: os.execvp('true', ['true'])).start()
else:
    os.wait()
    print('done', flush=True)
    sys.stdin.read()";
    let child = Child::python(&enrolled.path, script).says("done");
    assert_eq!(bed.processes(), [child.pid()]);
    drop(child);
    assert_eq!(bed.processes(), Vec::<u32>::new());
}

/// A cgroup's directory is found by its id.
#[test]
fn a_cgroup_has_its_path() {
    let bed = Bed::new(15127);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    assert_eq!(kernel.cgroup_path(enrolled.cgroup).unwrap(), enrolled.path);
    kernel.withdraw(enrolled.cgroup).unwrap();
    assert!(kernel.cgroup_path(enrolled.cgroup).is_err());
}
