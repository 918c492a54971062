//! What a request asks for: its path and query, read in the one way that is left.
//!
//! Policy sees a path decoded; what goes up is that written anew, so that both are the same. A path that a server may
//! read as another one (dots, empty parts, encoded slashes, parameters within parts) is refused.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use types::command::{Access, Action, Analysis, Risk, Statement, TableName};
use types::limits::{
    HTTP_PARAMETERS_MAX, HTTP_PATH_BYTES_MAX, HTTP_PATH_PARTS_MAX, HTTP_QUERY_BYTES_MAX,
};
use types::secret_words::{self, TOKENS};

use super::{Refused, template};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: Arc<str>,
    /// What policy calls that.
    pub action: Action,
    /// The path, decoded.
    pub path: Arc<str>,
    /// The path with placeholders for its values.
    pub template: Arc<str>,
    /// The path as it goes up; the query goes as it came.
    pub wire: String,
    /// The names of its query's parameters, decoded, in order.
    pub names: Vec<Arc<str>>,
    /// Whether it has a query.
    pub has_query: bool,
    /// Its text, without secrets, and what it does.
    pub statement: Arc<Statement>,
    /// The query as it came.
    query: Arc<str>,
}

impl Asked {
    /// The values that have a name, decoded: each part of the path by the part before it, the query's parameters by
    /// theirs.
    pub fn named(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let parts: Vec<&str> = self.path.split('/').skip(1).collect();
        let of_path = parts.windows(2).filter_map(|two| match two {
            [name, value] if template::is_name(name) && !value.is_empty() => {
                Some((Arc::from(*name), Arc::from(*value)))
            }
            _ => None,
        });
        let of_query = parameters(&self.query)
            .into_iter()
            .filter_map(|(name, value)| Some((decoded(name).into(), decoded(value?).into())));
        of_path.chain(of_query).collect()
    }
}

/// Reads what a method, a path and a query ask for; all that is recorded of them comes from here.
///
/// # Errors
/// If they have more than one reading, or exceed the bounds.
pub fn read(method: &str, path: &str, query: Option<&str>) -> Result<Asked, Refused> {
    let verb = verb(method)?;
    let parts = parts(path)?;
    let query = query.unwrap_or_default();
    if query.len() > HTTP_QUERY_BYTES_MAX {
        return Err(Refused::Query);
    }
    let parameters: Vec<(&str, Option<&str>)> = parameters(query);
    if parameters.len() > HTTP_PARAMETERS_MAX {
        return Err(Refused::Query);
    }
    let template: Arc<str> = template::path(&parts).into();
    let normalized = template::request(verb, &parts, &parameters);
    let action =
        if matches!(verb, "GET" | "HEAD" | "OPTIONS") { Action::Fetch } else { Action::Submit };
    let object = TableName { schema: None, name: Arc::clone(&template) };
    let analysis = Analysis {
        fingerprint: fingerprint(&normalized),
        ..Analysis::new(
            verb,
            normalized,
            vec![Access { action, table: Some(object) }],
            Risk::empty(),
        )
    };
    Ok(Asked {
        method: method.into(),
        action,
        path: joined(&parts, String::clone).into(),
        template,
        wire: joined(&parts, |part| encoded(part)),
        names: parameters.iter().map(|(name, _)| decoded(name).into()).collect(),
        has_query: !query.is_empty(),
        statement: Arc::new(Statement::new(text(method, &parts, &parameters), analysis)),
        query: query.into(),
    })
}

/// A path of these parts, each written so.
fn joined(parts: &[String], write: impl Fn(&String) -> String) -> String {
    parts.iter().fold(String::new(), |path, part| path + "/" + &write(part))
}

/// The method in the words of records; it is case-sensitive (RFC 9110 §9.1).
fn verb(method: &str) -> Result<&'static str, Refused> {
    match method {
        "TRACE" => Err(Refused::Method),
        "CONNECT" => Err(Refused::Upgrade),
        _ if method.len() > METHOD_BYTES_MAX => Err(Refused::Method),
        _ => Ok(VERBS.iter().find(|verb| **verb == method).copied().unwrap_or("OTHER")),
    }
}

const VERBS: [&str; 7] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];

/// The longest method of IANA's registry, twice (`UPDATEREDIRECTREF`).
const METHOD_BYTES_MAX: usize = 34;

/// A path's parts, decoded; the last one is empty where the path ends with a slash.
fn parts(path: &str) -> Result<Vec<String>, Refused> {
    let rest = path.strip_prefix('/').ok_or(Refused::Target)?;
    if path.len() > 3 * HTTP_PATH_BYTES_MAX {
        return Err(Refused::Path);
    }
    let count = rest.split('/').count();
    let part = |(at, part): (usize, &str)| {
        let decoded = strictly_decoded(part).ok_or(Refused::Path)?;
        let is_last = at + 1 == count;
        let is_plain =
            |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '%' | ';' | '?' | '#');
        let is_good = match &*decoded {
            "" => is_last,
            "." | ".." => false,
            text => text.chars().all(is_plain),
        };
        if is_good { Ok(decoded) } else { Err(Refused::Path) }
    };
    let parts = rest.split('/').enumerate().map(part).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = parts.iter().map(|part| part.len() + 1).sum();
    if count > HTTP_PATH_PARTS_MAX || bytes > HTTP_PATH_BYTES_MAX {
        Err(Refused::Path)
    } else {
        Ok(parts)
    }
}

/// What stands between `&` (and `;`, which some servers take for it), by name and value.
fn parameters(query: &str) -> Vec<(&str, Option<&str>)> {
    let all = query.split(['&', ';']).filter(|one| !one.is_empty());
    all.map(|one| one.split_once('=').map_or((one, None), |(name, value)| (name, Some(value))))
        .collect()
}

/// The request's first line, as it is kept: without the values of parameters whose names are those of secrets, and
/// without what looks like an issued token.
fn text(method: &str, parts: &[String], parameters: &[(&str, Option<&str>)]) -> String {
    let mut text = method.to_owned();
    text.push(' ');
    for part in parts {
        text.push('/');
        text.push_str(if is_issued(part) { SECRET } else { part });
    }
    for (at, (name, value)) in parameters.iter().enumerate() {
        text.push(if at == 0 { '?' } else { '&' });
        let name = decoded(name);
        text.push_str(if is_issued(&name) { SECRET } else { &name });
        let Some(value) = value else { continue };
        let value = decoded(value);
        let is_secret = secret_words::is_name(&secret_words::plain(&name)) || has_issued(&value);
        text.push('=');
        text.push_str(if is_secret { SECRET } else { &value });
    }
    text
}

/// What stands in for a secret.
const SECRET: &str = "[secret]";

/// Whether a word begins as issued tokens do.
fn is_issued(word: &str) -> bool {
    secret_words::begins(word, &TOKENS, 8)
}

/// Whether a word of a value begins as issued tokens do.
pub(super) fn has_issued(value: &str) -> bool {
    value
        .split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-' | '.'))
        .any(is_issued)
}

/// The percent-encoding undone; none where it is malformed or hides what is no UTF-8.
fn strictly_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = behind;
            continue;
        }
        let (digits, behind) = behind.split_first_chunk::<2>()?;
        let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
        bytes.push(u8::try_from(high? * 16 + low?).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

/// A name or a value of a query, as its server most likely reads it.
pub(super) fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    strictly_decoded(&text).unwrap_or(text)
}

/// What of a part of a path is encoded (RFC 3986 §3.3): all but `pchar`, without `;`.
const ENCODED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A part as it is written in a path, each character in one way only.
fn encoded(part: &str) -> String {
    utf8_percent_encode(part, &ENCODED).to_string()
}

/// FNV-1a: groups alike requests, never identifies one.
fn fingerprint(normalized: &str) -> i64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    normalized.bytes().fold(0xcbf2_9ce4_8422_2325, step).cast_signed()
}
