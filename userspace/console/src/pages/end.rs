//! Ending a session: by whom and why is recorded before it ends.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::sessions::here;
use super::{Fact, Frame, or_dash, page};
use crate::html::{Html, text};
use crate::refusal::Refusal;
use crate::signed::{Signed, own_form};
use crate::state::State;
use crate::surroundings::{By, OpenSession};
use crate::times::When;

#[derive(Template)]
#[template(path = "end.html")]
struct EndPage {
    frame: Frame,
    wrong: Option<&'static str>,
    session: String,
    facts: Vec<Fact>,
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Ended {
    csrf: String,
    #[serde(default)]
    reason: String,
}

/// `GET /sessions/{id}/end`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    may(&state, &signed)?;
    render(&state, &signed, &id, None)
}

/// `POST /sessions/{id}/end`.
pub(crate) async fn take(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    Form(Ended { csrf, reason }): Form<Ended>,
) -> Result<Response, Refusal> {
    own_form(&state, &signed, &headers, &csrf, "/sessions/end").await?;
    if let Err(refusal) = may(&state, &signed) {
        let path = format!("/sessions/{id}/end");
        state.refused("may_not_end", Some(signed.person()), signed.from, &path).await;
        return Err(refusal);
    }
    let reason = reason.trim();
    if reason.is_empty() || reason.len() > approval::vote::REASON_BYTES_MAX {
        return render(&state, &signed, &id, Some("A reason of 1 to 1000 bytes is needed."));
    }
    let by = By {
        user: signed.subject.user.as_ref().to_owned(),
        person: signed.person(),
        from: signed.from.to_string(),
        reason: reason.to_owned(),
    };
    let ended = here(&state)?.end(&id, &by).await;
    if ended.map_err(|error| Refusal::failed(error.to_string()))? {
        return Ok(Redirect::to("/sessions?told=ended").into_response());
    }
    Err(gone())
}

fn render(
    state: &State,
    signed: &Signed,
    id: &str,
    wrong: Option<&'static str>,
) -> Result<Response, Refusal> {
    let open = here(state)?.get(id).ok_or_else(gone)?;
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let template = EndPage {
        frame: Frame::of(state, signed, "sessions", "End a session"),
        wrong,
        session: open.session.clone(),
        facts: facts(&open, state.now().unix_us),
    };
    Ok(page(status, &template))
}

fn may(state: &State, signed: &Signed) -> Result<(), Refusal> {
    let words = "You are in none of the groups that may end sessions.";
    let may = signed.is_in(&state.options.end_groups);
    may.then_some(()).ok_or_else(|| Refusal::told(StatusCode::FORBIDDEN, words))
}

fn gone() -> Refusal {
    Refusal::told(StatusCode::NOT_FOUND, "There is no open session of that id.")
}

/// An open session, in words.
pub(crate) fn facts(open: &OpenSession, now_us: i64) -> Vec<Fact> {
    let OpenSession {
        session,
        opened_us,
        agent,
        instance,
        chain,
        user,
        person,
        owner,
        pid,
        target,
        database,
        account,
        commands,
        last_us,
    } = open;
    let whom = match (user, person) {
        (Some(user), Some(person)) => format!("{user} ({person})"),
        _ => "-".to_owned(),
    };
    let dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        ("Agent", text(&format!("{agent} {instance}"))),
        ("For", text(&whom)),
        ("Chain", text(&chain.join(" > "))),
        ("Answers for it", or_dash(owner.as_deref())),
        ("Process", text(&pid.to_string())),
        ("Target", text(target)),
        ("Database", text(&format!("{} as {}", dash(database), dash(account)))),
        ("Open since", Html::of_when(When::new(*opened_us, now_us))),
        ("Commands", text(&commands.to_string())),
        ("The last one", Html::of_when(When::new(*last_us, now_us))),
        ("Session", text(session)),
    ]
}
