//! Captures: what tcpdump saw of real clients at a real server is imported as it was said, and is marked so.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use capture::write::{Talk, Writer};
use integration::process::{Output, Running, peak_bytes, run, wait_until};
use integration::{Postgres, World, paths};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use types::addr::Side;

/// What the last session of a capture asks; once it and the session's end are in the file, all before is.
const LAST: &str = "SELECT 'the last one'";

/// How a session ends (PostgreSQL 18, "Message Formats", Terminate).
const TERMINATE: &[u8] = b"X\0\0\0\x04";

pub(crate) fn program(name: &str) -> Command {
    Command::new(paths::programs().unwrap().join(name))
}

/// A server that logs every statement, without its own encryption.
fn server() -> Postgres {
    let settings = ["log_statement=all", "logging_collector=on", "log_destination=jsonlog"];
    Postgres::with_settings(&settings).unwrap()
}

/// Captures what goes to a server while `traffic` runs.
pub(crate) fn captured(server: &Postgres, to: &Path, more: &[&str], traffic: impl FnOnce()) {
    sniffed((server.port(), &[LAST.as_bytes(), TERMINATE]), to, more, || {
        traffic();
        server.sql(LAST).unwrap();
    });
}

/// Captures what goes to a port while `traffic` runs, which ends with something that has `last` in it, one part behind the
/// other: once that is in the file, all before it is.
pub(crate) fn sniffed(
    (port, last): (u16, &[&[u8]]),
    to: &Path,
    more: &[&str],
    traffic: impl FnOnce(),
) {
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-i", "lo", "-U", "-Z", "root", "-B", "65536", "-w"]).arg(to).args(more);
    tcpdump.arg(format!("tcp port {port}"));
    let mut tcpdump = Running::new("tcpdump", tcpdump.stderr(Stdio::piped())).unwrap();
    let mut said = BufReader::new(tcpdump.take_stderr().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("listening on lo")));
    traffic();
    let is_there = || {
        let bytes = fs::read(to)?;
        Ok(last.iter().try_fold(&bytes[..], |bytes, part| behind(bytes, part)).is_some())
    };
    wait_until("what comes last is captured", 30, is_there).unwrap();
    tcpdump.signal(Signal::INT).unwrap();
    tcpdump.wait(20).unwrap().unwrap();
}

/// What stands behind the first place where `bytes` have `part`.
fn behind<'a>(bytes: &'a [u8], part: &[u8]) -> Option<&'a [u8]> {
    let at = bytes.windows(part.len()).position(|here| here == part)?;
    bytes.get(at + part.len()..)
}

/// Imports, and answers the exit code and the summary.
pub(crate) fn import(capture: &Path, into: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let mut import = program("vestibule");
    import.args(["import", "--json", "--into"]).arg(into).args(more).arg(capture);
    let output = run(&mut import, 120).unwrap();
    let said = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.code, said)
}

/// Rows of an archive.
pub(crate) fn query(archive: &Path, sql: &str) -> Vec<Value> {
    let mut query = program("vestibule");
    query.args(["archive", "query", "--output", "json", "--archive"]).arg(archive).arg("--duckdb");
    let output = run(query.arg(paths::duckdb()).arg(sql), 60).unwrap().ok().unwrap();
    serde_json::from_str(&output).unwrap_or_else(|_| panic!("{output}"))
}

pub(crate) fn verify(archive: &Path, key: &str) -> (Output, Value) {
    let mut verify = program("vestibule-verify");
    let output = run(verify.arg("--json").arg("--archive").arg(archive).args(["--key", key]), 60);
    let output = output.unwrap();
    let said = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output, said)
}

/// The statements that a server's log has, each as often as it ran.
fn logged(server: &Postgres) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for path in server.collected("json").unwrap() {
        for line in fs::read_to_string(path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let message = line["message"].as_str().unwrap_or_default();
            let text = message.strip_prefix("statement: ").or_else(|| {
                message.strip_prefix("execute ").and_then(|rest| Some(rest.split_once(": ")?.1))
            });
            if let Some(text) = text {
                *found.entry(text.to_owned()).or_default() += 1;
            }
        }
    }
    found
}

fn imported(archive: &Path) -> BTreeMap<String, u64> {
    let sql = "SELECT r.statement, count(*) AS n FROM events e JOIN recordings r USING (session_id, session_seq) \
               WHERE e.kind = 'import.db.query' GROUP BY 1";
    let text = |row: &Value| row["statement"].as_str().unwrap().to_owned();
    query(archive, sql).iter().map(|row| (text(row), row["n"].as_u64().unwrap())).collect()
}

const SCRIPT: &str = "
SELECT id, full_name FROM customers WHERE id = 101;
BEGIN; SELECT count(*) FROM cards; COMMIT;
PREPARE one(bigint) AS SELECT id FROM customers WHERE id = $1; EXECUTE one(1); EXECUTE one(2);
SELECT nothing FROM nowhere;
COPY (SELECT id FROM cards ORDER BY id) TO STDOUT;
CREATE TEMP TABLE copied (n int, t text);
COPY copied FROM STDIN;
1	one
2	two
\\.
SELECT 'it''s \"quoted\"
over lines', id FROM customers WHERE id = 7;
SELECT repeat('long ', 20000) FROM generate_series(1, 20);
";

const BENCH: &str = "
\\set id random(1, 1000)
SELECT count(*) FROM customers WHERE id = :id;
BEGIN;
INSERT INTO case_notes (body) VALUES ('note ' || :id);
END;
";

/// psql with a script, and pgbench by every protocol.
fn traffic(server: &Postgres, folder: &Path) {
    let (script, bench) = (folder.join("script.sql"), folder.join("bench.sql"));
    fs::write(&script, SCRIPT).unwrap();
    fs::write(&bench, BENCH).unwrap();
    let psql = ["-X", "-q", "-f", script.to_str().unwrap()];
    server.program("psql", &psql, 60).unwrap();
    for mode in ["simple", "extended", "prepared"] {
        let arguments = ["-n", "-M", mode, "-c", "3", "-j", "1", "-t", "20", "-f"];
        let arguments = [&arguments[..], &[bench.to_str().unwrap()]].concat();
        server.program("pgbench", &arguments, 60).unwrap().ok().unwrap();
    }
}

fn map(folder: &Path, server: &Postgres) -> PathBuf {
    let map = folder.join("map.toml");
    let text = format!(
        "[[agent]]\nname = \"bench\"\naddresses = [\"127.0.0.0/8\"]\nowner = \"ann@bank.example\"\n\n\
         [[target]]\nname = \"bank\"\naddresses = [\"127.0.0.1:{}\"]\n",
        server.port()
    );
    fs::write(&map, text).unwrap();
    map
}

#[test]
fn what_the_server_ran_is_what_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let server = server();
    let capture = folder.path().join("capture.pcap");
    captured(&server, &capture, &[], || traffic(&server, folder.path()));
    let (archive, map) = (folder.path().join("imported"), map(folder.path(), &server));
    let (code, said) = import(&capture, &archive, &["--map", map.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said:#}");
    // A psql, nine benches with one that asks first, and the last.
    assert_eq!(said["sessions"], said["connections"], "{said:#}");
    assert!(said["agents"]["bench"].as_u64().unwrap() > 10, "{said:#}");
    let expected = logged(&server);
    assert!(expected.values().sum::<u64>() > 9 * 20 * 4, "{expected:?}");
    assert_eq!(imported(&archive), expected);
    marked(&archive, &said);
}

/// It is sealed with its own key, and every row says what it is.
fn marked(archive: &Path, said: &Value) {
    let (output, report) = verify(archive, said["key"].as_str().unwrap());
    assert_eq!((output.code, &report["ok"]), (Some(0), &true.into()), "{report:#}");
    assert!(report["notes"].to_string().contains("imported from a capture"), "{report:#}");
    let unmarked = "SELECT (SELECT count(*) FROM events WHERE kind NOT LIKE 'import.%' OR assurance <> 'imported'
                      OR node_id NOT LIKE 'import.%' OR decision <> 'none' OR agent_owner <> 'ann@bank.example')
                    + (SELECT count(*) FROM sessions WHERE assurance <> 'imported' OR node_id NOT LIKE 'import.%')
                    + (SELECT count(*) FROM recordings WHERE stream NOT LIKE 'import.%'
                      OR response_sample IS NOT NULL)
                    + (SELECT count(*) FROM control WHERE kind NOT LIKE 'import.%') AS n";
    assert_eq!(query(archive, unmarked)[0]["n"], 0);
    let whole =
        "SELECT count(*) AS n FROM sessions WHERE target_name = 'bank' AND close_reason = 'closed'";
    assert_eq!(query(archive, whole)[0]["n"], said["sessions"]);
    // What nothing may come of holds for an import as well.
    let undeclared = "SELECT count(*) AS n FROM sessions s WHERE events_declared <>
                      (SELECT count(*) FROM events e WHERE e.session_id = s.session_id)";
    assert_eq!(query(archive, undeclared)[0]["n"], 0);
}

#[test]
fn packets_that_were_cut_are_told_and_values_are_masked() {
    let folder = tempfile::tempdir().unwrap();
    let server = server();
    let capture = folder.path().join("capture.pcap");
    captured(&server, &capture, &["-s", "1000"], || {
        server.sql("SELECT id FROM customers WHERE ssn = '123-45-6789'").unwrap();
        server.sql("SELECT repeat('x', 100000)").unwrap();
    });
    let archive = folder.path().join("imported");
    let (code, said) = import(&capture, &archive, &[]);
    assert_eq!(code, Some(1), "{said:#}");
    assert!(said["gaps"]["snaplen"].as_u64().unwrap() >= 1, "{said:#}");
    assert!(said["missing_bytes"].as_u64().unwrap() > 80_000, "{said:#}");
    assert_eq!(said["unmapped"]["127.0.0.1"], said["sessions"], "{said:#}");
    let texts = query(&archive, "SELECT statement FROM recordings WHERE statement LIKE '%ssn%'");
    assert_eq!(texts.len(), 1, "{texts:?}");
    let text = texts[0]["statement"].as_str().unwrap();
    assert!(text.contains("[us_ssn]") && !text.contains("6789"), "{text}");
    let interrupted = "SELECT count(*) AS n FROM events WHERE status = 'interrupted'";
    assert!(query(&archive, interrupted)[0]["n"].as_u64().unwrap() >= 1);
    // The same capture is not imported twice.
    let mut again = program("vestibule");
    let again = run(again.args(["import", "--into"]).arg(&archive).arg(&capture), 60).unwrap();
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(again.stderr.contains("has this capture already"), "{again:?}");
}

#[test]
fn an_import_never_goes_into_what_a_host_recorded() {
    let world = World::start().unwrap();
    world.reader().psql("SELECT 1").unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("made.pcapng");
    made(&capture, 1);
    let mut import = world.daemon.cli();
    import.args(["import", "--into"]).arg(evidence.archive()).arg(&capture);
    let refused = run(&mut import, 60).unwrap();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("never written into what a host recorded"), "{refused:?}");
    assert_eq!(evidence.verify().unwrap().code, Some(0));
    let rows = evidence.count("SELECT count(*) FROM events WHERE kind LIKE 'import.%'").unwrap();
    assert_eq!(rows, 0);
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// A capture of one session with so many statements, each with an answer of a megabyte.
fn made(path: &Path, statements: usize) {
    let file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    let mut writer = Writer::new(file, "tests", "made").unwrap();
    let (client, server) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:5432".parse().unwrap());
    let mut talk = Talk::open(&mut writer, client, server, 0, &[]).unwrap();
    let body = [&[0, 3, 0, 0][..], b"user\0bob\0database\0bank\0\0"].concat();
    let startup = [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat();
    talk.say(&mut writer, Side::Downstream, (1, &startup), &[]).unwrap();
    let ready = message(b'Z', b"I");
    let hello = [message(b'R', &[0; 4]), ready.clone()].concat();
    talk.say(&mut writer, Side::Upstream, (2, &hello), &[]).unwrap();
    let column = [&b"t\0"[..], &[0; 6], &25_u32.to_be_bytes(), &[0xff; 6], &[0, 0]].concat();
    let described = message(b'T', &[&[0, 1][..], &column].concat());
    let row = message(b'D', &[&[0, 1][..], &10_000_u32.to_be_bytes(), &[b'x'; 10_000]].concat());
    let answer = [described, row.repeat(100), message(b'C', b"SELECT 100\0"), ready].concat();
    for (at, number) in (3..).step_by(2).zip(0..statements) {
        let query = message(b'Q', format!("SELECT t FROM t WHERE n = {number}\0").as_bytes());
        talk.say(&mut writer, Side::Downstream, (at, &query), &[]).unwrap();
        talk.say(&mut writer, Side::Upstream, (at + 1, &answer), &[]).unwrap();
    }
    talk.close(&mut writer, 1_000_000, &[]).unwrap();
    writer.finish().unwrap();
}

#[test]
fn memory_is_flat_where_a_capture_is_large() {
    let folder = tempfile::tempdir().unwrap();
    let peak = |statements: usize| {
        let capture = folder.path().join(format!("{statements}.pcapng"));
        made(&capture, statements);
        let into = folder.path().join(format!("{statements}"));
        let (peak, code) = peak_of_import(&capture, &into, &folder);
        assert_eq!(code, Some(0));
        let rows =
            "SELECT count(*) AS n, sum(rows) AS rows FROM events WHERE kind = 'import.db.query'";
        let row = &query(&into, rows)[0];
        assert_eq!(row["n"], statements);
        (peak, fs::metadata(&capture).unwrap().len())
    };
    let (few, few_bytes) = peak(5);
    let (many, many_bytes) = peak(105);
    assert!(many_bytes > 100_000_000 && few_bytes < 6_000_000);
    assert!(
        many < few + 24 * 1024 * 1024,
        "{few} B for {few_bytes} B, {many} B for {many_bytes} B"
    );
}

/// The most memory that an import held, and its exit code.
fn peak_of_import(capture: &Path, into: &Path, folder: &TempDir) -> (u64, Option<i32>) {
    let mut import = program("vestibule");
    import.args(["import", "--json", "--into"]).arg(into).arg(capture);
    let out = fs::File::create(folder.path().join("said")).unwrap();
    let mut import = Running::new("vestibule", import.stdout(out)).unwrap();
    let mut peak = 0;
    while import.is_running().unwrap() {
        peak = peak.max(peak_bytes(import.pid()).unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    (peak, import.wait(5).unwrap().unwrap())
}
