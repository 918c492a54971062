//! A slice, a pin directory and a port for one test, and processes to put into cgroups.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aya::maps::{HashMap, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use redirect::{Guard, Kernel, Options, Unix};
use redirect_common::{
    ABI, AllowedKey, ConnectRecord, DatagramKey, FlowKey, Lineage, Listener, MAX_DATAGRAMS,
    MAX_FLOWS, MAX_PROCESSES, ProcessId,
};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Removed with all that is in it when dropped; then this process is back where it was.
pub(crate) struct Bed {
    root: PathBuf,
    home: PathBuf,
    slice: String,
    pin_dir: PathBuf,
    port: u16,
    dns_port: u16,
    _turn: MutexGuard<'static, ()>,
}

impl Bed {
    pub(crate) fn new(port: u16) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("cgroup v2");
        let root = PathBuf::from(line.split(' ').nth(4).unwrap());
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
        let home = cgroup.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        let name = format!("vestibule-redirect-{}-{port}", std::process::id());
        Self {
            home: root.join(home),
            root,
            pin_dir: Path::new("/sys/fs/bpf").join(&name),
            slice: name,
            port,
            dns_port: port + 1000,
            _turn: turn,
        }
    }

    /// Where DNS goes nowhere.
    pub(crate) fn without_forwarder(port: u16) -> Self {
        let mut bed = Self::new(port);
        bed.dns_port = 0;
        bed
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            cgroup_root: None,
            slice: self.slice.clone(),
            pin_dir: self.pin_dir.clone(),
            listener_port: self.port,
            dns_port: self.dns_port,
            guard: Guard::default(),
            unix: Unix::default(),
        }
    }

    pub(crate) fn arm(&self) -> Kernel {
        Kernel::arm(self.options()).unwrap_or_else(|error| panic!("{error:#?}"))
    }

    pub(crate) fn listen(&self) -> (TcpListener, TcpListener) {
        let bind = |host| TcpListener::bind((host, self.port)).unwrap();
        (bind("127.0.0.1"), bind("::1"))
    }

    /// Sockets at the DNS forwarder's place.
    pub(crate) fn forward(&self) -> (UdpSocket, UdpSocket) {
        let bind = |host| UdpSocket::bind((host, self.dns_port)).unwrap();
        (bind("127.0.0.1"), bind("::1"))
    }

    pub(crate) fn dns_port(&self) -> u16 {
        self.dns_port
    }

    /// This network namespace's, as the armed hooks know it.
    pub(crate) fn netns_cookie(&self) -> u64 {
        self.map::<u64, Listener>("LISTENERS").keys().next().unwrap().unwrap()
    }

    pub(crate) fn agents(&self) -> PathBuf {
        self.root.join(&self.slice).join("agents")
    }

    pub(crate) fn proxy(&self) -> PathBuf {
        self.root.join(&self.slice).join("proxy")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.home.clone()
    }

    /// Where this version's maps and links are pinned.
    pub(crate) fn pins(&self) -> PathBuf {
        self.pin_dir.join(format!("{ABI:016x}"))
    }

    /// Name, link id and program id of every pinned link.
    pub(crate) fn programs(&self) -> Vec<(PathBuf, u32, u32)> {
        let directory = self.pin_dir.join(format!("{ABI:016x}"));
        let mut links: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .filter_map(|pin| {
                let path = pin.unwrap().path();
                // Maps have names in capitals; tracepoints' links are made anew.
                let name = path.file_name()?.to_str()?;
                if name == name.to_uppercase() || name.starts_with("sched_") {
                    return None;
                }
                let info = FdLink::from(PinnedLink::from_pin(&path).ok()?).info().ok()?;
                Some((path, info.id(), info.program_id()))
            })
            .collect();
        links.sort();
        links
    }

    /// Makes the pins look like those of another version.
    pub(crate) fn rename_version(&self) {
        let version = self.pin_dir.join(format!("{ABI:016x}"));
        fs::rename(version, self.pin_dir.join("0123456789abcdef")).unwrap();
    }

    /// Entries in the map of flows.
    pub(crate) fn flows(&self) -> usize {
        self.map::<FlowKey, ConnectRecord>("FLOWS").keys().count()
    }

    /// Leaves no room in the map of flows.
    pub(crate) fn fill_flows(&self) {
        let mut map = self.map::<FlowKey, ConnectRecord>("FLOWS");
        for number in 0..MAX_FLOWS {
            let key = FlowKey { netns_cookie: u64::MAX, pad: number, ..FlowKey::default() };
            map.insert(key, ConnectRecord::default(), 0).unwrap();
        }
    }

    /// Entries in the map of who sends datagrams.
    pub(crate) fn datagrams(&self) -> usize {
        self.map::<DatagramKey, ConnectRecord>("DATAGRAMS").keys().count()
    }

    /// Leaves no room there.
    pub(crate) fn fill_datagrams(&self) {
        let mut map = self.map::<DatagramKey, ConnectRecord>("DATAGRAMS");
        for number in 0..u64::from(MAX_DATAGRAMS) {
            let key = DatagramKey { netns_cookie: u64::MAX - number, ..DatagramKey::default() };
            map.insert(key, ConnectRecord::default(), 0).unwrap();
        }
    }

    /// Has the programs take an enrolled cgroup for revoked; its sockets stay open.
    pub(crate) fn revoke(&self, cgroup: u64) {
        self.map::<u64, u32>("ENROLLED").insert(cgroup, redirect_common::MODE_REVOKED, 0).unwrap();
    }

    /// Entries in the map of what is allowed.
    pub(crate) fn allowed(&self) -> usize {
        self.map::<AllowedKey, u32>("DATAGRAMS_ALLOWED").keys().count()
    }

    fn map<K: aya::Pod, V: aya::Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        let path = self.pin_dir.join(format!("{ABI:016x}")).join(name);
        HashMap::try_from(aya::maps::Map::HashMap(MapData::from_pin(path).unwrap())).unwrap()
    }
}

impl Bed {
    /// Thread group ids of the processes that are followed.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.process_map().keys().map(|key| key.unwrap().tgid).collect()
    }

    /// Leaves no room for another process.
    pub(crate) fn fill_processes(&self) {
        let mut map = self.process_map();
        let mut number = 0;
        let full = |number| ProcessId { start_ns: number, tgid: u32::MAX, pad: 0 };
        while map.insert(full(number), Lineage::default(), 0).is_ok() {
            number += 1;
        }
        assert!(number > u64::from(MAX_PROCESSES) - 100);
    }

    /// Takes out what [`Self::fill_processes`] put in.
    pub(crate) fn empty_processes(&self) {
        let mut map = self.process_map();
        let filled: Vec<_> = map.keys().map(Result::unwrap).collect();
        for key in filled.iter().filter(|key| key.tgid == u32::MAX) {
            map.remove(key).unwrap();
        }
    }

    fn process_map(&self) -> HashMap<MapData, ProcessId, Lineage> {
        let path = self.pin_dir.join(format!("{ABI:016x}")).join("PROCESSES");
        let map = aya::maps::Map::HashMap(MapData::from_pin(path).unwrap());
        HashMap::try_from(map).unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        drop(fs::write(self.home.join("cgroup.procs"), "0"));
        drop(fs::write(self.root.join(&self.slice).join("cgroup.kill"), "1"));
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.pin_dir.exists() || self.root.join(&self.slice).exists() {
            drop(redirect::disarm(&self.pin_dir, &self.slice));
            remove(&self.root.join(&self.slice));
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    drop(fs::remove_dir(directory));
}

/// A process in a cgroup; killed when dropped.
pub(crate) struct Child(std::process::Child);

impl Child {
    /// Connects by TCP, says the peer's name or the error, and keeps the connection.
    pub(crate) fn connect(cgroup: &Path, host: &str, port: u16) -> Self {
        let family = if host.contains(':') { "AF_INET6" } else { "AF_INET" };
        let start = format!("import socket;s=socket.socket(socket.{family});s.connect");
        Self::python(cgroup, &connect_script(&start, host, port))
    }

    /// Python without its site module, and by its own name: both that module and a shell script in
    /// its place may ask the name service, over an AF_UNIX socket, which is one more thing refused.
    pub(crate) fn python(cgroup: &Path, script: &str) -> Self {
        let shell = "echo $$ > \"$0/cgroup.procs\" && exec /usr/bin/python3 -I -S -c \"$1\"";
        let child = Command::new("sh")
            .args(["-c", shell])
            .arg(cgroup)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The line it prints.
    pub(crate) fn said(mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Waits for the line, and lets the process go on.
    pub(crate) fn says(mut self, expected: &str) -> Self {
        assert_eq!(self.line(), expected);
        self
    }

    /// The next line, and no byte of those after it.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let mut out = BufReader::with_capacity(1, self.0.stdout.as_mut().unwrap());
        out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Writes the line that it waits for.
    pub(crate) fn go_on(&self) {
        self.0.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
    }

    /// Gives it a line.
    pub(crate) fn hears(&self, line: &str) {
        writeln!(self.0.stdin.as_ref().unwrap(), "{line}").unwrap();
    }

    /// Field 22 of proc_pid_stat(5).
    pub(crate) fn start_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
    }

    pub(crate) fn exe_inode(&self) -> u64 {
        fs::metadata(format!("/proc/{}/exe", self.pid())).unwrap().ino()
    }

    pub(crate) fn comm(&self) -> String {
        fs::read_to_string(format!("/proc/{}/comm", self.pid())).unwrap().trim().to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// `start` ends in a call without arguments.
pub(crate) fn connect_script(start: &str, host: &str, port: u16) -> String {
    let (setup, call) = start.rsplit_once(';').unwrap();
    format!(
        "{setup}
import sys
try:
    {call}(('{host}', {port}))
    print('peer', *s.getpeername()[:2], flush=True)
except OSError as e:
    print('error', e.errno, flush=True)
sys.stdin.read()"
    )
}

/// Accepts within ten seconds.
pub(crate) fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match listener.accept() {
            Ok(accepted) => return accepted,
            Err(error) => assert!(Instant::now() < deadline, "nobody connected: {error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
