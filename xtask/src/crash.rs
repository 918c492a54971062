//! `cargo xtask crash-test`: power losses on a simulated disk, kill -9 of a process that records, and of real daemons
//! under load; nothing that was acknowledged may be missing.
//!
//! The full run's thousand are 700 power losses, 280 kills of a recording process and 20 of a daemon.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args as ClapArgs;
use integration::{World, paths};
use serde_json::Value;

use crate::command::{cargo, command, run as run_command};
use crate::setup::{self, Scope, require_root};
use crate::term::say;

/// Kills of a daemon, in the full run and in the quick one.
const DAEMONS: u64 = 20;
const DAEMONS_QUICK: u64 = 2;

/// How much is tried, and where the counts go.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// 92 crashes instead of a thousand; half a minute once built
    #[arg(long)]
    quick: bool,
    /// Write `{"crashes","lost","gaps"}` here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Builds what it needs and runs it.
///
/// # Errors
/// If an acknowledged record was lost, or a journal had a gap.
pub(crate) fn run(args: &Args) -> Result<()> {
    require_root("the daemon loads BPF programs, which")?;
    setup::ensure(Scope::Test)?;
    let Args { quick, json } = args;
    run_command(cargo(None).args(["build", "--quiet", "--all-targets"]))?;
    start(*quick, json.as_deref())
}

/// The quick suite, of programs that are built already.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_quick() -> Result<()> {
    start(true, None)
}

fn start(quick: bool, json: Option<&Path>) -> Result<()> {
    let suite = paths::root().join("target/debug/examples/crash");
    let counted = paths::root().join("target/crash-counts.json");
    std::fs::write(&counted, "").context("the suite's counts")?;
    let mut suite = command(&suite.display().to_string());
    if quick {
        suite.arg("--quick");
    }
    let ran = run_command(suite.arg("--json").arg(&counted));
    let text = std::fs::read_to_string(&counted).context("the suite's counts")?;
    let mut counts: Value = match serde_json::from_str(&text) {
        Ok(counts) => counts,
        // It ended before it counted.
        Err(_) => return ran.and_then(|()| bail!("the suite left no counts")),
    };
    let (daemons, lost, gaps) = kill_daemons(if quick { DAEMONS_QUICK } else { DAEMONS })?;
    say(format_args!(
        "{daemons} kills of a daemon: {lost} acknowledged commands lost, {gaps} archives that do not verify"
    ));
    for (name, more) in [("crashes", daemons), ("lost", lost), ("gaps", gaps)] {
        let before = counts.get(name).and_then(Value::as_u64).context("a count")?;
        if let Some(count) = counts.get_mut(name) {
            *count = (before + more).into();
        }
    }
    say(&counts);
    if let Some(json) = json {
        std::fs::write(json, format!("{counts:#}\n")).context("the counts can't be written")?;
    }
    ensure!(counts.get("lost") == Some(&0.into()), "acknowledged records were lost");
    ensure!(counts.get("gaps") == Some(&0.into()), "journals had gaps or did not verify");
    Ok(())
}

/// Writes one transaction after the other, with a read in it, and says the number of each that was acknowledged.
const AGENT: &str = "
import sys, psycopg
n = int(sys.argv[1])
with psycopg.connect() as c:
    while True:
        n += 1
        c.execute('INSERT INTO case_notes (marker, body) VALUES (%s, %s)', (n, 'crash'))
        c.execute('SELECT id FROM customers WHERE id = %s', (n,))
        c.commit()
        print(n, flush=True)
";

/// Kills a daemon under load, again and again; answers how often, how many commands are missing that an agent had an
/// answer to, and how often the archive did not verify.
fn kill_daemons(kills: u64) -> Result<(u64, u64, u64)> {
    let mut world = World::start()?;
    let mut answered = 0;
    for kill in 0..kills {
        let script = AGENT.replace("int(sys.argv[1])", &(kill * 1_000_000).to_string());
        let mut agent = world.writer().start_python(&script)?;
        let mut told = BufReader::new(agent.take_stdout().context("its output")?).lines();
        // It is under way.
        for _ in 0..5 {
            told.next().context("the agent ended")?.context("the agent")?;
            answered += 1;
        }
        std::thread::sleep(Duration::from_micros(chance() % 200_000));
        world.daemon.kill();
        answered += told.map_while(Result::ok).count() as u64;
        drop(agent);
        world.daemon.restart()?;
    }
    let kept = world.bank.sql("SELECT count(*) FROM case_notes WHERE body = 'crash'")?;
    let kept: u64 = kept.trim().parse().context("a count")?;
    let evidence = world.evidence()?;
    let recorded =
        |verb: &str| evidence.count(&format!("SELECT count(*) FROM events WHERE verb = '{verb}'"));
    // Commits come with their transactions: each of three commands was answered.
    let inserts = answered.max(kept).saturating_sub(recorded("INSERT")?);
    let reads = answered.saturating_sub(recorded("SELECT")?);
    let verified = evidence.verify_with_journal()?;
    let is_sound = verified.code == Some(0);
    if !is_sound {
        say(format_args!("{}{}", verified.stdout, verified.stderr));
    }
    Ok((kills, inserts + reads, u64::from(!is_sound)))
}

/// Another number each time: the place of a time in its second.
fn chance() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |now| u64::from(now.subsec_nanos()) / 7)
}
