//! Refusals as the agent is told them: a problem document (RFC 9457).

use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use types::id::SessionId;

/// What the agent is told.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// The policy, or our own rule.
    pub(super) policy: String,
    /// Why; holds nothing of the request's.
    pub(super) detail: String,
    /// Whether the connection ends with it.
    pub(super) ends: bool,
}

impl Problem {
    /// The answer that says so, and its body.
    pub(super) fn answer(&self, session: SessionId) -> (Response<()>, Vec<u8>) {
        let Self { status, policy, detail, ends } = self;
        let body = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": format!("vestibule: {detail}"),
            "policy": policy,
            "session": session.to_string(),
        });
        let mut response = Response::new(());
        *response.status_mut() = *status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if *status == StatusCode::UNAUTHORIZED {
            let challenge = r#"Bearer realm="vestibule", error="invalid_token""#;
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if *ends {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        (response, (body.to_string() + "\n").into_bytes())
    }
}

/// An answer as bytes, for a connection on which none can be given otherwise; it ends with that.
pub(crate) fn raw(status: u16, text: &str) -> Vec<u8> {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let reason = reason.unwrap_or("Error");
    let body = serde_json::json!({
        "type": "about:blank", "title": reason, "status": status, "detail": format!("vestibule: {text}"),
    });
    let body = body.to_string() + "\n";
    let length = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/problem+json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
