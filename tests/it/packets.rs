//! Sessions as packets and as recordings of a terminal: what is handed out is read by the programs that read such files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::process::run;
use integration::world::READER;
use integration::{Evidence, World, paths};
use serde_json::Value;

const SCRIPT: &str = "
SELECT id, ssn FROM customers WHERE id = 101;
BEGIN; SELECT count(*) FROM cards; COMMIT;
DROP TABLE customers;
COPY (SELECT id FROM cards ORDER BY id LIMIT 3) TO STDOUT;
SELECT nothing FROM nowhere;
SELECT 'two
lines';
";

const DRIVEN: &str = "
import psycopg
with psycopg.connect('', autocommit=True) as c:
    c.execute('SELECT id FROM customers WHERE id IN (%s, %s)', (1, 2)).fetchall()
";

fn eventful() -> World {
    let world = World::start().unwrap();
    world.reader().psql_script(SCRIPT).unwrap();
    world.reader().python(DRIVEN).unwrap().ok().unwrap();
    world
}

/// Sessions, the one with more commands first.
fn sessions(evidence: &Evidence<'_>) -> Vec<String> {
    let sql = "SELECT session_id FROM sessions ORDER BY events_declared DESC";
    let rows = evidence.duckdb(sql).unwrap();
    rows.iter().map(|row| row["session_id"].as_str().unwrap().to_owned()).collect()
}

fn export(world: &World, evidence: &Evidence<'_>, what: &str, session: &str, out: &Path) {
    let mut export = world.daemon.cli();
    export.args(["archive", "export", what, "--archive"]).arg(evidence.archive());
    run(export.arg("--out").arg(out).arg(session), 60).unwrap().ok().unwrap();
}

/// What tshark has of a file that is filtered like this: these fields of each packet.
fn tshark(world: &World, file: &Path, filter: &str, fields: &[&str]) -> Vec<Value> {
    let mut tshark = Command::new("tshark");
    tshark.args([
        "-d",
        &format!("tcp.port=={},pgsql", world.bank.port()),
        "-o",
        "ip.check_checksum:TRUE",
    ]);
    tshark.args(["-o", "tcp.check_checksum:TRUE", "-Y", filter, "-T", "json"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let told = run(tshark.arg("-r").arg(file), 60).unwrap().ok().unwrap();
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}"))
}

fn strings(packets: &[Value], field: &str) -> Vec<String> {
    let of = |packet: &Value| packet["_source"]["layers"][field].as_array().cloned();
    let all = packets.iter().filter_map(of).flatten();
    all.map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_sessions_packets_are_read_by_tshark_and_imported_again() {
    let world = eventful();
    let evidence = world.evidence().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sessions = sessions(&evidence);
    for (number, session) in sessions.iter().enumerate() {
        let file = folder.path().join(format!("{number}.pcapng"));
        export(&world, &evidence, "pcapng", session, &file);
        let wrong = "_ws.malformed || ip.checksum.status == \"Bad\" || tcp.checksum.status == \"Bad\" || tcp.analysis.flags";
        assert_eq!(tshark(&world, &file, wrong, &["frame.number"]), [] as [Value; 0]);
        let packets = tshark(&world, &file, "pgsql", &["pgsql.query", "frame.comment"]);
        let recorded = format!(
            "SELECT r.statement, concat_ws('/', e.node_id, e.log_epoch, e.seq) AS record, e.decision, e.rule_id
             FROM events e JOIN recordings r USING (session_id, session_seq)
             WHERE session_id = '{session}' AND e.kind = 'db.query' ORDER BY e.session_seq"
        );
        let recorded = evidence.duckdb(&recorded).unwrap();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let statements: Vec<String> = recorded.iter().map(|row| text(row, "statement")).collect();
        // tshark writes a line end as two characters.
        let asked: Vec<String> =
            strings(&packets, "pgsql.query").iter().map(|one| one.replace("\\n", "\n")).collect();
        assert_eq!(asked, statements);
        let comments = strings(&packets, "frame.comment");
        for row in &recorded {
            let of = format!(
                "record={} kind=db.query agent={READER} decision={} rule={}",
                text(row, "record"),
                text(row, "decision"),
                text(row, "rule_id")
            );
            assert!(comments.iter().any(|comment| comment.starts_with(&of)), "{of}: {comments:?}");
        }
        if number == 0 {
            let denied = tshark(&world, &file, "pgsql.code == \"42501\"", &["pgsql.message"]);
            assert_eq!(denied.len(), 1, "{denied:?}");
            let has = |part: &str| comments.iter().any(|comment| comment.contains(part));
            assert!(has("decision=deny") && has("masked=us_ssn:1"), "{comments:?}");
        }
        assert_eq!(imported_again(&file, &folder.path().join(format!("{number}"))), statements);
    }
}

/// What an import of a file has, statement by statement.
fn imported_again(file: &Path, into: &PathBuf) -> Vec<String> {
    let program = || Command::new(paths::programs().unwrap().join("vestibule"));
    let told = run(program().args(["import", "--json", "--into"]).arg(into).arg(file), 60).unwrap();
    assert_eq!(told.code, Some(0), "{told:?}");
    let sql = "SELECT r.statement FROM events e JOIN recordings r USING (session_id, session_seq)
               WHERE e.kind = 'import.db.query' ORDER BY e.session_seq";
    let mut query = program();
    query.args(["archive", "query", "--output", "json", "--archive"]).arg(into).arg("--duckdb");
    let told = run(query.arg(paths::duckdb()).arg(sql), 60).unwrap().ok().unwrap();
    let rows: Vec<Value> = serde_json::from_str(&told).unwrap();
    rows.iter().map(|row| row["statement"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_session_is_played_by_asciinema_as_it_is_replayed() {
    let world = eventful();
    let evidence = world.evidence().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let session = sessions(&evidence).remove(0);
    let file = folder.path().join("session.cast");
    export(&world, &evidence, "asciicast", &session, &file);
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let header = &lines[0];
    assert_eq!((&header["version"], header["width"].as_u64()), (&2.into(), Some(120)), "{header}");
    let mut last = 0.0;
    for event in &lines[1..] {
        let at = event[0].as_f64().unwrap();
        assert!(at >= last && event[1] == "o" && event[2].is_string(), "{event}");
        last = at;
    }
    // As its reader has it, and as the terminal is shown it.
    let asciinema = paths::python().with_file_name("asciinema");
    let played = run(Command::new(asciinema).arg("cat").arg(&file), 60).unwrap().ok().unwrap();
    let replay = |more: &[&str]| {
        let mut replay = world.daemon.cli();
        replay.args(["archive", "replay", "--speed", "0", "--archive"]).arg(evidence.archive());
        run(replay.args(more).arg(&session), 60).unwrap().ok().unwrap()
    };
    let replayed = replay(&[]);
    assert_eq!(played.replace("\r\n", "\n"), replayed);
    assert!(replayed.contains("> SELECT id, ssn FROM customers WHERE id = 101;"), "{replayed}");
    assert!(
        replayed.contains("< 101 ***-**-") && replayed.contains("> SELECT 'two\n  lines'"),
        "{replayed}"
    );
    // A part of it.
    let first = replay(&["--to", "0"]);
    assert!(
        replayed.starts_with(&first) && first.contains(" #1 ") && !first.contains("DROP"),
        "{first}"
    );
    let rest = replay(&["--command", "4", "--max-idle", "1"]);
    assert!(replayed.ends_with(&rest) && !rest.contains(" #3 ") && rest.contains(" #4 "), "{rest}");
}
