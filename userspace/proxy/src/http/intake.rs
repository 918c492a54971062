//! A request as it came: looked at whole before anybody decides on it.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST,
    HeaderMap, HeaderName, HeaderValue, IF_RANGE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Uri, Version};
use identity::oidc::Presented;
use proto::http::{Asked, Refused, head, media, read};
use types::secret::Secret;

use super::body::Up;
use crate::bearer::Bearers;

/// By which names a target is asked, on one connection.
pub(super) struct Called {
    /// The address that the agent connected to.
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    /// What the agent's look-ups and the hosts file call that.
    pub(super) names: Vec<Arc<str>>,
    /// What the agent's handshake called it, in TLS: nothing else is meant then.
    pub(super) server_name: Option<Arc<str>>,
    /// Whether the agent speaks TLS.
    pub(super) is_tls: bool,
}

/// A request that has one reading.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) asked: Asked,
    /// The host that it names, in lower case, without a port.
    pub(super) host: Arc<str>,
    /// The host as it goes up.
    authority: HeaderValue,
    pub(super) content_type: Arc<str>,
}

impl Called {
    /// Whether it is called so.
    fn is(&self, host: &str, port: Option<u16>) -> bool {
        if port.is_some_and(|port| port != self.port) {
            return false;
        }
        if let Some(name) = &self.server_name {
            return name.eq_ignore_ascii_case(host);
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let own = self.ip.to_canonical();
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return ip.to_canonical() == own;
        }
        let is_local = host == "localhost" && own.is_loopback();
        is_local || self.names.iter().any(|name| **name == *host)
    }
}

/// Looks at a request: its head as bytes, and as the library read it.
pub(super) fn examine(came: &[u8], parts: &Parts, called: &Called) -> Result<Intake, Refused> {
    let Parts { method, uri, version, headers, .. } = parts;
    let method_of_head = came.split(|byte| *byte == b' ').next();
    if method_of_head != Some(method.as_str().as_bytes()) {
        return Err(Refused::Pipelined);
    }
    head::examine(came)?;
    if *version != Version::HTTP_11 {
        return Err(Refused::Version);
    }
    if *method == Method::CONNECT || headers.contains_key(UPGRADE) {
        return Err(Refused::Upgrade);
    }
    let expects = headers
        .get_all(EXPECT)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !expects {
        return Err(Refused::Expect);
    }
    let (host, port, authority) = host(headers, uri, called)?;
    if !called.is(&host, port) {
        return Err(Refused::Misdirected);
    }
    let asked = read(method.as_str(), uri.path(), uri.query())?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = media::read(content_type).essence.into();
    Ok(Intake { asked, host: host.into(), authority, content_type })
}

/// The host that a request names, its port, and both as written; where its target has one as well, it is the same.
fn host(
    headers: &HeaderMap,
    uri: &Uri,
    called: &Called,
) -> Result<(String, Option<u16>, HeaderValue), Refused> {
    let value = headers.get(HOST).ok_or(Refused::Host)?;
    let text = value.to_str().map_err(|_| Refused::Host)?;
    let authority: hyper::http::uri::Authority = text.parse().map_err(|_| Refused::Host)?;
    if text.contains('@') || authority.host().is_empty() {
        return Err(Refused::Host);
    }
    let scheme = if called.is_tls { "https" } else { "http" };
    let is_same = match (uri.authority(), uri.scheme_str()) {
        (None, None) => true,
        (Some(own), Some(said)) => said == scheme && own.as_str().eq_ignore_ascii_case(text),
        _ => false,
    };
    if !is_same {
        return Err(Refused::Host);
    }
    Ok((authority.host().to_ascii_lowercase(), authority.port_u16(), value.clone()))
}

/// What a request shows for whom it is.
#[derive(Debug)]
pub(super) enum Shown {
    /// No token that counts here.
    Nothing,
    /// A token of an issuer that counts.
    Token(Presented),
    /// Such a token where none is taken.
    Astray,
}

/// Looks for tokens of issuers that count, wherever a request's head may hold one.
pub(super) fn shown(parts: &Parts, bearers: Option<&dyn Bearers>) -> Shown {
    let Some(bearers) = bearers else { return Shown::Nothing };
    let Parts { headers, uri, .. } = parts;
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if is_in(target, bearers) {
        return Shown::Astray;
    }
    let mut shown = Shown::Nothing;
    for (name, value) in headers {
        // What is no text is searched as far as it is.
        let text = String::from_utf8_lossy(value.as_bytes());
        let bearer = (name == AUTHORIZATION).then(|| bearer(&text)).flatten();
        let presented =
            bearer.and_then(|token| Presented::read(&Secret::new(token.as_bytes().to_vec())));
        match presented {
            Some(one) if bearers.knows(&one) => match shown {
                Shown::Nothing => shown = Shown::Token(one),
                // Two say two things.
                Shown::Token(_) | Shown::Astray => return Shown::Astray,
            },
            _ if is_in(&text, bearers) => return Shown::Astray,
            _ => {}
        }
    }
    shown
}

/// The credentials of the scheme `Bearer` (RFC 6750 §2.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether one of a text's words is a token of an issuer that counts.
fn is_in(text: &str, bearers: &dyn Bearers) -> bool {
    // Base64url, and what pads it, which may as well stand between a name and its value.
    let is_end = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.' | '=');
    let plain = text.replace("%2E", ".").replace("%2e", ".");
    let mut words = plain.split(is_end);
    words.any(|word| is_token(word, bearers) || word.split('=').any(|word| is_token(word, bearers)))
}

fn is_token(word: &str, bearers: &dyn Bearers) -> bool {
    // The shortest has a header that names an algorithm.
    if word.len() < TOKEN_BYTES_MIN || word.bytes().filter(|byte| *byte == b'.').count() < 2 {
        return false;
    }
    let presented = Presented::read(&Secret::new(word.as_bytes().to_vec()));
    presented.is_some_and(|one| bearers.knows(&one))
}

const TOKEN_BYTES_MIN: usize = 16;

/// A request as it goes up: written anew, without what was for us.
pub(super) fn upwards(
    intake: &Intake,
    parts: &Parts,
    body: Up,
    (has_token, masks): (bool, bool),
) -> Option<Request<Up>> {
    let Parts { method, uri, headers, .. } = parts;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let target: Uri = format!("{}{query}", intake.asked.wire).parse().ok()?;
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = target;
    let up = request.headers_mut();
    up.insert(HOST, intake.authority.clone());
    for (name, value) in passing(headers) {
        let is_ours = *name == HOST
            || *name == CONTENT_LENGTH
            || *name == EXPECT
            || has_token && *name == AUTHORIZATION
            || masks && [ACCEPT_ENCODING, RANGE, IF_RANGE].contains(name);
        if !is_ours {
            up.append(name, value.clone());
        }
    }
    if masks {
        up.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    Some(request)
}

/// The fields of a message that are meant for whoever is at the end (RFC 9110 §7.6.1).
pub(super) fn passing(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    headers.iter().filter(move |(name, _)| {
        let hop = [
            CONNECTION,
            TE,
            TRAILER,
            TRANSFER_ENCODING,
            UPGRADE,
            PROXY_AUTHENTICATE,
            PROXY_AUTHORIZATION,
        ];
        let is_hop = hop.contains(name) || HOP.contains(&name.as_str());
        !is_hop && !named.iter().any(|other| other == name.as_str())
    })
}

/// Fields of one hop that have no name in the library.
const HOP: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];
