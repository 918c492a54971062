//! `vestibule policy backtest`: what a policy would have decided of what agents did.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use archive::scan::{self, Filter, ScanError};
use clap::Args as ClapArgs;
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use journal::row::{EventRow, Row, Table as Rows};
use policy::exchange::Exchange;
use policy::{PolicySet, SessionPolicy};
use proto::sql::Analyzer;
use serde::Serialize;
use types::command::Command;
use types::decision::{Decision, Effect};
use types::hex::hex;
use types::principal::Principal;
use types::redact::DataClass;
use types::target::Target;

use super::captured;
use super::replayed::{self, Asked, Proofs};
use crate::{Output, deep};

/// Kinds of change that are told apart, each about 1 KiB with its statement: 10 MiB. What comes later is counted.
const CHANGES_MAX: usize = 10_000;

/// Decide what agents did once more, as the archive or a capture has it, by the policies in DIR, and say what would have been refused, held, let through or
/// masked otherwise: per agent, and which statements. The archive has no literals, no state of transactions and no
/// database's catalog; what can't be decided without them is counted, and so is how often these policies, where they are
/// those that were in force, decide as they did.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The policy directory.
    #[arg(value_name = "DIR", default_value = "/etc/vestibule/policies")]
    dir: PathBuf,
    /// The archive.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// Instead of an archive: the PostgreSQL and HTTP sessions in this capture (pcapng, pcap). Whatever is in it ran.
    #[arg(long, value_name = "FILE", conflicts_with = "archive")]
    capture: Option<PathBuf>,
    /// Whose addresses are in the capture, and what targets are called (as for `vestibule import`).
    #[arg(long, value_name = "FILE", requires = "capture")]
    map: Option<PathBuf>,
    /// Of this agent alone.
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Of the last so many days.
    #[arg(long, value_name = "DAYS", conflicts_with = "capture", value_parser = clap::value_parser!(u16).range(1..))]
    days: Option<u16>,
    /// Exit status 1 where a command that was let through would be refused or held.
    #[arg(long)]
    check: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// It goes through.
    Allowed,
    /// It waits for people.
    Held,
    /// It is refused.
    Refused,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Backtest {
    /// SHA-256 of the policies, hex.
    policy_digest: String,
    /// Commands that were decided anew.
    commands: u64,
    /// Of those, decided by these very policies when they came.
    under_same_policies: u64,
    /// Of those, decided otherwise now: by what the archive does not have.
    of_those_otherwise: u64,
    /// Commands that can't be decided from what is recorded, by their kind.
    not_decided: BTreeMap<String, u64>,
    /// By agent.
    agents: BTreeMap<String, Tally>,
    /// What changes, the most frequent first.
    changes: Vec<Change>,
    /// Commands with changes of further kinds.
    more: u64,
}

/// One agent's commands.
#[derive(Clone, Debug, Default, Serialize)]
struct Tally {
    commands: u64,
    /// Let through before.
    now_refused: u64,
    /// Let through before.
    now_held: u64,
    /// Refused or held before.
    now_allowed: u64,
    /// Refused before and held now, or the other way round.
    otherwise: u64,
    /// Values of further classes are masked.
    more_masked: u64,
    /// Values that were masked are shown.
    less_masked: u64,
}

/// Commands that change alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Kind {
    agent: String,
    target: String,
    was: &'static str,
    now: &'static str,
    rule: String,
    reason: String,
    more_masked: Vec<String>,
    less_masked: Vec<String>,
    statement: String,
}

#[derive(Clone, Debug, Serialize)]
struct Change {
    commands: u64,
    #[serde(flatten)]
    kind: Kind,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let policies = super::compile(&args.dir)?;
    let found = deep::run(|| backtest(args, &policies))?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&found)?),
        Output::Table => print(&found),
    }
    let is_stricter = found.agents.values().any(|tally| tally.now_refused + tally.now_held > 0);
    Ok(ExitCode::from(u8::from(args.check && is_stricter)))
}

fn backtest(args: &Args, policies: &PolicySet) -> Result<Backtest> {
    let mut test = Test::new(policies);
    if let Some(capture) = &args.capture {
        captured::run(&mut test, capture, args.map.as_deref(), args.agent.as_deref())?;
    } else {
        archived(&mut test, args)?;
    }
    let whence = args.capture.as_ref().unwrap_or(&args.archive);
    ensure!(
        test.found.commands > 0 || !test.found.not_decided.is_empty(),
        "{} has no command of that time; is it sealed?",
        whence.display()
    );
    Ok(test.end())
}

fn archived(test: &mut Test<'_>, args: &Args) -> Result<()> {
    use types::clock::Clock as _;
    let day_us = 86_400_000_000_i64;
    let now_us = journal::clock::SystemClock.now().unix_us;
    let from_us = args.days.map(|days| now_us - i64::from(days) * day_us);
    let filter = Filter { from_us, agent: args.agent.clone(), ..Filter::default() };
    scan::scan(&args.archive, Rows::Sessions, &filter, &mut |row| {
        if let Row::Session(row) = row
            && row.actor_user.is_some()
        {
            test.proofs.insert(row.session_id.clone(), replayed::proof(&row));
        }
        Ok::<(), ScanError>(())
    })?;
    scan::scan(&args.archive, Rows::Events, &filter, &mut |row| {
        if let Row::Event(row) = row {
            test.take(&row);
        }
        Ok::<(), ScanError>(())
    })?;
    Ok(())
}

/// What is found of policies.
pub(super) struct Test<'a> {
    policies: &'a PolicySet,
    digest: String,
    analyzer: Analyzer,
    proofs: Proofs,
    kinds: HashMap<Kind, u64>,
    found: Backtest,
}

/// What was of one command.
#[derive(Debug)]
pub(super) struct Past<'p> {
    agent: &'p str,
    target: &'p str,
    statement: &'p str,
    was: Fate,
    /// Decided by these very policies.
    by_the_same: bool,
    /// Classes of values that were masked.
    masked: BTreeSet<&'p str>,
    /// Nothing came of it that could have been masked.
    is_empty: bool,
}

impl<'p> Past<'p> {
    /// What nobody decided and nothing was masked of.
    pub(super) fn ran(agent: &'p str, target: &'p str, statement: &'p str) -> Self {
        let (was, masked) = (Fate::Allowed, BTreeSet::new());
        Self { agent, target, statement, was, by_the_same: false, masked, is_empty: false }
    }
}

/// What policies decide of one command, which classes its answer may show, and which are masked.
type Judged = (Decision, Vec<DataClass>, Vec<DataClass>);

impl<'a> Test<'a> {
    fn new(policies: &'a PolicySet) -> Self {
        Self {
            policies,
            digest: hex(&policies.digest()),
            analyzer: Analyzer::new(),
            proofs: Proofs::new(),
            kinds: HashMap::new(),
            found: Backtest::default(),
        }
    }

    /// Counts what can't be decided.
    pub(super) fn not_decided(&mut self, kind: &str) {
        *self.found.not_decided.entry(kind.to_owned()).or_default() += 1;
    }

    fn take(&mut self, row: &EventRow) {
        let Some(judged) = self.decide(row) else { return self.not_decided(&row.statement.kind) };
        let past = Past {
            agent: &row.session.agent_id,
            target: &row.session.target_name,
            statement: &row.statement.statement_norm,
            was: Fate::was(row),
            by_the_same: row.session.policy_digest == self.digest,
            masked: row.masked.iter().map(|one| one.entity.as_str()).collect(),
            // Without rows there was nothing to mask.
            is_empty: row.rows == Some(0),
        };
        self.weigh(&past, judged);
    }

    /// Holds what is decided against what was.
    pub(super) fn weigh(&mut self, past: &Past<'_>, (decision, shown, masks): Judged) {
        let Past { agent, target, statement, was, by_the_same, masked, is_empty } = past;
        let (was, now) = (*was, Fate::of(decision.effect));
        self.found.commands += 1;
        if *by_the_same {
            self.found.under_same_policies += 1;
            self.found.of_those_otherwise += u64::from(was != now);
        }
        let tally = self.found.agents.entry((*agent).to_owned()).or_default();
        tally.commands += 1;
        match (was, now) {
            (Fate::Allowed, Fate::Refused) => tally.now_refused += 1,
            (Fate::Allowed, Fate::Held) => tally.now_held += 1,
            (Fate::Held | Fate::Refused, Fate::Allowed) => tally.now_allowed += 1,
            _ => tally.otherwise += u64::from(was != now),
        }
        let both = was == Fate::Allowed && now == Fate::Allowed;
        let is_masked = |class: &DataClass| masks.contains(class);
        let more = shown.iter().filter(|class| is_masked(class) && !masked.contains(&*class.0));
        let more: Vec<String> =
            more.filter(|_| both && !is_empty).map(|class| class.0.to_string()).collect();
        let less = masked.iter().filter(|class| !masks.iter().any(|mask| &*mask.0 == **class));
        let less: Vec<String> = less.filter(|_| both).map(|class| (*class).to_owned()).collect();
        tally.more_masked += u64::from(!more.is_empty());
        tally.less_masked += u64::from(!less.is_empty());
        if was == now && more.is_empty() && less.is_empty() {
            return;
        }
        let kind = Kind {
            agent: (*agent).to_owned(),
            target: (*target).to_owned(),
            was: was.word(),
            now: now.word(),
            rule: decision.rule().to_owned(),
            reason: decision.reason.to_string(),
            more_masked: more,
            less_masked: less,
            statement: (*statement).to_owned(),
        };
        let has_room = self.kinds.len() < CHANGES_MAX;
        match self.kinds.entry(kind) {
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(place) if has_room => drop(place.insert(1)),
            Entry::Vacant(_) => self.found.more += 1,
        }
    }

    /// The policies of a session.
    pub(super) fn session(&self, principal: &Principal, target: &Target) -> Arc<SessionPolicy> {
        self.policies.session(principal, target)
    }

    /// What a session's policies decide of a command.
    pub(super) fn judge(&self, session: &SessionPolicy, command: &Command, at_us: i64) -> Judged {
        let masks = masked_by(session);
        let classification = self.policies.classification();
        let probed = replayed::classes(classification, &command.statement.probes);
        let probed: Vec<DataClass> =
            probed.into_iter().filter(|class| masks.contains(class)).collect();
        let decision = session.authorize(command, &probed, at_us);
        let shown = replayed::shown(classification, &command.statement);
        (decision, shown, masks)
    }

    /// What these policies decide of an archived command.
    fn decide(&self, row: &EventRow) -> Option<Judged> {
        let principal = replayed::principal(row, &self.proofs)?;
        let session = self.session(&principal, &replayed::target(row)?);
        let at = row.ts.0;
        match replayed::asked(row, &self.analyzer)? {
            Asked::Command(command) => Some(self.judge(&session, &command, at)),
            Asked::Exchange(exchange) => Some(judge_exchange(&session, &exchange, at)),
        }
    }

    fn end(self) -> Backtest {
        let mut changes: Vec<Change> =
            self.kinds.into_iter().map(|(kind, commands)| Change { commands, kind }).collect();
        changes.sort_by(|one, other| {
            let key = |change: &Change| (change.kind.agent.clone(), change.kind.statement.clone());
            other.commands.cmp(&one.commands).then_with(|| key(one).cmp(&key(other)))
        });
        Backtest { policy_digest: self.digest, changes, ..self.found }
    }
}

/// What a session's policies decide of a request; what its answer may show, nobody knows.
pub(super) fn judge_exchange(session: &SessionPolicy, exchange: &Exchange, at_us: i64) -> Judged {
    (session.exchange(exchange, at_us).decision, Vec::new(), masked_by(session))
}

/// The classes that a session's policies mask.
fn masked_by(session: &SessionPolicy) -> Vec<DataClass> {
    session.masks().iter().map(|mask| mask.class.clone()).collect()
}

impl Fate {
    /// What became of it when it came.
    fn was(row: &EventRow) -> Self {
        match (row.decision.as_str(), &row.approval_id) {
            ("allow" | "mask", None) => Self::Allowed,
            ("deny", None) => Self::Refused,
            _ => Self::Held,
        }
    }

    fn of(effect: Effect) -> Self {
        match effect {
            Effect::Allow => Self::Allowed,
            Effect::RequireApproval => Self::Held,
            Effect::Deny => Self::Refused,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Held => "held",
            Self::Refused => "refused",
        }
    }
}

fn print(found: &Backtest) {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header([
        "agent",
        "commands",
        "now refused",
        "now held",
        "now allowed",
        "otherwise",
        "more masked",
        "less masked",
    ]);
    for (agent, tally) in &found.agents {
        let Tally {
            commands,
            now_refused,
            now_held,
            now_allowed,
            otherwise,
            more_masked,
            less_masked,
        } = tally;
        let numbers =
            [commands, now_refused, now_held, now_allowed, otherwise, more_masked, less_masked];
        table.add_row([agent.clone()].into_iter().chain(numbers.map(u64::to_string)));
    }
    println!("{table}");
    for Change { commands, kind } in found.changes.iter().take(SHOWN) {
        let Kind { agent, target, was, now, rule, reason, more_masked, less_masked, statement } =
            kind;
        println!("{commands} × {agent} at {target}: {was} → {now} by {rule}: {reason}");
        for (what, classes) in [("more masked", more_masked), ("less masked", less_masked)] {
            if !classes.is_empty() {
                println!("    {what}: {}", classes.join(", "));
            }
        }
        println!("    {statement}");
    }
    if found.changes.len() > SHOWN {
        println!("… {} kinds of change more: --output json", found.changes.len() - SHOWN);
    }
    for (kind, count) in &found.not_decided {
        println!("{count} {kind} can't be decided from what is recorded");
    }
    let (same, otherwise) = (found.under_same_policies, found.of_those_otherwise);
    if same > 0 {
        println!(
            "{same} were decided by these very policies; {otherwise} of them otherwise than now"
        );
    }
}

/// Changes that people are shown.
const SHOWN: usize = 50;
