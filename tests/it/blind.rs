//! Blind tokens: who named a value is found, and the value is nowhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use integration::daemon::ExtraPolicy;
use integration::process::{feed, run};
use integration::world::READER;
use integration::{Daemon, Evidence, HttpServer, Supervisor, World, paths};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::RULES;
use crate::sealed::is_anywhere;

/// Classes with tokens, behind the shipped ones, of which one gets some as well.
fn classification() -> String {
    let shipped = fs::read_to_string(paths::policies().join("classification.toml")).unwrap();
    let ssn = "name = \"us_ssn\"\n";
    assert!(shipped.contains(ssn));
    shipped.replace(ssn, &format!("{ssn}tokens = \"digits\"\n"))
        + "
[[class]]
name = \"account\"
columns = [\"accounts.id\", \"case_notes.marker\", \"http.accounts\", \"http.account\"]
tokens = \"number\"

[[class]]
name = \"holder\"
columns = [\"customers.full_name\"]
tokens = \"caseless\"
"
}

/// That they are not masked.
const SHOWN: ExtraPolicy<'static> = (
    "shown.cedar",
    r#"@id("shown")
permit (principal, action == Action::"disclose", resource)
when { resource == DataClass::"account" || resource == DataClass::"holder" };
"#,
);

/// A world whose recordings are sealed, so that no value lies anywhere; and where their keys are.
fn start() -> (TempDir, World) {
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("audit");
    let mut keygen = Command::new(paths::programs().unwrap().join("vestibule"));
    run(keygen.args(["recordings", "keygen", "--out"]).arg(&key), 10).unwrap().ok().unwrap();
    let recipients = format!("\n[recordings]\nrecipients = [\"{}.pub\"]\n", key.display());
    let classification = classification();
    let policies = [("classification.toml", classification.as_str()), SHOWN];
    (keys, World::ruled_with(&policies, &recipients).unwrap())
}

/// `vestibule archive blind`, told the value on its standard input.
fn blind(daemon: &Daemon, class: &str, value: &str, more: &[&str]) -> Command {
    let mut command = daemon.cli();
    command.args(["archive", "blind", "--class", class, "--policies"]);
    command.arg(daemon.directory().join("policies"));
    command.arg("--keys").arg(daemon.directory().join("state/keys/blind")).args(more);
    assert!(!command.get_args().any(|argument| argument == value));
    command
}

fn tokens(daemon: &Daemon, class: &str, value: &str) -> Vec<String> {
    let mut command = blind(daemon, class, value, &["--print"]);
    let told = feed(&mut command, value.as_bytes(), 20).unwrap().ok().unwrap();
    told.split_whitespace().map(str::to_owned).collect()
}

/// The rows that `archive blind` finds.
fn found(evidence: &Evidence<'_>, daemon: &Daemon, class: &str, value: &str) -> Vec<Value> {
    let archive = evidence.archive().display().to_string();
    let mut command = blind(daemon, class, value, &["--output", "json", "--archive", &archive]);
    command.env("VESTIBULE_DUCKDB", paths::duckdb());
    let told = feed(&mut command, value.as_bytes(), 60).unwrap().ok().unwrap();
    if told.trim().is_empty() { Vec::new() } else { serde_json::from_str(&told).unwrap() }
}

/// Ways to name account 40004711, each of which is a command of its own.
const SPELLINGS: &[&str] = &[
    "id = 40004711",
    "id = '40004711'",
    "id = '40004711'::int",
    "id = '0040004711'",
    "id = 40004711.0",
    r"id = E'\x34\x30004711'",
    r"id = U&'\0034\0030004711'",
    "id = $$40004711$$",
    "id = -(-40004711)",
    "id::text = '40004711'",
    "CAST(id AS bigint) = CAST('40004711' AS bigint)",
    "abs(id) = 40004711",
    "40004711 <= id",
    "id IN (7, 40004711, 9)",
    "id = ANY ('{7,40004711}')",
    "id = ANY (ARRAY[7, 40004711])",
    "(kind, id) = ('loan', 40004711)",
    "(id, kind) IN ((7, 'loan'), (40004711, 'loan'))",
    "id BETWEEN 40004711 AND 50000000",
    "id = (SELECT 40004711)",
    "id IN (SELECT n FROM (VALUES (7), (40004711)) AS v (n))",
    "CASE id WHEN 40004711 THEN true ELSE false END",
    "strpos(id::text, '40004711') > 0",
    "id = coalesce(NULL, 40004711)",
];

/// What psycopg binds, in text, in binary, prepared and in lists; and what it writes.
const BOUND: &str = "
import psycopg
with psycopg.connect(autocommit=True) as c:
    n = 40004711
    c.execute('SELECT kind FROM accounts WHERE id = %s', (n,))
    c.execute('SELECT kind FROM accounts WHERE id = %t', (n,))
    c.execute('SELECT kind FROM accounts WHERE id = %b', (n,))
    for _ in range(3): c.execute('SELECT balance FROM accounts WHERE id = %b', (n,), prepare=True)
    c.execute('SELECT kind FROM accounts WHERE id = ANY(%s)', ([7, n],))
    c.execute('SELECT kind FROM accounts WHERE id = ANY(%b)', ([7, n],))
    c.execute('INSERT INTO case_notes (body, marker) VALUES (%s, %s), (%s, 40004712)', ('one', n, 'two'))
    c.execute('UPDATE case_notes SET body = %s, marker = %s WHERE marker = 40004712', ('three', n))
    c.execute('INSERT INTO case_notes (marker, body) SELECT %s::int, %s', (n, 'four'))
";

#[test]
fn who_named_an_account_is_found_however_it_was_spelt_and_it_lies_nowhere() {
    let (_keys, world) = start();
    let writer = world.writer();
    let script: String = SPELLINGS
        .iter()
        .map(|spelling| format!("SELECT kind FROM accounts WHERE {spelling};\n"))
        .chain([
            "PREPARE q (int) AS SELECT kind FROM accounts WHERE id = $1;\nEXECUTE q(40004711);\n"
                .to_owned(),
        ])
        // Another account, and the number where it is none.
        .chain(["SELECT kind FROM accounts WHERE id = 40004713;\n".to_owned()])
        .chain([
            "SELECT kind FROM accounts WHERE balance = 40004711 OR id = customer_id;\n".to_owned()
        ])
        .chain(["SELECT id FROM customers WHERE full_name = ' Ada  ARCHER' AND city = 'Dover';\n"
            .to_owned()])
        .chain(["SELECT id FROM customers WHERE ssn = '078-05-1120';\n".to_owned()])
        .collect();
    let told = writer.psql_script(&script).unwrap();
    let errors: Vec<&str> = told.stderr.lines().filter(|line| line.starts_with("ERROR")).collect();
    // The class of the last one is masked, so it must not decide: refused, and who tried is known.
    assert!(errors.len() == 1 && errors[0].contains("probe of us_ssn"), "{errors:?}");
    writer.python(BOUND).unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));

    let [token] = &*tokens(&world.daemon, "account", "40004711") else { panic!("one key") };
    assert_eq!(tokens(&world.daemon, "account", "040004711.00"), std::slice::from_ref(token));
    let of = |what: &str| {
        let sql = format!(
            "SELECT session_seq, statement_norm, blind_tokens FROM events \
             WHERE kind = 'db.query' AND ({what}) ORDER BY ts, session_seq"
        );
        evidence.duckdb(&sql).unwrap()
    };
    let has = |row: &Value| row["blind_tokens"].to_string().contains(&**token);
    let asked = of("verb IN ('SELECT', 'EXECUTE') AND list_contains(objects, 'accounts')");
    let without: Vec<_> = asked.iter().filter(|&row| !has(row)).collect();
    assert_eq!(without.len(), 2, "{without:#?}");
    assert!(without[1].get("statement_norm").unwrap().as_str().unwrap().contains("balance"));
    assert!(without[0]["blind_tokens"] != without[1]["blind_tokens"], "{without:#?}");
    assert_eq!(asked.len(), SPELLINGS.len() + 1 + 2 + 8, "{asked:#?}");
    let written = of("list_contains(objects, 'case_notes')");
    assert!(written.len() == 3 && written.iter().all(has), "{written:#?}");

    // The same by the command, which is told the value on stdin; and by the class.
    assert_eq!(found(&evidence, &world.daemon, "account", "40004711").len(), asked.len() - 2 + 3);
    let holder = found(&evidence, &world.daemon, "holder", "ada archer");
    assert!(holder.len() == 1 && holder[0]["status"] == "ok", "{holder:?}");
    let denied = found(&evidence, &world.daemon, "us_ssn", "07805112");
    assert!(denied.is_empty(), "a digit is missing");
    let denied = found(&evidence, &world.daemon, "us_ssn", "078 05 1120");
    assert!(denied.len() == 1 && denied[0]["status"] == "denied", "{denied:?}");
    let asked = evidence.ask("blind-token", &[&format!("token={token}")]).unwrap();
    assert_eq!(asked.len(), found(&evidence, &world.daemon, "account", "40004711").len());
    assert!(evidence.ask("blind-cut", &[]).unwrap().is_empty());

    // No value is anywhere: not in the journal, not in the archive, not beside them.
    let state = world.daemon.directory().join("state");
    for text in ["40004711", "40004712", "078-05-1120", "ARCHER"] {
        assert_eq!(is_anywhere(&state, text), None, "{text}");
    }
    assert!(is_anywhere(&state, "UPDATE case_notes SET body").is_some());
}

#[test]
fn another_key_makes_other_tokens_and_all_are_found() {
    let (_keys, world) = start();
    let ask = || {
        let said = world.reader().psql("SELECT kind FROM accounts WHERE id = 40004711").unwrap();
        said.ok().unwrap();
    };
    ask();
    let [first] = &*tokens(&world.daemon, "account", "40004711") else { panic!("one key") };
    let mut rotate = world.daemon.cli();
    run(rotate.args(["archive", "rotate-blind-key"]), 20).unwrap().ok().unwrap();
    ask();
    let both = tokens(&world.daemon, "account", "40004711");
    assert!(both.len() == 2 && both[1] == *first && both[0] != *first, "{both:?}");
    let evidence = world.evidence().unwrap();
    for token in &both {
        assert_eq!(evidence.ask("blind-token", &[&format!("token={token}")]).unwrap().len(), 1);
    }
    assert_eq!(found(&evidence, &world.daemon, "account", "40004711").len(), 2);
    // Which keys there were, and since when.
    let keys = evidence
        .duckdb("SELECT detail FROM control WHERE kind = 'blind.key' ORDER BY seq")
        .unwrap();
    let keys: Vec<Value> = keys
        .iter()
        .map(|row| serde_json::from_str(row["detail"].as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_eq!(keys[0]["classes"]["account"], "number");
    assert_eq!(keys[1]["before"], keys[0]["key"]);
    // The daemon goes on with the newest, and the keys are nowhere but where they are kept.
    let files = |dir: &Path| -> Vec<Vec<u8>> {
        fs::read_dir(dir).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
    };
    let state = world.daemon.directory().join("state");
    let kept = files(&state.join("keys/blind"));
    assert!(kept.len() == 2 && kept.iter().all(|key| key.len() == 32));
    for file in files(&state.join("journal")) {
        assert!(kept.iter().all(|key| !file.windows(32).any(|window| window == &**key)));
    }
    let mut wrong = blind(&world.daemon, "email", "x", &[]);
    let refused = feed(&mut wrong, b"x@y.example", 20).unwrap();
    assert!(refused.stderr.contains("has no `tokens`"), "{}", refused.stderr);
}

#[test]
fn what_has_no_token_is_said() {
    let (_keys, world) = start();
    let many: Vec<String> = (40_000_000..40_000_600).map(|n| n.to_string()).collect();
    let script = format!(
        "SELECT kind FROM accounts WHERE id IN ({});\nCOPY case_notes (marker, body) FROM STDIN;\n40004711\tcopied\n\\.\n",
        many.join(",")
    );
    world.writer().psql_script(&script).unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    let cut = evidence.ask("blind-cut", &[]).unwrap();
    let verbs: Vec<&str> = cut.iter().map(|row| row["verb"].as_str().unwrap()).collect();
    assert_eq!(verbs, ["SELECT", "COPY"], "{cut:?}");
    let kept = evidence.count("SELECT sum(len(blind_tokens)) FROM events").unwrap();
    assert_eq!(kept, 512 + 2);
}

#[test]
fn without_a_class_that_has_them_there_are_none() {
    let world = World::start().unwrap();
    world.reader().psql("SELECT kind FROM accounts WHERE id = 40004711").unwrap().ok().unwrap();
    let evidence = world.evidence().unwrap();
    assert_eq!(
        evidence.count("SELECT count(*) FROM events WHERE len(blind_tokens) > 0").unwrap(),
        0
    );
    assert!(!world.daemon.directory().join("state/keys/blind").exists());
    let mut rotate = world.daemon.cli();
    let refused = run(rotate.args(["archive", "rotate-blind-key"]), 20).unwrap();
    assert!(refused.stderr.contains("no class of classification.toml has `tokens`"));
}

#[test]
fn values_of_paths_and_queries_have_tokens_too() {
    let server = HttpServer::start().unwrap();
    let target = format!(
        "[[target]]\nname = 'api'\naddress = '127.0.0.1:{}'\nprotocol = 'http'\n",
        server.port()
    );
    let classification = classification();
    let policies = [RULES, ("classification.toml", classification.as_str())];
    let bank = integration::port::Port::take().unwrap();
    let daemon =
        Daemon::start_with(Supervisor::None, bank.number(), 2, &policies, &target).unwrap();
    for path in
        ["v1/accounts/40004711", "v1/search?account=40004711&q=7", "v1/accounts/7?q=40004711"]
    {
        let mut curl = daemon.cli();
        curl.args(["run", "--agent", READER, "--", "curl", "-sS"]);
        curl.arg(format!("http://127.0.0.1:{}/{path}", server.port()));
        run(&mut curl, 30).unwrap().ok().unwrap();
    }
    let evidence = Evidence::seal(&daemon).unwrap();
    let rows = found(&evidence, &daemon, "account", "40004711");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| !row.to_string().contains("40004711")));
}
