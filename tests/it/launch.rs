//! What `vestibule run` takes away from an agent before it starts, and what a profile leaves it.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;

use integration::process::{Output, run};
use integration::world::READER;
use integration::{World, bank};
use serde_json::Value;

/// Tries what an agent has no use for, and says how each went: an errno's name, or "ok".
const ATTEMPTS: &str = r"
import ctypes, errno, json, os, platform, socket
libc = ctypes.CDLL(None, use_errno=True)
def raw(number, *arguments):
    ctypes.set_errno(0)
    answer = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
    return 'ok' if answer >= 0 else errno.errorcode[ctypes.get_errno()]
def made(*arguments):
    try:
        socket.socket(*arguments).close()
        return 'ok'
    except OSError as error:
        return errno.errorcode[error.errno]
def opened(path, mode):
    try:
        open(path, mode).close()
        return 'ok'
    except OSError as error:
        return errno.errorcode[error.errno]
assert platform.machine() == 'x86_64'
status = dict(l.split(':', 1) for l in open('/proc/self/status') if ':' in l)
cgroups = [l.split(' ')[4] for l in open('/proc/self/mountinfo') if ' - cgroup2 ' in l]
bpffs = [l.split(' ')[4] for l in open('/proc/self/mountinfo') if ' - bpf ' in l]
X32 = 0x40000000
print(json.dumps({
    'status': {k: status[k].strip() for k in
               ('Uid', 'Gid', 'Groups', 'NoNewPrivs', 'Seccomp', 'CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')},
    'descriptors': sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1],
    'tcp': made(socket.AF_INET), 'udp': made(socket.AF_INET, socket.SOCK_DGRAM), 'tcp6': made(socket.AF_INET6),
    'unix': made(socket.AF_UNIX),
    'route': made(socket.AF_NETLINK, socket.SOCK_RAW, 0), 'audit': made(socket.AF_NETLINK, socket.SOCK_RAW, 9),
    'vsock': made(40, socket.SOCK_STREAM), 'packet': made(17, socket.SOCK_RAW), 'xdp': made(44, socket.SOCK_RAW),
    'alg': made(38, socket.SOCK_SEQPACKET),
    'unshare': raw(272, 0x20000), 'unshare_user': raw(272, 0x10000000), 'clone3': raw(435, 0, 0),
    'clone_user': raw(56, 0x10000011, 0, 0, 0, 0),
    'io_uring': raw(425, 1, 0), 'bpf': raw(321, 0, 0, 0), 'ptrace': raw(101, 0, 0, 0, 0),
    'x32_ptrace': raw(521 | X32, 0, 0, 0, 0), 'x32_socket': raw(41 | X32, 40, 1, 0),
    'mount': raw(165, 0, 0, 0, 0, 0), 'perf': raw(298, 0, 0, 0, 0, 0), 'keyctl': raw(250, 0, 0, 0),
    'pidfd_getfd': raw(438, 0, 0, 0), 'userfaultfd': raw(323, 0), 'by_handle': raw(304, 0, 0, 0),
    'push': raw(16, 0, 0x5412, 0),
    'leave': [opened(c + '/cgroup.procs', 'w') for c in cgroups],
    'pins': [os.listdir(b) for b in bpffs if os.access(b, os.R_OK)],
    'environment': dict(os.environ),
}))
";

fn attempt(command: &mut Command) -> Value {
    let output = run(command.args(["/usr/bin/python3", "-c", ATTEMPTS]), 60).unwrap();
    serde_json::from_str(&output.clone().ok().unwrap()).unwrap_or_else(|_| panic!("{output:?}"))
}

fn launch(world: &World, options: &[&str]) -> Command {
    let mut command = world.daemon.cli();
    command.arg("run").args(options).arg("--");
    command
}

#[track_caller]
fn check(seen: &Value, name: &str, expected: &str) {
    assert_eq!(seen[name], expected, "{name}: {seen}");
}

fn none_has_privileges(seen: &Value) {
    let status = &seen["status"];
    check(status, "NoNewPrivs", "1");
    check(status, "Seccomp", "2");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        check(status, set, "0000000000000000");
    }
    for name in ["tcp", "udp", "tcp6", "unix", "route"] {
        check(seen, name, "ok");
    }
    for name in ["audit", "vsock", "packet", "xdp", "alg", "x32_socket"] {
        // A kernel without x32 has no such call at all.
        let is_none = name.starts_with("x32") && seen[name] == "ENOSYS";
        assert!(is_none || seen[name] == "EAFNOSUPPORT", "{name}: {seen}");
    }
    for name in ["clone3", "io_uring"] {
        check(seen, name, "ENOSYS");
    }
    for name in [
        "unshare",
        "unshare_user",
        "clone_user",
        "bpf",
        "ptrace",
        "x32_ptrace",
        "mount",
        "perf",
        "keyctl",
        "pidfd_getfd",
        "userfaultfd",
        "by_handle",
        "push",
    ] {
        let is_none = name.starts_with("x32") && seen[name] == "ENOSYS";
        assert!(is_none || seen[name] == "EPERM", "{name}: {seen}");
    }
    for left in seen["leave"].as_array().unwrap() {
        assert!(["EROFS", "EACCES"].contains(&left.as_str().unwrap()), "{seen}");
    }
    for pins in seen["pins"].as_array().unwrap() {
        assert_eq!(pins.as_array().unwrap().len(), 0, "{seen}");
    }
}

#[test]
fn a_launched_process_has_no_privileges_and_no_way_to_some() {
    let world = World::start().unwrap();
    let seen = attempt(&mut launch(&world, &["--agent", READER, "--user", "nobody"]));
    none_has_privileges(&seen);
    check(&seen["status"], "Uid", "65534\t65534\t65534\t65534");
    check(&seen["status"], "Gid", "65534\t65534\t65534\t65534");
    check(&seen["status"], "Groups", "65534");
    assert_eq!(seen["descriptors"], serde_json::json!([0, 1, 2]));
    check(&seen["environment"], "USER", "nobody");
}

/// Root stays root, but can neither get capabilities back nor write cgroups or pins.
#[test]
fn a_launched_root_process_has_no_privileges_either_and_is_warned_of() {
    let world = World::start().unwrap();
    let mut command = launch(&world, &["--agent", READER]);
    let output = run(command.args(["/usr/bin/python3", "-c", ATTEMPTS]), 60).unwrap();
    assert!(output.stderr.contains("level A0"), "{output:?}");
    let seen = serde_json::from_str(&output.ok().unwrap()).unwrap();
    none_has_privileges(&seen);
}

/// Open files and names of sockets stay behind.
#[test]
fn foreign_descriptors_and_sockets_do_not_come_along() {
    let world = World::start().unwrap();
    let mut shell = Command::new("sh");
    let cli = launch(&world, &["--agent", READER]);
    let program = cli.get_program().to_owned();
    shell.args(["-c", "exec 7</etc/hostname 9>/dev/null; exec \"$@\"", "sh"]).arg(program);
    shell.args(cli.get_args());
    for (name, value) in cli.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell.env("SSH_AUTH_SOCK", "/tmp/agent").env("DOCKER_HOST", "unix:///run/docker.sock");
    shell.env("LISTEN_FDS", "1").env("XDG_RUNTIME_DIR", "/run/user/0").env("HARMLESS", "kept");
    let seen = attempt(&mut shell);
    assert_eq!(seen["descriptors"], serde_json::json!([0, 1, 2]));
    let environment = seen["environment"].as_object().unwrap();
    for name in
        ["SSH_AUTH_SOCK", "DOCKER_HOST", "LISTEN_FDS", "XDG_RUNTIME_DIR", "VESTIBULE_CONTROL"]
    {
        assert!(!environment.contains_key(name), "{environment:?}");
    }
    assert_eq!(environment["HARMLESS"], "kept");
}

/// A socket as standard input was made outside of the door and would lead past it.
#[test]
fn a_socket_as_standard_input_is_refused() {
    let world = World::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut command = launch(&world, &["--agent", READER]);
    let child = command.arg("true").stdin(OwnedFd::from(stream)).output().unwrap();
    assert!(!child.status.success());
    let told = String::from_utf8_lossy(&child.stderr);
    assert!(told.contains("standard input") && told.contains("socket"), "{told}");
}

#[test]
fn a_profile_leaves_what_it_names_and_no_more() {
    let world = World::start_with(
        "\n[[profile]]\nname = 'lab'\nagents = ['lab-*']\nuser = 'nobody'\n\
         allow = ['ptrace', 'netlink', 'vsock', 'io_uring']\n\
         keep_capabilities = ['CAP_NET_BIND_SERVICE']\nkeep_environment = ['DOCKER_HOST']\n\
         [[profile]]\nname = 'strict'\nagents = ['strict']\nlevel = 'A1'\n",
    )
    .unwrap();
    let mut command = launch(&world, &["--agent", "lab-1"]);
    let seen = attempt(command.env("DOCKER_HOST", "tcp://127.0.0.1:1"));
    check(&seen["status"], "Uid", "65534\t65534\t65534\t65534");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        check(&seen["status"], set, "0000000000000400");
    }
    for (name, expected) in [
        ("ptrace", "ok"),
        ("audit", "ok"),
        ("bpf", "EPERM"),
        ("packet", "EAFNOSUPPORT"),
        ("io_uring", "EFAULT"),
        ("unshare", "EPERM"),
    ] {
        check(&seen, name, expected);
    }
    // Whether this kernel has the family is its own affair: the filter lets it through.
    assert_ne!(seen["vsock"], "EPERM");
    assert_eq!(seen["environment"]["DOCKER_HOST"], "tcp://127.0.0.1:1");
    let mut refused = launch(&world, &["--agent", "strict"]);
    let output = run(refused.arg("true"), 10).unwrap();
    assert!(output.code != Some(0) && output.stderr.contains("level A1"), "{output:?}");
    let mut accepted = launch(&world, &["--agent", "strict", "--user", "nobody"]);
    run(accepted.arg("true"), 10).unwrap().ok().unwrap();
}

/// Another user's agent reaches the bank as ever.
#[test]
fn an_agent_of_another_user_is_behind_the_door() {
    let world = World::start().unwrap();
    let mut command = launch(&world, &["--agent", READER, "--user", "nobody"]);
    integration::agent::with_bank(&mut command, bank::ROLE, world.bank.port());
    command.args(["psql", "-XAtc", "SELECT id FROM customers WHERE id = 3"]);
    let output: Output = run(&mut command, 60).unwrap();
    assert_eq!(output.ok().unwrap(), "3\n");
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 1);
}
