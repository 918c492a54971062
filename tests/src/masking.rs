//! The masking attack suite: statements that try to get a social security or card number out of the bank's
//! masked columns, and ordinary ones that must come through as they are.
//!
//! Every attack (`tests/masking/attacks`) runs twice from bare sockets: directly, where it must bring what it
//! is after or it proves nothing, and behind vestibule, where no byte may. What the agent is told and what
//! the record says must be the reason that the attack names. Each ordinary query (`tests/masking/ordinary.sql`)
//! runs the same way; every cell must be equal but those of the columns it names as masked.

mod cases;
mod check;
mod client;
pub mod report;

use std::collections::{BTreeMap, HashSet};
use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::{Daemon, Postgres, Supervisor, bank};

pub use cases::{Attack, Expected, Ordinary};
pub use report::Row;

use client::{Answer, Request};

/// What the suite adds to the shipped policies.
const POLICY: (&str, &str) = ("masking.cedar", include_str!("../masking/agents.cedar"));

/// What a database team has beside the bank.
const SETUP: &str = include_str!("../masking/setup.sql");

/// What became of the suite.
#[derive(Debug, Default)]
pub struct Outcome {
    /// A row for each attack.
    pub attacks: Vec<Row>,
    /// How many ordinary queries ran.
    pub ordinary: usize,
    /// What came through otherwise than it should have.
    pub false_masks: Vec<String>,
}

/// Whose eyes the daemon reads the catalog with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogBy {
    /// The agents', on their connections.
    Agents,
    /// Those of a role of its own.
    Role,
}

/// Runs the cases whose names contain `filter`, and of them every `step`-th.
///
/// # Errors
/// If the stage can't be set; what a case does is a row.
pub fn run(filter: &str, step: usize, by: CatalogBy) -> Result<Outcome> {
    let pick = |name: &str| name.contains(filter);
    let attacks: Vec<Attack> =
        cases::attacks()?.into_iter().filter(|a| pick(&a.name)).step_by(step.max(1)).collect();
    let ordinary: Vec<Ordinary> =
        cases::ordinary()?.into_iter().filter(|o| pick(&o.name)).step_by(step.max(1)).collect();
    let stage = Stage::set(by)?;
    let rows = stage.attack(&attacks)?;
    let false_masks = stage.ask(&ordinary)?;
    Ok(Outcome { attacks: rows, ordinary: ordinary.len(), false_masks })
}

/// Two servers of the same content: one behind a daemon, one that attacks reach directly.
struct Stage {
    daemon: Daemon,
    behind: Postgres,
    direct: Postgres,
    _secret: NamedTempFile,
}

impl Stage {
    fn set(by: CatalogBy) -> Result<Self> {
        let (behind, direct) = (Postgres::start()?, Postgres::start()?);
        for server in [&behind, &direct] {
            server.sql(SETUP).context("tests/masking/setup.sql")?;
        }
        // Only its owner can read it (tempfile's documentation, "Permissions").
        let secret = NamedTempFile::new().context("the role's secret")?;
        let mut configuration = String::new();
        if by == CatalogBy::Role {
            let password = bank::PASSWORD;
            fs::write(secret.path(), password).context("the role's secret")?;
            behind.sql(&format!("CREATE ROLE vestibule_catalog LOGIN PASSWORD '{password}'"))?;
            configuration = format!(
                "[target.catalog]\naccount = \"vestibule_catalog\"\nsecret_file = \"{}\"\n",
                secret.path().display()
            );
        }
        let daemon =
            Daemon::start_with(Supervisor::None, behind.port(), 2, &[POLICY], &configuration)?;
        Ok(Self { daemon, behind, direct, _secret: secret })
    }

    fn attack(&self, attacks: &[Attack]) -> Result<Vec<Row>> {
        let known = self.known()?;
        let requests: Vec<Request> = attacks.iter().map(Attack::request).collect();
        let alone = self.victims(attacks, &requests, false)?;
        let behind = self.victims(attacks, &requests, true)?;
        let record = self.record()?;
        attacks
            .iter()
            .map(|attack| {
                let (direct, seen) = (find(&alone, &attack.name)?, find(&behind, &attack.name)?);
                let secrets: Vec<String> =
                    self.direct.sql(&attack.secret)?.lines().map(str::to_owned).collect();
                let none = Vec::new();
                let events = record.get(&attack.name).unwrap_or(&none);
                Ok(check::judge(attack, direct, seen, &secrets, &known, events))
            })
            .collect()
    }

    /// Runs the requests; those with a victim one by one, while its statement stands in the statistics.
    fn victims(&self, attacks: &[Attack], requests: &[Request], held: bool) -> Result<Vec<Answer>> {
        let server = if held { &self.behind } else { &self.direct };
        let daemon = held.then_some(&self.daemon);
        let mut answers = Vec::new();
        let (alone, others): (Vec<usize>, Vec<usize>) =
            (0..attacks.len()).partition(|&at| attacks.get(at).is_some_and(|a| a.victim.is_some()));
        let pick = |places: &[usize]| -> Vec<Request> {
            places.iter().filter_map(|&at| requests.get(at).cloned()).collect()
        };
        answers.extend(client::run(server, daemon, &pick(&others))?);
        for at in alone {
            let victim = attacks.get(at).and_then(|a| a.victim.clone()).unwrap_or_default();
            let _session = client::hold(server, &victim)?;
            answers.extend(client::run(server, daemon, &pick(&[at]))?);
        }
        Ok(answers)
    }

    /// Every number that is masked.
    fn known(&self) -> Result<HashSet<String>> {
        let sql = "SELECT ssn FROM customers UNION ALL SELECT card_number FROM cards";
        Ok(self.direct.sql(sql)?.lines().map(str::to_owned).collect())
    }

    /// What was recorded of each case, by the name in its statements.
    fn record(&self) -> Result<BTreeMap<String, Vec<Value>>> {
        let evidence = crate::Evidence::seal(&self.daemon)?;
        // A session is one case's; each of several statements in one string has a record of its own.
        let sql = "WITH named AS (SELECT DISTINCT session_id, \
                   regexp_extract(statement, 'mask-test:([a-z0-9_]+)', 1) AS name FROM recordings \
                   WHERE statement LIKE '%mask-test:%') \
                   SELECT DISTINCT name, decision, rule_id, CAST(masked AS VARCHAR) AS masked \
                   FROM events JOIN named USING (session_id) WHERE kind IN ('db.query', 'db.function')";
        let mut record: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for row in evidence.duckdb(sql)? {
            let name = row.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            record.entry(name).or_default().push(row);
        }
        Ok(record)
    }

    fn ask(&self, ordinary: &[Ordinary]) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for by in ["simple", "described"] {
            let requests: Vec<Request> = ordinary.iter().filter_map(|o| o.request(by)).collect();
            let alone = client::run(&self.direct, None, &requests)?;
            let behind = client::run(&self.behind, Some(&self.daemon), &requests)?;
            for case in ordinary.iter().filter(|o| requests.iter().any(|r| r.name == o.name)) {
                let (direct, seen) = (find(&alone, &case.name)?, find(&behind, &case.name)?);
                if let Some(difference) = check::compare(case, direct, seen) {
                    wrong.push(format!("{} ({by}): {difference}", case.name));
                }
            }
        }
        Ok(wrong)
    }
}

fn find<'a>(answers: &'a [Answer], name: &str) -> Result<&'a Answer> {
    answers.iter().find(|a| a.name == name).with_context(|| format!("no answer to {name}"))
}
