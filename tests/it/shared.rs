//! Several agents and persons with one account of the database: each row that is archived says who it was.

use std::fs;

use integration::Evidence;
use integration::idp::{ALICE, CARL};
use integration::world::{READER, WRITER};
use serde_json::{Value, json};

use crate::bearer::Bank;
use crate::standing::Asked;

/// Rounds of what each session does.
const ROUNDS: u64 = 5;

/// A session for each password, in turns; what one says has its own name in it. What is answered is how each ended.
const SCRIPT: &str = r"
import json, os, psycopg, sys
sessions = [(tag, psycopg.connect(password=password, autocommit=True)) for tag, password in json.loads(sys.stdin.readline())]
print(os.getpid())
def one(tag, c):
    c.execute(f'SELECT id AS {tag}_simple FROM customers WHERE id = 1').fetchall()
    for id in (1, 2):
        c.execute(f'SELECT id AS {tag}_prepared FROM customers WHERE id = %s', (id,), prepare=True).fetchall()
    with c.pipeline():
        cursors = [c.execute(f'SELECT id AS {tag}_pipelined FROM customers WHERE id = %s', (id,)) for id in range(5)]
    assert sum(len(one.fetchall()) for one in cursors) == 4
    with c.cursor().copy(f'COPY (SELECT id AS {tag}_copied FROM customers WHERE id < 1000) TO STDOUT') as copy:
        assert len(list(copy)) == 999
    with c.transaction():
        c.execute(f'DECLARE {tag}_cursor CURSOR FOR SELECT id AS {tag}_declared FROM customers')
        assert len(c.execute(f'FETCH 10 FROM {tag}_cursor').fetchall()) == 10
    for refused in (f'DROP TABLE {tag}_dropped', f'SELECT id AS {tag}_wrong FROM customers WHERE id = 1 / (id - id)'):
        try: c.execute(refused)
        except psycopg.Error as e: pass
    if tag in ('t5', 't6', 't7'):
        with c.cursor().copy('COPY case_notes (marker, body) FROM STDIN') as copy:
            copy.write_row((1, 'x'))
for line in sys.stdin:
    for tag, c in sessions:
        one(tag, c)
    print('done')
";

/// Whose a session is.
struct Actor {
    tag: &'static str,
    agent: &'static str,
    instance: String,
    pid: i32,
    sub: Option<&'static str>,
}

/// Starts one process with a session for each of these, and says who they are by the kernel's word.
fn start(
    bank: &Bank,
    agent: &'static str,
    sessions: &[(&'static str, &str, Option<&'static str>)],
) -> (Asked, Vec<Actor>) {
    let mut process = Asked::of(bank.python(agent, &[], "", SCRIPT));
    let passwords: Vec<Value> =
        sessions.iter().map(|(tag, password, _)| json!([tag, password])).collect();
    let pid: i32 = process.ask(&Value::Array(passwords).to_string()).parse().unwrap();
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let leaf = cgroup.trim().rsplit('/').next().unwrap();
    let (name, instance) = leaf.split_once('.').unwrap();
    assert_eq!(name, agent);
    let actor = |(tag, _, sub): &(&'static str, &str, Option<&'static str>)| Actor {
        tag,
        agent,
        instance: instance.to_owned(),
        pid,
        sub: *sub,
    };
    let actors = sessions.iter().map(actor).collect();
    (process, actors)
}

/// Asserts that the rows with an actor's name in them are that actor's, and all there.
#[track_caller]
fn check_rows(evidence: &Evidence<'_>, actor: &Actor) {
    let Actor { tag, agent, instance, pid, sub } = actor;
    let of = "agent_id, agent_instance, pid, actor_sub, target_account, credential_ref";
    let who = json!({
        "agent_id": agent, "agent_instance": instance, "pid": pid, "actor_sub": sub,
        "target_account": "injected", "credential_ref": "shared",
    });
    let tagged = format!("e.statement_norm LIKE '%{tag}\\_%' ESCAPE '\\'");
    let rows = evidence
        .duckdb(&format!(
            "SELECT e.agent_id, e.agent_instance, e.pid, e.actor_sub, e.target_account, e.credential_ref, \
             count(*) AS n FROM events e WHERE {tagged} GROUP BY ALL"
        ))
        .unwrap();
    let [row] = &rows[..] else { panic!("{tag}: {rows:?}") };
    let mut said = row.clone();
    let count = said.as_object_mut().unwrap().remove("n").unwrap();
    assert_eq!(said, who, "{tag}");
    // Simple, prepared, pipelined, copied, a cursor and its rows, and two that were refused or failed.
    assert_eq!(count, json!(ROUNDS * (1 + 2 + 5 + 1 + 2 + 2)), "{tag}");
    let session = format!(
        "SELECT DISTINCT {of} FROM sessions WHERE session_id IN (SELECT e.session_id FROM events e WHERE {tagged})"
    );
    assert_eq!(evidence.duckdb(&session).unwrap(), [who], "{tag}");
}

#[test]
fn agents_that_share_an_account_are_told_apart_in_every_row() {
    let bank = Bank::start("token_password = 'optional'");
    let (carl, alice) = (bank.token(CARL), bank.token(ALICE));
    let none = "no token at all";
    let mut processes = Vec::new();
    let mut actors = Vec::new();
    for (agent, sessions) in [
        // Two agents, two starts of one, two persons, nobody; in one process as well.
        (READER, &[("t1", none, None), ("t2", carl.as_str(), Some(CARL))][..]),
        (READER, &[("t3", carl.as_str(), Some(CARL)), ("t4", alice.as_str(), Some(ALICE))]),
        (WRITER, &[("t5", alice.as_str(), Some(ALICE)), ("t6", none, None)]),
        (WRITER, &[("t7", none, None)]),
    ] {
        let (process, own) = start(&bank, agent, sessions);
        processes.push(process);
        actors.extend(own);
    }
    let accounts = "SELECT DISTINCT usename FROM pg_stat_activity WHERE backend_type = 'client backend' \
                    AND pid <> pg_backend_pid()";
    assert_eq!(bank.server.sql(accounts).unwrap(), "injected\n", "one account for all");
    for _ in 0..ROUNDS {
        for process in &mut processes {
            process.write("go");
        }
        for process in &mut processes {
            assert_eq!(process.line(), "done");
        }
    }
    drop(processes);

    let evidence = Evidence::seal(&bank.daemon).unwrap();
    for actor in &actors {
        check_rows(&evidence, actor);
    }
    // Nor do rows without such a name (BEGIN, COPY in, opening) leave it open.
    let unnamed = "SELECT count(*) FROM events WHERE kind LIKE 'db.%' AND (coalesce(agent_id, '') = '' \
                   OR coalesce(agent_instance, '') = '' OR pid IS NULL OR len(agent_chain) = 0)";
    assert_eq!(evidence.count(unnamed).unwrap(), 0);
    let other = "SELECT count(*) FROM events e LEFT JOIN sessions s USING (session_id) WHERE e.kind LIKE 'db.%' AND \
                 (e.agent_id, e.agent_instance, e.pid, e.actor_sub) IS DISTINCT FROM \
                 (s.agent_id, s.agent_instance, s.pid, s.actor_sub)";
    assert_eq!(evidence.count(other).unwrap(), 0);
    let copied = "SELECT agent_instance, actor_sub, count(*) AS n FROM events WHERE list_contains(objects, 'case_notes') \
                  AND verb = 'COPY' AND status = 'ok' GROUP BY ALL ORDER BY ALL";
    let mut written: Vec<Value> = actors
        .iter()
        .filter(|actor| actor.agent == WRITER)
        .map(|actor| json!({"agent_instance": actor.instance, "actor_sub": actor.sub, "n": ROUNDS}))
        .collect();
    let mut found = evidence.duckdb(copied).unwrap();
    for rows in [&mut written, &mut found] {
        rows.sort_by_key(ToString::to_string);
    }
    assert_eq!(found, written);
    let recorded = "SELECT count(*) FROM recordings r LEFT JOIN events e USING (session_id, session_seq) \
                    WHERE e.seq IS NULL";
    assert_eq!(evidence.count(recorded).unwrap(), 0);
    bank.nowhere(&evidence, &[&carl, &alice]);
    assert_eq!(evidence.verify_with_journal().unwrap().code, Some(0));
}
