//! Measures what whom an agent acts for costs by itself: per command, per connection, per change, and per token.
//!
//! Time is that of this thread on a processor, so a busy machine changes little; of many short passes the median is
//! reported. What a whole command and a whole connection cost with it and without is `bench`'s `vestibule-identity`.

use std::hint::black_box;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context as TaskContext, Waker};

use anyhow::{Context, Result, bail};
use clap::Parser;
use identity::oidc::{Issuer, Kind, Provider};
use identity::standing::{Held, Standing};
use integration::Idp;
use integration::idp::{CARL, CLIENT, RESOURCES, SignedBy};
use proxy::follower::Follower;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use types::clock::Timestamp;
use types::identity::{Identity, Subject, Token};
use types::secret::Secret;

/// Measure what an identity costs.
#[derive(Parser)]
struct Cli {
    /// A tenth of the passes.
    #[arg(long)]
    quick: bool,
    /// Write the rows as JSON here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// One thing, and its median.
#[derive(Serialize)]
struct Row {
    what: String,
    ns: f64,
}

/// Times a thing is done in one pass: long beside the clock's own cost.
const TIMES: u32 = 10_000;

/// Sessions that follow one agent, as many as a node has.
const SESSIONS: u64 = 10_000;

fn main() -> ExitCode {
    let Err(error) = run(&Cli::parse()) else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn run(cli: &Cli) -> Result<()> {
    let passes = if cli.quick { 5 } else { 50 };
    let mut rows = Vec::new();
    for depth in [1, 2, 4] {
        rows.push(per_command(passes, depth)?);
    }
    for depth in [1, 2] {
        rows.push(per_connection(passes, depth)?);
    }
    rows.push(per_change(passes)?);
    rows.extend(per_token(passes)?);
    if let Some(path) = &cli.json {
        let text = serde_json::to_string_pretty(&serde_json::json!({ "rows": rows }))?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "| what | ns |\n|---|--:|")?;
    for Row { what, ns } in &rows {
        writeln!(out, "| {what} | {ns:.1} |")?;
    }
    Ok(())
}

/// A command of a session whose agent is in so many others, itself included.
fn per_command(passes: u32, depth: usize) -> Result<Row> {
    let (innermost, _) = chain(depth);
    let mut follower = follower(&innermost, 1);
    let ns = median(passes, TIMES, || {
        for _ in 0..TIMES {
            if black_box(&mut follower).changed(black_box(1)).is_some() {
                bail!("nothing has changed");
            }
        }
        Ok(())
    })?;
    Ok(Row { what: format!("a command; agents in one another: {depth}"), ns })
}

/// A connection from its first look to its end, beside all others of its agent.
fn per_connection(passes: u32, depth: usize) -> Result<Row> {
    let (innermost, _) = chain(depth);
    let mut others: Vec<_> = (0..SESSIONS).map(|key| follower(&innermost, key)).collect();
    let cx = TaskContext::from_waker(Waker::noop());
    for other in &mut others {
        other.watch(&cx);
    }
    let ns = median(passes, TIMES, || {
        for key in 0..u64::from(TIMES) {
            let mut own = follower(black_box(&innermost), SESSIONS + key);
            own.watch(&cx);
        }
        Ok(())
    })?;
    Ok(Row { what: format!("a connection, of {SESSIONS}; agents in one another: {depth}"), ns })
}

/// A change, which wakes all sessions of the agent.
fn per_change(passes: u32) -> Result<Row> {
    let (innermost, _) = chain(1);
    let mut all: Vec<_> = (0..SESSIONS).map(|key| follower(&innermost, key)).collect();
    let cx = TaskContext::from_waker(Waker::noop());
    for one in &mut all {
        one.watch(&cx);
    }
    let persons = [person("ada"), person("bob")].map(|one| Held::For(Arc::new(one)));
    let ns = median(passes, 2, || {
        if !persons.iter().all(|held| innermost.set(held.clone())) {
            bail!("each is a change");
        }
        Ok(())
    })?;
    Ok(Row { what: format!("a change that {SESSIONS} sessions are told of"), ns })
}

/// A token's verification once its issuer's keys are there.
fn per_token(passes: u32) -> Result<Vec<Row>> {
    let provider = Idp::start()?;
    let issuer = Issuer::new(&provider.issuer(), vec![RESOURCES[0].to_owned()]);
    let verifier = Provider::new(issuer)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let now = now();
    let seconds = now.unix_us / 1_000_000;
    let claims = serde_json::json!({
        "iss": provider.issuer(), "sub": CARL, "aud": RESOURCES[0], "exp": seconds + 3_600, "iat": seconds,
        "client_id": CLIENT, "jti": "one", "groups": ["contractors"],
    });
    let keys = [("RS256", SignedBy::Rs256), ("ES256", SignedBy::Es256), ("EdDSA", SignedBy::EdDsa)];
    let mut rows = Vec::new();
    for (algorithm, by) in keys {
        let kid = format!("{algorithm}-1");
        let header = serde_json::json!({ "alg": algorithm, "kid": kid, "typ": "at+jwt" });
        let token = Secret::new(provider.sign(&header.to_string(), &claims.to_string(), by)?);
        let verify = || runtime.block_on(verifier.verify(&token, Kind::AccessToken, now));
        // The first one fetches the keys.
        verify().with_context(|| algorithm.to_owned())?;
        let ns = median(passes, 10, || {
            for _ in 0..10 {
                black_box(verify()?);
            }
            Ok(())
        })?;
        rows.push(Row { what: format!("a token's verification, {algorithm}"), ns });
    }
    Ok(rows)
}

/// Agents in one another; the outermost acts for a person. The innermost, and the outermost.
fn chain(depth: usize) -> (Arc<Standing>, Arc<Standing>) {
    let outermost = Standing::inside(None);
    outermost.set(Held::For(Arc::new(person("carl"))));
    let inner = |outer, _| Standing::inside(Some(outer));
    ((1..depth).fold(Arc::clone(&outermost), inner), outermost)
}

fn person(sub: &str) -> Identity {
    let token = Token { expires_s: i64::MAX / 2_000_000, ..Token::default() };
    let subject = Subject {
        user: sub.into(),
        idp: "https://idp.example".into(),
        sub: sub.into(),
        groups: Arc::default(),
        token: token.into(),
    };
    Identity { subject: Some(subject), ..Identity::default() }
}

fn follower(standing: &Arc<Standing>, key: u64) -> Follower {
    Follower::new(Arc::clone(standing), key, standing.changes(), &Identity::default())
}

/// Nanoseconds of processor time for each of a pass's `times`: the median over `passes`.
fn median(passes: u32, times: u32, mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut found = Vec::new();
    for _ in 0..passes {
        let before = cpu_ns();
        pass()?;
        let took = u32::try_from(cpu_ns() - before).context("a pass of seconds")?;
        found.push(f64::from(took) / f64::from(times));
    }
    found.sort_by(f64::total_cmp);
    found.get(found.len() / 2).copied().context("no pass")
}

/// This thread's time on a processor.
fn cpu_ns() -> i64 {
    read(ClockId::ThreadCPUTime)
}

fn now() -> Timestamp {
    Timestamp { unix_us: read(ClockId::Realtime) / 1_000, mono_ns: 0 }
}

fn read(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
