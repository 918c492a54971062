//! A person's answer by the page of a request.

use std::sync::Arc;

use approval::VoteError;
use approval::vote::{Answer, REASON_BYTES_MAX, Vote, Voted};
use axum::Form;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use types::id::RequestId;

use super::request;
use crate::refusal::Refusal;
use crate::signed::{Signed, own_form};
use crate::state::State;

/// What the form sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Answered {
    csrf: String,
    shown: String,
    answer: String,
    #[serde(default)]
    reason: String,
}

/// `POST /approvals/{id}/vote`.
pub(crate) async fn take(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    Form(Answered { csrf, shown, answer, reason }): Form<Answered>,
) -> Result<Response, Refusal> {
    own_form(&state, &signed, &headers, &csrf, "/approvals/vote").await?;
    let answer = match answer.as_str() {
        "approve" => Answer::Approve,
        "deny" => Answer::Deny,
        // Breaking the glass has a page of its own.
        _ => return Err(Refusal::told(StatusCode::BAD_REQUEST, "An answer is approve or deny.")),
    };
    cast(&state, &signed, &id, (answer, reason, shown)).await
}

/// Has the desk take a vote; the page that comes after it.
pub(crate) async fn cast(
    state: &State,
    signed: &Signed,
    id: &str,
    (answer, reason, shown_sha256): (Answer, String, String),
) -> Result<Response, Refusal> {
    let none = |_| Refusal::told(StatusCode::NOT_FOUND, "There is no such request.");
    let id: RequestId = id.parse().map_err(none)?;
    let vote = Vote {
        approver: signed.approver(),
        answer,
        reason: reason.trim().replace("\r\n", "\n"),
        at_us: state.now().unix_us,
        way: "console".to_owned(),
        from: signed.from.to_string(),
        shown_sha256,
    };
    let voted = state.parts.desk.vote(id, vote).await;
    match voted.map_err(|error| Refusal::failed(error.to_string()))? {
        Ok(voted) => {
            let told = match voted {
                Voted::Already => "already",
                Voted::Counted => "counted",
                Voted::Granted => "granted",
                Voted::Refused => "refused",
                Voted::Kept => "kept",
            };
            Ok(Redirect::to(&format!("/approvals/{id}?told={told}")).into_response())
        }
        Err(error) => {
            // The desk has it recorded.
            let why = error.to_string();
            let standing = request::find(state, &id.to_string()).await?;
            let wrong = (vote_status(&error), format!("Your answer does not count: {why}."));
            request::render(state, signed, &standing, None, Some(wrong)).await
        }
    }
}

/// HTTP's word for why a vote does not count.
pub(crate) fn vote_status(error: &VoteError) -> StatusCode {
    match error {
        VoteError::NotFound => StatusCode::NOT_FOUND,
        VoteError::Over(_) | VoteError::Otherwise | VoteError::ShownDiffers => StatusCode::CONFLICT,
        VoteError::Involved(_) | VoteError::NotApprover(_) | VoteError::NotBreaker(_) => {
            StatusCode::FORBIDDEN
        }
        VoteError::NotRecorded(_) => StatusCode::SERVICE_UNAVAILABLE,
        VoteError::Reason => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// A form's reason: three bytes for each where all are escaped, and the other fields.
pub(crate) const FORM_BYTES_MAX: usize = 3 * REASON_BYTES_MAX + 2_048;
