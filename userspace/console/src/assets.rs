//! The console's own files, built in.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

/// Name, type, content.
const FILES: [(&str, &str, &[u8]); 3] = [
    ("console.css", "text/css; charset=utf-8", include_bytes!("../static/console.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("../static/icon.svg")),
    (
        "htmx.min.js",
        "text/javascript; charset=utf-8",
        include_bytes!(concat!(env!("OUT_DIR"), "/htmx.min.js")),
    ),
];

/// `GET /static/{name}`. An hour, as they change with the daemon.
pub(crate) async fn file(Path(name): Path<String>) -> Response {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let Some((_, kind, bytes)) = found else { return StatusCode::NOT_FOUND.into_response() };
    ([(CONTENT_TYPE, *kind), (CACHE_CONTROL, "max-age=3600")], *bytes).into_response()
}
