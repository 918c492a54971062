//! The server's answer, made into what the agent gets: masked, or withheld where no mask can be applied.

use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT_RANGES, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue,
};
use hyper::{Response, StatusCode, Version};
use mask::{Form, Masks, TextStream};
use proto::http::media::{self, Kind};
use types::decision::Keep;
use types::event::Outcome;

use super::body::Ending;
use super::intake::passing;
use super::kept::Kept;

/// An answer's head as it goes down, and what becomes of its body.
pub(super) struct Composed {
    pub(super) head: Response<()>,
    pub(super) masks: Option<TextStream>,
    pub(super) ending: Ending,
}

/// How an answer is treated.
pub(super) struct Treating<'a> {
    /// The masks of the agent, where there are any.
    pub(super) masks: Option<&'a Arc<Masks>>,
    /// Whether what no mask can be applied to may go down as it is.
    pub(super) may_pass: bool,
    /// Whether the connection ends with this answer.
    pub(super) ends: bool,
    /// How much of it is recorded, where policy says.
    pub(super) record: Option<Keep>,
}

/// No mask can be applied to an answer, for this reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unmaskable(pub(super) &'static str);

/// Makes an answer's head; `outcome` is the command's, interrupted so far.
pub(super) fn compose(
    response: &Response<Incoming>,
    treating: &Treating<'_>,
    mut outcome: Outcome,
) -> Result<Composed, Unmaskable> {
    let Treating { masks, may_pass, ends, record } = *treating;
    let (status, headers) = (response.status(), response.headers());
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = media::read(content_type);
    let is_empty = response.body().is_end_stream();
    let form = form(status, headers, media.kind);
    let masked = match (masks, form) {
        (Some(masks), Ok(form)) => Some((masks, form)),
        (Some(_), Err(why)) if !is_empty && !may_pass => return Err(Unmaskable(why)),
        _ => None,
    };
    let changes = masked.is_some();
    let mut head = Response::new(());
    *head.status_mut() = status;
    for (name, value) in passing(headers) {
        let is_stale = *name == CONTENT_LENGTH
            || *name == ETAG
            || *name == ACCEPT_RANGES
            || DIGESTS.contains(&name.as_str());
        if changes && is_stale {
            continue;
        }
        match masks.map(|masks| redacted(masks, name, value)) {
            None => drop(head.headers_mut().append(name, value.clone())),
            Some(Some(value)) => drop(head.headers_mut().append(name, value)),
            Some(None) => {}
        }
    }
    if ends || says_close(response) {
        head.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    outcome.error_code = error_code(status);
    outcome.bytes_out = head_bytes(&head);
    let head_text = format!("HTTP/1.1 {} {}", status.as_u16(), media.essence);
    let is_text = media.kind != Kind::Other && form.is_ok();
    let kept = Kept::new(head_text.trim_end().to_owned(), is_text, record);
    let ending = Ending { outcome, kept };
    let masks = masked.map(|(masks, form)| TextStream::new(Arc::clone(masks), form));
    Ok(Composed { head, masks, ending })
}

/// Digests and signatures of a body as it was (RFC 9530, RFC 3230, RFC 9421).
const DIGESTS: [&str; 6] =
    ["digest", "content-md5", "content-digest", "repr-digest", "signature", "signature-input"];

/// In what form a body's masks are applied; else why none can be.
fn form(status: StatusCode, headers: &HeaderMap, kind: Kind) -> Result<Form, &'static str> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    let is_identity = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !encodings.all(is_identity) {
        return Err("it is encoded, though that was not asked for");
    }
    // A part of a text begins anywhere: in the middle of a value.
    if status == StatusCode::PARTIAL_CONTENT {
        return Err("it is a part of a text, though that was not asked for");
    }
    if headers.get_all(CONTENT_TYPE).iter().count() > 1 {
        return Err("it says twice what it is");
    }
    match kind {
        Kind::Json => Ok(Form::Json),
        Kind::Text => Ok(Form::Plain),
        Kind::Other => Err("it is no text"),
    }
}

/// A field's value with what is recognized masked; none where the name itself is a value, or what is left is no field.
fn redacted(masks: &Masks, name: &HeaderName, value: &HeaderValue) -> Option<HeaderValue> {
    if matches!(masks.redact_literals(name.as_str()), std::borrow::Cow::Owned(_)) {
        return None;
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    match masks.redact_literals(&text) {
        std::borrow::Cow::Borrowed(_) => Some(value.clone()),
        std::borrow::Cow::Owned(masked) => HeaderValue::from_bytes(masked.as_bytes()).ok(),
    }
}

/// Whether the server ends its connection behind this answer.
fn says_close(response: &Response<Incoming>) -> bool {
    let closes = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.split(',').any(|one| one.trim().eq_ignore_ascii_case("close"))
    };
    response.version() != Version::HTTP_11
        || response.headers().get_all(CONNECTION).iter().any(closes)
}

/// `HT` and the status, where it is an error's.
pub(super) fn error_code(status: StatusCode) -> Option<[u8; 5]> {
    let is_error = status.is_client_error() || status.is_server_error() || status.as_u16() > 599;
    is_error.then(|| {
        let text = status.as_str().as_bytes();
        let digit = |at: usize| text.get(at).copied().unwrap_or(b'?');
        [b'H', b'T', digit(0), digit(1), digit(2)]
    })
}

/// The bytes of a head, as it is written: `HTTP/1.1 200 OK`, and each field with a colon, a blank and a line's end.
pub(super) fn head_bytes<B>(head: &Response<B>) -> u64 {
    let reason = head.status().canonical_reason().map_or(0, str::len);
    let fields = head.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    (13 + reason + 2 + fields.sum::<usize>() + 2) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_codes() {
        for (status, code) in
            [(200, None), (304, None), (404, Some(*b"HT404")), (503, Some(*b"HT503"))]
        {
            assert_eq!(error_code(StatusCode::from_u16(status).unwrap()), code);
        }
    }

    #[test]
    fn what_masks_can_be_applied_to() {
        let with = |encoding: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            headers
        };
        let none = HeaderMap::new();
        assert_eq!(form(StatusCode::OK, &none, Kind::Json), Ok(Form::Json));
        assert_eq!(form(StatusCode::OK, &with("Identity"), Kind::Text), Ok(Form::Plain));
        for encoding in ["gzip", "br", "identity, gzip", ""] {
            assert!(form(StatusCode::OK, &with(encoding), Kind::Json).is_err(), "{encoding}");
        }
        assert!(form(StatusCode::PARTIAL_CONTENT, &none, Kind::Text).is_err());
        assert!(form(StatusCode::OK, &none, Kind::Other).is_err());
    }
}
