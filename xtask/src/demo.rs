//! `cargo xtask demo`: the main job end to end, in plain words.
//!
//! A bank, the daemon before it, psql and a psycopg script as agents: a read that comes back masked, a refused DROP, a
//! DELETE that waits until a person approves it in a browser, the daemon killed within a transaction; then the evidence,
//! and what an auditor gets out of it. Everything runs on a server and a daemon of its own and is gone afterwards, but
//! the folder it names.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use integration::process::run as run_program;
use integration::{Evidence, Office, World, bank, paths};

use crate::command::{cargo, run as run_command};
use crate::setup::{self, Scope, require_root};
use crate::term::{bold, say};

mod approval;
mod crash;
mod proof;
mod questions;

/// Rows that the bank holds at least.
const BANK_ROWS: u64 = 100_000;

/// Transactions of the Python agent.
const TRANSACTIONS: u32 = 3_000;

/// The same, in a hurry.
const TRANSACTIONS_QUICK: u32 = 300;

/// Runs it and leaves archive, journal, questions and transcript in `out`.
///
/// # Errors
/// If a step does not come out as the story says.
pub(crate) fn run(out: &Path, quick: bool) -> Result<()> {
    require_root("the demonstration loads BPF programs, which")?;
    setup::ensure(Scope::Demo)?;
    say("building…");
    run_command(cargo(None).args(["build", "--quiet", "-p", "daemon", "-p", "cli"]))?;
    let out = std::path::absolute(out).context("the folder's name")?;
    let mut story = Story::default();
    let told = tell(&mut story, &out, quick);
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    fs::write(out.join("transcript.txt"), &story.text).context("transcript.txt")?;
    told
}

fn tell(story: &mut Story, out: &Path, quick: bool) -> Result<()> {
    story.chapter("A bank, and the door before it");
    let mut office = Office::start(&[])?;
    let world = &office.world;
    let rows: u64 = world.bank.sql(bank::COUNT_ROWS)?.trim().parse().context("the bank's rows")?;
    ensure!(rows >= BANK_ROWS, "the bank holds {rows} rows only");
    story.say(&format!(
        "PostgreSQL on 127.0.0.1:{} holds {rows} synthetic rows.",
        world.bank.port()
    ));
    story.say("vestibuled runs; its hooks see every connection that an enrolled agent makes.");
    read(story, world)?;
    let transactions = if quick { TRANSACTIONS_QUICK } else { TRANSACTIONS };
    work(story, world, transactions)?;
    refuse(story, world)?;
    approval::approve(story, &office, out, quick)?;
    crash::survive(story, &mut office.world)?;
    let evidence = office.world.evidence()?;
    proof::prove(story, &evidence, out)?;
    questions::ask(story, &evidence, out)?;
    let shown = summary(&evidence, transactions)?;
    office.world.daemon.stop()?;
    keep(story, &office.world, out, &shown)
}

fn read(story: &mut Story, world: &World) -> Result<()> {
    const SQL: &str = "SELECT id, full_name, ssn, email FROM customers ORDER BY id LIMIT 3";
    story.chapter("An agent reads");
    story.say("What the bank holds, asked past the door by its own administrator:");
    story.quote(&world.bank.sql(SQL)?);
    story.say("The same question by an unmodified psql, started with `vestibule run --agent support-assistant -- psql`:");
    let seen = world.reader().psql(SQL)?.ok()?;
    story.quote(&seen);
    let raw = world.bank.sql("SELECT ssn FROM customers ORDER BY id LIMIT 1")?;
    ensure!(!seen.contains(raw.trim()), "a social security number came through");
    story.say("And whom psql believes to talk to:");
    story.quote(&world.reader().psql("\\conninfo")?.ok()?);
    Ok(())
}

fn work(story: &mut Story, world: &World, transactions: u32) -> Result<()> {
    story.chapter("A Python agent works");
    let script = format!(
        "
import psycopg
with psycopg.connect(autocommit=True) as c:
    for n in range(1, {transactions} + 1):
        c.execute('SELECT full_name, phone FROM customers WHERE id = %s', (n,)).fetchone()
        if n % 50 == 0:
            c.execute('INSERT INTO case_notes (marker, body) VALUES (%s, %s)', (n, 'called back'))
    card = c.execute('SELECT card_number FROM cards WHERE customer_id = %s', (42,), binary=True).fetchone()
    print('prepared statements:', {transactions}, ' a card number as it sees it:', card[0])
"
    );
    story.quote(&world.writer().python_for(&script, 300)?.ok()?);
    story.say("Each statement was decided and recorded; its writes were on disk before the server saw them.");
    Ok(())
}

fn refuse(story: &mut Story, world: &World) -> Result<()> {
    story.chapter("An agent goes too far");
    story.say(
        "psql sends DROP TABLE customers, and then an ordinary question on the same connection:",
    );
    let script = "DROP TABLE customers;\nSELECT count(*) FROM customers;\n";
    let output = world.reader().psql_script(script)?;
    story.quote(&format!("{}{}", output.stderr, output.stdout));
    ensure!(output.stderr.contains("42501"), "the DROP was not refused");
    ensure!(output.stdout.trim() == "20000", "the session did not go on");
    story.say("Refused by policy, named in the error; the connection went on; the server never saw the DROP.");
    Ok(())
}

fn summary(evidence: &Evidence<'_>, transactions: u32) -> Result<String> {
    let count = |what: &str| evidence.count(&format!("SELECT {what} FROM events"));
    let statements = count("count(*) FILTER (kind = 'db.query')")?;
    ensure!(statements >= u64::from(transactions), "only {statements} statements are recorded");
    Ok(format!(
        "Shown: {statements} statements of {} agents, {} values masked, {} refused, {} interrupted by kill -9 and \
         still recorded, 2 falsified records named.",
        count("count(DISTINCT agent_id)")?,
        count("coalesce(sum(masked_count), 0)::bigint")?,
        count("count(*) FILTER (status = 'denied')")?,
        count("count(*) FILTER (status = 'interrupted' AND decision <> 'deny')")?,
    ))
}

fn keep(story: &mut Story, world: &World, out: &Path, shown: &str) -> Result<()> {
    for (name, from) in [("archive", world.daemon.archive()), ("journal", world.daemon.journal())] {
        fs::remove_dir_all(out.join(name)).ok();
        let mut copy = std::process::Command::new("cp");
        run_program(copy.arg("-a").arg(from).arg(out.join(name)), 60)?.ok()?;
    }
    story.chapter("Left for you");
    story.say(shown);
    let folder = out.display();
    story.say(&format!(
        "In {folder}: archive/ journal/ flipped/ forged/ questions.sql transcript.txt"
    ));
    story.say("Type next:");
    let vestibule = paths::programs()?.join("vestibule");
    let vestibule = vestibule.display();
    story.quote(&format!(
        "{vestibule} archive query --duckdb {} --archive {folder}/archive \"SELECT * FROM sessions\"\n\
         {vestibule} verify --archive {folder}/archive --journal {folder}/journal\n\
         {vestibule} verify --archive {folder}/forged --journal {folder}/journal",
        paths::duckdb().display()
    ));
    Ok(())
}

/// What is told, on the terminal and in the transcript.
#[derive(Default)]
pub(crate) struct Story {
    chapters: u32,
    text: String,
}

impl Story {
    fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        let line = format!("{}. {title}", self.chapters);
        say(format_args!("\n{}", bold(&line)));
        self.write(&format!("\n{line}"));
    }

    fn say(&mut self, line: &str) {
        say(format_args!("   {line}"));
        self.write(&format!("   {line}"));
    }

    fn quote(&mut self, text: &str) {
        for line in text.trim_end().lines() {
            say(format_args!("   │ {line}"));
            self.write(&format!("   | {line}"));
        }
    }

    fn write(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}
