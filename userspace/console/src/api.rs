//! The API of programs, `/api/v1`: what `docs/openapi.json` says, which is served with it.
//!
//! A program comes with an access token of a person's; it has no cookie, and pages have no token.

mod approvals;
mod called;
mod changes;
mod problem;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::state::State;
pub(crate) use problem::Problem;

/// What the API is, for programs.
const DOCUMENT: &str = include_str!("../../../docs/openapi.json");

/// Its part of the routes.
pub(crate) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/openapi.json", get(document).fallback(get_alone))
        .route("/approvals", get(approvals::list).fallback(get_alone))
        .route("/approvals/{id}", get(approvals::show).fallback(get_alone))
        .route("/approvals/{id}/votes", post(approvals::vote).fallback(post_alone))
        .route("/changes", get(changes::wait).fallback(get_alone))
        .fallback(nowhere)
}

async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

async fn nowhere() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no_such_place", "there is nothing at this address")
}

async fn get_alone() -> Response {
    only("GET, HEAD")
}

async fn post_alone() -> Response {
    only("POST")
}

fn only(methods: &'static str) -> Response {
    let words = format!("only {methods} here");
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", words);
    ([(ALLOW, methods)], problem).into_response()
}
