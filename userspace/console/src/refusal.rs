//! What a request is told that is not answered as asked.

use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::pages::{Frame, WrongPage, page};

/// Why a page is not shown.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// Nobody is signed in: sign in first, then go there.
    SignIn {
        /// Where to.
        to: String,
        /// The request is a page's own, not a person's.
        is_poll: bool,
    },
    /// A person is told why, in words.
    Told(StatusCode, String),
    /// Too often; seconds to wait.
    TooOften(u64),
}

impl Refusal {
    pub(crate) fn told(status: StatusCode, words: impl Into<String>) -> Self {
        Self::Told(status, words.into())
    }

    /// What could not be done at all.
    pub(crate) fn failed(words: impl Into<String>) -> Self {
        Self::Told(StatusCode::SERVICE_UNAVAILABLE, words.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn { to, is_poll: true } => {
                let header = HeaderValue::from_str(&sign_in(&to));
                let header = header.unwrap_or(HeaderValue::from_static("/sign-in"));
                (StatusCode::UNAUTHORIZED, [(HeaderName::from_static("hx-redirect"), header)], "")
                    .into_response()
            }
            Self::SignIn { to, is_poll: false } => {
                (StatusCode::SEE_OTHER, [(LOCATION, sign_in(&to))], "").into_response()
            }
            Self::Told(status, words) => wrong(status, words),
            Self::TooOften(seconds) => {
                let words = format!("Too often: try again in {seconds} s.");
                let mut response = wrong(StatusCode::TOO_MANY_REQUESTS, words);
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
                response
            }
        }
    }
}

fn wrong(status: StatusCode, words: String) -> Response {
    let title = match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::TOO_MANY_REQUESTS => "Too often",
        StatusCode::SERVICE_UNAVAILABLE => "Not to be had now",
        _ => "Not done",
    };
    let frame = Frame { title: title.to_owned(), ..Frame::default() };
    page(status, &WrongPage { frame, wrong: words })
}

fn sign_in(to: &str) -> String {
    if to == "/" { "/sign-in".to_owned() } else { format!("/sign-in?to={to}") }
}

/// A path of ours that a person may be sent to after signing in; the first page where it is anything else.
pub(crate) fn own_path(to: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    let is_own = to.starts_with('/') && !to.starts_with("//") && to.chars().all(is_plain);
    if is_own && to.len() <= TO_BYTES_MAX { to.to_owned() } else { "/".to_owned() }
}

/// A path of ours: `/approvals/UUID/break-glass` and some.
const TO_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::own_path;

    #[test]
    fn nobody_is_sent_elsewhere() {
        for path in ["/", "/approvals", "/approvals/0198-a/break-glass"] {
            assert_eq!(own_path(path), path);
        }
        for other in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "evil.example",
            "/a?b=c",
            "/a\r\nSet-Cookie: x",
            "/%2f",
            "",
        ] {
            assert_eq!(own_path(other), "/", "{other}");
        }
    }
}
