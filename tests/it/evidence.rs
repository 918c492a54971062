//! What an auditor finds: DuckDB on the Parquet files as they lie, and `vestibule verify`.

use std::fs;
use std::path::Path;

use integration::{Evidence, World};

/// Reads, a masked read, a refusal and a write, by two agents.
fn eventful() -> World {
    let world = World::start().unwrap();
    for sql in [
        "SELECT id, full_name FROM customers WHERE id = 101",
        "SELECT ssn, email FROM customers WHERE id = 102",
        "SELECT count(*) FROM transfers",
    ] {
        world.reader().psql(sql).unwrap().ok().unwrap();
    }
    world.reader().psql("DROP TABLE customers").unwrap();
    let note = "INSERT INTO case_notes (body) VALUES ('seen 4000001047292 by mail')";
    world.writer().psql(note).unwrap().ok().unwrap();
    world
}

#[test]
fn every_auditors_question_is_answered_from_the_files() {
    let world = eventful();
    let evidence = world.evidence().unwrap();
    // Q01: who touched customers.
    let rows = evidence
        .duckdb(
            "SELECT agent_id, verb, decision, count(*) AS n FROM events \
             WHERE array_to_string(objects, ' ') LIKE '%customers%' AND kind = 'db.query' \
             GROUP BY ALL ORDER BY verb, decision",
        )
        .unwrap();
    assert!(rows.iter().all(|r| r["agent_id"] == integration::world::READER), "{rows:?}");
    let refused = rows.iter().find(|r| r["verb"] == "DROP TABLE").unwrap();
    assert_eq!((&refused["decision"], refused["n"].as_u64()), (&"deny".into(), Some(1)));
    let read: u64 =
        rows.iter().filter(|r| r["verb"] == "SELECT").map(|r| r["n"].as_u64().unwrap()).sum();
    assert_eq!(read, 2);
    // Q05: what was denied and why.
    let rows = evidence
        .duckdb("SELECT rule_id, count(*) AS denied FROM events WHERE decision = 'deny' GROUP BY rule_id")
        .unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(!rows[0]["rule_id"].as_str().unwrap().is_empty());
    // Q11: masked fields by agent.
    let rows = evidence
        .duckdb(
            "SELECT agent_id, m.entity AS entity, sum(m.\"count\") AS n FROM \
             (SELECT agent_id, unnest(masked) AS m FROM events) GROUP BY ALL ORDER BY entity",
        )
        .unwrap();
    let entities: Vec<&str> = rows.iter().map(|r| r["entity"].as_str().unwrap()).collect();
    assert_eq!(entities, ["email", "us_ssn"], "{rows:?}");
}

#[test]
fn a_sessions_timeline_is_whole_and_in_order() {
    let world = World::start().unwrap();
    let script = "SELECT id FROM customers WHERE id = 1;\nSELECT id FROM cards WHERE id = 2;\nDROP TABLE cards;\n";
    world.reader().psql_script(script).unwrap();
    let evidence = world.evidence().unwrap();
    let rows = evidence
        .duckdb("SELECT session_seq, verb, decision, status FROM events WHERE kind = 'db.query' ORDER BY session_seq")
        .unwrap();
    let verbs: Vec<&str> = rows.iter().map(|r| r["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["SELECT", "SELECT", "DROP TABLE"], "{rows:?}");
    assert_eq!(evidence.count("SELECT count(DISTINCT session_id) FROM events").unwrap(), 1);
    // Q08: what a session declares is there, and every session is closed.
    let incomplete = "SELECT count(*) FROM (SELECT s.session_id FROM sessions s LEFT JOIN events e \
         ON e.session_id = s.session_id GROUP BY s.session_id, s.events_declared, s.close_reason \
         HAVING count(e.seq) <> s.events_declared OR s.close_reason IS NULL)";
    assert_eq!(evidence.count(incomplete).unwrap(), 0);
}

/// The questions of a pack whose right answer on a sound log is: nothing.
#[test]
fn what_must_be_empty_is_empty() {
    let world = eventful();
    let evidence = world.evidence().unwrap();
    for (question, sql) in [
        (
            "self-approval",
            "SELECT count(*) FROM events WHERE decision = 'approved' AND (approver_id = actor_user OR approver_id IS NULL)",
        ),
        (
            "no agent",
            "SELECT count(*) FROM events WHERE agent_id IS NULL AND session_id IS NOT NULL",
        ),
        (
            "no policy",
            "SELECT count(*) FROM events WHERE kind = 'db.query' AND policy_digest IS NULL",
        ),
        (
            "literals",
            "SELECT count(*) FROM events WHERE statement_norm LIKE '%4000001047292%' OR statement_norm LIKE '%= 101%'",
        ),
    ] {
        assert_eq!(evidence.count(sql).unwrap(), 0, "{question}");
    }
    // Q09: the one sequence of all tables has no gap.
    let gaps = "WITH s AS (SELECT seq FROM events UNION ALL SELECT seq FROM sessions \
         UNION ALL SELECT seq FROM control UNION ALL SELECT seq FROM recordings) \
         SELECT max(seq) - min(seq) + 1 - count(DISTINCT seq) FROM s";
    assert_eq!(evidence.count(gaps).unwrap(), 0);
    // Every column of the contract is there, known or not.
    let described =
        evidence.duckdb("SELECT column_name FROM (DESCRIBE SELECT * FROM events)").unwrap();
    let columns: Vec<&str> = described.iter().map(|r| r["column_name"].as_str().unwrap()).collect();
    for column in
        ["node_id", "seq", "ts", "actor_user", "approval_id", "blind_tokens", "tls_version", "dt"]
    {
        assert!(columns.contains(&column), "{column} is not in {columns:?}");
    }
}

#[test]
fn recordings_hold_the_exact_statement() {
    let world = eventful();
    let evidence = world.evidence().unwrap();
    let rows = evidence.duckdb("SELECT * FROM recordings").unwrap();
    let text = serde_json::to_string(&rows).unwrap();
    assert!(text.contains("SELECT id, full_name FROM customers WHERE id = 101"), "{text}");
    // The response's sample is what the agent saw: masked.
    let raw = world.bank.sql("SELECT ssn FROM customers WHERE id = 102").unwrap();
    assert!(!text.contains(raw.trim()), "{text}");
}

#[test]
fn the_command_line_asks_the_same_views() {
    let world = eventful();
    let evidence = world.evidence().unwrap();
    let sql = "SELECT count(*) AS n FROM events WHERE decision = 'deny'";
    assert_eq!(evidence.query(sql).unwrap(), evidence.duckdb(sql).unwrap());
}

#[test]
fn a_sound_archive_verifies_and_a_flipped_byte_is_found() {
    let world = eventful();
    let evidence = world.evidence().unwrap();
    let sound = evidence.verify().unwrap();
    assert_eq!(sound.code, Some(0), "{} {}", sound.stdout, sound.stderr);
    let folder = tempfile::tempdir().unwrap();
    for table in ["events", "sessions", "recordings"] {
        for place in [0.3, 0.6] {
            let copy = evidence.copy_to(&folder.path().join(format!("{table}-{place}"))).unwrap();
            let file = copy.files(table).unwrap().remove(0);
            flip(&file, place);
            let broken = copy.verify().unwrap();
            assert_eq!(
                broken.code,
                Some(1),
                "{table} {place}: {} {}",
                broken.stdout,
                broken.stderr
            );
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(broken.stdout.contains(name), "{name} is not named in {}", broken.stdout);
        }
    }
}

/// Of a file rewritten by other software verify says that its rows are as recorded: the root is over
/// rows. With one word changed it names that record and no other.
#[test]
fn verify_names_the_altered_record_and_clears_a_rewritten_file() {
    let world = eventful();
    let evidence = world.evidence().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let altered = evidence.copy_to(&folder.path().join("altered")).unwrap();
    rewrite(
        &altered,
        "SELECT * REPLACE (CASE WHEN decision = 'deny' THEN 'allow' ELSE decision END AS decision)",
    );
    let denied = "SELECT node_id || '/' || log_epoch || '/' || seq AS record FROM events WHERE decision = 'deny'";
    let record = evidence.duckdb(denied).unwrap().remove(0)["record"].clone();
    assert_eq!(records_named(&altered), [record]);
    let same = evidence.copy_to(&folder.path().join("same")).unwrap();
    rewrite(&same, "SELECT *");
    assert!(records_named(&same).is_empty());
    assert!(same.verify().unwrap().stdout.contains("rows are all as recorded"));
    let removed = evidence.copy_to(&folder.path().join("removed")).unwrap();
    for file in removed.files("events").unwrap() {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(removed.verify().unwrap().code, Some(1));
}

/// The records that verify names, on an archive that does not hold.
fn records_named(evidence: &Evidence<'_>) -> Vec<String> {
    let told = evidence.verify().unwrap();
    assert_eq!(told.code, Some(1), "{} {}", told.stdout, told.stderr);
    let report: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    // What the record says now may follow.
    let name = |record: &str| record.split(' ').next().unwrap().to_owned();
    findings.iter().filter_map(|finding| finding["record"].as_str().map(name)).collect()
}

/// Has DuckDB write the events anew, compressed as ours are.
fn rewrite(evidence: &Evidence<'_>, select: &str) {
    for file in evidence.files("events").unwrap() {
        let part = file.with_extension("part");
        let sql = format!(
            "COPY ({select} FROM read_parquet('{}', hive_partitioning = false)) TO '{}' (FORMAT parquet, COMPRESSION zstd)",
            file.display(),
            part.display()
        );
        let mut duckdb = std::process::Command::new(integration::paths::duckdb());
        integration::process::run(duckdb.args(["-c", &sql]), 60).unwrap().ok().unwrap();
        fs::rename(part, file).unwrap();
    }
}

/// Changes one byte at a place between the file's start (0) and its end (1).
fn flip(file: &Path, place: f64) {
    let mut bytes = fs::read(file).unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "any byte near the place will do"
    )]
    let at = (bytes.len() as f64 * place) as usize;
    bytes[at] ^= 0x01;
    fs::write(file, bytes).unwrap();
}
