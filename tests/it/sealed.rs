//! Recordings that are sealed: nothing of them lies in clear, and whoever has a key of those to whom they are sealed reads
//! what the agent said and saw.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::daemon::ExtraPolicy;
use integration::process::{Output, run};
use integration::{Evidence, World, paths};
use serde_json::Value;
use tempfile::TempDir;

/// Keys of audit, escrow and a stranger, and a world whose recordings are sealed to the first two.
struct Sealed {
    world: World,
    keys: TempDir,
}

impl Sealed {
    fn start() -> Self {
        Self::start_with(&[], "")
    }

    /// With policy files more, and more at the end of the configuration.
    fn start_with(policies: &[ExtraPolicy<'_>], rest: &str) -> Self {
        let keys = tempfile::tempdir().unwrap();
        let program = paths::programs().unwrap().join("vestibule");
        for name in ["audit", "escrow", "stranger"] {
            let mut keygen = Command::new(&program);
            keygen.args(["recordings", "keygen", "--out"]).arg(keys.path().join(name));
            run(&mut keygen, 10).unwrap().ok().unwrap();
        }
        let key = |name: &str| keys.path().join(name).display().to_string();
        let configuration = format!(
            "\n[recordings]\nrecipients = [\"{}\", \"{}\"]\n",
            key("audit.pub"),
            key("escrow.pub")
        ) + rest;
        Self { world: World::ruled_with(policies, &configuration).unwrap(), keys }
    }

    fn state(&self) -> PathBuf {
        self.world.daemon.directory().join("state")
    }

    fn vault(&self) -> PathBuf {
        self.state().join("recordings/keys")
    }

    /// Opens a session's recording.
    fn open(&self, evidence: &Evidence<'_>, key: &str, session: &str, more: &[&str]) -> Output {
        let mut open = self.world.daemon.cli();
        open.args(["recordings", "open", "--purpose", "case 4711", "--session", session]);
        open.arg("--key").arg(self.keys.path().join(format!("{key}.key")));
        open.arg("--archive").arg(evidence.archive()).arg("--vault").arg(self.vault());
        run(open.args(more), 60).unwrap()
    }

    fn entries(&self, evidence: &Evidence<'_>, key: &str, session: &str) -> Vec<Value> {
        let told = self.open(evidence, key, session, &[]).ok().unwrap();
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The text of entries of a kind.
fn texts<'e>(entries: &'e [Value], kind: &str) -> Vec<&'e str> {
    let of_kind = entries.iter().filter(|entry| entry["kind"] == kind);
    of_kind.map(|entry| entry["text"].as_str().unwrap()).collect()
}

/// The session of the commands whose normalised text is like this.
fn session(evidence: &Evidence<'_>, like: &str) -> String {
    let sql = format!("SELECT DISTINCT session_id FROM events WHERE statement_norm LIKE '{like}'");
    let rows = evidence.duckdb(&sql).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0]["session_id"].as_str().unwrap().to_owned()
}

/// Whether any file below a folder holds this text.
pub(crate) fn is_anywhere(folder: &Path, text: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = if path.is_dir() {
            is_anywhere(&path, text)
        } else {
            let bytes = fs::read(&path).unwrap();
            let is_in = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            is_in.then_some(path)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A read with a literal, a masked read, a write with parameters, a secret, and an error.
const COMMANDS: &str = "
import psycopg
with psycopg.connect(autocommit=True) as c:
    for row in c.execute(\"SELECT full_name, city FROM customers WHERE id = 7 AND city <> 'literalquill'\"): print(*row, sep='\\t')
    for row in c.execute('SELECT id, ssn FROM customers WHERE id = 102'): print(*row, sep='\\t')
    c.execute('UPDATE case_notes SET body = %s WHERE marker = %s', ('quillfeather 4000001047292', 71))
    try: c.execute(\"ALTER ROLE app PASSWORD 'hunter2'\")
    except psycopg.Error as e: pass
";

#[test]
fn a_key_opens_what_was_seen_and_nothing_of_it_lies_in_clear() {
    let sealed = Sealed::start();
    let world = &sealed.world;
    let seen = world.writer().python(COMMANDS).unwrap().ok().unwrap();
    let rows: Vec<&str> = seen.lines().collect();
    assert!(rows[0].starts_with("Hana "), "{seen}");
    let evidence = world.evidence().unwrap();
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
    // Neither what was asked for by value nor what was answered lies anywhere; what is no value does.
    let name = rows[0].split('\t').next().unwrap();
    for text in ["literalquill", "quillfeather", "4000001047292", "hunter2", name] {
        assert_eq!(is_anywhere(&sealed.state(), text), None, "{text}");
        for table in ["events", "recordings", "control", "sessions"] {
            let rows = evidence.duckdb(&format!("FROM {table}")).unwrap();
            assert!(!rows.iter().any(|row| row.to_string().contains(text)), "{table}: {text}");
        }
    }
    assert!(is_anywhere(&sealed.state(), "UPDATE case_notes SET body").is_some());
    let clear = "SELECT count(*) FROM recordings WHERE statement IS NOT NULL \
                 OR parameters IS NOT NULL OR response_sample IS NOT NULL";
    assert_eq!(evidence.count(clear).unwrap(), 0);
    let lengths = "SELECT count(*) FROM events WHERE statement_len = 77 AND verb = 'SELECT'";
    assert_eq!(evidence.count(lengths).unwrap(), 1);
    let session = session(&evidence, "UPDATE case_notes%");
    // Audit and escrow read it, each alone.
    let entries = sealed.entries(&evidence, "audit", &session);
    assert_eq!(entries, sealed.entries(&evidence, "escrow", &session));
    let said = texts(&entries, "statement");
    assert!(said.contains(
        &"SELECT full_name, city FROM customers WHERE id = 7 AND city <> 'literalquill'"
    ));
    assert!(said.iter().any(|text| text.contains("PASSWORD '[secret]'")), "{said:?}");
    assert_eq!(texts(&entries, "parameters"), [r#"["quillfeather 4000001047292","71"]"#]);
    let answers = texts(&entries, "answer");
    assert_eq!(answers[0], format!("{}\n", rows[0]));
    assert_eq!(answers[1], format!("{}\n", rows[1]));
    assert!(rows[1].contains("***"), "{seen}");
    assert_eq!(entries.last().unwrap()["kind"], "end");
    // Nobody else does.
    let stranger = sealed.open(&evidence, "stranger", &session, &[]);
    assert!(stranger.code == Some(2) && stranger.stdout.is_empty(), "{stranger:?}");
    assert!(stranger.stderr.contains("is not wrapped to"), "{}", stranger.stderr);
    // Each opening is on record, with its purpose.
    let later = world.evidence().unwrap();
    let opened = format!(
        "SELECT count(*) FROM control WHERE kind = 'recording.opened' AND detail LIKE '%case 4711%' \
         AND detail LIKE '%{session}%'"
    );
    assert_eq!(later.count(&opened).unwrap(), 2);
}

#[test]
fn what_is_altered_or_moved_is_found_and_does_not_open() {
    let sealed = Sealed::start();
    for id in [5, 6] {
        let sql = format!("SELECT full_name FROM customers WHERE id = {id}");
        sealed.world.reader().psql(&sql).unwrap().ok().unwrap();
        sealed.world.reader().psql(&format!("SELECT city FROM customers WHERE id = {id}")).unwrap();
    }
    let evidence = sealed.world.evidence().unwrap();
    let sql = "SELECT DISTINCT session_id FROM recordings WHERE sealed IS NOT NULL ORDER BY 1";
    let sessions = evidence.duckdb(sql).unwrap();
    let [first, second] = [0, 1].map(|at| sessions[at]["session_id"].as_str().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let one = |session: &str| format!("session_id = '{session}' AND chunk = 1");
    let bytes = |session: &str, chunk: u32| {
        format!(
            "(SELECT sealed FROM read_parquet(FILE) WHERE session_id = '{session}' AND chunk = {chunk} AND sealed IS NOT NULL)"
        )
    };
    let flipped =
        "unhex(CASE WHEN hex(sealed)[1] = '0' THEN '1' ELSE '0' END || substr(hex(sealed), 2))";
    for (name, other, told) in [
        ("flipped", flipped.to_owned(), "chunk 1 does not open"),
        ("of-another-session", bytes(second, 1), "chunk 1 does not open"),
        ("of-another-place", bytes(first, 0), "chunk 1 does not open"),
    ] {
        let copy = evidence.copy_to(&folder.path().join(name)).unwrap();
        assert!(sealed.open(&copy, "audit", first, &[]).code == Some(0), "{name}");
        let changed = one(first);
        rewrite(
            &copy,
            &format!("CASE WHEN {changed} AND sealed IS NOT NULL THEN {other} ELSE sealed END"),
        );
        let verified = copy.verify().unwrap();
        assert_eq!(verified.code, Some(10), "{name}: {} {}", verified.stdout, verified.stderr);
        let opened = sealed.open(&copy, "audit", first, &[]);
        assert!(opened.code == Some(2) && opened.stderr.contains(told), "{name}: {opened:?}");
        // What is before it and other sessions' are not spoilt.
        assert_eq!(sealed.open(&copy, "audit", second, &[]).code, Some(0), "{name}");
    }
    let removed = evidence.copy_to(&folder.path().join("removed")).unwrap();
    rewrite_where(&removed, "sealed", &format!("NOT ({} AND sealed IS NOT NULL)", one(first)));
    let opened = sealed.open(&removed, "audit", first, &[]);
    assert!(opened.stderr.contains("chunk 1 is missing"), "{opened:?}");
}

/// Has DuckDB write the recordings anew with other sealed bytes.
fn rewrite(evidence: &Evidence<'_>, sealed: &str) {
    rewrite_where(evidence, sealed, "true");
}

fn rewrite_where(evidence: &Evidence<'_>, sealed: &str, kept: &str) {
    for file in evidence.files("recordings").unwrap() {
        let part = file.with_extension("part");
        let named = format!("'{}', hive_partitioning = false", file.display());
        let sql = format!(
            "COPY (SELECT * REPLACE ({} AS sealed) FROM read_parquet({named}) WHERE {kept} ORDER BY seq) TO '{}' \
             (FORMAT parquet, COMPRESSION zstd)",
            sealed.replace("FILE", &named),
            part.display()
        );
        let mut duckdb = Command::new(paths::duckdb());
        run(duckdb.args(["-c", &sql]), 60).unwrap().ok().unwrap();
        fs::rename(part, file).unwrap();
    }
}

#[test]
fn commands_that_come_together_share_chunks() {
    const COMMANDS: usize = 60;
    let sealed = Sealed::start();
    let asked: Vec<String> = (1..=COMMANDS)
        .map(|n| format!("SELECT id, 'sharequill {n}' FROM customers WHERE id = {n}"))
        .collect();
    let seen = sealed.world.reader().psql(&asked.join("; ")).unwrap().ok().unwrap();
    assert_eq!(seen.lines().count(), COMMANDS);
    let evidence = sealed.world.evidence().unwrap();
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
    assert_eq!(is_anywhere(&sealed.state(), "sharequill"), None);
    let session = session(&evidence, "SELECT id, $1 FROM customers%");
    // Each command has its row, and what it said and was answered, by its own number.
    let entries = sealed.entries(&evidence, "audit", &session);
    let of_kind = |kind: &str| {
        let found = entries.iter().filter(|entry| entry["kind"] == kind);
        let found = found
            .map(|entry| (entry["command"].as_u64().unwrap(), entry["text"].as_str().unwrap()));
        found.filter(|(_, text)| text.contains("sharequill")).collect::<Vec<_>>()
    };
    let (said, answers) = (of_kind("statement"), of_kind("answer"));
    assert!(said.iter().map(|(_, text)| *text).eq(&asked), "{said:?}");
    let as_printed = |text: &str| text.trim_end().replace('\t', "|");
    assert!(answers.iter().map(|(_, text)| as_printed(text)).eq(seen.lines()), "{answers:?}");
    assert!(said.iter().map(|(n, _)| n).eq(answers.iter().map(|(n, _)| n)));
    let sql = format!(
        "SELECT session_seq, statement_norm FROM events WHERE session_id = '{session}' AND verb = 'SELECT' ORDER BY 1"
    );
    let rows = evidence.duckdb(&sql).unwrap();
    assert!(
        rows.iter()
            .map(|row| row["session_seq"].as_u64().unwrap())
            .eq(said.iter().map(|(n, _)| *n))
    );
    // One read brought them all. Of the answers the server sends some at a time.
    let chunks = format!(
        "SELECT count(*) FROM recordings WHERE session_id = '{session}' AND sealed IS NOT NULL"
    );
    let chunks = evidence.count(&chunks).unwrap();
    assert!(chunks <= 12, "{chunks} chunks of {COMMANDS} commands");
}

/// Asks one thing after the other, and says what was answered.
const ASK_ON: &str = "
import psycopg
with psycopg.connect(autocommit=True) as c:
    n = 0
    while True:
        n += 1
        c.execute('INSERT INTO case_notes (marker, body) VALUES (%s, %s)', (n, f'sealed {n}'))
        print(n, flush=True)
";

/// The same with twenty at a time, of which none waits for the one before.
const ASK_ON_TOGETHER: &str = "
import psycopg
with psycopg.connect(autocommit=True) as c:
    n = 0
    while True:
        with c.pipeline():
            for _ in range(20):
                n += 1
                c.execute('INSERT INTO case_notes (marker, body) VALUES (%s, %s)', (n, f'sealed {n}'))
        print(n, flush=True)
";

/// Kills the daemon while an agent asks on, and looks for all that it was answered, once it runs again.
fn acknowledged_are_kept(asks: &str) -> Sealed {
    let mut sealed = Sealed::start();
    let mut agent = sealed.world.writer().start_python(asks).unwrap();
    let mut told = BufReader::new(agent.take_stdout().unwrap()).lines();
    let acknowledged: usize = told.by_ref().take(40).last().unwrap().unwrap().parse().unwrap();
    sealed.world.daemon.kill();
    drop(agent);
    sealed.world.daemon.restart().unwrap();
    let evidence = sealed.world.evidence().unwrap();
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
    let session = session(&evidence, "INSERT INTO case_notes%");
    let told = sealed.open(&evidence, "escrow", &session, &[]);
    assert!(told.stderr.contains("has no end"), "{}", told.stderr);
    let entries: Vec<Value> =
        told.ok().unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let parameters: HashSet<&str> = texts(&entries, "parameters").into_iter().collect();
    for n in 1..=acknowledged {
        assert!(parameters.contains(format!(r#"["{n}","sealed {n}"]"#).as_str()), "{n}");
    }
    sealed
}

#[test]
fn no_acknowledged_request_is_lost_by_kill_9_where_commands_share_chunks() {
    drop(acknowledged_are_kept(ASK_ON_TOGETHER));
}

#[test]
fn no_acknowledged_request_is_lost_by_kill_9_and_no_key_outlives_the_daemon() {
    let sealed = acknowledged_are_kept(ASK_ON);
    // What is said after the start is under a key of its own.
    sealed.world.reader().psql("SELECT id FROM customers WHERE id = 1").unwrap().ok().unwrap();
    let nonces = "SELECT count(*) - count(DISTINCT dek_id || nonce) FROM recordings WHERE sealed IS NOT NULL";
    assert_eq!(sealed.world.evidence().unwrap().count(nonces).unwrap(), 0);
}

#[test]
fn what_is_shredded_opens_for_nobody_and_still_verifies() {
    let sealed = Sealed::start();
    for id in [5, 6] {
        let sql = format!("SELECT full_name FROM customers WHERE id = {id}");
        sealed.world.reader().psql(&sql).unwrap().ok().unwrap();
    }
    let evidence = sealed.world.evidence().unwrap();
    let sql = "SELECT DISTINCT session_id FROM recordings WHERE sealed IS NOT NULL ORDER BY 1";
    let sessions = evidence.duckdb(sql).unwrap();
    let [first, second] = [0, 1].map(|at| sessions[at]["session_id"].as_str().unwrap());
    assert_eq!(sealed.open(&evidence, "audit", first, &[]).code, Some(0));
    let shred = |arguments: &[&str]| {
        let mut shred = sealed.world.daemon.cli();
        run(shred.args(["recordings", "shred"]).args(arguments), 60).unwrap()
    };
    assert!(
        shred(&["--session", first, "--reason", " "]).stderr.contains("a reason must be given")
    );
    shred(&["--session", first, "--reason", "erasure request 12"]).ok().unwrap();
    for key in ["audit", "escrow"] {
        let refused = sealed.open(&evidence, key, first, &[]);
        assert!(refused.code == Some(2) && refused.stderr.contains("shredded"), "{refused:?}");
    }
    assert_eq!(sealed.open(&evidence, "audit", second, &[]).code, Some(0));
    let again = shred(&["--session", first, "--reason", "again"]);
    assert!(again.stderr.contains("shredded"), "{}", again.stderr);
    // All of before a day; today's is not.
    assert!(shred(&["--before", "2026-01-01", "--reason", "old"]).stderr.contains("no key"));
    let later = sealed.world.evidence().unwrap();
    assert_eq!(later.verify_with_journal().unwrap().code, Some(0));
    let shredded = format!(
        "SELECT count(*) FROM control WHERE kind = 'recording.shredded' AND detail LIKE '%\"dek_id\":\"{first}\"%' \
         AND detail LIKE '%erasure request 12%'"
    );
    assert_eq!(later.count(&shredded).unwrap(), 1);
    shred(&["--before", "9999-01-01", "--reason", "all of it"]).ok().unwrap();
    assert_eq!(sealed.open(&evidence, "audit", second, &[]).code, Some(2));
}

#[test]
fn without_room_for_its_key_no_session_begins() {
    let sealed = Sealed::start();
    fs::remove_dir_all(sealed.vault()).unwrap();
    fs::write(sealed.vault(), "no folder").unwrap();
    let mut psql = sealed.world.reader().command("psql");
    // Else it asks for encryption first, and understands no error there.
    psql.envs([("PGSSLMODE", "disable"), ("PGGSSENCMODE", "disable")]);
    let told = run(psql.args(["-XAtc", "SELECT id FROM customers WHERE id = 1"]), 60).unwrap();
    assert!(told.stderr.contains("nothing goes on unrecorded"), "{told:?}");
    fs::remove_file(sealed.vault()).unwrap();
    sealed.world.reader().psql("SELECT id FROM customers WHERE id = 1").unwrap().ok().unwrap();
    let evidence = sealed.world.evidence().unwrap();
    let refused = "SELECT count(*) FROM sessions WHERE close_reason = 'not_recorded'";
    assert_eq!(evidence.count(refused).unwrap(), 1);
}

/// All that a session says and is answered is kept.
const IN_FULL: &str = r#"
@id("record-all")
@record("full")
forbid (principal == Agent::"back-office", action in [Action::"control", Action::"read", Action::"write"], resource);
"#;

/// Logs in by hand, keeps every byte from behind the login on, and says both directions in base64. The agent's first
/// ReadyForQuery is the first that is kept of what it got.
const BY_HAND: &str = "
import base64, os, socket, struct
s = socket.create_connection((os.environ['PGHOST'], int(os.environ['PGPORT'])), timeout=60)
f = s.makefile('rb')
sent, received = b'', b''
def message():
    head = f.read(5)
    return head + f.read(struct.unpack('!i', head[1:])[0] - 4)
def say(*messages):
    global sent
    whole = b''.join(tag + struct.pack('!i', len(body) + 4) + body for tag, body in messages)
    sent += whole
    s.sendall(whole)
def hear():
    global received
    while True:
        got = message()
        received += got
        if got[:1] == b'Z': return
body = struct.pack('!i', 196608) + b'user\\0app\\0database\\0bank\\0\\0'
s.sendall(struct.pack('!i', len(body) + 4) + body)
while True:
    got = message()
    if got[:1] == b'Z':
        received += got
        break
say((b'Q', b'SELECT id, full_name, ssn FROM customers ORDER BY id LIMIT 3000\\0'))
hear()
value = b'quillfeather'
say((b'P', b'\\0UPDATE case_notes SET body = $1 WHERE marker = 1\\0' + struct.pack('!h', 0)),
    (b'B', b'\\0\\0' + struct.pack('!hhi', 0, 1, len(value)) + value + struct.pack('!h', 0)),
    (b'E', b'\\0' + struct.pack('!i', 0)), (b'S', b''))
hear()
before = sent
say((b'Q', b\"SELECT set_config('app.password', 'hunter2', false)\\0\"))
hear()
secret, sent = sent[len(before):], before
say((b'Q', b'SELECT 1/0\\0'))
hear()
say((b'X', b''))
assert f.read() == b''
print(base64.b64encode(sent).decode(), base64.b64encode(received).decode(), len(secret))
";

#[test]
fn what_is_kept_in_full_is_what_went_over_the_wire_to_the_byte() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), integration::bank::PASSWORD).unwrap();
    let credential = format!(
        "\n[[credential]]\ntarget = \"bank\"\naccount = \"app\"\nsecret_file = \"{}\"\n",
        secret.path().display()
    );
    let sealed = Sealed::start_with(&[("full.cedar", IN_FULL)], &credential);
    let told = sealed.world.writer().python(BY_HAND).unwrap().ok().unwrap();
    let [sent, received, secret] = told.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{told}")
    };
    let evidence = sealed.world.evidence().unwrap();
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
    let session = session(&evidence, "UPDATE case_notes%");
    let entries = sealed.entries(&evidence, "audit", &session);
    for (side, expected) in [("sent", sent), ("received", received)] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(side);
        let opened = sealed.open(
            &evidence,
            "audit",
            &session,
            &["--extract", side, "--out", file.to_str().unwrap()],
        );
        opened.ok().unwrap();
        let mut encode = Command::new("base64");
        let encoded = run(encode.arg("-w0").arg(&file), 10).unwrap().ok().unwrap();
        assert!(encoded == expected, "{side}: {} of {} bytes", encoded.len(), expected.len());
    }
    // What is left out is said: the login, and the message with the secret.
    let gaps: Vec<Value> =
        texts(&entries, "gap").iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let of = |side: &str, why: &str| {
        let is_it = |gap: &&Value| gap["side"] == side && gap["why"] == why;
        gaps.iter().filter(is_it).map(|gap| gap["bytes"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(of("sent", "secret"), secret.parse::<u64>().unwrap(), "{gaps:?}");
    assert!(of("sent", "login") > 0 && of("received", "login") > 0, "{gaps:?}");
    assert_eq!(of("sent", "policy") + of("received", "policy"), 0, "{gaps:?}");
    assert_eq!(is_anywhere(&sealed.state(), "quillfeather"), None);
    // Another agent's are kept in words, as far as there is room.
    sealed.world.reader().psql("SELECT id FROM customers LIMIT 3").unwrap().ok().unwrap();
    let evidence = sealed.world.evidence().unwrap();
    let sql = "SELECT DISTINCT session_id FROM events WHERE agent_id = 'support-assistant' AND kind = 'db.query'";
    let other = evidence.duckdb(sql).unwrap()[0]["session_id"].as_str().unwrap().to_owned();
    let entries = sealed.entries(&evidence, "audit", &other);
    assert!(texts(&entries, "answer").contains(&"1\n2\n3\n"), "{entries:?}");
    assert!(entries.iter().all(|entry| entry["kind"] != "sent" && entry["kind"] != "received"));
}

#[test]
fn an_examiner_opens_a_kit_with_a_key_of_their_own_and_a_replay_shows_what_is_sealed() {
    let sealed = Sealed::start();
    let query = "SELECT full_name FROM customers WHERE id = 5 AND city <> 'literalquill'";
    let seen = sealed.world.reader().psql(query).unwrap().ok().unwrap();
    let evidence = sealed.world.evidence().unwrap();
    let session = session(&evidence, "SELECT full_name FROM customers%");
    let folder = tempfile::tempdir().unwrap();
    let kit = folder.path().join("kit");
    let key = |name: &str| sealed.keys.path().join(name);
    let mut export = sealed.world.daemon.cli();
    export.args(["archive", "export", "kit", "--purpose", "examination 9", "--session", &session]);
    export.arg("--out").arg(&kit).arg("--archive").arg(evidence.archive());
    export.arg("--vault").arg(sealed.vault()).arg("--key").arg(key("audit.key"));
    run(export.arg("--rewrap-to").arg(key("stranger.pub")), 60).unwrap().ok().unwrap();
    let verify = |kit: &Path| {
        let mut python = Command::new(paths::python());
        run(python.env_clear().args(["-I", "-B"]).arg(kit.join("verify.py")), 60).unwrap()
    };
    let verified = verify(&kit);
    assert_eq!(verified.code, Some(0), "{} {}", verified.stdout, verified.stderr);
    let open = |name: &str| {
        let mut open = sealed.world.daemon.cli();
        open.args(["recordings", "open", "--purpose", "examination 9", "--session", &session]);
        open.arg("--archive").arg(&kit).arg("--vault").arg(kit.join("recordings/keys"));
        run(open.arg("--key").arg(key(name)), 60).unwrap()
    };
    let opened = open("stranger.key").ok().unwrap();
    assert!(opened.contains(r#""kind":"command_line""#), "{opened}");
    assert!(opened.contains("literalquill") && opened.contains(seen.trim()), "{opened}");
    assert!(open("audit.key").stderr.contains("is not wrapped to"));
    // Without a key a replay shows no value; with one it does.
    let replay = |more: &[&str]| {
        let mut replay = sealed.world.daemon.cli();
        replay.args(["archive", "replay", "--speed", "0", "--archive"]).arg(evidence.archive());
        replay.arg("--vault").arg(sealed.vault()).args(more).arg(&session);
        run(&mut replay, 60).unwrap().ok().unwrap()
    };
    let shown = replay(&[]);
    // Nor is it in what psql was called with.
    assert_eq!(is_anywhere(&sealed.state(), "literalquill"), None);
    assert!(shown.contains("city <> $2") && !shown.contains("literalquill"), "{shown}");
    let shown = replay(&["--purpose", "look", "--key", key("escrow.key").to_str().unwrap()]);
    assert!(shown.contains("literalquill") && shown.contains(seen.trim()), "{shown}");
    let openings = "SELECT count(*) FROM control WHERE kind = 'recording.opened' \
                    AND (detail LIKE '%examination 9%' OR detail LIKE '%look%')";
    assert_eq!(sealed.world.evidence().unwrap().count(openings).unwrap(), 3);
}
