//! PostgreSQL's own programs: a copy of the bank by pg_dump and psql, and pgbench.

use integration::daemon::{ExtraPolicy, Supervisor};
use integration::process::{Output, feed, run};
use integration::{Agent, Daemon, Evidence, Postgres, bank, paths};

/// Copies the bank; sees all of it and makes the copy's tables.
const COPIER: &str = "migration-runner";

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
        let extra: &[ExtraPolicy<'_>] =
            &[("baseline.cedar", &baseline), ("masks.cedar", &masks), ("copier.cedar", &copier)];
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
