//! PostgreSQL's own programs: a copy of the bank by pg_dump and psql, and pgbench.

use integration::daemon::{ExtraPolicy, Supervisor};
use integration::process::{Output, feed, run};
use integration::{Agent, Daemon, Evidence, Postgres, bank, paths};

/// Copies the bank; sees all of it and makes the copy's tables.
const COPIER: &str = "migration-runner";

/// Takes masked dumps; the shipped policies hold it but for what the example says of it.
const DUMPER: &str = "dumper";

/// A shipped policy file in which no forbid holds [`COPIER`].
fn without_forbids(file: &str) -> String {
    let text = std::fs::read_to_string(paths::policies().join(file)).unwrap();
    let unless = format!("\nunless {{ principal == Agent::\"{COPIER}\" }};");
    let mut policies = text.split_inclusive(";\n").map(|policy| {
        if policy.contains("\nforbid") {
            policy.replace(";\n", &(unless.clone() + "\n"))
        } else {
            policy.to_owned()
        }
    });
    policies.by_ref().collect()
}

struct Copying {
    daemon: Daemon,
    bank: Postgres,
}

impl Copying {
    fn start() -> Self {
        let (baseline, masks) = (without_forbids("baseline.cedar"), without_forbids("masks.cedar"));
        let copier = format!(
            "@id(\"copier\")\npermit (principal == Agent::\"{COPIER}\", action, resource);\n"
        );
        let dumper = include_str!("../../policies/examples/masked-dump.cedar");
        let extra: &[ExtraPolicy<'_>] = &[
            ("baseline.cedar", &baseline),
            ("masks.cedar", &masks),
            ("copier.cedar", &copier),
            ("dumper.cedar", dumper),
        ];
        let bank = Postgres::start().unwrap();
        let daemon = Daemon::start_with(Supervisor::None, bank.port(), 2, extra, "").unwrap();
        bank.sql("CREATE DATABASE copy OWNER app").unwrap();
        Self { daemon, bank }
    }

    fn agent<'a>(&'a self, name: &'a str) -> Agent<'a> {
        Agent::new(&self.daemon, name, bank::ROLE, self.bank.port())
    }

    fn dump(&self, agent: &str, arguments: &[&str]) -> Output {
        let program = paths::postgres_programs().unwrap().join("pg_dump");
        run(self.agent(agent).command(program).args(arguments), 60).unwrap()
    }

    /// What a dump taken directly says a database is.
    fn whole(&self, database: &str) -> String {
        let dumped = self.bank.program("pg_dump", &["-d", database], 60).unwrap();
        unrestricted(&dumped.ok().unwrap())
    }
}

/// A dump without the lines that name a key of its own, by which psql knows its end.
fn unrestricted(dump: &str) -> String {
    let is_key = |line: &str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
    dump.lines().filter(|line| !is_key(line)).flat_map(|line| [line, "\n"]).collect()
}

/// The first line that differs, for a failure that can be read.
#[track_caller]
fn assert_same(one: &str, other: &str) {
    let differing = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    assert_eq!(differing, None);
    assert_eq!(one.len(), other.len());
}

#[test]
fn a_dump_and_its_restoration_go_through_the_door() {
    let copying = Copying::start();
    let dumped = copying.dump(COPIER, &[]).ok().unwrap();
    let mut psql = copying.agent(COPIER).command("psql");
    psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", "copy"]);
    feed(&mut psql, dumped.as_bytes(), 60).unwrap().ok().unwrap();
    assert_same(&unrestricted(&dumped), &copying.whole(bank::DATABASE));
    assert_same(&copying.whole("copy"), &copying.whole(bank::DATABASE));
    // Both ways, a COPY a table: nothing went past the door.
    let evidence = Evidence::seal(&copying.daemon).unwrap();
    let copies = "SELECT count(*) FROM events WHERE verb = 'COPY'";
    assert_eq!(evidence.count(copies).unwrap(), 10);
}

/// What is masked in a dump stays so in its restoration; what is not comes through as it was. A mask
/// that keeps different values different lets `UNIQUE` hold.
#[test]
fn a_masked_dump_restores() {
    let copying = Copying::start();
    let file = copying.daemon.directory().join("bank.dump");
    let file = file.to_str().unwrap();
    copying.dump(DUMPER, &["-Fc", "--no-subscriptions", "-f", file]).ok().unwrap();
    let program = paths::postgres_programs().unwrap().join("pg_restore");
    let mut restore = copying.agent(COPIER).command(program);
    run(restore.args(["--exit-on-error", "-d", "copy", file]), 60).unwrap().ok().unwrap();

    let (copy, bank) = (copying.whole("copy"), copying.whole(bank::DATABASE));
    let schema = |dump: &str| {
        let lines = dump.lines().filter(|line| !line.contains('\t'));
        lines.flat_map(|line| [line, "\n"]).collect::<String>()
    };
    assert_same(&schema(&copy), &schema(&bank));
    let ask = |database: &str, sql: &str| {
        let asked = copying.bank.program("psql", &["-XAt", "-d", database, "-c", sql], 30);
        asked.unwrap().ok().unwrap()
    };
    for clean in [
        "SELECT * FROM accounts ORDER BY 1",
        "SELECT * FROM transfers ORDER BY 1",
        "SELECT id, full_name, birth_date, city, created_at FROM customers ORDER BY 1",
        "SELECT id, customer_id, expires_on, is_blocked FROM cards ORDER BY 1",
    ] {
        assert_same(&ask("copy", clean), &ask(bank::DATABASE, clean));
    }
    for masked in ["ssn", "email", "phone"] {
        let sql = format!("SELECT {masked} FROM customers");
        let copied = ask("copy", &sql);
        let values = ask(bank::DATABASE, &sql);
        let values: std::collections::HashSet<&str> = values.lines().collect();
        assert_eq!(copied.lines().count(), 20_000);
        assert_eq!(copied.lines().filter(|value| values.contains(value)).count(), 0, "{masked}");
    }
    let numbers = ask(bank::DATABASE, "SELECT card_number FROM cards");
    let numbers: std::collections::HashSet<&str> = numbers.lines().collect();
    let copied = ask("copy", "SELECT card_number FROM cards");
    assert_eq!(copied.lines().filter(|number| numbers.contains(number)).count(), 0);
    let notes = ask("copy", "SELECT notes FROM customers WHERE notes IS NOT NULL");
    assert_eq!(notes.lines().count(), 400);
    assert!(!notes.contains('@') && !notes.contains("400000"), "{notes}");
}

/// Columns of a class whose types hold no text, or hold it at a length, and may not be NULL.
const TYPED: &str = "
SET ROLE app;
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE DOMAIN tax_number AS varchar(12) NOT NULL;
CREATE TABLE typed (id int PRIMARY KEY,
  ssn_short varchar(7) NOT NULL, ssn_exact varchar(11) NOT NULL UNIQUE, ssn_fixed char(13) NOT NULL,
  ssn_domain tax_number, ssn_int int NOT NULL UNIQUE, ssn_long int8 NOT NULL UNIQUE,
  ssn_small int2 NOT NULL, ssn_number numeric(11) NOT NULL UNIQUE, ssn_tiny numeric(2,2) NOT NULL,
  ssn_float float8 NOT NULL, ssn_day date NOT NULL, ssn_at timestamp NOT NULL, ssn_when timestamptz NOT NULL,
  ssn_time time NOT NULL, ssn_for interval NOT NULL, ssn_key uuid NOT NULL UNIQUE, ssn_json json NOT NULL,
  ssn_jsonb jsonb NOT NULL, ssn_bytes bytea NOT NULL, ssn_flag bool NOT NULL, ssn_list text[] NOT NULL,
  ssn_numbers int[] NOT NULL, ssn_range int4range NOT NULL, ssn_host inet NOT NULL, ssn_mood mood,
  free varchar(22) NOT NULL);
INSERT INTO typed SELECT n, 'x' || n, '078-05-' || 1000 + n, '078-05-' || 1000 + n, '078-05-' || 1000 + n,
  78051000 + n, 7805100000 + n, n, 7805100000 + n, 0.99, 7805100000 + n, DATE '1985-04-12' + n,
  TIMESTAMP '1985-04-12 01:02:03' + n * INTERVAL '1 s', TIMESTAMPTZ '1985-04-12 01:02:03+00' + n * INTERVAL '1 s',
  '01:02:03', '3 days', md5(n::text)::uuid, '{\"a\":78051120}', '{\"a\":78051120}', '\\x78051120', true,
  ARRAY['078-05-1120'], ARRAY[78051120], '[78051120,78051121)', '78.5.11.20', 'cross',
  'a' || n || '@example.com'
FROM generate_series(1, 50) AS n;
";

/// A mask is a value of its column's type, no longer than that takes, and not NULL where that is not: a masked
/// dump restores, and drivers read it.
#[test]
fn masks_keep_to_their_types() {
    let copying = Copying::start();
    copying.bank.sql(TYPED).unwrap();
    let file = copying.daemon.directory().join("typed.dump");
    let file = file.to_str().unwrap();
    let arguments = ["-Fc", "--no-subscriptions", "-t", "typed", "-t", "mood", "-f", file];
    copying.dump(DUMPER, &arguments).ok().unwrap();
    let ask = |database: &str, sql: &str| {
        let asked = copying.bank.program("psql", &["-XAt", "-d", database, "-c", sql], 30);
        asked.unwrap().ok().unwrap()
    };
    // -t leaves out what the table needs.
    ask(
        "copy",
        "SET ROLE app; CREATE TYPE mood AS ENUM ('calm', 'cross'); \
                 CREATE DOMAIN tax_number AS varchar(12) NOT NULL",
    );
    let program = paths::postgres_programs().unwrap().join("pg_restore");
    let mut restore = copying.agent(COPIER).command(program);
    run(restore.args(["--exit-on-error", "-d", "copy", file]), 60).unwrap().ok().unwrap();
    assert_eq!(ask("copy", "SELECT count(*) FROM typed"), "50\n");
    let columns = ask(
        "copy",
        "SELECT attname FROM pg_attribute WHERE attrelid = 'typed'::regclass AND attnum > 1",
    );
    assert_eq!(columns.lines().count(), 26);
    for column in columns.lines() {
        let sql = format!("SELECT id, {column}::text FROM typed ORDER BY id");
        let (copied, values) = (ask("copy", &sql), ask(bank::DATABASE, &sql));
        let kept = copied.lines().zip(values.lines()).filter(|(one, other)| one == other).count();
        // A keyed number of 15 bits is the masked one's own in one of 32,768 rows.
        let by_chance = usize::from(column == "ssn_small");
        assert_eq!((copied.lines().count(), values.lines().count()), (50, 50), "{column}");
        assert!(kept <= by_chance, "{column}: {copied}");
    }
    assert_eq!(ask("copy", "SELECT count(*) FROM typed WHERE ssn_mood IS NULL"), "50\n");

    let script = "
import psycopg
with psycopg.connect() as c:
    kinds = []
    for binary in (False, True):
        cur = c.cursor(binary=binary)
        row = cur.execute('SELECT * FROM typed WHERE id = 7').fetchone()
        kinds.append([type(value).__name__ for value in row])
        print(len(row[1]), len(row[2]), len(row[3]), row[1:8], row[11], row[24:])
        with cur.copy('COPY typed TO STDOUT' + (' (FORMAT binary)' if binary else '')) as copy:
            if binary:
                print(sum(1 for _ in copy.rows()))
            else:
                print(sum(1 for _ in copy))
    print(kinds[0] == kinds[1], kinds[0])
";
    let seen = copying.agent("analyst").python(script).unwrap().ok().unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    let [text, copied, binary, copied_binary, kinds] = lines[..] else { panic!("{seen}") };
    assert_eq!(text, binary);
    assert!(
        text.starts_with("2 11 13 ('**', '***-**-1007', '***-**-1007  ', '***-**-1007', 0, 0, 0)"),
        "{text}"
    );
    // The rows, and the end of the binary ones is none.
    assert_eq!((copied, copied_binary), ("50", "50"), "{seen}");
    assert!(kinds.starts_with("True ['int', 'str', 'str', 'str', 'str', 'int',"), "{kinds}");
}

/// Its transactions add up as they do without the door, whatever the mode.
#[test]
fn pgbench_in_every_mode() {
    let copying = Copying::start();
    let pgbench = |arguments: &str| {
        let program = paths::postgres_programs().unwrap().join("pgbench");
        let mut command = copying.agent(COPIER).command(program);
        command.env("PGDATABASE", "copy").args(arguments.split(' '));
        run(&mut command, 60).unwrap().ok().unwrap()
    };
    pgbench("-i -s 1 -q");
    for mode in ["simple", "extended", "prepared"] {
        let said = pgbench(&format!("-n -c 4 -j 2 -t 25 -M {mode}"));
        assert!(said.contains("number of transactions actually processed: 100/100"), "{said}");
    }
    let sums = "SELECT count(*), sum(delta) = (SELECT sum(abalance) FROM pgbench_accounts), \
                sum(delta) = (SELECT sum(bbalance) FROM pgbench_branches) FROM pgbench_history";
    let asked = copying.bank.program("psql", &["-XAt", "-d", "copy", "-c", sums], 30).unwrap();
    assert_eq!(asked.ok().unwrap(), "300|t|t\n");
    let evidence = Evidence::seal(&copying.daemon).unwrap();
    assert_eq!(evidence.count("SELECT count(*) FROM events WHERE verb = 'UPDATE'").unwrap(), 900);
}
