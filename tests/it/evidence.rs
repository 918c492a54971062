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
    let named = evidence.query("SELECT DISTINCT unnest(objects) AS object FROM events").unwrap();
    let customers = named.iter().filter_map(|row| row["object"].as_str());
    let customers: Vec<&str> = customers.filter(|name| name.contains("customers")).collect();
    let mut touched = Vec::new();
    for object in customers {
        touched.extend(evidence.ask("who-touched", &[&format!("object={object}")]).unwrap());
    }
    assert!(touched.iter().all(|r| r["agent_id"] == integration::world::READER), "{touched:?}");
    let refused = touched.iter().find(|r| r["verb"] == "DROP TABLE").unwrap();
    assert_eq!((&refused["decision"], refused["commands"].as_u64()), (&"deny".into(), Some(1)));
    let reads = touched.iter().filter(|r| r["verb"] == "SELECT");
    assert_eq!(reads.map(|r| r["commands"].as_u64().unwrap()).sum::<u64>(), 2);
    let before = ["object=customers", "to=2020-01-01"];
    assert_eq!(evidence.ask("who-touched", &before).unwrap(), Vec::<serde_json::Value>::new());
    let refusals = evidence.ask("refusals", &[]).unwrap();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(!refusals[0]["rule_id"].as_str().unwrap().is_empty());
    let masked = evidence.ask("masked", &[]).unwrap();
    let mut entities: Vec<&str> = masked.iter().map(|r| r["entity"].as_str().unwrap()).collect();
    entities.sort_unstable();
    assert_eq!(entities, ["email", "us_ssn"], "{masked:?}");
    let session =
        evidence.query("SELECT session_id FROM events WHERE verb = 'DROP TABLE'").unwrap();
    let session = format!("session={}", session[0]["session_id"].as_str().unwrap());
    let timeline = evidence.ask("session", &[&session]).unwrap();
    assert_eq!(timeline.last().unwrap()["status"], "denied", "{timeline:?}");
    let agents = evidence.ask("agents", &[]).unwrap();
    assert_eq!(agents.len(), 2, "{agents:?}");
    assert!(evidence.ask("changes", &[]).unwrap().iter().any(|row| row["kind"] == "log.start"));
    // The rest can be asked, and what must be empty is.
    let questions = evidence.questions().unwrap();
    assert!(questions.len() >= 12);
    for question in &questions {
        let arguments = question["arguments"].as_array().unwrap();
        let needed = arguments.iter().filter(|argument| argument["default"].is_null());
        let told: Vec<String> =
            needed.map(|argument| format!("{}=x", argument["name"].as_str().unwrap())).collect();
        let told: Vec<&str> = told.iter().map(String::as_str).collect();
        let rows = evidence.ask(question["name"].as_str().unwrap(), &told).unwrap();
        // No clock is kept on a machine for tests.
        let found = rows.iter().filter(|row| row["clock_state"] != "unsynced").count();
        assert!(question["expects_none"] == false || found == 0, "{question}: {rows:?}");
    }
    // As they ship, for whoever has DuckDB alone.
    let shipped = evidence.archive().join("std7y/v1/questions/refusals.sql");
    assert!(fs::read_to_string(shipped).unwrap().contains("CAST(:from AS DATE)"));
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
}

/// The questions of a pack whose right answer on a sound log is: nothing.
#[test]
fn what_must_be_empty_is_empty() {
    let world = eventful();
    let evidence = world.evidence().unwrap();
    for (question, sql) in [
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

/// The day is put together by the daemon, which records it; what was asked is answered as before, and all verifies.
#[test]
fn a_day_that_the_daemon_puts_together_is_as_it_was() {
    let world = eventful();
    world.evidence().unwrap();
    let evidence = world.evidence().unwrap();
    let ask = |args: &[&str]| {
        let mut compact = world.daemon.cli();
        compact
            .args(["archive", "compact", "--output", "json", "--before", "9999-12-31"])
            .args(args);
        let told = integration::process::run(&mut compact, 60).unwrap().ok().unwrap();
        serde_json::from_str::<serde_json::Value>(&told).unwrap()
    };
    let questions = |evidence: &Evidence<'_>| {
        ["refusals", "masked", "agents"].map(|question| evidence.ask(question, &[]).unwrap())
    };
    let (before, files) = (questions(&evidence), evidence.files("control").unwrap());
    assert!(files.len() > 1, "{files:?}");
    ask(&["--dry-run"]);
    assert_eq!(evidence.files("control").unwrap(), files, "nothing was done yet");
    let told = ask(&[]);
    let days = told["days"].as_array().unwrap();
    assert!(days.len() >= 4 && told["stays"].as_array().unwrap().is_empty(), "{told}");
    assert_eq!(questions(&evidence), before);
    assert!(evidence.files("control").unwrap().iter().all(|path| !files.contains(path)));
    let sound = evidence.verify_with_journal().unwrap();
    assert_eq!(sound.code, Some(0), "{} {}", sound.stdout, sound.stderr);
    let after = world.evidence().unwrap();
    let count = "SELECT count(*) FROM control WHERE kind = 'archive.compacted'";
    assert_eq!(after.count(count).unwrap(), days.len() as u64);
    let sound = after.verify_with_journal().unwrap();
    assert_eq!(sound.code, Some(0), "{} {}", sound.stdout, sound.stderr);
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
                Some(10),
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
    let told = same.verify().unwrap();
    assert_eq!(told.code, Some(0), "{} {}", told.stdout, told.stderr);
    assert!(told.stdout.contains("rows are all as recorded"), "{}", told.stdout);
    let removed = evidence.copy_to(&folder.path().join("removed")).unwrap();
    for file in removed.files("events").unwrap() {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(removed.verify().unwrap().code, Some(10));
}

/// The records that verify names, on an archive that does not hold.
fn records_named(evidence: &Evidence<'_>) -> Vec<String> {
    let told = evidence.verify().unwrap();
    assert_eq!(told.code, Some(10), "{} {}", told.stdout, told.stderr);
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

/// The session's id is in what the server itself says of it, so that its logs can be held against the archive.
#[test]
fn servers_are_told_whose_session_it_is() {
    let world = World::start().unwrap();
    let mut psql = world.reader().command("psql");
    psql.args(["-XAtc", "SHOW application_name"]);
    psql.env("PGAPPNAME", "a name that leaves too little room for what comes behind it");
    let told = integration::process::run(&mut psql, 60).unwrap().ok().unwrap();
    let (own, session) = told.trim().split_once(" vestibule/").expect("a mark");
    assert_eq!(own, "a name that leav", "as much as there is room for");
    let evidence = world.evidence().unwrap();
    let found = format!("SELECT count(*) FROM sessions WHERE session_id = '{session}'");
    assert_eq!(evidence.count(&found).unwrap(), 1, "{told}");
}

/// What the policies said that a command was decided by is in the archive, word for word, and once.
#[test]
fn policies_in_force_are_in_the_archive_word_for_word() {
    let mut world = eventful();
    world.daemon.restart_with("").unwrap();
    world.reader().psql("SELECT 1").unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    let loaded = evidence.ask("policies", &[]).unwrap();
    let changed: Vec<bool> =
        loaded.iter().map(|row| row["is_changed"].as_bool().unwrap()).collect();
    assert_eq!(changed, [true, false], "{loaded:?}");
    let digests = evidence.query("SELECT DISTINCT policy_digest FROM events").unwrap();
    assert_eq!(digests.len(), 1, "{digests:?}");
    let digest = format!("digest={}", digests[0]["policy_digest"].as_str().unwrap());
    let mut texts = std::collections::BTreeMap::<String, String>::new();
    for row in evidence.ask("policy-text", &[&digest]).unwrap() {
        let detail: serde_json::Value =
            serde_json::from_str(row["detail"].as_str().unwrap()).unwrap();
        let name = detail["name"].as_str().unwrap().to_owned();
        texts.entry(name).or_default().push_str(detail["text"].as_str().unwrap());
    }
    let folder = world.daemon.directory().join("policies");
    let mut seen = 0;
    for (name, text) in &texts {
        assert_eq!(&fs::read_to_string(folder.join(name)).unwrap(), text, "{name}");
        seen += usize::from(Path::new(name).extension().is_some_and(|end| end == "cedar"));
    }
    assert!(seen >= 4, "{:?}", texts.keys());
    assert_eq!(evidence.ask("unknown-policies", &[]).unwrap(), Vec::<serde_json::Value>::new());
}
