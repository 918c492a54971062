//! Sessions that are open.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::{Frame, count, page};
use crate::html::{Html, text};
use crate::refusal::Refusal;
use crate::signed::Signed;
use crate::state::State;
use crate::surroundings::{OpenSession, Sessions};
use crate::times::When;

/// Sessions on the page; the archive's search has the rest, once they ended.
const SHOWN_MAX: usize = 200;

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    frame: Frame,
    told: Option<&'static str>,
    count_words: String,
    may_kill: bool,
    sessions: Vec<Line>,
}

struct Line {
    session: String,
    agent: Html,
    target: Html,
    user: Option<Html>,
    chain: Html,
    pid: u32,
    opened: When,
    commands: u64,
    last: When,
}

/// What was done, for the page that comes after it.
#[derive(Debug, Deserialize)]
pub(crate) struct After {
    told: Option<String>,
}

/// `GET /sessions`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Query(After { told }): Query<After>,
) -> Result<Response, Refusal> {
    let (open, total) = here(&state)?.list(SHOWN_MAX);
    let now_us = state.now().unix_us;
    let told = (told.as_deref() == Some("ended")).then_some("The session is ended.");
    let mut count_words = count(u64::try_from(total).unwrap_or(u64::MAX), "open session") + ".";
    if total > open.len() {
        count_words = format!("{count_words} The newest {} are shown.", open.len());
    }
    let template = SessionsPage {
        frame: Frame::of(&state, &signed, "sessions", "Sessions"),
        told,
        count_words,
        may_kill: signed.is_in(&state.options.end_groups),
        sessions: open.iter().map(|one| Line::of(one, now_us)).collect(),
    };
    Ok(page(StatusCode::OK, &template))
}

/// The sessions here; a hub has none.
pub(crate) fn here(state: &State) -> Result<&dyn Sessions, Refusal> {
    let none =
        || Refusal::told(StatusCode::NOT_FOUND, "There are no sessions here: ask their host.");
    state.parts.surroundings.sessions().ok_or_else(none)
}

impl Line {
    fn of(open: &OpenSession, now_us: i64) -> Self {
        Self {
            session: open.session.clone(),
            agent: text(&open.agent),
            target: text(&open.target),
            user: open.user.as_deref().map(text),
            chain: text(&open.chain.join(" > ")),
            pid: open.pid,
            opened: When::new(open.opened_us, now_us),
            commands: open.commands,
            last: When::new(open.last_us, now_us),
        }
    }
}
