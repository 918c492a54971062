//! Waiting for something to happen.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Problem;
use super::called::Called;
use crate::state::State;

/// Seconds that a program waits where it does not say, and at most.
const WAIT_S: u64 = 25;
const WAIT_S_MAX: u64 = 30;

/// What was seen, and how long to wait for more.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Waiting {
    seen: Option<u64>,
    wait_s: Option<u64>,
}

/// The number to see next.
#[derive(Debug, Serialize)]
pub(crate) struct Changed {
    seen: u64,
}

/// `GET /api/v1/changes`: answers once something changed after `seen`, or the time is over.
pub(crate) async fn wait(
    Shared(state): Shared<Arc<State>>,
    _: Called,
    waiting: Result<Query<Waiting>, QueryRejection>,
) -> Result<Json<Changed>, Problem> {
    let Query(Waiting { seen, wait_s }) = waiting?;
    let (seen, wait_s) = (seen.unwrap_or(0), wait_s.unwrap_or(WAIT_S));
    // The document says int64, which programs of any language have.
    if wait_s > WAIT_S_MAX || i64::try_from(seen).is_err() {
        let detail = format!("wait_s: at most {WAIT_S_MAX}; seen: what was answered before");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "query", detail));
    }
    let place = Arc::clone(&state.waiters).try_acquire_owned();
    let _place = place.map_err(|_| Problem::unavailable("too many programs wait"))?;
    let changed = state.parts.desk.changed(seen);
    let changed = tokio::time::timeout(Duration::from_secs(wait_s), changed).await;
    Ok(Json(Changed { seen: changed.unwrap_or(seen) }))
}
