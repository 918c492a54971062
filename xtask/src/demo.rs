//! `cargo xtask demo`: the main job end to end, in plain words.
//!
//! A bank, the daemon before it, psql and a psycopg script as agents: a read that comes back masked, a
//! refused DROP, the daemon killed; then the evidence, and what an auditor gets out of it. Everything
//! runs on a server and a daemon of its own and is gone afterwards, but the folder it names.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use integration::process::run as run_program;
use integration::{Evidence, World, bank};

use crate::command::{cargo, run as run_command};
use crate::setup::{self, Scope, require_root};
use crate::term::{bold, say};

mod questions;

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
    let mut world = World::start()?;
    let rows = world.bank.sql(bank::COUNT_ROWS)?;
    story.say(&format!(
        "PostgreSQL on 127.0.0.1:{} holds {} synthetic rows.",
        world.bank.port(),
        rows.trim()
    ));
    story.say("vestibuled runs; its hooks see every connection that an enrolled agent makes.");
    read(story, &world)?;
    work(story, &world, if quick { 300 } else { 3_000 })?;
    refuse(story, &world)?;
    die(story, &mut world)?;
    let evidence = world.evidence()?;
    prove(story, &evidence, out)?;
    questions::ask(story, &evidence, out)?;
    world.daemon.stop()?;
    keep(story, &world, out)
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

fn die(story: &mut Story, world: &mut World) -> Result<()> {
    story.chapter("The daemon is killed");
    let script = "
import time, psycopg, sys
print('started', flush=True)
sys.stdin.readline()
try:
    psycopg.connect(connect_timeout=5)
    print('got past')
except psycopg.OperationalError as e:
    print(str(e).strip().splitlines()[-1])
";
    let mut agent = world.reader().start_python(script)?;
    let mut told = std::io::BufReader::new(agent.take_stdout().context("its output")?);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut told, &mut line).context("the agent")?;
    world.daemon.kill();
    story.say(
        "An agent is running; kill -9 takes the daemon from it. The agent tries the bank directly:",
    );
    drop(agent.take_stdin());
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut told, &mut answer).context("the agent")?;
    story.quote(&answer);
    ensure!(!answer.contains("got past"), "the agent got past the dead daemon");
    world.daemon.restart()?;
    story.say(
        "Refused: what is pinned in the kernel stays. The daemon is back, and with it the way:",
    );
    story.quote(&world.reader().psql("SELECT 'served again' FROM customers LIMIT 1")?.ok()?);
    Ok(())
}

fn prove(story: &mut Story, evidence: &Evidence<'_>, out: &Path) -> Result<()> {
    story.chapter("The evidence");
    let verified = evidence.verify_with_journal()?;
    ensure!(verified.code == Some(0), "verify: {} {}", verified.stdout, verified.stderr);
    story.say("vestibule verify, over archive and journal:");
    story.quote(&verified.stdout);
    let copy = out.join("tampered");
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    fs::remove_dir_all(&copy).ok();
    let tampered = evidence.copy_to(&copy)?;
    let file = tampered.files("events")?.into_iter().next().context("no events")?;
    let mut bytes = fs::read(&file).context("the copy")?;
    let at = bytes.len() / 3;
    *bytes.get_mut(at).context("the copy is empty")? ^= 1;
    fs::write(&file, bytes).context("the copy")?;
    story.say(&format!(
        "In a copy (tampered/), one bit of byte {at} of {} is flipped:",
        file.file_name().unwrap_or_default().display()
    ));
    let broken = tampered.verify_with_journal()?;
    story.quote(&format!("{}{}", broken.stdout, broken.stderr));
    ensure!(broken.code == Some(1), "the flipped byte was not found");
    Ok(())
}

fn keep(story: &mut Story, world: &World, out: &Path) -> Result<()> {
    for (name, from) in [("archive", world.daemon.archive()), ("journal", world.daemon.journal())] {
        fs::remove_dir_all(out.join(name)).ok();
        let mut copy = std::process::Command::new("cp");
        run_program(copy.arg("-a").arg(from).arg(out.join(name)), 60)?.ok()?;
    }
    story.chapter("Left for you");
    story.say(&format!(
        "{}: archive/ journal/ tampered/ questions.sql transcript.txt",
        out.display()
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
