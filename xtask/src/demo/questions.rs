//! Five questions of an auditor, asked with DuckDB on the files as they lie.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use integration::Evidence;

use super::Story;

const QUESTIONS: &[(&str, &str)] = &[
    (
        "Who touched customers?",
        "SELECT agent_id, verb, decision, count(*) AS commands, min(ts) AS first, max(ts) AS last
FROM events
WHERE array_to_string(objects, ' ') LIKE '%customers%'
GROUP BY ALL ORDER BY commands DESC",
    ),
    (
        "What was denied, and why?",
        "SELECT ts, agent_id, verb, rule_id, error_code, statement_norm
FROM events WHERE decision = 'deny' ORDER BY ts",
    ),
    (
        "What happened in the session with the refusal?",
        "SELECT session_seq, ts, verb, decision, status, \"rows\", duration_us
FROM events
WHERE session_id = (SELECT min(session_id) FROM events WHERE decision = 'deny' AND session_id IS NOT NULL)
ORDER BY session_seq",
    ),
    (
        "Which values were masked, for whom?",
        "SELECT agent_id, m.entity, sum(m.\"count\") AS masked_values
FROM (SELECT agent_id, unnest(masked) AS m FROM events WHERE masked_count > 0)
GROUP BY ALL ORDER BY masked_values DESC",
    ),
    (
        "Every approval: who asked, who approved, after how long, what ran, rows affected?",
        "SELECT approval_ts, actor_user AS asked_by, agent_id, approver_id AS approved_by,
       date_diff('second', ts, approval_ts) AS waited_s, statement_norm AS ran, \"rows\" AS rows_affected
FROM events WHERE decision = 'approved' ORDER BY approval_ts",
    ),
];

/// Asks them and leaves them in `questions.sql`.
///
/// # Errors
/// If one finds nothing: each has something to find here.
pub(super) fn ask(story: &mut Story, evidence: &Evidence<'_>, out: &Path) -> Result<()> {
    story.chapter("An auditor asks (DuckDB, on the Parquet files as they lie)");
    let mut file = String::new();
    for (question, sql) in QUESTIONS {
        story.say(question);
        story.quote(sql);
        story.quote(&evidence.duckdb_table(sql)?);
        ensure!(!evidence.duckdb(sql)?.is_empty(), "{question} Nothing was found.");
        writeln!(file, "-- {question}\n{sql};\n").context("a string takes any text")?;
    }
    fs::write(out.join("questions.sql"), file).context("questions.sql")
}
