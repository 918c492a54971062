//! One session from its first command to its last: what was asked, decided and answered, and how long each took.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Fact, Frame, or_dash, page};
use crate::html::{Html, statement, text};
use crate::refusal::Refusal;
use crate::signed::Signed;
use crate::state::State;
use crate::surroundings::{OpenSession, PastCommand, Replay};
use crate::times::{When, span};

#[derive(Template)]
#[template(path = "replay.html")]
struct ReplayPage {
    frame: Frame,
    session: String,
    is_open: bool,
    may_kill: bool,
    is_cut: Option<String>,
    facts: Vec<Fact>,
    commands: Vec<Step>,
}

struct Step {
    number: u32,
    verb: Html,
    decision: Html,
    status: Html,
    at: When,
    after: String,
    statement: Html,
    parameters: Option<Html>,
    outcome: Html,
    timing: String,
    bars: Vec<(&'static str, u64, u64)>,
    rule: Html,
    reason: Html,
    approval: Option<String>,
    approver: Option<Html>,
}

/// `GET /sessions/{id}`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let none = || Refusal::told(StatusCode::NOT_FOUND, "Nothing is known of that session.");
    let is_id = id.len() == 36 && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if !is_id {
        return Err(none());
    }
    let open = state.parts.surroundings.sessions().and_then(|sessions| sessions.get(&id));
    let replay = match state.parts.surroundings.past() {
        Some(past) => {
            let _place = place(&state).await?;
            let replay = past.replay(id.clone()).await;
            replay.map_err(|error| Refusal::failed(error.to_string()))?
        }
        None => None,
    };
    if open.is_none() && replay.is_none() {
        return Err(none());
    }
    let replay = replay.unwrap_or_default();
    let began_us = open.as_ref().map(|open| open.opened_us).or(replay.opened_us);
    let began_us = began_us.or(replay.commands.first().map(|one| one.at_us)).unwrap_or(0);
    let now_us = state.now().unix_us;
    let steps = replay.commands.iter().map(|one| Step::of(one, began_us, now_us)).collect();
    let template = ReplayPage {
        frame: Frame::of(&state, &signed, "sessions", "Session"),
        is_open: open.is_some(),
        may_kill: signed.is_in(&state.options.end_groups),
        is_cut: replay.is_cut.clone(),
        facts: facts(&id, open.as_ref(), &replay, now_us),
        commands: steps,
        session: id,
    };
    Ok(page(StatusCode::OK, &template))
}

/// A place among those who read files.
pub(crate) async fn place(state: &State) -> Result<tokio::sync::OwnedSemaphorePermit, Refusal> {
    let place = Arc::clone(&state.searches).acquire_owned().await;
    place.map_err(|_| Refusal::failed("The console ends."))
}

fn facts(id: &str, open: Option<&OpenSession>, replay: &Replay, now_us: i64) -> Vec<Fact> {
    if let Some(open) = open {
        return super::end::facts(open, now_us);
    }
    let Replay { session: _, agent, user, target, opened_us, closed_us, close_reason, .. } = replay;
    let when = |at_us: &Option<i64>| match at_us {
        Some(at_us) => Html::of_when(When::new(*at_us, now_us)),
        None => text("-"),
    };
    vec![
        ("Agent", text(agent)),
        ("For", or_dash(user.as_deref())),
        ("Target", text(target)),
        ("Opened", when(opened_us)),
        ("Ended", when(closed_us)),
        ("Because", or_dash(close_reason.as_deref())),
        ("Session", text(id)),
    ]
}

impl Step {
    fn of(command: &PastCommand, began_us: i64, now_us: i64) -> Self {
        let shown = command.text.as_deref().unwrap_or(&command.statement);
        let (timing, bars) = timing(command);
        Self {
            number: command.number,
            verb: text(if command.verb.is_empty() { &command.kind } else { &command.verb }),
            decision: text(&command.decision),
            status: text(&command.status),
            at: When::new(command.at_us, now_us),
            after: span(command.at_us.abs_diff(began_us)),
            statement: statement(shown, &command.protocol),
            parameters: command.parameters.as_deref().map(text),
            outcome: text(&outcome(command)),
            timing,
            bars,
            rule: text(&command.rule),
            reason: text(&command.reason),
            approval: command.approval.clone(),
            approver: command.approver.as_deref().map(text),
        }
    }
}

/// What came of a command, in a line.
pub(crate) fn outcome(command: &PastCommand) -> String {
    let mut parts = vec![command.status.clone()];
    parts.extend(command.error.as_ref().map(|error| format!("error {error}")));
    parts.extend(command.rows.map(|rows| format!("{rows} rows")));
    if command.masked > 0 {
        parts.push(format!("{} values masked", command.masked));
    }
    parts.extend(command.duration_us.map(|us| span(us.unsigned_abs())));
    parts.join(", ")
}

/// Where a command's time went, in words and as parts of a hundred.
fn timing(command: &PastCommand) -> (String, Vec<(&'static str, u64, u64)>) {
    let us = |value: Option<i64>| value.map_or(0, i64::unsigned_abs);
    let parts = [
        ("decided", "to decide", us(command.decided_us)),
        ("held", "held for approval", us(command.held_us)),
        ("upstream", "at the server", us(command.upstream_us)),
    ];
    let known: u64 = parts.iter().map(|(.., us)| us).sum();
    let all = us(command.duration_us).max(known).max(1);
    let mut bars = Vec::new();
    let (mut words, mut x) = (Vec::new(), 0);
    for (class, name, us) in parts.into_iter().filter(|(.., us)| *us > 0) {
        let width = (us.saturating_mul(100) / all).max(1).min(100 - x);
        bars.push((class, x, width));
        x += width;
        words.push(format!("{} {name}", span(us)));
    }
    bars.push(("rest", x, 100 - x));
    (words.join(", "), bars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_time_is_a_hundred_parts() {
        let command = PastCommand {
            duration_us: Some(1_000),
            decided_us: Some(100),
            held_us: Some(500),
            upstream_us: Some(300),
            ..PastCommand::default()
        };
        let (words, bars) = timing(&command);
        assert_eq!(words, "100 µs to decide, 500 µs held for approval, 300 µs at the server");
        let expected =
            [("decided", 0, 10), ("held", 10, 50), ("upstream", 60, 30), ("rest", 90, 10)];
        assert_eq!(bars, expected);
        let (words, bars) = timing(&PastCommand::default());
        assert_eq!((words.as_str(), bars), ("", vec![("rest", 0, 100)]));
        let odd = PastCommand { upstream_us: Some(9), decided_us: Some(i64::MAX), ..command };
        let sum: u64 = timing(&odd).1.iter().map(|(_, _, width)| width).sum();
        assert_eq!(sum, 100);
    }
}
