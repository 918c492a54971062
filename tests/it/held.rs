//! Commands that wait for people: nothing of them goes up, all else goes on, and every end is the protocol's.

use integration::daemon::ExtraPolicy;
use integration::idp::{ALICE, CARL, DANA, RUTH};
use integration::process::{Output, Running, peak_bytes, run, wait_until};
use integration::{Postgres, World};
use serde_json::Value;

use crate::standing::{Asked, Story};

/// Deletes wait for a dba or for risk.
const DELETES: ExtraPolicy<'static> = (
    "held.cedar",
    r#"
@id("deletes-wait")
@approve("groups=dba|risk, request=10m, grant=60s, transaction=15s")
forbid (principal == Agent::"back-office", action == Action::"delete", resource);
"#,
);

/// Answers each line with what came of it; `#` before what is bound to it, `|` between what is one pipeline's.
const LINES: &str = "
import psycopg, sys
told = lambda d: print('notice', d.sqlstate, d.message_primary, d.message_detail)
def connect():
    c = psycopg.connect(autocommit=True)
    c.add_notice_handler(told)
    return c
c = None
for line in sys.stdin:
    line = line.rstrip('\\n')
    try:
        c = c or connect()
        if line == 'status':
            print(c.info.transaction_status.name)
        elif '|' in line:
            with c.pipeline():
                all = [c.execute(one) for one in line.split('|')]
            print('done', *[one.rowcount for one in all])
        elif '#' in line:
            sql, _, bound = line.partition('#')
            print('done', c.execute(sql, [bound], prepare=True).rowcount)
        else:
            r = c.execute(line)
            print('done', r.fetchone()[0] if r.description else r.rowcount)
    except psycopg.Error as e:
        print('error', e.sqlstate, ' '.join(str(e).split()))
        if c and c.closed: c = None
";

/// A daemon whose deletes wait, and people who answer.
struct Desk(Story);

impl Desk {
    fn start() -> Self {
        Self::ruled(DELETES)
    }

    fn ruled(policy: ExtraPolicy<'_>) -> Self {
        let desk = Self(Story::ruled("", &[policy], ""));
        desk.sql(
            "INSERT INTO case_notes (marker, body) SELECT n, 'x' FROM generate_series(1, 20) n",
        );
        desk
    }

    fn world(&self) -> &World {
        &self.0.world
    }

    fn sql(&self, sql: &str) -> String {
        self.world().bank.sql(sql).unwrap().trim().to_owned()
    }

    fn left(&self) -> String {
        self.sql("SELECT count(*) FROM case_notes")
    }

    fn lines(&self) -> Asked {
        Asked::of(self.world().writer().start_python(LINES).unwrap())
    }

    fn listed(&self, which: &[&str]) -> Vec<Value> {
        let words: Vec<&str> = ["approvals", "list"].iter().chain(which).copied().collect();
        self.0.told(&words)["requests"].as_array().unwrap().clone()
    }

    /// The one request that waits.
    fn waiting(&self) -> Value {
        let mut found = Value::Null;
        wait_until("one command waits", 30, || {
            let listed = self.listed(&[]);
            assert!(listed.len() < 2, "{listed:?}");
            found = listed.first().cloned().unwrap_or_default();
            Ok(!found.is_null())
        })
        .unwrap();
        found["request"].clone()
    }

    fn nothing_waits(&self) {
        wait_until("nothing waits", 30, || Ok(self.listed(&[]).is_empty())).unwrap();
    }

    /// How the last request ended.
    fn ended(&self) -> Value {
        self.nothing_waits();
        self.listed(&["--over"])[0]["ended"]["how"].clone()
    }

    fn vote(&self, words: &[&str], request: &Value, user: &str) -> Output {
        let token = self.0.token(user);
        let mut command = self.world().daemon.cli();
        command.args(["approvals"]).args(words).arg(request["id"].as_str().unwrap());
        run(command.arg("--yes").arg("--token-file").arg(token), 60).unwrap()
    }

    fn approve(&self, request: &Value) {
        self.vote(&["approve"], request, DANA).ok().unwrap();
    }

    fn deny(&self, request: &Value, reason: &str) {
        self.vote(&["deny", "--reason", reason], request, RUTH).ok().unwrap();
    }
}

fn notice(line: &str) {
    assert!(line.starts_with("notice 00000 vestibule: the statement waits for approval"), "{line}");
    assert!(line.contains(": dba or risk may approve it until 20"), "{line}");
}

#[test]
fn what_is_approved_runs_once_and_the_record_says_by_whom() {
    let desk = Desk::start();
    let mut agent = desk.lines();
    agent.write("DELETE FROM case_notes WHERE marker = 7");
    notice(&agent.line());
    let request = desk.waiting();
    assert_eq!(request["normalized"], "DELETE FROM case_notes WHERE marker = $1");
    assert_eq!((request["transaction"].as_str(), desk.left().as_str()), (Some("none"), "20"));
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'";
    assert_eq!(desk.sql(idle), "0");
    // Who has no part in it, but is of no group that may.
    let staff = desk.vote(&["approve"], &request, ALICE);
    assert!(staff.stderr.contains("needs a member of dba, risk"), "{staff:?}");
    desk.approve(&request);
    assert_eq!((agent.line().as_str(), desk.left().as_str()), ("done 1", "19"));
    // A second run waits again.
    agent.write("DELETE FROM case_notes WHERE marker = 7");
    notice(&agent.line());
    let again = desk.waiting();
    assert_ne!(again["id"], request["id"]);
    assert_eq!(again["binding"], request["binding"]);
    desk.deny(&again, "it is gone already");
    let told = agent.line();
    assert!(told.starts_with("error 42501 ") && told.contains("it is gone already"), "{told}");
    assert_eq!(agent.ask("SELECT 1"), "done 1");
    let evidence = desk.world().evidence().unwrap();
    let rows = evidence
        .query(
            "SELECT decision, approver_id, approval_scope, approval_id, held_us > 1000 AS held, status, \"rows\", \
             approval_ts >= ts AS later, rule_id FROM events WHERE approval_id IS NOT NULL ORDER BY ts",
        )
        .unwrap();
    let [approved, denied] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&approved["decision"], &approved["rows"]), (&"approved".into(), &1.into()));
    let by = approved["approver_id"].as_str().unwrap();
    assert_eq!(by, format!("{DANA}@{}", desk.0.place.idp.issuer()));
    assert_eq!(
        (&approved["approval_scope"], &approved["status"]),
        (&"command".into(), &"ok".into())
    );
    assert_eq!((&approved["held"], &approved["later"]), (&true.into(), &true.into()));
    assert_eq!(approved["approval_id"], request["id"]);
    assert_eq!((&denied["decision"], &denied["status"]), (&"deny".into(), &"denied".into()));
    assert_eq!((&denied["approval_id"], &denied["held"]), (&again["id"], &true.into()));
    assert!(denied["approver_id"].is_null());
    evidence.verify().unwrap().ok().unwrap();
}

#[test]
fn psql_waits_and_hears_what_others_say() {
    let desk = Desk::start();
    let script = "LISTEN news;\nDELETE FROM case_notes WHERE marker <= 2;\nSELECT 'next';\n";
    let agent = std::thread::scope(|scope| {
        let agent = scope.spawn(|| desk.world().writer().psql_script(script).unwrap());
        let request = desk.waiting();
        desk.sql("NOTIFY news, 'while it waits'");
        desk.approve(&request);
        agent.join().unwrap()
    });
    assert!(agent.stdout.contains("DELETE 2\n") && agent.stdout.contains("next"), "{agent:?}");
    assert!(agent.stdout.contains("Asynchronous notification \"news\""), "{agent:?}");
    assert!(agent.stderr.contains("the statement waits for approval"), "{agent:?}");
    // Of one string each waits, and a refusal of one refuses all, before anybody is asked.
    let seen = desk
        .world()
        .writer()
        .psql("DELETE FROM case_notes WHERE marker > 0; DROP TABLE case_notes")
        .unwrap();
    assert!(seen.stderr.contains("another statement of the same message is refused"), "{seen:?}");
    assert_eq!(desk.listed(&["--all"]).len(), 1);
    let two = "DELETE FROM case_notes WHERE marker = 3; DELETE FROM case_notes WHERE marker = 4";
    let seen = std::thread::scope(|scope| {
        let agent = scope.spawn(|| desk.world().writer().psql(two).unwrap());
        let first = desk.waiting();
        desk.approve(&first);
        assert_eq!(desk.left(), "18");
        let mut second = desk.waiting();
        wait_until("the second waits", 30, || {
            second = desk.waiting();
            Ok(second["id"] != first["id"])
        })
        .unwrap();
        assert_eq!(desk.left(), "18", "nothing of one string before all of it");
        desk.approve(&second);
        agent.join().unwrap()
    });
    assert_eq!((seen.stdout.as_str(), desk.left().as_str()), ("DELETE 1\nDELETE 1\n", "16"));
}

#[test]
fn other_parameters_are_asked_for_anew() {
    let desk = Desk::start();
    let mut agent = desk.lines();
    let mut bindings = Vec::new();
    for (bound, left) in [("1", "19"), ("2", "18")] {
        agent.write(&format!("DELETE FROM case_notes WHERE marker = %s::text::int#{bound}"));
        notice(&agent.line());
        let request = desk.waiting();
        assert!(request["parameters"].is_null(), "a list has no values");
        let shown = desk.0.told(&["approvals", "show", request["id"].as_str().unwrap()]);
        let told = shown.to_string();
        assert!(told.contains(&format!("'{bound}'")), "{told}");
        bindings.push(request["binding"].clone());
        desk.approve(&request);
        assert_eq!((agent.line().as_str(), desk.left().as_str()), ("done 1", left));
    }
    assert_ne!(bindings[0], bindings[1]);
}

const ALIKE: ExtraPolicy<'static> = (
    "held.cedar",
    r#"
@id("deletes-wait")
@approve("groups=dba|risk, covers=alike*3, request=10m")
forbid (principal == Agent::"back-office", action == Action::"delete", resource);
@id("inserts-wait")
@approve("groups=dba|risk, covers=session, request=10m")
forbid (principal == Agent::"back-office", action == Action::"insert", resource);
"#,
);

#[test]
fn a_grant_covers_what_it_says_and_nobody_elses() {
    let desk = Desk::ruled(ALIKE);
    let mut agent = desk.lines();
    agent.write("DELETE FROM case_notes WHERE marker = 1");
    notice(&agent.line());
    desk.approve(&desk.waiting());
    assert_eq!(agent.line(), "done 1");
    // Two more that differ in their literals alone; then it is used up.
    assert_eq!(agent.ask("DELETE FROM case_notes WHERE marker = 2"), "done 1");
    // Another start of the same agent is not it.
    let mut other = desk.lines();
    other.write("DELETE FROM case_notes WHERE marker = 4");
    notice(&other.line());
    desk.deny(&desk.waiting(), "no");
    assert!(other.line().starts_with("error 42501"));
    // What is not alike.
    agent.write("DELETE FROM case_notes WHERE marker > 100");
    notice(&agent.line());
    desk.deny(&desk.waiting(), "no");
    assert!(agent.line().starts_with("error 42501"));
    assert_eq!(agent.ask("DELETE FROM case_notes WHERE marker = 3"), "done 1");
    agent.write("DELETE FROM case_notes WHERE marker = 5");
    notice(&agent.line());
    desk.deny(&desk.waiting(), "no");
    assert!(agent.line().starts_with("error 42501"));
    // Whatever the session writes to the same table; another session asks.
    agent.write("INSERT INTO case_notes (marker, body) VALUES (30, 'x')");
    notice(&agent.line());
    desk.approve(&desk.waiting());
    assert_eq!(agent.line(), "done 1");
    let more = "INSERT INTO case_notes (body, marker) SELECT 'y', n FROM generate_series(1, 2) n";
    assert_eq!(agent.ask(more), "done 2");
    other.write("INSERT INTO case_notes (marker, body) VALUES (30, 'x')");
    notice(&other.line());
    desk.deny(&desk.waiting(), "no");
    assert!(other.line().starts_with("error 42501"));
    let evidence = desk.world().evidence().unwrap();
    let uses = "SELECT count(*) FROM events WHERE decision = 'approved' AND held_us IS NULL \
                AND approval_scope IN ('alike*3', 'session')";
    assert_eq!(evidence.count(uses).unwrap(), 3);
}

const ESTIMATED: ExtraPolicy<'static> = (
    "held.cedar",
    r#"
@id("deletes-wait")
@approve("groups=dba|risk, request=10m, estimate=explain")
forbid (principal == Agent::"back-office", action == Action::"delete", resource);
@id("updates-wait")
@approve("groups=dba|risk, request=10m, estimate=explain")
forbid (principal == Agent::"back-office", action == Action::"update", resource);
@id("calls")
permit (principal == Agent::"back-office", action, resource);
"#,
);

/// What is planned is not run, and what may run when it is planned is not.
#[test]
fn people_are_told_how_many_rows_the_server_expects() {
    let desk = Desk::ruled(ESTIMATED);
    drop(desk.sql("ANALYZE case_notes"));
    let liar = "CREATE SEQUENCE called; GRANT ALL ON SEQUENCE called TO app; \
                CREATE FUNCTION liar() RETURNS int IMMUTABLE LANGUAGE sql AS $$SELECT nextval('called')::int$$";
    drop(desk.sql(liar));
    let mut agent = desk.lines();
    for (line, rows) in [
        ("DELETE FROM case_notes WHERE marker > 0", Some(20)),
        ("DELETE FROM case_notes WHERE marker > %s#10", Some(10)),
        ("DELETE FROM case_notes WHERE marker > liar()", None),
        ("DELETE FROM nowhere WHERE marker > 0", None),
        ("UPDATE case_notes SET body = 'y' WHERE marker <= 5", Some(5)),
    ] {
        agent.write(line);
        notice(&agent.line());
        let request = desk.waiting();
        let told = request["rows_estimated"].as_u64();
        // It is an estimate: of a histogram.
        let is_near = |rows: u64| told.is_some_and(|told| told.abs_diff(rows) <= 2);
        assert!(rows.map_or(told.is_none(), is_near), "{line}: {request}");
        desk.deny(&request, "no");
        assert!(agent.line().starts_with("error 42501 "));
        assert_eq!(agent.ask("status"), "IDLE");
    }
    assert_eq!(desk.sql("SELECT is_called FROM called"), "f");
    let locks = "SELECT count(*) FROM pg_locks WHERE mode LIKE 'Row%'";
    assert_eq!((desk.left(), desk.sql(locks)), ("20".to_owned(), "0".to_owned()));
    // Its locks and its errors would be the agent's.
    assert_eq!(agent.ask("BEGIN"), "done -1");
    agent.write("DELETE FROM case_notes WHERE marker > 0");
    notice(&agent.line());
    let request = desk.waiting();
    assert!(request["rows_estimated"].is_null(), "{request}");
    desk.approve(&request);
    assert_eq!((agent.line().as_str(), agent.ask("ROLLBACK").as_str()), ("done 20", "done -1"));
    // Somebody else's lock is not waited for as long as it is held.
    let lock = "BEGIN; LOCK TABLE case_notes; SELECT pg_sleep(120)";
    let locked = "FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'case_notes'::regclass";
    std::thread::scope(|scope| {
        scope.spawn(|| desk.world().bank.sql(lock));
        let count = || desk.sql(&format!("SELECT count(*) {locked}"));
        wait_until("the table is locked", 30, || Ok(count() == "1")).unwrap();
        agent.write("DELETE FROM case_notes WHERE marker > 0");
        notice(&agent.line());
        let request = desk.waiting();
        assert_eq!((&request["rows_estimated"], count().as_str()), (&Value::Null, "1"));
        desk.deny(&request, "no");
        assert!(agent.line().starts_with("error 42501 "));
        drop(desk.sql(&format!("SELECT pg_terminate_backend(pid) {locked}")));
    });
}

#[test]
fn who_goes_away_or_cancels_runs_nothing() {
    let desk = Desk::start();
    let mut agent = desk.lines();
    agent.write("DELETE FROM case_notes WHERE marker > 0");
    notice(&agent.line());
    let request = desk.waiting();
    agent.process.kill();
    assert_eq!(desk.ended(), "disconnected");
    let late = desk.vote(&["approve"], &request, DANA);
    assert!(late.stderr.contains("over"), "{late:?}");
    let script = "
import psycopg, threading
with psycopg.connect(autocommit=True) as c:
    for cancel in (c.cancel, c.cancel_safe):
        threading.Timer(2.0, cancel).start()
        try: c.execute('DELETE FROM case_notes WHERE marker > 0')
        except psycopg.errors.QueryCanceled as e: print(e.sqlstate, 'user request' in str(e))
        print(c.execute('SELECT 5').fetchone()[0], c.info.transaction_status.name)
";
    let seen = desk.world().writer().python(script).unwrap().ok().unwrap();
    assert_eq!(seen, "57014 True\n5 IDLE\n57014 True\n5 IDLE\n", "{}", desk.world().daemon.log());
    assert_eq!((desk.ended(), desk.left().as_str()), ("cancelled".into(), "20"));
    assert!(!desk.world().bank.log().unwrap().contains("canceling statement"), "not the server's");
    let evidence = desk.world().evidence().unwrap();
    let cancels = "SELECT count(*) FROM control WHERE kind = 'session.cancel' \
                   AND json_extract_string(detail, '$.what') = 'withdrawn'";
    assert_eq!(evidence.count(cancels).unwrap(), 2);
    let denied = "SELECT count(*) FROM events WHERE approval_id IS NOT NULL AND decision = 'deny'";
    assert_eq!(evidence.count(denied).unwrap(), 3);
}

#[test]
fn the_agents_own_timeout_and_the_requests_end_it() {
    let short = DELETES.1.replace("request=10m", "request=3s");
    let desk = Desk::ruled((DELETES.0, &short));
    let mut agent = desk.lines();
    agent.write("DELETE FROM case_notes WHERE marker > 0");
    notice(&agent.line());
    let told = agent.line();
    assert!(
        told.starts_with("error 57014 ") && told.contains("nobody answered within 3 s"),
        "{told}"
    );
    assert_eq!(desk.ended(), "expired");
    assert_eq!(agent.ask("SET statement_timeout = '1s'"), "done -1");
    agent.write("DELETE FROM case_notes WHERE marker > 0");
    notice(&agent.line());
    let told = agent.line();
    assert!(told.contains("canceling statement due to statement timeout (1000 ms"), "{told}");
    assert_eq!((desk.ended(), desk.left().as_str()), ("cancelled".into(), "20"));
    assert_eq!(agent.ask("SELECT 1"), "done 1");
}

#[test]
fn what_waits_in_a_transaction_holds_its_locks_no_longer_than_it_may() {
    let desk = Desk::start();
    let mut agent = desk.lines();
    for statement in [
        "BEGIN",
        "UPDATE case_notes SET body = 'y' WHERE marker = 1",
        "SAVEPOINT s",
        "UPDATE case_notes SET body = 'y' WHERE marker = 2",
    ] {
        assert!(agent.ask(statement).starts_with("done"), "{statement}");
    }
    agent.write("DELETE FROM case_notes WHERE marker = 3");
    notice(&agent.line());
    assert_eq!(desk.waiting()["transaction"], "open");
    let locked =
        "SELECT count(*) FROM pg_locks WHERE relation = 'case_notes'::regclass AND granted";
    assert_ne!(desk.sql(locked), "0");
    let told = agent.line();
    assert!(told.starts_with("error 57014 ") && told.contains("rolled back"), "{told}");
    assert_eq!(desk.ended(), "transaction_expired");
    // Not even what was locked before the savepoint is; and another session gets it at once.
    assert_eq!(desk.sql(locked), "0");
    desk.sql("SET lock_timeout = '1s'; UPDATE case_notes SET body = 'z' WHERE marker <= 2");
    assert_eq!(agent.ask("status"), "INERROR");
    assert!(agent.ask("UPDATE case_notes SET body = 'alone' WHERE marker = 4").contains("25P02"));
    assert_eq!(agent.ask("ROLLBACK"), "done -1");
    assert_eq!(desk.sql("SELECT count(*) FROM case_notes WHERE body IN ('y', 'alone')"), "0");
    assert_eq!(agent.ask("SELECT 1"), "done 1");
    // By the simple protocol likewise.
    let script = "BEGIN;\nUPDATE case_notes SET body = 'y' WHERE marker = 1;\nDELETE FROM case_notes WHERE marker = 2;\n\
                  SELECT 'not this';\nROLLBACK;\nSELECT 'end';\n";
    let seen = desk.world().writer().psql_script(script).unwrap();
    assert_eq!(seen.stdout, "BEGIN\nUPDATE 1\nROLLBACK\nend\n", "{seen:?}");
    assert!(seen.stderr.contains("rolled back") && seen.stderr.contains("25P02"), "{seen:?}");
    assert_eq!(desk.left(), "20");
}

#[test]
fn before_the_first_write_or_not_at_all() {
    let first = DELETES.1.replace("transaction=15s", "transaction=before-write");
    let desk = Desk::ruled((DELETES.0, &first));
    let mut agent = desk.lines();
    assert_eq!(agent.ask("BEGIN"), "done -1");
    assert_eq!(agent.ask("SELECT count(*) FROM case_notes"), "done 20");
    agent.write("DELETE FROM case_notes WHERE marker = 3");
    notice(&agent.line());
    desk.approve(&desk.waiting());
    assert_eq!(agent.line(), "done 1");
    let told = agent.ask("DELETE FROM case_notes WHERE marker = 4");
    assert!(told.contains("42501") && told.contains("before the first write"), "{told}");
    assert_eq!(agent.ask("ROLLBACK"), "done -1");
    assert_eq!((desk.listed(&["--all"]).len(), desk.left().as_str()), (1, "20"));
    // What was written outside of it does not count.
    assert_eq!(agent.ask("UPDATE case_notes SET body = 'y' WHERE marker = 1"), "done 1");
    agent.write("DELETE FROM case_notes WHERE marker = 3");
    notice(&agent.line());
    desk.approve(&desk.waiting());
    assert_eq!(agent.line(), "done 1");
}

#[test]
fn a_pipeline_waits_where_its_delete_does() {
    // What the client wrote before may be at the server already.
    let patient = DELETES.1.replace("transaction=15s", "transaction=10m");
    let desk = Desk::ruled((DELETES.0, &patient));
    let mut agent = desk.lines();
    let pipeline = "UPDATE case_notes SET body = 'y' WHERE marker = 1|DELETE FROM case_notes WHERE marker = 2|\
                    UPDATE case_notes SET body = 'y' WHERE marker = 3";
    agent.write(pipeline);
    notice(&agent.line());
    desk.approve(&desk.waiting());
    assert_eq!(agent.line(), "done 1 1 1");
    assert_eq!(desk.left(), "19");
    agent.write(&pipeline.replace("'y'", "'z'"));
    notice(&agent.line());
    desk.deny(&desk.waiting(), "not this way");
    let told = agent.line();
    assert!(told.contains("42501") && told.contains("not this way"), "{told}");
    assert_eq!(desk.sql("SELECT count(*) FROM case_notes WHERE body = 'z'"), "0");
}

#[test]
fn who_loses_access_waits_no_longer() {
    let desk = Desk::start();
    let file = desk.0.token(CARL);
    let mut agent = Asked::of(desk.0.agent("back-office", &file, LINES));
    agent.write("DELETE FROM case_notes WHERE marker > 0");
    notice(&agent.line());
    let request = desk.waiting();
    assert_eq!(request["requester"]["sub"], CARL);
    let own = desk.vote(&["approve"], &request, CARL);
    assert!(own.stderr.contains("is whom the agent acts for"), "{own:?}");
    desk.0.place.idp.logout(CARL).unwrap();
    let told = agent.line();
    assert!(told.contains("lost access"), "{told}");
    assert_eq!((desk.ended(), desk.left().as_str()), ("identity_ended".into(), "20"));
}

#[test]
fn a_killed_daemon_lets_nothing_go_that_waited() {
    let mut desk = Desk::start();
    let mut agent = desk.lines();
    agent.write("DELETE FROM case_notes WHERE marker > 0");
    notice(&agent.line());
    let request = desk.waiting();
    desk.0.world.daemon.kill();
    assert!(agent.line().starts_with("error"));
    desk.0.world.daemon.restart().unwrap();
    assert_eq!((desk.ended(), desk.left().as_str()), ("restarted".into(), "20"));
    let late = desk.vote(&["approve"], &request, DANA);
    assert!(!late.stderr.is_empty(), "{late:?}");
    assert_eq!(desk.left(), "20");
}

/// Has many connections ask, says when all of them wait, and what came of them.
const MANY: &str = "
import asyncio, psycopg, sys
async def one(n, waits):
    c = await psycopg.AsyncConnection.connect(autocommit=True)
    c.add_notice_handler(lambda d: waits.release())
    try: await c.execute('DELETE FROM case_notes WHERE marker = %s', (n,))
    except psycopg.Error as e: return e.sqlstate
async def main():
    waits = asyncio.Semaphore(0)
    todo = [asyncio.ensure_future(one(n, waits)) for n in range(int(sys.argv[1]))]
    for _ in todo: await waits.acquire()
    print('waits', flush=True)
    ended = await asyncio.gather(*todo)
    print(len(ended), sorted(set(map(str, ended))), flush=True)
asyncio.run(main())
";

#[test]
fn a_thousand_wait_in_flat_memory() {
    const MANY_WAIT: u64 = 1_000;
    let desk = Desk(Story::before(
        Postgres::with_settings(&["max_connections=1100"]).unwrap(),
        "",
        &[DELETES],
        "",
    ));
    let daemon = &desk.world().daemon;
    let before = peak_bytes(daemon.pid().unwrap()).unwrap();
    let mut command = daemon.cli();
    command.args(["run", "--agent", "back-office", "--"]);
    command.arg(integration::paths::python()).args(["-u", "-c", MANY, &MANY_WAIT.to_string()]);
    integration::agent::with_bank(&mut command, integration::bank::ROLE, desk.world().bank.port());
    command.stdout(std::process::Stdio::piped()).stdin(std::process::Stdio::piped());
    let mut asked = Asked::of(Running::new("python", &mut command).unwrap());
    assert_eq!(asked.line(), "waits");
    let grown = peak_bytes(daemon.pid().unwrap()).unwrap() - before;
    assert_eq!(desk.0.told(&["approvals", "list"])["total"], MANY_WAIT);
    assert!(grown < MANY_WAIT * 64 * 1024, "{grown} bytes");
}
