//! `report.html`: a page that needs nothing but itself.

use askama::Template;
use journal::row::{EventRow, SessionRow};

use super::claims::Claim;
use super::collect::{Case, LISTED_MAX};
use super::{KitError, LogEntry};
use crate::json;

/// How many parts the time from the first command to the last is drawn in.
const PARTS: u8 = 60;

/// Bars of one chart: what is beyond stands in the rows.
const BARS_MAX: usize = 12;

#[derive(Template)]
#[template(path = "kit.html")]
struct Page<'a> {
    made: String,
    sessions: Vec<SessionShown>,
    claims: Vec<Claim>,
    decisions: Vec<Bar>,
    masked: Vec<Bar>,
    times: Vec<Column>,
    lines: Vec<Line<'a>>,
    unlisted: u64,
    logs: &'a [LogEntry],
    rows: Vec<(&'static str, u64)>,
}

struct SessionShown {
    id: String,
    facts: Vec<(&'static str, String)>,
}

/// A bar of a chart, in its own words.
struct Bar {
    name: String,
    count: u64,
    /// Of 400.
    width: u64,
    y: usize,
}

/// A part of the time, drawn upwards: what was let through, and on it what was refused.
struct Column {
    x: usize,
    let_y: u64,
    let_height: u64,
    refused_y: u64,
    refused_height: u64,
}

struct Line<'a> {
    event: &'a EventRow,
    id: String,
    ts: String,
    rows: String,
    masked: String,
}

/// The report.
pub(super) fn html(case: &Case, logs: &[LogEntry], now_us: i64) -> Result<String, KitError> {
    let mut all: u64 = 0;
    let mut sessions = Vec::new();
    for (session, present) in case.present() {
        all += u64::try_from(*present).unwrap_or(0);
        if case.is_open(session) {
            let open = "open when the archive was sealed: it may go on".to_owned();
            let facts = vec![("State", open), ("Commands", present.to_string())];
            sessions.push(SessionShown { id: session.clone(), facts });
        }
    }
    sessions.extend(case.sessions.iter().map(shown));
    let page = Page {
        made: json::time(now_us),
        claims: case.counts.claims(sessions.len()),
        sessions,
        decisions: bars(case.counts.decisions.iter()),
        masked: bars(case.counts.masked.iter()),
        times: columns(&case.listed),
        lines: case.listed.iter().map(line).collect(),
        unlisted: all.saturating_sub(LISTED_MAX as u64),
        logs,
        rows: case.rows.iter().map(|(table, count)| (*table, *count)).collect(),
    };
    Ok(page.render()?)
}

fn shown(row: &SessionRow) -> SessionShown {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let pair = |left: &Option<String>, right: &Option<String>, between: &str| {
        let parts: Vec<&str> = [left, right].into_iter().flatten().map(String::as_str).collect();
        parts.join(between)
    };
    let process = row.process_path.clone().or_else(|| row.process_comm.clone());
    let port = row.dst_port.map(|port| port.to_string());
    let facts = [
        ("Agent", format!("{} ({})", row.agent_id, row.agent_instance)),
        ("Acting through", row.agent_chain.join(" → ")),
        ("For the person", text(&row.actor_user)),
        ("Known to the issuer as", pair(&row.actor_sub, &row.actor_idp, "@")),
        ("Proven by", text(&row.authn_method)),
        ("Answered for by", text(&row.agent_owner)),
        ("Host", row.node_id.clone()),
        ("Process", format!("{} (pid {})", text(&process), row.pid.unwrap_or(0))),
        ("Executable’s SHA-256", text(&row.process_exe_sha256)),
        ("Command line", text(&row.command_line)),
        ("Held at level", row.assurance.clone()),
        ("Target", format!("{} ({})", row.target_name, row.protocol)),
        ("Address", pair(&row.dst_ip, &port, " port ")),
        ("Database", text(&row.target_db)),
        ("Account", text(&row.target_account)),
        ("Injected credential", text(&row.credential_ref)),
        ("TLS to the target", text(&row.tls_version)),
        ("Opened", json::time(row.opened_at.0)),
        ("Closed", row.closed_at.map(|at| json::time(at.0)).unwrap_or_default()),
        ("Ended by", text(&row.close_reason)),
        ("Commands declared", row.events_declared.to_string()),
    ];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    SessionShown { id: row.session_id.clone(), facts }
}

fn line(event: &EventRow) -> Line<'_> {
    Line {
        event,
        id: format!("{}/{}/{}", event.session.node_id, event.session.log_epoch, event.seq.0),
        ts: json::time(event.ts.0),
        rows: event.rows.map(|rows| rows.to_string()).unwrap_or_default(),
        masked: event.masked_count.to_string(),
    }
}

fn bars<'a>(counts: impl Iterator<Item = (&'a String, &'a u64)>) -> Vec<Bar> {
    let mut counts: Vec<_> = counts.collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let most = counts.first().map_or(1, |(_, count)| (**count).max(1));
    let bar = |(at, (name, count)): (usize, (&String, &u64))| Bar {
        name: name.clone(),
        count: *count,
        width: (count.saturating_mul(400) / most).max(2),
        y: at * 26,
    };
    counts.into_iter().take(BARS_MAX).enumerate().map(bar).collect()
}

/// The commands that are listed over the time from the first to the last; of 100 high.
fn columns(events: &[EventRow]) -> Vec<Column> {
    let first = events.iter().map(|event| event.ts.0).min().unwrap_or(0);
    let last = events.iter().map(|event| event.ts.0).max().unwrap_or(0);
    let part = ((last - first) / i64::from(PARTS)).max(0) + 1;
    let mut counts = [(0_u64, 0_u64); PARTS as usize];
    for event in events {
        let at = usize::try_from((event.ts.0 - first) / part).unwrap_or(0);
        if let Some((let_through, refused)) = counts.get_mut(at) {
            let count = if event.decision == "deny" { refused } else { let_through };
            *count += 1;
        }
    }
    let most = counts.iter().map(|(a, b)| a + b).max().unwrap_or(1).max(1);
    let column = |(at, (through, refused)): (usize, &(u64, u64))| {
        let (let_height, refused_height) = (through * 100 / most, refused * 100 / most);
        let let_y = 100 - let_height;
        Column { x: at * 10, let_y, let_height, refused_y: let_y - refused_height, refused_height }
    };
    counts.iter().enumerate().map(column).collect()
}
