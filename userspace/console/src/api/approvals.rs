//! Requests, and votes on them.

use std::sync::Arc;

use approval::desk::{Standing, Which};
use approval::shown::{shown, shown_sha256};
use approval::vote::{Answer, Vote, Voted};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use types::id::RequestId;

use super::Problem;
use super::called::Called;
use crate::pages::vote::vote_status;
use crate::state::State;

/// Requests in one answer: each about 3 KiB, and its text while it waits.
const LISTED_MAX: usize = 200;

/// What is listed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    which: Option<Which>,
    most: Option<usize>,
}

/// A list.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    approvals: Vec<Shown>,
}

/// A request as it stands, with what a vote commits to.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "named as programs read them")]
pub(crate) struct Shown {
    #[serde(flatten)]
    standing: Standing,
    /// All that an approver decides on, as text.
    shown: String,
    /// Its SHA-256, which a vote carries.
    shown_sha256: String,
}

/// A vote.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cast {
    answer: Answer,
    #[serde(default)]
    reason: String,
    shown_sha256: String,
}

/// What became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Taken {
    voted: Voted,
}

impl From<Standing> for Shown {
    fn from(standing: Standing) -> Self {
        let (shown, shown_sha256) = (shown(&standing.request), shown_sha256(&standing.request));
        Self { standing, shown, shown_sha256 }
    }
}

/// `GET /api/v1/approvals`.
pub(crate) async fn list(
    Shared(state): Shared<Arc<State>>,
    _: Called,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Listed>, Problem> {
    let Query(Listing { which, most }) = listing?;
    let most = most.unwrap_or(LISTED_MAX);
    if !(1..=LISTED_MAX).contains(&most) {
        let detail = format!("most: 1 to {LISTED_MAX}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "query", detail));
    }
    let listed = state.parts.desk.list(which.unwrap_or(Which::Waiting), most).await;
    let listed = listed.map_err(|error| Problem::unavailable(error.to_string()))?;
    Ok(Json(Listed { approvals: listed.into_iter().map(Shown::from).collect() }))
}

/// `GET /api/v1/approvals/{id}`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    _: Called,
    Path(id): Path<String>,
) -> Result<Json<Shown>, Problem> {
    let found = state.parts.desk.show(request(&id)?).await;
    let found = found.map_err(|error| Problem::unavailable(error.to_string()))?;
    Ok(Json(found.ok_or_else(none)?.into()))
}

/// `POST /api/v1/approvals/{id}/votes`.
pub(crate) async fn vote(
    Shared(state): Shared<Arc<State>>,
    called: Called,
    Path(id): Path<String>,
    cast: Result<Json<Cast>, JsonRejection>,
) -> Result<Json<Taken>, Problem> {
    let id = request(&id)?;
    let Json(Cast { answer, reason, shown_sha256 }) = cast?;
    let approver = called.approver();
    state.acts.take(&approver.key(), state.now()).map_err(Problem::too_often)?;
    let vote = Vote {
        approver,
        answer,
        reason: reason.trim().to_owned(),
        at_us: state.now().unix_us,
        way: "api".to_owned(),
        from: called.from.to_string(),
        shown_sha256,
    };
    let voted = state.parts.desk.vote(id, vote).await;
    match voted.map_err(|error| Problem::unavailable(error.to_string()))? {
        Ok(voted) => Ok(Json(Taken { voted })),
        Err(error) => Err(Problem::new(vote_status(&error), code(&error), error.to_string())),
    }
}

fn code(error: &approval::VoteError) -> &'static str {
    use approval::VoteError;
    match error {
        VoteError::NotFound => "not_found",
        VoteError::Over(_) => "over",
        VoteError::Involved(_) => "involved",
        VoteError::NotApprover(_) => "not_approver",
        VoteError::NotBreaker(_) => "not_breaker",
        VoteError::Otherwise => "otherwise",
        VoteError::ShownDiffers => "shown_differs",
        VoteError::Reason => "reason",
        VoteError::NotRecorded(_) => "not_recorded",
    }
}

fn request(id: &str) -> Result<RequestId, Problem> {
    id.parse().map_err(|_| none())
}

fn none() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such request, or it is long over")
}
