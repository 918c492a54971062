//! Requests that wait, live, and those that are over.

use std::sync::Arc;

use approval::Ending;
use approval::desk::{Over, Standing, Which};
use approval::vote::Answer;
use askama::Template;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::{Frame, page};
use crate::html::{Html, text};
use crate::random::digest_text;
use crate::refusal::Refusal;
use crate::signed::Signed;
use crate::state::State;
use crate::times::When;

/// Requests on the page: more than a person can answer; the rest follows as these end.
const WAITING_SHOWN: usize = 100;

/// Those that are over.
const OVER_SHOWN: usize = 20;

/// Characters of a statement in a list.
const LINE_CHARS: usize = 200;

/// What a browser polls with.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    #[serde(default)]
    seen: String,
}

#[derive(Template)]
#[template(path = "approvals.html")]
struct ApprovalsPage {
    frame: Frame,
    list: Waiting,
    over: Vec<Line>,
}

#[derive(Template)]
#[template(path = "waiting.html")]
struct WaitingPart {
    list: Waiting,
}

#[expect(clippy::struct_field_names, reason = "named as the template says it")]
struct Waiting {
    count_words: String,
    waiting: Vec<Line>,
    seen: String,
}

/// A request in a list.
#[expect(clippy::struct_field_names, reason = "named as the template says it")]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) verb: Html,
    pub(crate) what: Html,
    pub(crate) line: Html,
    pub(crate) agent: Html,
    pub(crate) user: Option<Html>,
    pub(crate) target: Html,
    pub(crate) risks: Vec<Html>,
    pub(crate) at: When,
    pub(crate) expires: When,
    pub(crate) votes: String,
    pub(crate) state: &'static str,
    pub(crate) state_words: &'static str,
}

/// The first page.
pub(crate) async fn first() -> Redirect {
    Redirect::to("/approvals")
}

/// `GET /approvals`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
) -> Result<Response, Refusal> {
    let list = waiting(&state, &signed).await?;
    let over = state.parts.desk.list(Which::Over, OVER_SHOWN).await;
    let over = over.map_err(|error| Refusal::failed(error.to_string()))?;
    let now_us = state.now().unix_us;
    let over = over.iter().map(|standing| Line::of(standing, now_us)).collect();
    let frame = Frame::of(&state, &signed, "approvals", "Approvals");
    Ok(page(StatusCode::OK, &ApprovalsPage { frame, list, over }))
}

/// `GET /approvals/list`: what waits, if it is not what was seen.
pub(crate) async fn list(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Query(Seen { seen }): Query<Seen>,
) -> Result<Response, Refusal> {
    let list = waiting(&state, &signed).await?;
    if list.seen == seen {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(page(StatusCode::OK, &WaitingPart { list }))
}

async fn waiting(state: &State, signed: &Signed) -> Result<Waiting, Refusal> {
    let listed = state.parts.desk.list(Which::Waiting, WAITING_SHOWN + 1).await;
    let listed = listed.map_err(|error| Refusal::failed(error.to_string()))?;
    let now_us = state.now().unix_us;
    let is_more = listed.len() > WAITING_SHOWN;
    let lines = listed.iter().take(WAITING_SHOWN).map(|standing| Line::of(standing, now_us));
    let waiting: Vec<Line> = lines.collect();
    let own = listed.iter().filter(|one| has_answered(one, signed)).count();
    let number = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
    let mut count_words = match number {
        0 => "Nothing waits for an answer.".to_owned(),
        1 => "1 request waits for an answer.".to_owned(),
        _ if is_more => format!("More than {WAITING_SHOWN} requests wait for an answer."),
        _ => format!("{number} requests wait for an answer."),
    };
    if own > 0 {
        count_words = format!("{count_words} You answered {own} of them.");
    }
    let mut list = Waiting { count_words, waiting, seen: String::new() };
    // What was seen is known by its digest: hints of times change with it, once a minute.
    let rendered = WaitingPart { list: Waiting { seen: String::new(), ..list } };
    let seen = digest_text(&rendered.render().unwrap_or_default());
    list = rendered.list;
    list.seen = seen;
    Ok(list)
}

fn has_answered(standing: &Standing, signed: &Signed) -> bool {
    let approver = signed.approver();
    standing.votes.iter().any(|vote| vote.approver.key() == approver.key())
}

impl Line {
    pub(crate) fn of(standing: &Standing, now_us: i64) -> Self {
        let Standing { request, votes, grant: _, ended: _ } = standing;
        let (state, state_words) = state_of(standing);
        let statement = if request.text.is_empty() { &request.normalized } else { &request.text };
        let line: String = statement.chars().take(LINE_CHARS).collect();
        let needed: u32 = request.terms.iter().map(|terms| u32::from(terms.people)).sum();
        let approved = votes.iter().filter(|vote| vote.answer == Answer::Approve).count();
        Self {
            id: request.id.to_string(),
            verb: text(&request.verb),
            what: text(&what(&request.accesses)),
            line: text(&line),
            agent: text(&request.requester.agent),
            user: request.requester.user.as_deref().map(text),
            target: text(&request.target.name),
            risks: request.risks.iter().map(|risk| text(risk)).collect(),
            at: When::new(request.at_us, now_us),
            expires: When::new(request.expires_us, now_us),
            votes: format!("{approved} of {needed} approvals."),
            state,
            state_words,
        }
    }
}

/// What is done to what, in a line.
fn what(accesses: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut line = accesses.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = accesses.len().checked_sub(SHOWN) {
        line = format!("{line} and {more} more");
    }
    line
}

/// How a request stands: a class of the style sheet, and words.
pub(crate) fn state_of(standing: &Standing) -> (&'static str, &'static str) {
    let broken = standing.grant.as_ref().is_some_and(|grant| grant.broken_glass);
    match standing.ended.as_ref().map(|Over { how, .. }| how) {
        None => ("waits", "waits"),
        Some(Ending::Granted) if broken => ("broken", "glass broken"),
        Some(Ending::Granted) => ("granted", "approved"),
        Some(Ending::Refused) => ("refused", "denied"),
        Some(Ending::Expired) => ("expired", "expired"),
        Some(Ending::TransactionExpired) => ("expired", "expired within its transaction"),
        Some(Ending::Cancelled) => ("withdrawn", "cancelled by the agent"),
        Some(Ending::Disconnected) => ("withdrawn", "the agent went away"),
        Some(Ending::IdentityEnded) => ("withdrawn", "the agent lost access"),
        Some(Ending::Restarted) => ("withdrawn", "the daemon was started anew"),
        Some(Ending::TargetLost) => ("withdrawn", "the target went away"),
    }
}
