//! Whose process it was: the record names the true one, however short it lived, and no secret.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use integration::{World, paths, process};

/// Each child connects, sends eight bytes and is gone: most have ended before the daemon looks.
const SHORT_LIVED: &str = "
import os, socket, sys
port, count = int(os.environ['PGPORT']), 10000
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for _ in range(count):
    if os.fork() == 0:
        start = open('/proc/self/stat').read().rsplit(') ', 1)[1].split()[19]
        s = socket.socket()
        s.connect(('127.0.0.1', port))
        s.send(b'\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f')
        os.write(log, f'{os.getpid()} {start}\\n'.encode())
        os._exit(0)
    if os.wait()[1] != 0:
        sys.exit('a child failed')
print(os.getpid())
";

#[test]
fn ten_thousand_short_lived_agents_are_attributed() {
    const COUNT: u64 = 10_000;
    let world = World::start().unwrap();
    let log = world.daemon.directory().join("children");
    let script = world.daemon.directory().join("short_lived.py");
    fs::write(&script, SHORT_LIVED).unwrap();
    let mut command = world.reader().command(paths::python());
    let said = process::run(command.arg(&script).arg(&log), 900).unwrap().ok().unwrap();
    let parent: i64 = said.trim().parse().unwrap();
    let arrived = || -> anyhow::Result<bool> {
        let daemon = &world.daemon;
        let seen = daemon.count("sessions_total")? + daemon.count("connections_refused")?;
        Ok(seen >= COUNT && daemon.count("sessions_open")? == 0)
    };
    process::wait_until("all sessions have ended", 120, arrived).unwrap();
    assert_eq!(world.daemon.count("connections_refused").unwrap(), 0);

    let born: BTreeSet<(i64, i64)> = fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| {
            let (pid, start) = line.split_once(' ').unwrap();
            (pid.parse().unwrap(), start.parse().unwrap())
        })
        .collect();
    assert_eq!(u64::try_from(born.len()).unwrap(), COUNT);
    let evidence = world.evidence().unwrap();
    let rows = evidence.duckdb("SELECT pid, process_start_ns FROM sessions").unwrap();
    let recorded: BTreeSet<(i64, i64)> = rows
        .iter()
        .map(|row| {
            let start = row["process_start_ns"].as_i64().unwrap() / 10_000_000;
            (row["pid"].as_i64().unwrap(), start)
        })
        .collect();
    assert_eq!(u64::try_from(rows.len()).unwrap(), COUNT);
    assert_eq!(recorded, born);
    let complete = format!(
        "SELECT count(*) FROM sessions WHERE agent_id = '{}' AND parent_pid = {parent} \
         AND process_ancestors_whole AND command_line LIKE '%short_lived.py%' \
         AND process_exe_ino IS NOT NULL AND euid_os IS NOT NULL",
        integration::world::READER
    );
    assert_eq!(evidence.count(&complete).unwrap(), COUNT);
    let unattributed = "SELECT count(*) FROM control WHERE kind = 'connection.refused'";
    assert_eq!(evidence.count(unattributed).unwrap(), 0);
}

/// The parents that the record names are those that forked, not those that adopted.
#[test]
fn a_daemonized_agent_keeps_its_parents_in_the_record() {
    let world = World::start().unwrap();
    let script = "
import os, subprocess
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    middle = os.getpid()
    if os.fork() == 0:
        while os.getppid() == middle:
            pass
        import psycopg
        psycopg.connect().execute('SELECT 1')
        os.write(w, f'{middle} {os.getpid()}'.encode())
    os._exit(0)
os.wait()
print(os.getpid(), os.read(r, 100).decode())
";
    let said = world.reader().python(script).unwrap().ok().unwrap();
    let pids: Vec<&str> = said.split_whitespace().collect();
    let [top, middle, own] = pids[..] else { panic!("{said}") };
    let evidence = world.evidence().unwrap();
    let row = "SELECT pid, parent_pid, split_part(process_ancestors[1], '/', 1) AS first, \
               split_part(process_ancestors[2], '/', 1) AS second, process_ancestors_whole AS whole \
               FROM sessions";
    let row = evidence.duckdb(row).unwrap().remove(0);
    assert_eq!(row["pid"].to_string(), own, "{row}");
    assert_eq!(row["parent_pid"].to_string(), middle, "{row}");
    assert_eq!((row["first"].as_str(), row["second"].as_str()), (Some(middle), Some(top)), "{row}");
    assert_eq!(row["whole"], true, "{row}");
}

#[test]
fn secrets_of_a_command_line_are_nowhere() {
    let world = World::start().unwrap();
    let script = world.daemon.directory().join("with_secrets.py");
    fs::write(&script, "import psycopg; psycopg.connect().execute('SELECT 1')").unwrap();
    let secrets = ["Hunter2First", "Hunter2Second", "Hunter2Third", "Hunter2Fourth"];
    let [first, second, third, fourth] = secrets;
    let mut command = world.reader().command(paths::python());
    command.arg(&script).args(["--password", first, &format!("--api-key={second}")]);
    command.args([&format!("postgres://ada:{third}@db/x"), &format!("PGPASSWORD={fourth}"), "end"]);
    process::run(&mut command, 60).unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    let row = "SELECT command_line, process_path, process_exe_ino FROM sessions";
    let row = evidence.duckdb(row).unwrap().remove(0);
    let line = row["command_line"].as_str().unwrap();
    let shown =
        "with_secrets.py --password *** --api-key=*** postgres://***@db/x PGPASSWORD=*** end";
    assert!(line.ends_with(shown), "{line}");
    // The executable is the file that stat(2) names.
    let python = fs::metadata(paths::python()).unwrap();
    assert_eq!(row["process_exe_ino"].as_u64(), Some(python.ino()));
    assert_eq!(fs::metadata(row["process_path"].as_str().unwrap()).unwrap().ino(), python.ino());

    let mut kept = world.daemon.log().into_bytes();
    for segment in fs::read_dir(world.daemon.journal()).unwrap() {
        kept.extend(fs::read(segment.unwrap().path()).unwrap());
    }
    for table in ["sessions", "events", "control", "recordings"] {
        let rows = evidence.duckdb(&format!("SELECT * FROM {table}")).unwrap();
        kept.extend(serde_json::to_vec(&rows).unwrap());
    }
    assert!(contains(&kept, shown.as_bytes()), "what was searched holds the command line");
    for secret in secrets {
        assert!(!contains(&kept, secret.as_bytes()), "{secret} was kept");
    }
}

fn contains(kept: &[u8], wanted: &[u8]) -> bool {
    kept.windows(wanted.len()).any(|window| window == wanted)
}
