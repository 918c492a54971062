//! What becomes of masks when definitions change: by an agent, in whatever way; by others, directly at
//! the server; with the daemon's own role, and by queries on agents' connections.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{ChildStdin, ChildStdout};

use integration::daemon::Supervisor;
use integration::process::Running;
use integration::{Agent, Daemon, Postgres, bank, world};
use serde_json::{Value, json};
use tempfile::TempDir;

mod lost;

/// Defines what it likes, by code that can't be analysed too; no other policy is softer for it.
const DEFINER: &str = "definer";
const POLICY: &str = r#"
@id("definer-defines")
permit (principal == Agent::"definer", action in [Action::"ddl", Action::"call", Action::"write"], resource);
"#;

const SECRET: &str = "catalog-only";

/// The role of docs/operator.md.
const ROLE: &str =
    "CREATE ROLE vestibule_catalog LOGIN PASSWORD 'catalog-only' CONNECTION LIMIT 5;";

/// Besides the bank: what is clean, until somebody makes it something else.
const SETUP: &str = "SET ROLE app;
    CREATE VIEW notes AS SELECT id, full_name AS note FROM customers WHERE id < 4;
    CREATE TABLE kids (id int, note text);
    INSERT INTO kids SELECT id, reverse(ssn) FROM customers WHERE id < 4;
    CREATE TABLE parents (id int, note text);
    CREATE SCHEMA other; CREATE SCHEMA hidden;
    CREATE VIEW other.mail AS SELECT id, reverse(ssn) AS note FROM customers WHERE id < 4;
    CREATE VIEW mail AS SELECT id, full_name AS note FROM customers WHERE id < 4;";

/// `notes`, of something else.
const DIRTY: &str =
    "CREATE OR REPLACE VIEW notes AS SELECT id, reverse(ssn) AS note FROM customers WHERE id < 4";

/// A bank behind a daemon that lets an agent define.
struct Stage {
    daemon: Daemon,
    bank: Postgres,
    _secrets: TempDir,
    /// What must not be seen: the first numbers, backwards, which nothing recognizes.
    secrets: Vec<String>,
}

impl Stage {
    /// With a role of the daemon's own or without, and an interval in seconds.
    fn set(own_role: bool, interval: u64) -> Self {
        let bank = Postgres::start().unwrap();
        bank.sql(ROLE).unwrap();
        Self::before(bank, own_role, interval)
    }

    fn before(bank: Postgres, own_role: bool, interval: u64) -> Self {
        bank.sql(SETUP).unwrap();
        let directory = tempfile::Builder::new().prefix("vestibule-secrets-").tempdir().unwrap();
        let secret = directory.path().join("catalog");
        fs::write(&secret, SECRET).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let role = if own_role {
            format!("account = \"vestibule_catalog\"\nsecret_file = \"{}\"\n", secret.display())
        } else {
            String::new()
        };
        let configuration = format!("[target.catalog]\n{role}interval_s = {interval}\n");
        let baseline = include_str!("../../policies/baseline.cedar")
            .replace(
                "context.risk.ddl };",
                "context.risk.ddl } unless { principal == Agent::\"definer\" };",
            )
            .replace(
                "context.risk.opaque };",
                "context.risk.opaque } unless { principal == Agent::\"definer\" };",
            );
        let classes = include_str!("../../policies/classification.toml")
            .replace("columns = [\"*.ssn\"", "columns = [\"kids.note\", \"wide_*.*\", \"*.ssn\"");
        let extra = [
            world::WRITER_POLICY,
            ("definer.cedar", POLICY),
            ("baseline.cedar", &baseline),
            ("classification.toml", &classes),
        ];
        let daemon =
            Daemon::start_with(Supervisor::None, bank.port(), 2, &extra, &configuration).unwrap();
        let sql = "SELECT reverse(ssn) FROM customers WHERE id < 4 ORDER BY id";
        let secrets = bank.sql(sql).unwrap().lines().map(str::to_owned).collect();
        Self { daemon, bank, _secrets: directory, secrets }
    }

    fn talk(&self, agent: &str) -> Talk {
        Talk::start(&Agent::new(&self.daemon, agent, bank::ROLE, self.bank.port()))
    }

    /// Checks that statements, however they are sent, bring something and none of what must not be seen.
    #[track_caller]
    fn check_reads(&self, talk: &mut Talk, reads: &[&str]) {
        for read in reads {
            for answer in [talk.ask(read), talk.ask_prepared(read)] {
                let is_held = !is_error(&answer) && self.is_clean(&answer);
                assert!(is_held, "{read} brought {answer}");
            }
        }
    }

    /// Whether an answer holds none of what must not be seen, in letters of either case.
    fn is_clean(&self, answer: &Value) -> bool {
        let text = answer.to_string();
        !self.secrets.iter().any(|secret| text.contains(secret.as_str()))
    }
}

/// An agent's session that is asked one thing after the other.
struct Talk {
    _python: Running,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

const TALK: &str = "
import json, sys, psycopg
c = psycopg.connect(autocommit=True)
c.prepare_threshold = 1
print('true', flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    try:
        cursor = c.execute(asked['sql'], asked['parameters'])
        rows = cursor.fetchall() if cursor.description else []
        print(json.dumps([[v if v is None else str(v) for v in row] for row in rows]), flush=True)
    except psycopg.Error as e:
        print(json.dumps('error ' + str(e.sqlstate) + ' ' + str(e)), flush=True)
";

impl Talk {
    fn start(agent: &Agent<'_>) -> Self {
        let mut python = agent.start_python(TALK).unwrap();
        let to = python.take_stdin().unwrap();
        let from = BufReader::new(python.take_stdout().unwrap());
        let mut talk = Self { _python: python, to, from };
        assert_eq!(talk.hear(), json!(true));
        talk
    }

    /// By the simple protocol.
    fn ask(&mut self, sql: &str) -> Value {
        self.say(sql, &Value::Null);
        self.hear()
    }

    /// By the extended one; from the third time on, prepared and not described.
    fn ask_prepared(&mut self, sql: &str) -> Value {
        self.say(sql, &json!([]));
        self.hear()
    }

    fn say(&mut self, sql: &str, parameters: &Value) {
        let line = json!({ "sql": sql, "parameters": parameters }).to_string();
        writeln!(self.to, "{line}").unwrap();
        self.to.flush().unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or(json!(format!("error: it said {line:?}")))
    }
}

fn is_error(answer: &Value) -> bool {
    answer.as_str().is_some_and(|text| text.starts_with("error"))
}

/// What each change starts from, in the schema `stage`.
const BEFORE: &str = "SET ROLE app;
    DROP SCHEMA IF EXISTS stage, hidden CASCADE; CREATE SCHEMA stage; CREATE SCHEMA hidden;
    DROP VIEW IF EXISTS notes, mail; DROP TABLE IF EXISTS kids, parents;
    SET search_path = stage;
    CREATE TABLE people AS SELECT id, ssn, full_name FROM public.customers WHERE id < 4;
    CREATE VIEW notes AS SELECT id, full_name AS note FROM people;
    CREATE TABLE kids AS SELECT id, reverse(ssn) AS note FROM people;
    CREATE TABLE parents (id int, note text);";

/// How one session changes what another reads, and the reads that then bring what is masked.
const CHANGES: [(&str, &[&str], &[&str]); 13] = [
    (
        "a view is replaced",
        &["CREATE OR REPLACE VIEW notes AS SELECT id, reverse(ssn) AS note FROM people"],
        &[
            "SELECT note FROM notes",
            "SELECT upper(note) FROM notes",
            "SELECT * FROM notes",
            "SELECT n FROM notes n",
        ],
    ),
    (
        "within a transaction",
        &[
            "BEGIN",
            "CREATE OR REPLACE VIEW notes AS SELECT id, reverse(ssn) AS note FROM people",
            "COMMIT",
        ],
        &["SELECT note FROM notes", "SELECT lower(note) FROM notes"],
    ),
    (
        "with others in between",
        &[
            "BEGIN; SELECT 1; SAVEPOINT s",
            "CREATE OR REPLACE VIEW notes AS SELECT id, reverse(ssn) AS note FROM people",
            "RELEASE s; SELECT 2",
            "COMMIT; BEGIN; SELECT 3",
        ],
        &["SELECT note FROM notes"],
    ),
    (
        "by code",
        &["DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW notes AS \
           SELECT id, reverse(ssn) AS note FROM people'; END $$"],
        &["SELECT note FROM notes", "SELECT concat(note) FROM notes"],
    ),
    (
        "by code within a transaction",
        &[
            "BEGIN",
            "DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW notes AS \
             SELECT id, reverse(ssn) AS note FROM people'; END $$",
            "COMMIT",
        ],
        &["SELECT note FROM notes"],
    ),
    (
        "a view is made",
        &["CREATE VIEW made AS SELECT reverse(ssn) AS note FROM people"],
        &["SELECT note FROM made", "SELECT upper(note) FROM made", "SELECT max(note) FROM made"],
    ),
    (
        "dropped and made",
        &["DROP VIEW notes", "CREATE VIEW notes AS SELECT reverse(ssn) AS note FROM people"],
        &["SELECT note FROM notes"],
    ),
    (
        "a column is renamed",
        &["ALTER TABLE people RENAME ssn TO note"],
        &["SELECT reverse(note) FROM people", "SELECT reverse(p.note) FROM people p LIMIT 3"],
    ),
    (
        "a table is renamed",
        &["ALTER TABLE kids RENAME TO grown"],
        &[
            "SELECT note FROM grown",
            "SELECT concat(note, '') FROM grown",
            "SELECT grown FROM grown",
        ],
    ),
    (
        "a table moves",
        &["ALTER TABLE people RENAME ssn TO x", "ALTER TABLE people SET SCHEMA hidden"],
        &[
            "SELECT reverse(x) FROM hidden.people",
            "SET search_path = hidden",
            "SELECT reverse(x) FROM people",
        ],
    ),
    (
        "a table is renamed with its column, in a transaction",
        &[
            "BEGIN",
            "ALTER TABLE kids RENAME note TO remark",
            "ALTER TABLE kids RENAME TO grown",
            "COMMIT",
        ],
        &["SELECT remark FROM grown", "SELECT concat(remark, '') FROM grown"],
    ),
    (
        "a table gets a child",
        &["ALTER TABLE kids INHERIT parents"],
        &["SELECT note FROM parents", "SELECT upper(note) FROM parents"],
    ),
    (
        "a computed column is added",
        &["ALTER TABLE kids ADD COLUMN more text GENERATED ALWAYS AS (note || '') STORED"],
        &["SELECT more FROM kids", "SELECT concat(more) FROM kids"],
    ),
];

fn changes_are_followed(own_role: bool) {
    let stage = Stage::set(own_role, 300);
    let (mut reader, mut definer) = (stage.talk(world::READER), stage.talk(DEFINER));
    for (at, (name, changes, reads)) in CHANGES.iter().enumerate() {
        stage.bank.sql(BEFORE).unwrap();
        for talk in [&mut reader, &mut definer] {
            assert!(!is_error(&talk.ask("SET search_path = stage, public")), "{name}");
        }
        // What was made directly is seen by now; `notes` comes as it is, prepared too.
        assert!(!is_error(&definer.ask("CREATE TABLE seen ()")), "{name}");
        for _ in 0..3 {
            let before = reader.ask_prepared("SELECT note FROM notes");
            assert!(before.to_string().contains("Archer"), "{name}: {before}");
        }
        for change in *changes {
            let done = definer.ask(change);
            assert!(!is_error(&done), "{name}: {change}: {done}");
        }
        // Whoever is asked first: the one that knows it, or the one that does not.
        let mut talks = [&mut reader, &mut definer];
        talks.rotate_left(at % 2);
        for talk in &mut talks {
            for read in *reads {
                for answer in [talk.ask(read), talk.ask_prepared(read)] {
                    let is_held = !is_error(&answer) && stage.is_clean(&answer);
                    assert!(is_held, "{name}: {read} brought {answer}");
                }
            }
        }
        // What has nothing to do with it comes as it is.
        for talk in talks {
            talk.ask("ROLLBACK");
            let city = talk.ask("SELECT city FROM public.customers WHERE id = 1");
            assert_eq!(city, json!([["Boise"]]), "{name}");
        }
    }
}

#[test]
fn definitions_of_agents_are_followed_with_a_role() {
    changes_are_followed(true);
}

#[test]
fn definitions_of_agents_are_followed_without_a_role() {
    changes_are_followed(false);
}

/// What a session made and has not committed nobody else can know; it is masked as widely as can be
/// until it is over, whichever way.
#[test]
fn what_is_not_committed_is_masked_and_rolled_back_is_as_it_was() {
    for own_role in [true, false] {
        let stage = Stage::set(own_role, 300);
        let mut reader = stage.talk(world::READER);
        let mut definer = stage.talk(DEFINER);
        definer.ask("BEGIN");
        definer.ask("CREATE VIEW made AS SELECT reverse(ssn) AS note FROM customers WHERE id < 4");
        for read in ["SELECT note FROM made", "SELECT upper(note) FROM made"] {
            let answer = definer.ask(read);
            assert!(!is_error(&answer) && stage.is_clean(&answer), "{answer}");
        }
        let city = "SELECT city FROM customers WHERE id = 1";
        assert_eq!(reader.ask(city), json!([["Boise"]]), "others notice nothing meanwhile");
        let own = definer.ask(city);
        assert!(!own.to_string().contains("Boise"), "the widest masks: {own}");
        definer.ask("ROLLBACK");
        assert_eq!(definer.ask(city), json!([["Boise"]]));
        assert_eq!(reader.ask(city), json!([["Boise"]]));
    }
}

/// Relations of the session's own that stand before others, and rows that outlive what they were.
#[test]
fn temporary_relations_and_held_rows_are_masked() {
    for own_role in [true, false] {
        let stage = Stage::set(own_role, 300);
        let mut definer = stage.talk(DEFINER);
        let mut reader = stage.talk(world::READER);
        for define in [
            "CREATE TEMP VIEW own AS SELECT reverse(ssn) AS note FROM customers WHERE id < 4",
            "CREATE TEMP VIEW transfers AS SELECT reverse(ssn) AS memo FROM customers WHERE id < 4",
            "CREATE TEMP TABLE empty (ssn text, note text)",
        ] {
            assert!(!is_error(&definer.ask(define)));
        }
        stage.check_reads(
            &mut definer,
            &[
                "SELECT note FROM own",
                "SELECT upper(note) FROM pg_temp.own",
                "SELECT memo FROM transfers",
                "SELECT lower(memo) FROM transfers",
                "SELECT concat(memo) FROM pg_temp.transfers",
            ],
        );
        assert_eq!(definer.ask("SELECT note FROM empty"), json!([]));
        // A cursor of rows by another definition.
        for step in [
            DIRTY,
            "BEGIN",
            "DECLARE held CURSOR WITH HOLD FOR SELECT note FROM notes",
            "COMMIT",
            "CREATE OR REPLACE VIEW notes AS SELECT id, full_name AS note FROM customers WHERE id < 4",
        ] {
            let done = definer.ask(step);
            assert!(!is_error(&done), "{step}: {done}");
        }
        let held = definer.ask("FETCH ALL FROM held");
        assert!(!is_error(&held) && stage.is_clean(&held), "{held}");
        assert!(definer.ask("SELECT note FROM notes").to_string().contains("Archer"));
        // Another path, another view of the same name.
        assert!(!is_error(&reader.ask("SET search_path = other, public")));
        for read in ["SELECT note FROM mail", "SELECT upper(note) FROM mail"] {
            let answer = reader.ask(read);
            assert!(!is_error(&answer) && stage.is_clean(&answer), "{read} brought {answer}");
        }
    }
}

/// A statement that waits in the server while a definition changes is answered by the new one.
#[test]
fn what_is_under_way_when_a_definition_changes_is_masked() {
    const PIPELINED: &str = "
import sys, psycopg
c = psycopg.connect(autocommit=True)
for _ in range(6): c.execute('SELECT note FROM notes', prepare=True).fetchall()
print('ready', flush=True)
with c.pipeline():
    first = c.execute('SELECT count(*) FROM generate_series(1, 12000000)', prepare=True)
    second = c.execute('SELECT note FROM notes', prepare=True)
    try: print(first.fetchall(), second.fetchall(), flush=True)
    except psycopg.Error as e: print('error', e, flush=True)
";
    for own_role in [true, false] {
        let stage = Stage::set(own_role, 300);
        let mut definer = stage.talk(DEFINER);
        let reader = Agent::new(&stage.daemon, world::READER, bank::ROLE, stage.bank.port());
        let mut python = reader.start_python(PIPELINED).unwrap();
        let mut said = BufReader::new(python.take_stdout().unwrap()).lines();
        assert_eq!(said.next().unwrap().unwrap(), "ready");
        integration::process::wait_until("it runs", 10, || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, 1200%' \
                       AND state = 'active' AND pid <> pg_backend_pid()";
            Ok(stage.bank.sql(sql)?.trim() == "1")
        })
        .unwrap();
        assert!(!is_error(&definer.ask(DIRTY)));
        let answer = said.next().unwrap().unwrap();
        assert!(answer.contains("12000000") && stage.is_clean(&json!(answer)), "{answer}");
    }
}

/// Definitions made directly at the server are seen when the interval has passed; what is new, at once.
#[test]
fn definitions_made_elsewhere_are_seen_after_the_interval() {
    for own_role in [true, false] {
        let stage = Stage::set(own_role, 2);
        let mut reader = stage.talk(world::READER);
        assert!(reader.ask("SELECT note FROM notes").to_string().contains("Archer"));
        stage.bank.sql("SET ROLE app; CREATE VIEW made AS SELECT reverse(ssn) AS note FROM customers WHERE id < 4").unwrap();
        for read in ["SELECT note FROM made", "SELECT upper(note) FROM made"] {
            let answer = reader.ask(read);
            assert!(!is_error(&answer) && stage.is_clean(&answer), "{read} brought {answer}");
        }
        stage.bank.sql(&format!("SET ROLE app; {DIRTY}; ALTER TABLE kids RENAME TO grown; ALTER TABLE grown RENAME note TO remark")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2_100));
        stage.check_reads(
            &mut reader,
            &[
                "SELECT note FROM notes",
                "SELECT upper(note) FROM notes",
                "SELECT remark FROM grown",
                "SELECT lower(remark) FROM grown",
            ],
        );
        assert_eq!(reader.ask("SELECT city FROM customers WHERE id = 1"), json!([["Boise"]]));
        let log = stage.daemon.log();
        assert!(log.contains("masked by its former name"), "{log}");
    }
}
