//! The TLS taps with real clients of libssl: Python's ssl module (SSL_read_ex, SSL_write_ex) and
//! curl (SSL_read, SSL_write).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, Stdio};
use std::time::{Duration, Instant};

use redirect::Kernel;
use redirect::tap::{Change, Direction, Observed, SYSTEM_LIBRARIES, Tap};
use types::id::CgroupId;
use types::principal::ProcessKey;

use crate::agent;
use crate::bed::{Bed, Child};

/// A TLS connection within one process, over memory; `say(text)` has the client send to the server.
const MEMORY: &str = "
import ssl,sys
a,b=ssl.MemoryBIO(),ssl.MemoryBIO()
c=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT);c.check_hostname=False;c.verify_mode=ssl.CERT_NONE
s=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);s.load_cert_chain('PEM')
client,server=c.wrap_bio(a,b),s.wrap_bio(b,a,server_side=True)
done=set()
while len(done)<2:
    for end in (client,server):
        try: end.do_handshake();done.add(end)
        except ssl.SSLWantReadError: pass
def say(text):
    client.write(text)
    return server.read(len(text))
print('ready',flush=True);sys.stdin.readline()
";

/// What was observed, with plaintext of its own.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    process: ProcessKey,
    enrolled: CgroupId,
    direction: Direction,
    bytes: u64,
    truncated: bool,
    plaintext: Vec<u8>,
}

impl From<Observed<'_>> for Seen {
    fn from(observed: Observed<'_>) -> Self {
        let truncated = observed.truncated();
        let Observed { process, enrolled, direction, bytes, plaintext, .. } = observed;
        let plaintext = plaintext.to_owned();
        Self { process, enrolled, direction, bytes, truncated, plaintext }
    }
}

fn certificate(directory: &Path) -> PathBuf {
    let pem = directory.join("server.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bank"])
        .arg("-keyout")
        .arg(&pem)
        .arg("-out")
        .arg(directory.join("certificate.pem"))
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    let certificate = fs::read_to_string(directory.join("certificate.pem")).unwrap();
    fs::write(&pem, fs::read_to_string(&pem).unwrap() + &certificate).unwrap();
    pem
}

fn memory(pem: &Path, then: &str) -> String {
    MEMORY.replace("PEM", &pem.display().to_string()) + then
}

fn system_libraries() -> Vec<PathBuf> {
    SYSTEM_LIBRARIES.iter().map(PathBuf::from).collect()
}

/// The taps, on the system's libssl.
fn tap(kernel: &Kernel) -> Tap {
    let mut tap = kernel.tap(system_libraries()).unwrap();
    let changes = tap.scan(kernel).unwrap();
    assert!(matches!(changes.as_slice(), [Change::Attached(_)]), "{changes:?}");
    tap
}

/// What is observed until `enough`.
fn until(tap: &mut Tap, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        tap.take(usize::MAX, |observed| seen.push(observed.into()));
        if enough(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{seen:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn run(cgroup: &Path, program: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup);
    command.arg(program).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn what_an_agent_says_through_libssl_is_seen_and_nobody_elses() {
    let bed = Bed::new(15160);
    let kernel = bed.arm();
    let directory = tempfile::tempdir().unwrap();
    let pem = certificate(directory.path());
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let mut tap = tap(&kernel);
    let outsider = Child::python(
        &bed.outside(),
        &memory(&pem, "say(b'an outsider');print('done',flush=True)"),
    );
    let outsider = outsider.says("ready");
    outsider.go_on();
    drop(outsider.says("done"));
    let inside = Child::python(
        &enrolled.path,
        &memory(&pem, "say(b'GET /accounts');say(b'z'*10000);print('done',flush=True)"),
    );
    let inside = inside.says("ready");
    inside.go_on();
    let seen = until(&mut tap, |seen| seen.len() >= 4);
    let process = ProcessKey { tgid: inside.pid(), start_ns: seen[0].process.start_ns };
    assert_eq!(process.start_ns / 10_000_000, inside.start_ticks());
    let of = |direction, bytes: &[u8]| Seen {
        process,
        enrolled: enrolled.cgroup,
        direction,
        bytes: bytes.len() as u64,
        truncated: bytes.len() > 4096,
        plaintext: bytes[..bytes.len().min(4096)].to_owned(),
    };
    let expected = [&b"GET /accounts"[..], &[b'z'; 10_000]]
        .map(|text| [of(Direction::Sent, text), of(Direction::Received, text)]);
    assert_eq!(seen, expected.as_flattened());
    assert_eq!(tap.lost().unwrap(), redirect::tap::Lost::default());
}

#[test]
fn curl_as_an_agent_is_read_in_clear() {
    let bed = Bed::new(15161);
    let kernel = bed.arm();
    let directory = tempfile::tempdir().unwrap();
    let pem = certificate(directory.path());
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let mut tap = tap(&kernel);
    // The door's own listener: what the agent wanted to reach does not exist.
    let serve = ["s_server", "-quiet", "-WWW", "-accept", "15161", "-cert"];
    fs::write(directory.path().join("answer"), "the answer is 42").unwrap();
    let mut server = Command::new("sh");
    server.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(bed.proxy());
    server.arg("openssl").args(serve).arg(&pem).current_dir(directory.path());
    let mut server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let url = "https://203.0.113.7/answer";
    let fetch = ["-sk", "--retry", "20", "--retry-delay", "1", "--retry-connrefused", url];
    let curl = run(&enrolled.path, "curl", &fetch);
    let pid = curl.id();
    let output = curl.wait_with_output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("the answer is 42"), "{output:?}");
    let received = |seen: &[Seen]| -> Vec<u8> {
        let received = seen.iter().filter(|seen| seen.direction == Direction::Received);
        received.flat_map(|seen| seen.plaintext.clone()).collect()
    };
    let seen = until(&mut tap, |seen| received(seen).ends_with(b"the answer is 42"));
    assert!(seen.iter().all(|seen| seen.process.tgid == pid), "{seen:?}");
    let sent = seen.iter().find(|seen| seen.direction == Direction::Sent).unwrap();
    assert!(sent.plaintext.starts_with(b"GET /answer HTTP/1.1\r\nHost: 203.0.113.7\r\n"));
}

#[test]
fn a_library_that_only_the_agent_has_is_found_and_forgotten() {
    let bed = Bed::new(15162);
    let kernel = bed.arm();
    let directory = tempfile::tempdir().unwrap();
    let pem = certificate(directory.path());
    let own = directory.path().join("libssl.so.3");
    let system = system_libraries().into_iter().find(|path| path.exists()).unwrap();
    fs::copy(system, &own).unwrap();
    fs::write(directory.path().join("libssl-none.so"), "no library").unwrap();
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let mut tap = kernel.tap(vec![directory.path().join("libssl-none.so")]).unwrap();
    let changes = tap.scan(&kernel).unwrap();
    assert!(matches!(changes.as_slice(), [Change::Failed(..)]), "{changes:?}");
    let script = memory(&pem, "say(b'hello');print('done',flush=True)");
    let script =
        format!("import ctypes;ctypes.CDLL('{}',mode=ctypes.RTLD_GLOBAL)\n{script}", own.display());
    let child = Child::python(&enrolled.path, &script).says("ready");
    let changes = tap.scan(&kernel).unwrap();
    assert!(matches!(changes.as_slice(), [Change::Attached(path)] if *path == own), "{changes:?}");
    assert_eq!(tap.libraries().collect::<Vec<_>>(), [own.as_path()]);
    child.go_on();
    let seen = until(&mut tap, |seen| seen.len() >= 2);
    assert!(seen.iter().all(|seen| seen.plaintext == b"hello"), "{seen:?}");
    drop(child);
    let changes = tap.scan(&kernel).unwrap();
    assert!(matches!(changes.as_slice(), [Change::Detached(path)] if *path == own), "{changes:?}");
}

#[test]
fn what_finds_no_room_is_counted_and_the_rest_goes_on() {
    let bed = Bed::new(15163);
    let kernel = bed.arm();
    let directory = tempfile::tempdir().unwrap();
    let pem = certificate(directory.path());
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let mut tap = tap(&kernel);
    let then = "
for _ in range(1000): say(b'x'*1000)
print('full',flush=True);sys.stdin.readline();say(b'after');print('done',flush=True)";
    let child = Child::python(&enrolled.path, &memory(&pem, then)).says("ready");
    child.go_on();
    let child = child.says("full");
    let mut taken = 0;
    while tap.take(100, |_| taken += 1) > 0 {}
    let lost = tap.lost().unwrap();
    assert_eq!(taken + lost.ring, 2000);
    assert!(lost.ring > 0 && lost.calls == 0, "{lost:?}");
    child.go_on();
    let seen = until(&mut tap, |seen| seen.len() >= 2);
    assert!(seen.iter().all(|seen| seen.plaintext == b"after"), "{seen:?}");
}

#[test]
fn a_call_whose_thread_was_killed_is_forgotten() {
    let bed = Bed::new(15164);
    let kernel = bed.arm();
    let directory = tempfile::tempdir().unwrap();
    let pem = certificate(directory.path());
    let enrolled = kernel.enroll(&agent(), "one", None).unwrap();
    let mut tap = tap(&kernel);
    let script = format!(
        "import socket,ssl,threading
c=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT);c.check_hostname=False;c.verify_mode=ssl.CERT_NONE
s=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);s.load_cert_chain('{}')
a,b=socket.socketpair()
ends=[]
def serve(): ends.append(s.wrap_socket(b,server_side=True))
t=threading.Thread(target=serve);t.start()
client=c.wrap_socket(a);t.join()
print('ready',flush=True)
client.recv(1)",
        pem.display()
    );
    let child = Child::python(&enrolled.path, &script).says("ready");
    let deadline = Instant::now() + Duration::from_secs(10);
    while tap.under_way().unwrap() == 0 {
        assert!(Instant::now() < deadline, "nobody waits in SSL_read");
        std::thread::sleep(Duration::from_millis(10));
    }
    tap.scan(&kernel).unwrap();
    assert_eq!(tap.under_way().unwrap(), 1);
    drop(child);
    assert_eq!(tap.under_way().unwrap(), 1);
    tap.scan(&kernel).unwrap();
    assert_eq!(tap.under_way().unwrap(), 0);
}
