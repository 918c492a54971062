//! Breaking the glass: a page of its own, and a word of one's own that it is meant.

use std::sync::Arc;

use approval::desk::Standing;
use approval::shown::shown_sha256;
use approval::vote::Answer;
use askama::Template;
use axum::Form;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::request::{facts, find, may};
use super::{Fact, Frame, page, vote};
use crate::html::{Html, statement, text};
use crate::refusal::Refusal;
use crate::signed::{Signed, own_form};
use crate::state::State;

#[derive(Template)]
#[template(path = "break_glass.html")]
struct BreakGlassPage {
    frame: Frame,
    id: String,
    wrong: Option<&'static str>,
    statement: Html,
    parameters: Vec<Html>,
    facts: Vec<Fact>,
    shown: String,
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Broken {
    csrf: String,
    shown: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    sure: String,
}

/// `GET /approvals/{id}/break-glass`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let standing = find(&state, &id).await?;
    render(&state, &signed, &standing, None)
}

/// `POST /approvals/{id}/break-glass`.
pub(crate) async fn take(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    Form(Broken { csrf, shown, reason, sure }): Form<Broken>,
) -> Result<Response, Refusal> {
    own_form(&state, &signed, &headers, &csrf, "/approvals/break-glass").await?;
    if sure != "yes" || reason.trim().is_empty() {
        let standing = find(&state, &id).await?;
        let wrong = "Say what the emergency is, and that you mean it.";
        return render(&state, &signed, &standing, Some(wrong));
    }
    vote::cast(&state, &signed, &id, (Answer::BreakGlass, reason, shown)).await
}

fn render(
    state: &State,
    signed: &Signed,
    standing: &Standing,
    wrong: Option<&'static str>,
) -> Result<Response, Refusal> {
    let request = &standing.request;
    let (_, may_break) = may(signed, standing);
    if !may_break || standing.ended.is_some() {
        let words = "You can't break the glass for this request, or it is over.";
        return Err(Refusal::told(StatusCode::FORBIDDEN, words));
    }
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let template = BreakGlassPage {
        frame: Frame::of(state, signed, "approvals", "Break the glass"),
        id: request.id.to_string(),
        wrong,
        statement: statement(&request.text, &request.target.protocol),
        parameters: request.parameters.iter().map(|one| text(one)).collect(),
        facts: facts(request, state.now().unix_us),
        shown: shown_sha256(request),
    };
    Ok(page(status, &template))
}
