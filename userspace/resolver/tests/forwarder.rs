//! The forwarder between real sockets, a real journal, the shipped policies and a real server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use identity::names::Names;
use identity::processes::Host;
use identity::{Enrollments, Processes};
use journal::assemble::Rows;
use journal::clock::SystemClock;
use journal::recorder::{Options as JournalOptions, Recorder, Reserve};
use journal::row::Row;
use policy::{PolicySet, PolicySource};
use resolver::counters::Counters;
use resolver::hosts::Hosts;
use resolver::{Asker, Handle, Options, Progress, Resources, Socket, Targets};
use tokio::sync::watch;
use types::accepted::Accepted;
use types::addr::OrigDst;
use types::clock::Clock;
use types::exec::Exec;
use types::id::CgroupId;
use types::principal::{Process, ProcessKey, Provenance};

const AGENT: CgroupId = CgroupId(7);
const NETNS: u64 = 1;
const ASKED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);

/// dnsmasq with a name, TXT and more addresses than a datagram holds.
struct Server {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let hosts = directory.path().join("hosts");
        let mut lines = vec!["10.0.0.9 db.bank.example".to_owned()];
        lines.extend((0..200).map(|n| format!("10.77.0.{n} big.bank.example")));
        std::fs::write(&hosts, lines.join("\n") + "\n").unwrap();
        let child = Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null"])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--pid-file"])
            .args(["--local=/example/", "--local-ttl=5", "--log-facility=-"])
            .arg("--txt-record=db.bank.example,some data")
            .arg(format!("--port={port}"))
            .arg(format!("--addn-hosts={}", hosts.display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq: cargo xtask setup");
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            sleep(Duration::from_millis(100));
        }
        Self { child, port, _directory: directory }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Says that whoever sends is the agent, but for what comes from another network namespace.
struct Kernel;

impl Asker for Kernel {
    fn asker(&self, netns_cookie: u64, client: SocketAddr) -> io::Result<Accepted> {
        if netns_cookie != NETNS {
            return Err(io::Error::other("no record"));
        }
        Ok(accepted(client))
    }

    fn connection_ended(&self, _: u64, _: u64, _: u64) {}
}

fn accepted(source: SocketAddr) -> Accepted {
    let process = Process {
        key: ProcessKey { tgid: std::process::id(), start_ns: 1 },
        provenance: Provenance::default(),
        uid: 1000,
        gid: 1000,
        cgroup: AGENT,
        exe: None,
        exe_path: None,
        exe_sha256: None,
        comm: "test".into(),
    };
    Accepted {
        orig_dst: OrigDst(ASKED),
        source,
        process,
        confinement: None,
        enrolled: AGENT,
        netns_cookie: NETNS,
        socket_cookie: 9,
    }
}

/// Everything below bank.example is a target.
struct Bank;

impl Targets for Bank {
    fn is_target(&self, name: &str) -> bool {
        name.ends_with(".bank.example")
    }

    fn is_listed(&self, name: &str) -> bool {
        name == "db.bank.example"
    }

    fn has_address(&self, _: IpAddr) -> bool {
        false
    }
}

struct NoHost;

impl Host for NoHost {
    fn take_execs(&self, _: &mut dyn FnMut(Exec)) {}

    fn cgroup_path(&self, _: CgroupId) -> Option<String> {
        None
    }
}

struct Forwarder {
    addr: SocketAddr,
    handle: Handle,
    names: Arc<Names>,
    counters: Arc<Counters>,
    recorder: Recorder,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    directory: tempfile::TempDir,
}

impl Forwarder {
    fn start(upstream: u16, queries_per_second: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let progress = Arc::new(Progress::default());
        let publish = Arc::clone(&progress);
        let mut options = JournalOptions::new(directory.path(), "test", 1);
        options.reserve = Reserve { percent: 0, bytes: 0 };
        options.segment_bytes = 1024 * 1024;
        let on_durable = Box::new(move |durable| publish.publish(&durable));
        let (recorder, _) = Recorder::open(&options, Arc::clone(&clock), on_durable).unwrap();
        let enrollments = Enrollments::default();
        enrollments.add(AGENT, "analyst".parse().unwrap(), "1".into(), None).unwrap();
        let (names, counters) = (Arc::new(Names::default()), Arc::new(Counters::default()));
        let resources = Resources {
            asker: Arc::new(Kernel),
            targets: Arc::new(Bank),
            enrollments: Arc::new(enrollments),
            processes: Arc::new(Processes::new(NoHost)),
            guarded: false,
            policy: Arc::new(PolicySet::compile(&shipped()).unwrap()),
            recorder: recorder.clone(),
            clock,
            names: Arc::clone(&names),
            counters: Arc::clone(&counters),
        };
        let options = Options {
            upstream: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, upstream))],
            hosts: Arc::new(Hosts::parse("10.9.9.9 hosted.example\n")),
            queries_per_second,
        };
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let sockets = vec![Socket { netns_cookie: NETNS, socket }];
        let (stop, stopped) = watch::channel(false);
        let (handle, thread) =
            resolver::start(resources, options, sockets, &progress, stopped).unwrap();
        Self { addr, handle, names, counters, recorder, stop, thread, directory }
    }

    fn ask(&self, name: &str, record_type: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.addr).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.send(&question(name, record_type)).unwrap();
        let mut bytes = [0; 4_096];
        let length = socket.recv(&mut bytes).unwrap();
        Message::from_vec(&bytes[..length]).unwrap()
    }

    fn ask_by_stream(&self, name: &str) -> Message {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (served, peer) = listener.accept().unwrap();
        served.set_nonblocking(true).unwrap();
        let record = accepted(peer);
        let principal = types::principal::Principal {
            agent: "analyst".parse().unwrap(),
            instance: "1".into(),
            chain: ["analyst".parse().unwrap()].into(),
            identity: Arc::default(),
            process: record.process.clone(),
            assurance: types::principal::Assurance::A0,
        };
        assert!(self.handle.serve(served, record, principal));
        let question = question(name, RecordType::A);
        let length = u16::try_from(question.len()).unwrap().to_be_bytes();
        client.write_all(&[&length[..], &question].concat()).unwrap();
        let mut length = [0; 2];
        client.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
        client.read_exact(&mut bytes).unwrap();
        Message::from_vec(&bytes).unwrap()
    }

    /// Ends it; answers the rows of its journal.
    fn end(self) -> Vec<Row> {
        let Self { recorder, stop, thread, directory, .. } = self;
        stop.send(true).unwrap();
        thread.join().unwrap();
        recorder.close().unwrap();
        let mut rows = Rows::open(directory.path(), 0, None).unwrap();
        std::iter::from_fn(|| rows.next_row().unwrap()).collect()
    }
}

fn shipped() -> PolicySource {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let files = std::fs::read_dir(directory).unwrap().flatten().filter(|e| e.path().is_file());
    let text = |path| std::fs::read_to_string(path).unwrap();
    PolicySource::from_files(
        files.map(|e| (e.file_name().to_string_lossy().into_owned(), text(e.path()))),
    )
    .unwrap()
}

fn question(name: &str, record_type: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    let mut edns = Edns::new();
    edns.set_max_payload(1_232);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

/// The code of the Extended DNS Error, and its text.
fn explanation(message: &Message) -> (u8, String) {
    use hickory_resolver::proto::rr::rdata::opt::EdnsOption;
    let option = message.edns.as_ref().unwrap().option(15.into()).expect("an explanation");
    let EdnsOption::Unknown(_, data) = option else { panic!("{option:?}") };
    (data[1], String::from_utf8_lossy(&data[2..]).into_owned())
}

#[test]
fn a_permitted_name_is_asked_of_the_operators_server_and_kept() {
    let server = Server::start();
    let forwarder = Forwarder::start(server.port, 50);
    let answer = forwarder.ask("Db.Bank.example.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    let ip: IpAddr = "10.0.0.9".parse().unwrap();
    assert_eq!(answer.answers[0].data.ip_addr(), Some(ip));
    let now_ns = SystemClock.now().mono_ns;
    assert_eq!(&*forwarder.names.of(AGENT, ip, now_ns)[0], "db.bank.example");
    assert!(forwarder.names.of(CgroupId(8), ip, now_ns).is_empty(), "another agent's");
    assert_eq!(forwarder.ask("hosted.example.", RecordType::A).answers.len(), 1);
    let none = forwarder.ask("none.bank.example.", RecordType::A);
    assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
    let rows = forwarder.end();
    let events: Vec<_> = rows
        .iter()
        .filter_map(|row| match row {
            Row::Event(event) => Some(event),
            _ => None,
        })
        .collect();
    let told: Vec<_> = events
        .iter()
        .map(|e| {
            (
                &*e.statement.objects[0],
                &*e.statement.verb,
                &*e.decision,
                &*e.status,
                e.error_code.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("db.bank.example", "A", "allow", "ok", None),
            ("hosted.example", "A", "allow", "ok", None),
            ("none.bank.example", "A", "allow", "error", Some("DNS03")),
        ]
    );
    assert_eq!(
        events[0].session.dst_ip.as_deref(),
        Some("192.0.2.53"),
        "the server that was asked"
    );
    let sessions = rows.iter().filter(|row| matches!(row, Row::Session(_))).count();
    assert_eq!(sessions, 1, "one process, one session");
    let answered = rows.iter().any(|row| {
        matches!(row, Row::Recording(r) if r.response_sample.as_ref().is_some_and(|s| s.contains("10.0.0.9")))
    });
    assert!(answered, "names and addresses are recorded");
}

#[test]
fn a_refusal_names_its_policy_and_is_recorded() {
    let server = Server::start();
    let forwarder = Forwarder::start(server.port, 50);
    for (name, record_type, rule) in [
        ("data.attacker.example.", RecordType::A, "default-deny"),
        ("db.bank.example.", RecordType::TXT, "default-deny"),
        ("db.bank.example.", RecordType::ANY, "default-deny"),
        ("db.bank.example.", RecordType::NULL, "default-deny"),
        (
            "mzxw6ytboi2dsnrrgiydanzqmzxw6ytboi2dsnrrgiyda.bank.example.",
            RecordType::A,
            "no-dns-tunnel",
        ),
    ] {
        let answer = forwarder.ask(name, record_type);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
        let (code, text) = explanation(&answer);
        assert!(code == 15 && text.contains(rule), "{name}: {code} {text}");
    }
    assert_eq!(forwarder.counters.refused.get(), 5);
    let denied =
        |row: &Row| matches!(row, Row::Event(e) if e.decision == "deny" && e.status == "denied");
    assert_eq!(forwarder.end().iter().filter(|row| denied(row)).count(), 5);
}

#[test]
fn what_no_datagram_holds_is_cut_and_comes_by_stream() {
    let server = Server::start();
    let forwarder = Forwarder::start(server.port, 50);
    let cut = forwarder.ask("big.bank.example.", RecordType::A);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(forwarder.ask_by_stream("big.bank.example.").answers.len(), 200);
    forwarder.end();
}

#[test]
fn without_the_operators_server_a_lookup_fails_and_says_so() {
    let mut server = Server::start();
    server.kill();
    let forwarder = Forwarder::start(server.port, 50);
    let answer = forwarder.ask("db.bank.example.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    let (code, text) = explanation(&answer);
    assert!([22, 23].contains(&code), "{code} {text}");
    forwarder.end();
}

#[test]
fn an_agent_may_ask_so_much_and_no_more() {
    let server = Server::start();
    let forwarder = Forwarder::start(server.port, 1);
    let codes: Vec<_> = (0..8)
        .map(|_| forwarder.ask("hosted.example.", RecordType::A).metadata.response_code)
        .collect();
    assert!(codes[..4].iter().all(|code| *code == ResponseCode::NoError), "{codes:?}");
    assert!(codes[4..].contains(&ResponseCode::Refused), "{codes:?}");
    assert!(forwarder.counters.limited.get() > 0);
    let limited = |row: &Row| matches!(row, Row::Control(c) if c.kind == "dns.limited");
    assert!(forwarder.end().iter().any(limited));
}

#[test]
fn garbage_and_strangers_are_counted_and_the_rest_goes_on() {
    let server = Server::start();
    let forwarder = Forwarder::start(server.port, 50);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..40_usize {
        let byte = u8::try_from(length * 5).unwrap();
        socket.send_to(&vec![byte; length * 3], forwarder.addr).unwrap();
    }
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let there = elsewhere.local_addr().unwrap();
    assert!(forwarder.handle.listen(Socket { netns_cookie: 2, socket: elsewhere }));
    socket.send_to(&question("db.bank.example.", RecordType::A), there).unwrap();
    let answer = forwarder.ask("db.bank.example.", RecordType::A);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    for _ in 0..100 {
        if forwarder.counters.strangers.get() == 1 && forwarder.counters.malformed.get() == 40 {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    let Counters { malformed, strangers, queries, .. } = &*forwarder.counters;
    assert_eq!((malformed.get(), strangers.get(), queries.get()), (40, 1, 1));
    forwarder.end();
}
