//! What becomes an agent without `vestibule run`: running processes, and what rules name.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use integration::process::{Running, run, wait_until};
use integration::world::READER;
use integration::{World, bank};
use rustix::process::Signal;

/// Connects to the bank's port at once; at a line, says how that connection is, and asks the bank.
const LATE: &str = "
import os, socket, subprocess, sys
old = socket.create_connection(('127.0.0.1', int(os.environ['PGPORT'])))
print('ready', flush=True)
for line in sys.stdin:
    try:
        old.settimeout(0.2)
        old.recv(1)
        print('closed', flush=True)
    except TimeoutError:
        print('open', flush=True)
    except OSError as e:
        print('error', e.errno, flush=True)
    psql = subprocess.run(['psql', '-XAtc', 'SELECT id FROM customers WHERE id = 4'], capture_output=True, text=True)
    print(psql.stdout.strip() or repr(psql.stderr), flush=True)
";

/// A Python that runs a script, with the bank's address in its environment.
fn python(world: &World, program: &str, script: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-u", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
    integration::agent::with_bank(&mut command, bank::ROLE, world.bank.port());
    command
}

/// A line at a time with a program.
struct Talk {
    program: Running,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
    input: std::process::ChildStdin,
}

impl Talk {
    fn start(command: &mut Command) -> Self {
        use std::io::BufRead;
        let mut program = Running::new("late", command).unwrap();
        let lines = std::io::BufReader::new(program.take_stdout().unwrap()).lines();
        let input = program.take_stdin().unwrap();
        let mut talk = Self { program, lines, input };
        assert_eq!(talk.line(), "ready");
        talk
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    fn again(&mut self) {
        use std::io::Write;
        self.input.write_all(b"\n").unwrap();
    }
}

fn until_enrolled(world: &World, agents: usize) {
    wait_until("the rule is followed", 60, || {
        Ok(world.daemon.status()?["agents"].as_array().is_some_and(|all| all.len() == agents))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", world.daemon.log()));
}

fn enroll(world: &World, pid: u32) -> integration::Output {
    let pid = pid.to_string();
    run(world.daemon.cli().args(["enroll", "--agent", READER, "--pid", &pid]), 60).unwrap()
}

#[test]
fn a_running_process_is_enrolled_and_its_old_connection_ends() {
    let world = World::start().unwrap();
    let mut talk = Talk::start(&mut python(&world, "/usr/bin/python3", LATE));
    let told = enroll(&world, talk.program.pid()).ok().unwrap();
    assert!(told.contains("1 sockets ended"), "{told}");
    talk.again();
    assert_eq!(talk.line(), format!("error {}", rustix::io::Errno::CONNABORTED.raw_os_error()));
    assert_eq!(talk.line(), "4", "{}", world.daemon.log());
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 1);
    let evidence = world.evidence().unwrap();
    let recorded = "SELECT count(*) FROM control WHERE kind = 'agent.enrolled' \
                    AND json_extract(detail, '$.sockets_ended')::int = 1 \
                    AND json_extract(detail, '$.asker.uid')::int = 0";
    assert_eq!(evidence.count(recorded).unwrap(), 1);
}

#[test]
fn a_process_with_a_foreign_unix_socket_is_refused_and_that_is_recorded() {
    let world = World::start().unwrap();
    let path = world.daemon.directory().join("foreign.sock");
    let _foreign = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let more = format!(
        "import socket\nway = socket.socket(socket.AF_UNIX)\nway.connect('{}')\n",
        path.display()
    );
    let mut talk = Talk::start(&mut python(&world, "/usr/bin/python3", &(more + LATE)));
    let refused = enroll(&world, talk.program.pid());
    assert!(refused.code != Some(0), "{refused:?}");
    assert!(refused.stderr.contains("Unix socket"), "{refused:?}");
    talk.again();
    assert_eq!((talk.line().as_str(), talk.line().as_str()), ("open", "4"));
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 0);
    let recorded = "SELECT count(*) FROM control WHERE kind = 'enrollment.refused' \
                    AND detail LIKE '%Unix socket%'";
    assert_eq!(world.evidence().unwrap().count(recorded).unwrap(), 1);
}

/// An agent that runs as root and sees the control socket can't let itself go.
#[test]
fn an_agent_may_ask_the_daemon_for_nothing_but_agents() {
    let world = World::start_with(&format!(
        "\n[[profile]]\nname = 'open'\nagents = ['{READER}']\nkeep_paths = ['/']\n\
         keep_environment = ['VESTIBULE_CONTROL']\n"
    ))
    .unwrap();
    let cli = world.daemon.cli();
    for request in [vec!["status"], vec!["disarm", "--reason", "mine"], vec!["archive", "seal"]] {
        let mut run_it = world.daemon.cli();
        run_it.args(["run", "--agent", READER, "--"]).arg(cli.get_program()).args(&request);
        let refused = run(&mut run_it, 30).unwrap();
        assert!(refused.code != Some(0), "{request:?}: {refused:?}");
        assert!(refused.stderr.contains("may start agents"), "{request:?}: {refused:?}");
    }
    let recorded = "SELECT count(*) FROM control WHERE kind = 'control.refused'";
    assert_eq!(world.evidence().unwrap().count(recorded).unwrap(), 3);
}

/// Asks the bank, waits for the connection's end, and asks again.
const CUT_OFF: &str = "
import socket, subprocess, sys
s = socket.create_connection(('127.0.0.1', int(__import__('os').environ['PGPORT'])))
print('ready', flush=True)
try:
    while s.recv(100):
        pass
    print('closed', flush=True)
except OSError as e:
    print('error', e.errno, flush=True)
psql = subprocess.run(['psql', '-XAtc', 'SELECT 1'], capture_output=True, text=True)
print(repr(psql.stderr), flush=True)
sys.stdin.read()
";

#[test]
fn a_revoked_agent_is_cut_off_and_that_is_recorded() {
    let world = World::start().unwrap();
    let mut command = world.daemon.cli();
    command.args(["run", "--agent", READER, "--", "/usr/bin/python3", "-u", "-c", CUT_OFF]);
    integration::agent::with_bank(&mut command, bank::ROLE, world.bank.port());
    let mut talk = Talk::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut revoke = world.daemon.cli();
    revoke.args(["revoke", "--agent", READER, "--reason", "it asked too much"]);
    run(&mut revoke, 60).unwrap().ok().unwrap();
    assert_eq!(talk.line(), format!("error {}", rustix::io::Errno::CONNABORTED.raw_os_error()));
    assert!(talk.line().contains("refused"));
    let recorded = "SELECT count(*) FROM control WHERE kind = 'agent.revoked' \
                    AND detail LIKE '%asked too much%'";
    assert_eq!(world.evidence().unwrap().count(recorded).unwrap(), 1);
}

/// A cgroup as a service manager makes it; removed when dropped, with what is in it.
struct Unit(PathBuf);

impl Unit {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        let path = PathBuf::from(line.split(' ').nth(4).unwrap()).join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn enter(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.0);
        shell.arg(command.get_program()).args(command.get_args());
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        fs::write(self.0.join("cgroup.kill"), "1").ok();
        let removed = || Ok(fs::remove_dir(&self.0).is_ok());
        wait_until("the unit's cgroup is empty", 5, removed).ok();
    }
}

#[test]
fn a_units_cgroup_is_enrolled_by_rule_and_stays_so_over_a_restart() {
    let name = format!("vestibule-it-{}.service", std::process::id());
    let rule = format!("\n[[enroll]]\nagent = '{READER}'\nunit = '{name}'\n");
    let mut world = World::start_with(&rule).unwrap();
    // So that it has connected before anybody looks, however slow the machine is.
    world.daemon.kill();
    let unit = Unit::new(&name);
    let mut talk = Talk::start(&mut unit.enter(&python(&world, "/usr/bin/python3", LATE)));
    world.daemon.restart().unwrap();
    until_enrolled(&world, 1);
    talk.again();
    assert_eq!(talk.line(), format!("error {}", rustix::io::Errno::CONNABORTED.raw_os_error()));
    assert_eq!(talk.line(), "4", "{}", world.daemon.log());
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 1);
    world.daemon.kill();
    talk.again();
    talk.line();
    assert!(talk.line().contains("refused"));
    world.daemon.restart().unwrap();
    until_enrolled(&world, 1);
    talk.again();
    talk.line();
    assert_eq!(talk.line(), "4", "{}", world.daemon.log());
}

/// A pattern that also fits what is below a cgroup makes one agent of it all; what another rule
/// would make another agent of is refused.
#[test]
fn what_is_below_an_enrolled_cgroup_comes_with_it() {
    let name = format!("vestibule-it-{}-below.slice", std::process::id());
    let rules = format!(
        "\n[[enroll]]\nagent = 'other'\ncgroup = '/{name}/theirs.service'\n\
         [[enroll]]\nagent = '{READER}'\ncgroup = '/{name}**'\n"
    );
    let unit = Unit::new(&name);
    let inner = Unit::new(&format!("{name}/inner.service"));
    let theirs = Unit::new(&format!("{name}/theirs.service"));
    let world = World::start_with(&rules).unwrap();
    until_enrolled(&world, 1);
    let mut talk = Talk::start(&mut inner.enter(&python(&world, "/usr/bin/python3", LATE)));
    talk.again();
    talk.line();
    assert_eq!(talk.line(), "4", "{}", world.daemon.log());
    // Its own connection, which waits for the server, and psql's.
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 2);
    assert_eq!(world.daemon.status().unwrap()["agents"].as_array().unwrap().len(), 1);
    let evidence = world.evidence().unwrap();
    let refused = "SELECT detail FROM control WHERE kind = 'enrollment.refused'";
    let refused = evidence.duckdb(refused).unwrap();
    let [row] = &*refused else { panic!("{refused:?}") };
    assert!(row["detail"].as_str().unwrap().contains("theirs.service"), "{row}");
    drop((talk, inner, theirs, unit));
}

#[test]
fn a_users_and_an_executables_processes_are_enrolled_by_rule() {
    // No account has it, and no other test.
    let uid = 3_000_000 + std::process::id() % 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let exe = folder.path().join("assistant");
    fs::copy(fs::canonicalize("/usr/bin/python3").unwrap(), &exe).unwrap();
    let rules = format!(
        "\n[[enroll]]\nagent = '{READER}'\nuid = {uid}\n\
         [[enroll]]\nagent = '{READER}'\nexe = '{}'\non_refusal = 'kill'\n",
        exe.display()
    );
    let world = World::start_with(&rules).unwrap();
    let mut by_user = Command::new("setpriv");
    let id = uid.to_string();
    by_user.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
    let python_command = python(&world, "/usr/bin/python3", LATE);
    by_user.arg("/usr/bin/python3").args(python_command.get_args());
    integration::agent::with_bank(&mut by_user, bank::ROLE, world.bank.port());
    by_user.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut by_user = Talk::start(&mut by_user);
    let mut by_exe = Talk::start(&mut python(&world, &exe.to_string_lossy(), LATE));
    until_enrolled(&world, 2);
    for talk in [&mut by_user, &mut by_exe] {
        talk.again();
        assert_eq!(talk.line(), format!("error {}", rustix::io::Errno::CONNABORTED.raw_os_error()));
        assert_eq!(talk.line(), "4", "{}", world.daemon.log());
    }
    assert_eq!(world.daemon.count("sessions_total").unwrap(), 2);

    // One that can't be enrolled is ended, as its rule says. It has its socket when it becomes the
    // executable: one that opens it later may be enrolled by then, and stays.
    let way = format!(
        "import os, socket\nway = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\n\
         way.set_inheritable(True)\nexe = '{0}'\n\
         os.execv(exe, [exe, '-u', '-c', 'import time; time.sleep(600)'])",
        exe.display()
    );
    let mut refused =
        Running::new("refused", &mut python(&world, "/usr/bin/python3", &way)).unwrap();
    let ended = refused.wait(30).unwrap();
    assert_eq!(ended, Some(None), "a signal ended it");
    by_user.program.signal(Signal::KILL).unwrap();
    let recorded = "SELECT count(*) FROM control WHERE kind = 'enrollment.refused' \
                    AND detail LIKE '%netlink%'";
    assert_eq!(world.evidence().unwrap().count(recorded).unwrap(), 1);
}
