//! A report on controls as a page that needs nothing but itself.

use askama::Template;
use serde_json::{Map, Value};

use super::{Answer, Report, Standing};

#[derive(Template)]
#[template(path = "controls.html")]
struct Page<'a> {
    report: &'a Report,
    period: String,
    totals: Vec<Total>,
    questions: Vec<Shown<'a>>,
}

struct Total {
    standing: Standing,
    count: usize,
    /// Of 400.
    width: usize,
    y: usize,
}

struct Shown<'a> {
    name: &'a str,
    answer: &'a Answer,
    columns: Vec<&'a str>,
    rows: Vec<Vec<String>>,
}

impl Standing {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::LookInto => "look into it",
            Self::NotShown => "not shown",
            Self::InPart => "shown in part",
            Self::Met => "as expected",
            Self::Information => "for information",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::LookInto => "bad",
            Self::Met => "good",
            Self::NotShown | Self::InPart | Self::Information => "plain",
        }
    }
}

/// The page.
///
/// # Errors
/// If it can't be rendered.
pub fn html(report: &Report) -> Result<String, askama::Error> {
    let period = match (&report.since, &report.until) {
        (None, None) => "all days in the archive".to_owned(),
        (Some(since), None) => format!("{since} and later"),
        (None, Some(until)) => format!("up to {until}"),
        (Some(since), Some(until)) => format!("{since} to {until}"),
    };
    let all = [
        Standing::LookInto,
        Standing::Met,
        Standing::Information,
        Standing::InPart,
        Standing::NotShown,
    ];
    let most = report.controls.len().max(1);
    let total = |(at, standing): (usize, Standing)| {
        let count = report.controls.iter().filter(|one| one.standing == standing).count();
        Total { standing, count, width: count * 400 / most, y: at * 26 }
    };
    let totals = all.into_iter().enumerate().map(total).collect();
    let questions = report.questions.iter().map(|(name, answer)| shown(name, answer)).collect();
    Page { report, period, totals, questions }.render()
}

fn shown<'a>(name: &'a str, answer: &'a Answer) -> Shown<'a> {
    let columns: Vec<&str> =
        answer.first.first().map_or_else(Vec::new, |row| row.keys().map(String::as_str).collect());
    let cell = |row: &Map<String, Value>, column: &str| match row.get(column) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let row = |row: &Map<String, Value>| columns.iter().map(|column| cell(row, column)).collect();
    Shown { name, answer, rows: answer.first.iter().map(row).collect(), columns }
}
