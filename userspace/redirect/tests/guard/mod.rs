//! The guard on the running kernel: agents held where it runs BPF LSM programs, a clear answer
//! where it does not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use redirect::guard::Mode;
use redirect::{Error, Guard, Kernel, Unix, unix};

use crate::bed::Bed;

/// Attempts that must succeed; all others must not.
const ALLOWED: [&str; 15] = [
    "own_child",
    "null_device",
    "random_device",
    "own_comm",
    "own_thread_name",
    "own_oom",
    "own_file",
    "other_user",
    "netlink_route",
    "tcp",
    "udp",
    "unix_allowed",
    "unix_own",
    "unix_pair",
    "fixed_read",
];

#[test]
fn agents_that_run_as_root_are_held_or_the_reason_is_told() {
    let bed = Bed::new(15_471);
    let scene = Scene::new();
    let arm = |mode| {
        let mut options = bed.options();
        options.guard = scene.guard(mode);
        options.unix = scene.unix();
        Kernel::arm(options)
    };
    let kernel = arm(Mode::Auto).unwrap_or_else(|error| panic!("{error:#?}"));
    let Some(reason) = kernel.unguarded() else {
        return hold(&bed, &scene, kernel, &arm);
    };
    assert!(reason.contains("program learn") || reason.contains("LSM"), "{reason}");
    assert!(!bed.pins().join("guard").exists());
    drop(kernel);
    let refused = arm(Mode::Required).unwrap_err();
    assert!(refused.to_string().contains("kernel.guard is required"), "{refused}");
}

#[test]
fn a_guard_turned_off_leaves_no_program() {
    let bed = Bed::new(15_472);
    let mut options = bed.options();
    drop(Kernel::arm(options.clone()).unwrap_or_else(|error| panic!("{error:#?}")));
    options.guard = Guard { mode: Mode::Off, ..Guard::default() };
    let kernel = Kernel::arm(options).unwrap_or_else(|error| panic!("{error:#?}"));
    assert_eq!(kernel.unguarded(), Some("turned off by configuration"));
    assert!(!kernel.guard_armed());
    assert!(!bed.pins().join("guard").exists());
}

#[test]
fn agents_write_no_kernel_parameter() {
    let bed = Bed::new(15_473);
    let kernel = bed.arm();
    let enrolled = kernel.enroll(&"tuner".parse().unwrap(), "1", None).unwrap();
    let write = "cat /proc/sys/kernel/printk_delay; echo 0 > /proc/sys/kernel/printk_delay";
    let said = |shell: String| {
        let output = Command::new("sh").args(["-c", &shell]).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    };
    let procs = enrolled.path.join("cgroup.procs");
    assert_eq!(said(write.to_owned()), ("0\n".to_owned(), true));
    let (read, written) = said(format!("echo $$ > {}; {write}", procs.display()));
    assert_eq!((read.as_str(), written), ("0\n", false));
}

fn hold(bed: &Bed, scene: &Scene, kernel: Kernel, arm: &dyn Fn(Mode) -> Result<Kernel, Error>) {
    let enrolled = kernel.enroll(&"root-agent".parse().unwrap(), "1", None).unwrap();
    check(&scene.attempts(&enrolled.path, &bed.outside()));
    let refusals = kernel.take_refusals().unwrap();
    for hook in ["task_kill", "file_open", "inode_rename", "socket_create", "capable"] {
        let of_agent = refusals.iter().find(|r| r.hook == hook && r.agent == Some(enrolled.cgroup));
        assert!(of_agent.is_some_and(|refused| refused.times > 0), "{hook}: {refusals:?}");
    }
    // Nobody else is held.
    fs::write(scene.hidden.join("mine"), "x").unwrap();
    fs::write("/proc/sys/kernel/printk_delay", "0").unwrap();
    // Without a daemon, and under its successor.
    drop(kernel);
    check(&scene.attempts(&enrolled.path, &bed.outside()));
    let kernel = arm(Mode::Required).unwrap_or_else(|error| panic!("{error:#?}"));
    assert!(kernel.guard_armed());
    check(&scene.attempts(&enrolled.path, &bed.outside()));
    assert!(!bed.pins().join("guard/bpf_old").exists());
}

fn check(outcome: &BTreeMap<String, String>) {
    let as_wanted =
        |(name, said): &(&String, &String)| ALLOWED.contains(&name.as_str()) == (*said == "done");
    let wrong: Vec<_> = outcome.iter().filter(|one| !as_wanted(one)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let script = fs::read_to_string(script("attempts.py")).unwrap();
    assert_eq!(outcome.len(), script.lines().filter(|line| line.starts_with("attempt(")).count());
}

/// Directories, sockets and a process that agents are kept from.
struct Scene {
    root: PathBuf,
    hidden: PathBuf,
    fixed: PathBuf,
    abstract_name: String,
    outsider: Child,
    _outsider_says: BufReader<ChildStdout>,
    /// A connection made by no agent.
    stream: TcpStream,
    _listener: TcpListener,
}

impl Scene {
    fn new() -> Self {
        let name = format!("vestibule-guard-{}", std::process::id());
        let root = std::env::temp_dir().join(&name);
        let (hidden, fixed) = (root.join("var/state"), root.join("policies"));
        fs::create_dir_all(hidden.join("deep")).unwrap();
        fs::create_dir_all(&fixed).unwrap();
        fs::write(hidden.join("deep/key"), "secret").unwrap();
        fs::write(fixed.join("policy"), "permit").unwrap();
        let mut outsider = Command::new("/usr/bin/python3")
            .arg(script("outsider.py"))
            .arg(&root)
            .arg(&name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut says = BufReader::new(outsider.stdout.take().unwrap());
        let mut line = String::new();
        says.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Self {
            abstract_name: name,
            outsider,
            _outsider_says: says,
            hidden,
            fixed,
            root,
            stream,
            _listener: listener,
        }
    }

    fn guard(&self, mode: Mode) -> Guard {
        Guard { mode, hidden: vec![self.hidden.clone()], protected: vec![self.fixed.clone()] }
    }

    /// The guard alone is asked about.
    fn unix(&self) -> Unix {
        let allow = vec![self.root.join("allowed.sock")];
        Unix { mode: unix::Mode::Any, allow, control: None }
    }

    /// Runs every attempt in a cgroup; `outside` is another.
    fn attempts(&self, cgroup: &Path, outside: &Path) -> BTreeMap<String, String> {
        let work = self.root.join("work");
        drop(fs::remove_dir_all(&work));
        fs::create_dir(&work).unwrap();
        let inherited = OwnedFd::from(self.stream.try_clone().unwrap());
        let mut child = Command::new("sh")
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec /usr/bin/python3 \"$@\""])
            .arg(cgroup)
            .arg(script("attempts.py"))
            .arg(std::process::id().to_string())
            .arg(self.outsider.id().to_string())
            .args([&self.hidden, &self.fixed])
            .args(["allowed.sock", "foreign.sock"].map(|name| self.root.join(name)))
            .arg(&self.abstract_name)
            .arg(self.root.join("datagram.sock"))
            .arg(outside.join("cgroup.procs"))
            .arg(&work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(inherited)
            .spawn()
            .unwrap();
        let mut said = String::new();
        drop(child.stdin.take());
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        let (all, end) = said.split_at(said.len().saturating_sub("end\n".len()));
        assert_eq!(end, "end\n", "{all}");
        let apart = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
        all.lines().filter_map(apart).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.outsider.kill());
        drop(self.outsider.wait());
        drop(fs::remove_dir_all(&self.root));
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guard").join(name)
}
