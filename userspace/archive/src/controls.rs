//! Which evidence there is for which control, and what it says: `policies/controls.toml`, asked.
//!
//! What can't be shown is never reported as met, nor is what there was nothing of.

mod ask;
mod page;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use ask::{AskError, ask};
pub use page::html;

use crate::questions;

/// The controls that ship.
pub const SHIPPED: &str = include_str!("../../../policies/controls.toml");

/// A control and its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its name here.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// What it asks for, in our words.
    pub states: String,
    /// What is asked, and expected.
    pub checks: Vec<Check>,
    /// What of it the archive can't show.
    pub not_shown: Option<String>,
}

/// One thing that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A ready question.
    Question {
        /// Its name.
        name: String,
        /// Whether any row is one to be looked into.
        expects_none: bool,
        /// What it is about.
        of: Of,
    },
    /// `vestibule verify`.
    Verify,
}

/// What a question is about: where there is none of it, its answer shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// Commands.
    Events,
    /// Sessions.
    Sessions,
    /// Commands that people were asked about.
    Approvals,
    /// What nodes recorded about themselves.
    Control,
    /// Their heartbeats.
    Heartbeats,
    /// Shipments to a store.
    Copies,
    /// Legal holds that were set.
    Holds,
    /// What was disposed of or shredded.
    Disposals,
}

/// What is asked, by which program, of which time.
#[derive(Clone, Debug)]
pub struct Options {
    /// The archive's folder.
    pub archive: PathBuf,
    /// DuckDB's executable; on `PATH` where absent.
    pub duckdb: Option<PathBuf>,
    /// The program that reads changed files, see `verify`.
    pub reader: Option<PathBuf>,
    /// The first day, as `2026-01-31`; all before where absent.
    pub since: Option<String>,
    /// The last day.
    pub until: Option<String>,
    /// When, microseconds since 1970 UTC.
    pub now_us: i64,
}

/// How a control stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Rows came where none should, or the archive does not verify.
    LookInto,
    /// Nothing of it is shown.
    NotShown,
    /// What was asked is as expected, and a part can't be shown.
    InPart,
    /// All that was expected not to be there is not.
    Met,
    /// What was asked for is there; whether it is right, people say.
    Information,
}

/// All that was asked and found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When it was made, RFC 3339.
    pub made: String,
    /// By which version.
    pub version: &'static str,
    /// The first day that was asked about.
    pub since: Option<String>,
    /// The last.
    pub until: Option<String>,
    /// What verification found.
    pub verified: Verified,
    /// How many there were of what is asked about.
    pub counts: BTreeMap<Of, u64>,
    /// The controls.
    pub controls: Vec<Outcome>,
    /// The questions, each once.
    pub questions: BTreeMap<String, Answer>,
}

/// What verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Whether everything is as it was recorded.
    pub ok: bool,
    /// The logs: name, rows, root and whose signature.
    pub logs: Vec<crate::verify::LogSummary>,
    /// What is not as recorded: the first of it.
    pub findings: Vec<String>,
}

/// A control, and how it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its name here.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// What it asks for, in our words.
    pub states: String,
    /// How it stands.
    pub standing: Standing,
    /// What was asked and found, a line each.
    pub found: Vec<Found>,
    /// What of it the archive can't show.
    pub not_shown: Option<String>,
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The question's name; absent for verification.
    pub question: Option<String>,
    /// In words.
    pub text: String,
    /// How the control would stand by this alone.
    pub standing: Standing,
}

/// What a question was answered.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// What it answers.
    pub title: String,
    /// The SQL that was run.
    pub sql: String,
    /// Whether it was asked of the report's days alone.
    pub by_day: bool,
    /// Rows in all.
    pub rows: u64,
    /// The first of them.
    pub first: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// Why controls can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ControlsError {
    /// They are no TOML, or have something that is not known.
    #[error("controls: {0}")]
    Toml(#[from] toml::de::Error),
    /// A control says something twice, or nothing, or what can't be asked.
    #[error("control {id}: {why}")]
    Control {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
}

/// The controls in a text like `policies/controls.toml`.
///
/// # Errors
/// If anything in it can't be asked, or stands twice.
pub fn read(text: &str) -> Result<Vec<Control>, ControlsError> {
    let File { control } = toml::from_str(text)?;
    let mut ids = BTreeSet::new();
    control
        .into_iter()
        .map(|written| {
            let fail =
                |why: &str| ControlsError::Control { id: written.id.clone(), why: why.to_owned() };
            if !ids.insert(written.id.clone()) {
                return Err(fail("stands twice"));
            }
            if written.checks.is_empty() && written.not_shown.is_none() {
                return Err(fail("has no check, and does not say what is not shown"));
            }
            let checks = written.checks.iter().map(|check| check.parse().map_err(|why| fail(&why)));
            let checks = checks.collect::<Result<_, _>>()?;
            let Written { id, source, states, not_shown, .. } = written;
            Ok(Control { id, source, states, checks, not_shown })
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    control: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    source: String,
    states: String,
    #[serde(default)]
    checks: Vec<WrittenCheck>,
    not_shown: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCheck {
    question: Option<String>,
    expects: Option<Expects>,
    of: Option<Of>,
    verify: Option<VerifyWhat>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
enum Expects {
    #[serde(rename = "no rows")]
    NoRows,
    #[serde(rename = "information")]
    Information,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum VerifyWhat {
    All,
}

impl WrittenCheck {
    fn parse(&self) -> Result<Check, String> {
        let Self { question, expects, of, verify } = self;
        match (question, expects, of, verify) {
            (Some(name), Some(expects), Some(of), None) => {
                let question = questions::named(name).map_err(|error| error.to_string())?;
                let untold = |a: &questions::Argument| {
                    a.default.is_none() || !["from", "to"].contains(&a.name.as_str())
                };
                if question.arguments.iter().any(untold) {
                    return Err(format!("`{name}` must be told more than days"));
                }
                let expects_none = *expects == Expects::NoRows;
                Ok(Check::Question { name: name.clone(), expects_none, of: *of })
            }
            (None, None, None, Some(VerifyWhat::All)) => Ok(Check::Verify),
            _ => Err("a check is `question`, `expects` and `of`, or `verify`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_controls_can_be_asked_and_claim_no_period() {
        let controls = read(SHIPPED).unwrap();
        assert!(controls.len() >= 30, "{}", controls.len());
        // Handbooks of examiners name no number of years.
        for years in ["year", "month", " days"] {
            let is_said = |c: &&Control| {
                c.states.contains(years) || c.not_shown.as_deref().unwrap_or("").contains(years)
            };
            assert_eq!(controls.iter().find(is_said), None, "{years}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let error = |checks: &str| {
            let text = format!("[[control]]\nid = \"a\"\nsource = \"s\"\nstates = \"t\"\n{checks}");
            read(&text).unwrap_err().to_string()
        };
        for (checks, why) in [
            ("", "has no check"),
            (
                "checks = [{ question = \"nothing\", expects = \"no rows\", of = \"events\" }]",
                "no question",
            ),
            (
                "checks = [{ question = \"session\", expects = \"no rows\", of = \"events\" }]",
                "must be told",
            ),
            ("checks = [{ question = \"gaps\", of = \"events\" }]", "a check is"),
            (
                "checks = [{ question = \"gaps\", expects = \"some\", of = \"events\" }]",
                "unknown variant",
            ),
            ("checks = [{ verify = \"all\", expects = \"no rows\" }]", "a check is"),
            ("passed = true", "unknown field"),
        ] {
            assert!(error(checks).contains(why), "{checks}: {}", error(checks));
        }
    }
}
