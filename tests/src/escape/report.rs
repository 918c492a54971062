//! What is shown of the attempts: a table for people, JSON for programs, and whether all is as expected.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Level, Seen};

/// What became of one attempt at one level.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub attempt: String,
    /// What held the agent.
    pub level: Level,
    /// The kernel's release.
    pub kernel: String,
    /// What should become of it.
    pub expected: Seen,
    /// What became of it.
    pub seen: Seen,
    /// What the attempt said itself.
    pub note: String,
}

impl Row {
    /// Whether it went as expected.
    pub fn is_right(&self) -> bool {
        self.seen == self.expected
    }

    /// Whether this kernel could not show it: neither right nor wrong.
    pub fn is_unproven(&self) -> bool {
        self.seen == Seen::Unproven
    }
}

/// Answers the rows as `{"rows":[{"attempt","level","kernel","expected","seen"}]}`.
pub fn to_json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let Row { attempt, level, kernel, expected, seen, note: _ } = row;
        json!({
            "attempt": attempt,
            "level": level.to_string(),
            "kernel": kernel,
            "expected": expected.to_string(),
            "seen": seen.to_string(),
        })
    };
    json!({ "rows": rows.iter().map(row).collect::<Vec<_>>() })
}

/// Reads what [`to_json`] wrote; notes are not part of it.
///
/// # Errors
/// If it is something else.
pub fn from_json(text: &str) -> Result<Vec<Row>> {
    let value: Value = serde_json::from_str(text).context("the rows are not JSON")?;
    let rows = value.get("rows").and_then(Value::as_array).context("there are no rows")?;
    rows.iter().map(row_of).collect()
}

fn row_of(value: &Value) -> Result<Row> {
    let text = |name: &str| {
        value.get(name).and_then(Value::as_str).with_context(|| format!("no {name} in {value}"))
    };
    Ok(Row {
        attempt: text("attempt")?.to_owned(),
        level: text("level")?.parse()?,
        kernel: text("kernel")?.to_owned(),
        expected: text("expected")?.parse()?,
        seen: text("seen")?.parse()?,
        note: String::new(),
    })
}

/// Answers one line of the table.
pub fn line(row: &Row) -> String {
    let Row { attempt, level, kernel, expected, seen, note } = row;
    let mark = if row.is_right() || row.is_unproven() { "" } else { "   <-- WRONG" };
    let mut line = format!("{attempt:<28} {level:<5} {kernel:<22} {expected:<10} {seen:<10}{mark}");
    if !row.is_right() && !note.is_empty() {
        write!(line, "  {note}").ok();
    }
    line
}

/// The table's head.
pub fn head() -> String {
    format!("{:<28} {:<5} {:<22} {:<10} {:<10}", "attempt", "level", "kernel", "expected", "seen")
}

/// Answers a line for each kernel and level there are rows of: how many, how many differ from what is expected, and
/// which the kernel could not show.
pub fn summary(rows: &[Row]) -> Vec<String> {
    let mut groups: Vec<(&str, Level)> =
        rows.iter().map(|r| (r.kernel.as_str(), r.level)).collect();
    groups.dedup();
    let line = |(kernel, level): &(&str, Level)| {
        let of: Vec<&Row> =
            rows.iter().filter(|r| r.kernel == *kernel && r.level == *level).collect();
        let count = |seen: Seen| of.iter().filter(|r| r.seen == seen).count();
        let differ = of.iter().filter(|r| !r.is_right() && !r.is_unproven()).count();
        let unproven = of.iter().filter(|r| r.is_unproven()).map(|r| r.attempt.as_str());
        let unproven: Vec<&str> = unproven.collect();
        let shown = if unproven.is_empty() { "none".to_owned() } else { unproven.join(", ") };
        format!(
            "{kernel} {level}: {} rows: {} refused, {} proxied, {} contained, {} allowed; {differ} differ; unproven: {shown}",
            of.len(),
            count(Seen::Refused),
            count(Seen::Proxied),
            count(Seen::Contained),
            count(Seen::Allowed),
        )
    };
    groups.iter().map(line).collect()
}

/// Answers what is wrong with the rows: one that differs, or one that no kernel of theirs could show.
pub fn wrong(rows: &[Row]) -> Vec<String> {
    let differs = rows.iter().filter(|row| !row.is_right() && !row.is_unproven());
    let mut wrong: Vec<String> = differs
        .map(|r| {
            format!("{} at {} on {}: {}, not {}", r.attempt, r.level, r.kernel, r.seen, r.expected)
        })
        .collect();
    wrong.extend(
        unproven(rows)
            .into_iter()
            .map(|(attempt, level)| format!("{attempt} at {level}: no kernel here could show it")),
    );
    wrong
}

/// Answers the attempts that no row proves.
pub fn unproven(rows: &[Row]) -> Vec<(String, Level)> {
    let is_shown = |row: &Row| {
        rows.iter().any(|r| r.attempt == row.attempt && r.level == row.level && !r.is_unproven())
    };
    let mut missing: Vec<(String, Level)> =
        rows.iter().filter(|r| !is_shown(r)).map(|r| (r.attempt.clone(), r.level)).collect();
    missing.dedup();
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(attempt: &str, kernel: &str, seen: Seen) -> Row {
        let (level, expected) = (Level::A1, Seen::Refused);
        let (attempt, kernel) = (attempt.to_owned(), kernel.to_owned());
        Row { attempt, level, kernel, expected, seen, note: String::new() }
    }

    #[test]
    fn rows_survive_json_with_these_keys_alone() {
        let text = to_json(&[row("tcp4", "6.1", Seen::Proxied)]).to_string();
        // Whether keys keep their order depends on what else is built with serde_json.
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let wanted = r#"{"rows":[{"attempt":"tcp4","level":"A1","kernel":"6.1","expected":"refused","seen":"proxied"}]}"#;
        assert_eq!(value, serde_json::from_str::<serde_json::Value>(wanted).unwrap());
        let back = from_json(&text).unwrap();
        assert_eq!((back.len(), back[0].seen, back[0].level), (1, Seen::Proxied, Level::A1));
        assert!(from_json(r#"{"rows":[{"attempt":"x"}]}"#).is_err());
    }

    #[test]
    fn a_summary_counts_by_kernel_and_level() {
        let rows = [
            row("a", "6.1", Seen::Refused),
            row("b", "6.1", Seen::Unproven),
            row("a", "7", Seen::Allowed),
        ];
        assert_eq!(
            summary(&rows),
            [
                "6.1 A1: 2 rows: 1 refused, 0 proxied, 0 contained, 0 allowed; 0 differ; unproven: b",
                "7 A1: 1 rows: 0 refused, 0 proxied, 0 contained, 1 allowed; 1 differ; unproven: none",
            ]
        );
    }

    #[test]
    fn what_differs_and_what_nobody_showed_is_wrong() {
        assert!(wrong(&[row("a", "6.1", Seen::Refused)]).is_empty());
        assert_eq!(wrong(&[row("a", "6.1", Seen::Allowed)]).len(), 1);
        assert_eq!(wrong(&[row("a", "6.1", Seen::Proxied)]).len(), 1);
        assert_eq!(wrong(&[row("a", "6.1", Seen::Unproven)]).len(), 1);
        // Another kernel shows it.
        assert!(wrong(&[row("a", "6.1", Seen::Unproven), row("a", "7", Seen::Refused)]).is_empty());
    }
}
