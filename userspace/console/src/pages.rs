//! The pages: made on the server, of templates that escape.

pub(crate) mod approvals;
pub(crate) mod archive;
pub(crate) mod break_glass;
pub(crate) mod end;
pub(crate) mod evidence;
pub(crate) mod replay;
pub(crate) mod request;
pub(crate) mod sessions;
pub(crate) mod sign_in;
pub(crate) mod vote;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html as HtmlBody, IntoResponse, Response};
use tracing::error;

use crate::html::{Html, text};
use crate::signed::Signed;
use crate::state::State;

/// What all pages have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) node: String,
    pub(crate) person: Option<Html>,
    pub(crate) csrf: String,
    pub(crate) here: &'static str,
    pub(crate) has_sessions: bool,
    pub(crate) has_past: bool,
    pub(crate) has_evidence: bool,
}

impl Frame {
    /// The frame of a page that a person is shown.
    pub(crate) fn of(state: &State, signed: &Signed, here: &'static str, title: &str) -> Self {
        let around = &state.parts.surroundings;
        Self {
            title: title.to_owned(),
            node: state.options.node.clone(),
            person: Some(text(&signed.subject.user)),
            csrf: signed.visit.csrf.as_ref().to_owned(),
            here,
            has_sessions: around.sessions().is_some(),
            has_past: around.past().is_some(),
            has_evidence: around.evidence().is_some(),
        }
    }

    /// The frame of a page that anybody is shown.
    pub(crate) fn outside(state: &State, title: &str) -> Self {
        let node = state.options.node.clone();
        Self { title: title.to_owned(), node, ..Self::default() }
    }
}

/// A page that says why there is no other.
#[derive(Template)]
#[template(path = "wrong.html")]
pub(crate) struct WrongPage {
    pub(crate) frame: Frame,
    pub(crate) wrong: String,
}

/// A page as an answer.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(body) => (status, HtmlBody(body)).into_response(),
        Err(wrong) => {
            error!(%wrong, "a page can't be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A name and a value on a page.
pub(crate) type Fact = (&'static str, Html);

/// A value that may be missing or empty.
pub(crate) fn or_dash(value: Option<&str>) -> Html {
    text(value.filter(|value| !value.is_empty()).unwrap_or("-"))
}

/// `1 command`, `2 commands`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}
