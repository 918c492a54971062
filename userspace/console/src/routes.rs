//! Where everything is.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::pages::vote::FORM_BYTES_MAX;
use crate::pages::{
    approvals, archive, break_glass, end, evidence, replay, request, sessions, sign_in, vote,
};
use crate::refusal::Refusal;
use crate::state::State;
use crate::{api, assets, headers};

/// All pages. What changes something is a POST, and nothing else is.
pub(crate) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/", get(approvals::first))
        .route("/approvals", get(approvals::show))
        .route("/approvals/list", get(approvals::list))
        .route("/approvals/{id}", get(request::show))
        .route("/approvals/{id}/vote", post(vote::take))
        .route("/approvals/{id}/break-glass", get(break_glass::show).post(break_glass::take))
        .route("/sessions", get(sessions::show))
        .route("/sessions/{id}", get(replay::show))
        .route("/sessions/{id}/end", get(end::show).post(end::take))
        .route("/archive", get(archive::show))
        .route("/evidence", get(evidence::show))
        .route("/sign-in", get(sign_in::show).post(sign_in::go))
        .route("/signed-in", get(sign_in::came_back))
        .route("/sign-out", post(sign_in::leave))
        .route("/static/{name}", get(assets::file))
        .nest("/api/v1", api::router())
        .fallback(nowhere)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&state), headers::around))
        .with_state(state)
}

async fn nowhere() -> Refusal {
    Refusal::told(StatusCode::NOT_FOUND, "There is no such page.")
}
