//! The daemon is killed while an agent is in the middle of a transaction.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, ensure};
use integration::World;
use integration::process::wait_until;

use super::Story;

/// Two transactions change one row, so that the second waits for the first: it is in the server, and
/// unanswered. When a line comes, or the input ends, the agent tries to reach the bank anew.
const AGENT: &str = "
import os, sys, threading, psycopg
SQL = \"UPDATE case_notes SET body = 'settled' WHERE id = 1\"
first, second = psycopg.connect(), psycopg.connect()
first.execute(SQL)
def wait():
    try:
        second.execute(SQL)
    except psycopg.Error:
        pass
threading.Thread(target=wait, daemon=True).start()
print('in the middle')
sys.stdin.readline()
try:
    psycopg.connect(connect_timeout=5)
    print('got past')
except psycopg.OperationalError as e:
    print(str(e).strip().splitlines()[0])
sys.stdout.flush()
os._exit(0)
";

/// Commands that the server has and that wait for another transaction.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE case_notes%'";

/// What was under way when the daemon died.
const INTERRUPTED: &str = "SELECT node_id || '/' || log_epoch || '/' || seq AS record, agent_id, verb, \
     array_to_string(objects, ' ') AS objects, decision, status FROM events \
     WHERE status = 'interrupted' AND decision <> 'deny'";

/// Kills the daemon, shows that nobody gets past, starts it again and shows what it had recorded.
///
/// # Errors
/// If the agent gets past, or the command is not in the evidence, or that does not verify.
pub(super) fn survive(story: &mut Story, world: &mut World) -> Result<()> {
    story.chapter("The daemon is killed in the middle of a transaction");
    let mut agent = world.writer().start_python(AGENT)?;
    let mut told = BufReader::new(agent.take_stdout().context("its output")?);
    told.read_line(&mut String::new()).context("the agent")?;
    wait_until("the agent's UPDATE is in the server", 20, || {
        Ok(world.bank.sql(WAITING)?.trim() == "1")
    })?;
    world.daemon.kill();
    story.say(
        "back-office has a transaction open; its UPDATE is in the server, unanswered. kill -9 takes the daemon.",
    );
    ensure!(world.bank.sql("SELECT 1")?.trim() == "1", "the bank itself is down");
    story.say("The bank is up, and the agent now tries to reach it directly:");
    drop(agent.take_stdin());
    let mut answer = String::new();
    told.read_to_string(&mut answer).context("the agent")?;
    story.quote(&answer);
    ensure!(!answer.trim().is_empty(), "the agent said nothing");
    ensure!(!answer.contains("got past"), "the agent got past the dead daemon");
    world.daemon.restart()?;
    story.say(
        "Refused: what is pinned in the kernel stays. The daemon is back, and with it the way:",
    );
    story.quote(&world.reader().psql("SELECT 'served again' FROM customers LIMIT 1")?.ok()?);
    story.say(
        "The UPDATE was recorded before the server saw it; the archive says what became of it:",
    );
    let evidence = world.evidence()?;
    story.quote(&evidence.duckdb_table(INTERRUPTED)?);
    let rows = evidence.duckdb(INTERRUPTED)?;
    let is_update = |row: &serde_json::Value| row["verb"] == "UPDATE";
    ensure!(rows.iter().filter(|row| is_update(row)).count() == 1, "not recorded: {rows:?}");
    let verified = evidence.verify_with_journal()?;
    ensure!(verified.code == Some(0), "verify: {} {}", verified.stdout, verified.stderr);
    story.say("vestibule verify: archive and journal hold.");
    Ok(())
}
