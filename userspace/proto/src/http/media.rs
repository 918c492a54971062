//! Which bodies are text that masks can be applied to.

/// A body's media type (RFC 9110 §8.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Type and subtype, in lower case; empty where none is said.
    pub essence: String,
    /// What it is to masks.
    pub kind: Kind,
}

/// What a body is to masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON.
    Json,
    /// Other text.
    Text,
    /// Anything else, or text whose characters are not written as ASCII has them.
    Other,
}

/// Reads a `Content-Type`.
pub fn read(content_type: Option<&str>) -> Media {
    let mut parts = content_type.unwrap_or_default().split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    let is_ascii = charset.is_none_or(|charset| {
        let begins = |start: &&str| charset.starts_with(*start);
        ["utf-8", "utf8", "us-ascii", "ascii"].contains(&&*charset)
            || ["iso-8859-", "windows-125"].iter().any(begins)
    });
    let (kind, subtype) = essence.split_once('/').unwrap_or((&essence, ""));
    let is_json = subtype == "json" || subtype.ends_with("+json") || JSON.contains(&subtype);
    let is_text =
        kind == "text" || subtype == "xml" || subtype.ends_with("+xml") || TEXT.contains(&subtype);
    let kind = match (is_ascii, is_json, is_text) {
        (true, true, _) => Kind::Json,
        (true, false, true) => Kind::Text,
        _ => Kind::Other,
    };
    Media { essence, kind }
}

/// Several JSON values behind each other.
const JSON: [&str; 5] = ["x-ndjson", "ndjson", "jsonl", "x-jsonlines", "json-seq"];

/// Text that is not below `text/`.
const TEXT: [&str; 6] =
    ["x-www-form-urlencoded", "javascript", "ecmascript", "yaml", "x-yaml", "graphql"];
