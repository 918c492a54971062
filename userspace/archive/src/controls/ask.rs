//! Asks what controls need, each question once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Answer, Check, Control, Found, Of, Options, Outcome, Report, Standing, Verified};
use crate::json;
use crate::query::{self, QueryError};
use crate::questions::{self, NotPut};
use crate::verify::{self, VerifyError};

/// Rows of an answer that a report shows.
const FIRST_MAX: usize = 50;

/// Findings of a verification that a report shows.
const FINDINGS_MAX: usize = 20;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The archive could not be asked.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A question could not be put.
    #[error(transparent)]
    NotPut(#[from] NotPut),
    /// The archive could not be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// Verifies the archive, asks every question of the controls and says how each stands.
///
/// # Errors
/// If something could not be asked: a report is whole or not there.
pub fn ask(options: &Options, controls: &[Control]) -> Result<Report, AskError> {
    let Options { archive, duckdb: _, reader, since, until, now_us } = options;
    let of = verify::Options { reader: reader.clone(), ..verify::Options::new(archive) };
    let found = verify::verify(&of)?;
    let words = |finding: &verify::Finding| {
        let place = finding.record.as_ref().or(finding.path.as_ref());
        place.map_or_else(|| finding.text.clone(), |place| format!("{place}: {}", finding.text))
    };
    let findings = found.findings.iter().take(FINDINGS_MAX).map(words).collect();
    let verified = Verified { ok: found.is_ok(), logs: found.logs, findings };
    let (mut counts, mut questions) = (BTreeMap::new(), BTreeMap::new());
    for check in controls.iter().flat_map(|control| &control.checks) {
        let Check::Question { name, of, expects_none: _ } = check else { continue };
        for by_day in [true, false] {
            if let Entry::Vacant(place) = counts.entry((*of, by_day)) {
                place.insert(count(options, &of.sql(options, by_day)?)?);
            }
        }
        if !questions.contains_key(name) {
            questions.insert(name.clone(), answer(options, name)?);
        }
    }
    let outcome = |control: &Control| outcome(control, &verified, &counts, &questions);
    let shown = counts.iter().filter(|((_, by_day), _)| *by_day);
    Ok(Report {
        made: json::time(*now_us),
        version: env!("CARGO_PKG_VERSION"),
        since: since.clone(),
        until: until.clone(),
        controls: controls.iter().map(outcome).collect(),
        counts: shown.map(|((of, _), count)| (*of, *count)).collect(),
        verified,
        questions,
    })
}

fn answer(options: &Options, name: &str) -> Result<Answer, AskError> {
    let question = questions::named(name)?;
    let mut told = BTreeMap::new();
    for (argument, day) in [("from", &options.since), ("to", &options.until)] {
        if let Some(day) = day
            && question.arguments.iter().any(|one| one.name == argument)
        {
            told.insert(argument.to_owned(), day.clone());
        }
    }
    let sql = question.sql(&told)?;
    let rows = count(options, &sql)?;
    let first = format!("SELECT * FROM ({sql}\n) AS answer LIMIT {FIRST_MAX}");
    let first = query::rows(&options.archive, options.duckdb.as_deref(), &first)?;
    let by_day = question.arguments.iter().any(|argument| argument.name == "from");
    Ok(Answer { title: question.title, sql, by_day, rows, first })
}

fn count(options: &Options, sql: &str) -> Result<u64, AskError> {
    let sql = format!("SELECT CAST(count(*) AS BIGINT) AS n FROM ({sql}\n) AS counted");
    let rows = query::rows(&options.archive, options.duckdb.as_deref(), &sql)?;
    let number = rows.first().and_then(|row| row.get("n")).and_then(serde_json::Value::as_u64);
    Ok(number.ok_or_else(|| QueryError::Answer("it is no count".to_owned()))?)
}

fn outcome(
    control: &Control,
    verified: &Verified,
    counts: &BTreeMap<(Of, bool), u64>,
    questions: &BTreeMap<String, Answer>,
) -> Outcome {
    let Control { id, source, states, checks, not_shown } = control;
    let found: Vec<Found> = checks
        .iter()
        .map(|check| match check {
            Check::Verify => of_verify(verified),
            Check::Question { name, expects_none, of } => {
                let (by_day, rows) = questions.get(name).map_or((false, 0), |a| (a.by_day, a.rows));
                let count = counts.get(&(*of, by_day)).copied().unwrap_or(0);
                of_question(name, *expects_none, (*of, count), rows)
            }
        })
        .collect();
    let worst = found.iter().map(|one| one.standing).min().unwrap_or(Standing::NotShown);
    let standing = match worst {
        Standing::Met | Standing::Information if not_shown.is_some() => Standing::InPart,
        // One that is as expected and one that informs: people have something to judge.
        Standing::Met if found.iter().any(|one| one.standing == Standing::Information) => {
            Standing::Information
        }
        worst => worst,
    };
    let (id, source, states) = (id.clone(), source.clone(), states.clone());
    Outcome { id, source, states, standing, found, not_shown: not_shown.clone() }
}

fn of_verify(verified: &Verified) -> Found {
    let (text, standing) = if verified.ok {
        ("the archive verifies: files, rows, checkpoints".to_owned(), Standing::Met)
    } else {
        ("the archive does not verify".to_owned(), Standing::LookInto)
    };
    Found { question: None, text, standing }
}

fn of_question(name: &str, expects_none: bool, (of, count): (Of, u64), rows: u64) -> Found {
    let about = of.words();
    let (text, standing) = match (expects_none, count, rows) {
        (true, _, 1..) => (format!("{rows} rows where none is expected"), Standing::LookInto),
        (_, 0, _) => (format!("there were no {about}"), Standing::NotShown),
        (true, _, _) => (format!("no rows, of {count} {about}"), Standing::Met),
        (false, _, _) => (format!("{rows} rows, of {count} {about}"), Standing::Information),
    };
    Found { question: Some(name.to_owned()), text, standing }
}

impl Of {
    /// What is counted: of the days that are asked about, or of all.
    fn sql(self, options: &Options, by_day: bool) -> Result<String, NotPut> {
        let (table, which) = match self {
            Self::Events => ("events", "true"),
            Self::Sessions => ("sessions", "true"),
            Self::Approvals => ("events", "approval_id IS NOT NULL"),
            Self::Control => ("control", "true"),
            Self::Heartbeats => ("control", "kind = 'heartbeat'"),
            Self::Copies => ("control", "kind = 'ship.shipped'"),
            Self::Holds => ("control", "kind = 'hold.set'"),
            Self::Disposals => ("control", "kind IN ('archive.disposed', 'recording.shredded')"),
        };
        let mut sql = format!("SELECT seq FROM {table} WHERE {which}");
        for (day, is) in [(&options.since, ">="), (&options.until, "<=")] {
            if let Some(day) = day.as_deref().filter(|_| by_day) {
                let day = questions::quoted("day", day)?;
                sql = format!("{sql} AND dt {is} CAST({day} AS DATE)");
            }
        }
        Ok(sql)
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Events => "commands",
            Self::Sessions => "sessions",
            Self::Approvals => "commands that people were asked about",
            Self::Control => "records of nodes",
            Self::Heartbeats => "heartbeats",
            Self::Copies => "shipments to a store",
            Self::Holds => "legal holds",
            Self::Disposals => "disposals",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_met_that_is_not_shown() {
        let stands = |checks: &[(bool, u64, u64)], ok: bool, not_shown: Option<&str>| {
            let mut control = Control {
                id: "c".into(),
                source: String::new(),
                states: String::new(),
                checks: vec![Check::Verify],
                not_shown: not_shown.map(str::to_owned),
            };
            let (mut counts, mut questions) = (BTreeMap::new(), BTreeMap::new());
            for (at, (expects_none, count, rows)) in checks.iter().enumerate() {
                let of = [Of::Events, Of::Sessions][at];
                let (title, sql, first) = (String::new(), String::new(), Vec::new());
                questions.insert(
                    at.to_string(),
                    Answer { title, sql, by_day: false, rows: *rows, first },
                );
                counts.insert((of, false), *count);
                let name = at.to_string();
                control.checks.push(Check::Question { name, expects_none: *expects_none, of });
            }
            let verified = Verified { ok, logs: Vec::new(), findings: Vec::new() };
            outcome(&control, &verified, &counts, &questions).standing
        };
        assert_eq!(stands(&[], true, None), Standing::Met);
        assert_eq!(stands(&[], false, None), Standing::LookInto);
        assert_eq!(stands(&[], true, Some("a part")), Standing::InPart);
        assert_eq!(stands(&[(true, 9, 0)], true, None), Standing::Met);
        assert_eq!(stands(&[(true, 9, 1)], true, Some("a part")), Standing::LookInto);
        assert_eq!(stands(&[(true, 0, 0)], true, None), Standing::NotShown);
        assert_eq!(stands(&[(false, 9, 9), (true, 9, 0)], true, None), Standing::Information);
        assert_eq!(stands(&[(false, 0, 0), (true, 9, 0)], true, None), Standing::NotShown);
        let none = Control {
            id: String::new(),
            source: String::new(),
            states: String::new(),
            checks: Vec::new(),
            not_shown: Some("all".into()),
        };
        let verified = Verified { ok: true, logs: Vec::new(), findings: Vec::new() };
        let outcome = outcome(&none, &verified, &BTreeMap::new(), &BTreeMap::new());
        assert_eq!(outcome.standing, Standing::NotShown);
    }
}
