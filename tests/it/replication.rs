//! Replication connections, by PostgreSQL's own programs: refused unless a policy permits them, and
//! recorded command by command.

use std::fs;

use integration::bank::{DATABASE, PASSWORD};
use integration::daemon::ExtraPolicy;
use integration::{Agent, Daemon, Evidence, Output, Postgres, Supervisor, process};

/// May do all, knowing that nothing is masked.
const BACKUP: &str = "backup";

/// May replicate, but is shown masked values.
const HALF: &str = "half";

const POLICY: ExtraPolicy<'static> = (
    "replication.cedar",
    r#"
@id("they-replicate")
permit (principal, action == Action::"replicate", resource)
when { [Agent::"backup", Agent::"half"].contains(principal) };
@id("backup-holds-all")
permit (principal == Agent::"backup", action == Action::"replicateUnmasked", resource);
@id("backup-sets-search-path")
permit (principal == Agent::"backup", action == Action::"select", resource)
when { context.risk.sideEffect && ["pg_catalog.set_config"].containsAll(context.functions) };
"#,
);

const SETTINGS: [&str; 3] =
    ["wal_level=logical", "log_replication_commands=on", "wal_keep_size=64"];

/// How far memory may move over a backup of more than that.
const FLAT_BYTES: u64 = 24 << 20;

struct Bank {
    daemon: Daemon,
    server: Postgres,
}

impl Bank {
    fn start() -> Self {
        Self::start_ruled("")
    }

    fn start_ruled(rules: &str) -> Self {
        let server = Postgres::with_settings(&SETTINGS).unwrap();
        let role =
            format!("CREATE ROLE replicator LOGIN REPLICATION IN ROLE app PASSWORD '{PASSWORD}'");
        server.sql(&role).unwrap();
        let port = server.port();
        let extra = [POLICY, ("rules.cedar", rules)];
        let daemon = Daemon::start_with(Supervisor::None, port, 2, &extra, "").unwrap();
        Self { daemon, server }
    }

    fn run(&self, agent: &str, program: &str, arguments: &[&str]) -> Output {
        let agent = Agent::new(&self.daemon, agent, "replicator", self.server.port());
        // What is no option of the programs: a database is named where they are to have one.
        let mut command = agent.command(program);
        process::run(command.env_remove("PGDATABASE").args(arguments), 120).unwrap()
    }

    fn folder(&self, name: &str) -> String {
        let folder = self.daemon.directory().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder.display().to_string()
    }

    fn lsn(&self) -> String {
        self.server.sql("SELECT pg_current_wal_flush_lsn()").unwrap().trim().to_owned()
    }
}

#[test]
fn replication_is_refused_unless_a_policy_permits_it_in_full_knowledge() {
    let bank = Bank::start();
    let folder = bank.folder("nothing");
    for agent in ["support-assistant", HALF] {
        for (program, arguments) in [
            ("pg_basebackup", &["-w", "-D", &folder][..]),
            ("pg_receivewal", &["-w", "-n", "-D", &folder]),
            ("pg_recvlogical", &["-w", "-n", "-d", DATABASE, "-S", "s", "-f", "-", "--start"]),
            ("psql", &["-XAt", "-c", "IDENTIFY_SYSTEM", "replication=true"]),
        ] {
            let refused = bank.run(agent, program, arguments);
            assert_ne!(refused.code, Some(0));
            let told = if agent == HALF {
                "no policy permits replicateUnmasked of"
            } else {
                "FATAL:  no policy permits replicate on the database"
            };
            assert!(refused.stderr.contains(told), "{program} {refused:?}");
            assert!(refused.stderr.contains("policy default-deny"), "{program} {refused:?}");
        }
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let log = bank.server.log().unwrap();
    assert!(!log.contains("replication command"), "{log}");
    let evidence = Evidence::seal(&bank.daemon).unwrap();
    let sql = "SELECT count(*) FROM events WHERE kind = 'db.connect' AND status = 'denied' \
               AND rule_id = 'default-deny'";
    assert_eq!(evidence.count(sql).unwrap(), 8);
}

#[test]
fn base_backups_come_whole_and_cost_no_memory() {
    let bank = Bank::start();
    bank.server.sql("CREATE TABLE large AS SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 90000) n; CHECKPOINT")
        .unwrap();
    let folder = bank.folder("backup");
    let pid = bank.daemon.pid().unwrap();
    bank.run(BACKUP, "psql", &["-XAt", "-c", "IDENTIFY_SYSTEM", "replication=true"]).ok().unwrap();
    // proc(5): 5 resets the peak.
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = process::peak_bytes(pid).unwrap();
    let arguments = ["-w", "-D", &folder, "-X", "stream", "-c", "fast", "--no-sync"];
    bank.run(BACKUP, "pg_basebackup", &arguments).ok().unwrap();
    let grown = process::peak_bytes(pid).unwrap().saturating_sub(before);
    bank.server.program("pg_verifybackup", &[&folder], 120).unwrap().ok().unwrap();
    assert!(grown < FLAT_BYTES, "{} MiB more", grown >> 20);

    let evidence = Evidence::seal(&bank.daemon).unwrap();
    let sql = "SELECT verb, sum(bytes_out)::BIGINT AS bytes FROM events WHERE status = 'ok' \
               AND kind = 'db.query' AND verb <> 'SHOW' GROUP BY verb ORDER BY verb";
    let rows = evidence.duckdb(sql).unwrap();
    let verbs: Vec<_> = rows.iter().map(|row| row["verb"].as_str().unwrap()).collect();
    assert_eq!(
        verbs,
        ["BASE_BACKUP", "CREATE_REPLICATION_SLOT", "IDENTIFY_SYSTEM", "START_REPLICATION"]
    );
    let bytes = rows[0]["bytes"].as_u64().unwrap();
    assert!(bytes > 80 << 20, "{bytes}");
    assert!(rows[3]["bytes"].as_u64().unwrap() > 1_000, "{rows:?}");
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
    // A backup that the server is to write itself is more than that.
    let target = ["-w", "-X", "none", "-t", "server:/tmp/vestibule-nowhere", "-c", "fast"];
    let refused = bank.run(BACKUP, "pg_basebackup", &target);
    assert!(refused.stderr.contains("a file on the server is not allowed"), "{refused:?}");
    process::wait_until("sessions ended", 30, || Ok(bank.daemon.count("sessions_open")? == 0))
        .unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(bank.daemon.count("flows_differing").unwrap(), 0, "{}", bank.daemon.log());
}

#[test]
fn the_log_of_changes_is_streamed_both_ways() {
    let bank = Bank::start();
    let folder = bank.folder("log");
    let slot = "CREATE_REPLICATION_SLOT archive PHYSICAL RESERVE_WAL";
    bank.run(BACKUP, "psql", &["-XAt", "-c", slot, "replication=true"]).ok().unwrap();
    let logical = ["-w", "-d", DATABASE, "-S", "changes"];
    let create = [&logical[..], &["--create-slot", "-P", "test_decoding"]].concat();
    bank.run(BACKUP, "pg_recvlogical", &create).ok().unwrap();
    bank.server
        .sql(
            "INSERT INTO case_notes (marker, body) SELECT n, 'note ' || n FROM generate_series(1, 3000) n;
             SELECT pg_switch_wal(); INSERT INTO case_notes (marker, body) VALUES (-1, 'the last one')",
        )
        .unwrap();
    let end = bank.lsn();
    let received = ["-w", "-n", "-D", &folder, "-S", "archive", "-E", &end, "--no-sync"];
    let seen = bank.run(BACKUP, "pg_receivewal", &received);
    assert_eq!(seen.code, Some(0), "{seen:?} {}", bank.daemon.log());
    let mut files: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert!(files.len() >= 2, "{files:?}");
    let first = format!("{folder}/{}", files[0].display());
    let shown = bank.server.program("pg_waldump", &["-q", "-n", "5", &first], 60).unwrap();
    assert_eq!(shown.code, Some(0), "{shown:?}");

    let start = [&logical[..], &["--start", "-n", "-f", "-", "-E", &end]].concat();
    let seen = bank.run(BACKUP, "pg_recvlogical", &start);
    assert_eq!(seen.code, Some(0), "{seen:?} {}", bank.daemon.log());
    assert_eq!(seen.stdout.matches("table public.case_notes: INSERT").count(), 3_001);
    // SQL of the same connection is decided and masked as any.
    let sql = [
        "-XAt",
        "-c",
        "SELECT ssn FROM customers WHERE id = 41",
        "dbname=bank replication=database",
    ];
    let masked = bank.run(BACKUP, "psql", &sql).ok().unwrap();
    let raw = bank.server.sql("SELECT ssn FROM customers WHERE id = 41").unwrap();
    assert!(!masked.contains(raw.trim()) && masked.trim().len() == raw.trim().len(), "{masked}");
    let sql = ["-XAt", "-c", "DROP TABLE case_notes", "dbname=bank replication=database"];
    assert!(bank.run(BACKUP, "psql", &sql).stderr.contains("do not define"));
    let drop = [&logical[..], &["--drop-slot"]].concat();
    bank.run(BACKUP, "pg_recvlogical", &drop).ok().unwrap();

    let evidence = Evidence::seal(&bank.daemon).unwrap();
    let sql = "SELECT status, bytes_in, bytes_out FROM events WHERE verb = 'START_REPLICATION'";
    let streams = evidence.duckdb(sql).unwrap();
    let counted = |stream: &serde_json::Value, name: &str| stream[name].as_u64().unwrap();
    // pg_recvlogical hangs up before the server has said its last word.
    let is_whole = |stream: &serde_json::Value| {
        ["ok", "interrupted"].map(Into::into).contains(&stream["status"])
            && counted(stream, "bytes_in") > 90
            && counted(stream, "bytes_out") > 100_000
    };
    assert_eq!(streams.len(), 2);
    assert!(streams.iter().all(is_whole), "{streams:?}");
    let sql = "SELECT count(*) FROM events WHERE verb = 'DROP_REPLICATION_SLOT' AND status = 'ok'";
    assert_eq!(evidence.count(sql).unwrap(), 1);
    // What was streamed is not kept.
    for table in ["events", "recordings"] {
        let rows = evidence.duckdb(&format!("FROM {table}")).unwrap();
        assert!(rows.iter().all(|row| !row.to_string().contains("the last one")), "{table}");
    }
}

/// Rows are those of results alone.
const STREAM: &str = r#"
@id("short-streams")
@limit("bytes=200KiB, rows=5")
forbid (principal == Agent::"backup", action == Action::"replicate", resource);
"#;

#[test]
fn streams_and_backups_end_where_they_reach_a_limit() {
    let bank = Bank::start_ruled(STREAM);
    let logical = ["-w", "-d", DATABASE, "-S", "changes", "--create-slot", "-P", "test_decoding"];
    bank.run(BACKUP, "pg_recvlogical", &logical).ok().unwrap();
    bank.server
        .sql("INSERT INTO case_notes (marker, body) SELECT n, 'note ' || n FROM generate_series(1, 5000) n")
        .unwrap();
    let script = "
import psycopg2, psycopg2.extras
c = psycopg2.connect('dbname=bank', connection_factory=psycopg2.extras.LogicalReplicationConnection)
cur = c.cursor()
for _ in range(2):
    got = []
    cur.start_replication(slot_name='changes')
    try:
        cur.consume_stream(lambda message: got.append(len(message.payload)))
    except psycopg2.Error as e:
        print(str(e).splitlines()[0], 900 < len(got) < 5000, 60000 < sum(got) <= 204800)
    cur.execute('IDENTIFY_SYSTEM')
    print(len(cur.fetchall()))
";
    let agent = Agent::new(&bank.daemon, BACKUP, "replicator", bank.server.port());
    let told = agent.python(script).unwrap().ok().unwrap();
    let ended = "limit reached: no more than 204800 bytes in one statement";
    assert_eq!(told, format!("{ended} True True\n1\n").repeat(2), "{}", bank.daemon.log());
    let folder = bank.folder("base");
    let seen =
        bank.run(BACKUP, "pg_basebackup", &["-w", "-D", &folder, "-X", "none", "-c", "fast"]);
    assert!(
        seen.code != Some(0) && seen.stderr.contains("COPY stream ended"),
        "{seen:?} {}",
        bank.daemon.log()
    );
    let evidence = Evidence::seal(&bank.daemon).unwrap();
    let sql = "SELECT count(*) FROM events WHERE status = 'limited' AND error_code = '54000' \
               AND bytes_out BETWEEN 100000 AND 206000 AND verb IN ('START_REPLICATION', 'BASE_BACKUP')";
    let all = "SELECT verb, status, error_code, bytes_out FROM events ORDER BY ts";
    assert_eq!(evidence.count(sql).unwrap(), 3, "{:?}", evidence.duckdb(all).unwrap());
}
