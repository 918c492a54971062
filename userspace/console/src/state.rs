//! What every page goes by.

use std::net::IpAddr;
use std::sync::Arc;

use approval::desk::Desk;
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN, USER_AGENT};
use tokio::sync::Semaphore;
use tracing::warn;
use types::clock::{Clock, Timestamp};

use crate::ConsoleError;
use crate::cookies::{Cookie, Cookies};
use crate::people::People;
use crate::rates::{Rate, network};
use crate::surroundings::Surroundings;
use crate::visits::{Browser, Life, Visits};

/// What a console is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host's or the hub's name, as pages show it.
    pub node: String,
    /// Where browsers find it: `https://HOST` or `https://HOST:PORT`; `http` on a loopback address alone.
    pub external_url: String,
    /// At which issuer people sign in, as pages name it.
    pub issuer: String,
    /// Who may look at all: members of any of these groups.
    pub groups: Vec<String>,
    /// Who may end sessions; nobody where empty.
    pub end_groups: Vec<String>,
    /// What tokens of programs must be; programs are refused where absent.
    pub api: Option<Api>,
    /// How long people stay signed in.
    pub life: Life,
}

/// What an access token for the API must be.
#[derive(Clone, Debug)]
pub struct Api {
    /// An audience of its own, which agents' tokens do not have.
    pub audience: String,
    /// A scope that it has, where one is asked for.
    pub scope: Option<String>,
}

/// What a console works with.
pub struct Parts {
    /// Where approvers come to.
    pub desk: Arc<dyn Desk>,
    /// Who people are.
    pub people: Arc<dyn People>,
    /// What else there is.
    pub surroundings: Arc<dyn Surroundings>,
    /// The present.
    pub clock: Arc<dyn Clock>,
}

/// Sign-ins that an address begins or ends in a minute; a click is two.
const SIGN_INS_PER_MINUTE: u32 = 60;

/// Votes and ends of sessions of one person in a minute: faster than anybody reads.
const ACTS_PER_MINUTE: u32 = 60;

/// Requests of programs from one address in a minute.
const CALLS_PER_MINUTE: u32 = 600;

/// Refusals from one address that are written down in a minute: nobody fills the journal from outside.
const NOTED_PER_MINUTE: u32 = 10;

/// And from all of them together: 60 of about 300 B.
const NOTED_OF_ALL_PER_MINUTE: u32 = 60;

/// Searches at once: each reads files.
const SEARCHES_MAX: usize = 4;

/// Programs that wait for a change at once.
const WAITERS_MAX: usize = 256;

pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) parts: Parts,
    pub(crate) cookies: Cookies,
    pub(crate) visits: Visits,
    pub(crate) sign_ins: Rate<IpAddr>,
    pub(crate) acts: Rate<String>,
    pub(crate) calls: Rate<IpAddr>,
    pub(crate) searches: Arc<Semaphore>,
    pub(crate) waiters: Arc<Semaphore>,
    noted: Rate<IpAddr>,
    noted_of_all: Rate<()>,
    origin: Origin,
}

/// Where the console is, as browsers say it.
pub(crate) struct Origin {
    /// `https://HOST:PORT`.
    whole: String,
    /// `HOST:PORT`.
    authority: String,
}

impl State {
    pub(crate) fn new(options: Options, parts: Parts) -> Result<Self, ConsoleError> {
        let (origin, is_https) = check(&options)?;
        let visits = Visits::new(options.life);
        Ok(Self {
            options,
            parts,
            cookies: Cookies { is_https },
            visits,
            sign_ins: Rate::new(SIGN_INS_PER_MINUTE),
            acts: Rate::new(ACTS_PER_MINUTE),
            calls: Rate::new(CALLS_PER_MINUTE),
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
            waiters: Arc::new(Semaphore::new(WAITERS_MAX)),
            noted: Rate::new(NOTED_PER_MINUTE),
            noted_of_all: Rate::new(NOTED_OF_ALL_PER_MINUTE),
            origin,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Where issuers send browsers back to.
    pub(crate) fn redirect_uri(&self) -> String {
        format!("{}/signed-in", self.origin.whole)
    }

    /// Whether a request is to this console by its own name: else a page of somebody else's could have been made to
    /// resolve to it.
    pub(crate) fn is_its_name(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        host.is_some_and(|host| host.eq_ignore_ascii_case(&self.origin.authority))
    }

    /// Whether a request that changes something comes from one of the console's own pages: by the browser's word on
    /// where from (Fetch Metadata) and by the origin. Pages say no referrer, so that a form's origin is `null`, which
    /// counts only with that word.
    ///
    /// # Errors
    /// The word for the record.
    pub(crate) fn is_own_page(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let site = text("sec-fetch-site");
        if site.is_some_and(|site| site != "same-origin") {
            return Err("cross_site");
        }
        match text(ORIGIN.as_str()) {
            Some(origin) if origin.eq_ignore_ascii_case(&self.origin.whole) => Ok(()),
            Some("null") | None if site.is_some() => Ok(()),
            Some(_) => Err("cross_origin"),
            None => Err("no_origin"),
        }
    }

    /// The name of a request's browser, if it has one.
    pub(crate) fn browser_name(&self, headers: &HeaderMap) -> Option<String> {
        self.cookies.get(headers, Cookie::Browser)
    }

    /// Writes down what was refused, unless that is done too often.
    pub(crate) async fn refused(
        &self,
        why: &'static str,
        who: Option<String>,
        from: IpAddr,
        path: &str,
    ) {
        let now = self.now();
        if self.noted.take(&network(from), now).is_err()
            || self.noted_of_all.take(&(), now).is_err()
        {
            return;
        }
        warn!(why, %from, "the console refused a request");
        let path: String = path.chars().take(PATH_CHARS_NOTED).collect();
        let detail = serde_json::json!({ "why": why, "person": who, "from": from, "path": path });
        self.note("console.refused", detail).await;
    }

    /// Writes down what was done.
    pub(crate) async fn note(&self, kind: &'static str, detail: serde_json::Value) {
        if let Err(error) = self.parts.surroundings.record(kind, detail).await {
            warn!(%error, kind, "what the console did could not be recorded");
        }
    }
}

/// Characters of a refused request's path in records.
const PATH_CHARS_NOTED: usize = 100;

/// What a browser calls itself.
pub(crate) fn agent(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default()
}

/// A request's browser by this name.
pub(crate) fn browser<'a>(name: &'a str, headers: &'a HeaderMap) -> Browser<'a> {
    Browser { name, agent: agent(headers) }
}

/// Where a console of these options is; and whether by https.
pub(crate) fn check(options: &Options) -> Result<(Origin, bool), ConsoleError> {
    if options.groups.is_empty() {
        return Err(ConsoleError::Groups);
    }
    origin(&options.external_url)
}

fn origin(url: &str) -> Result<(Origin, bool), ConsoleError> {
    let uri: axum::http::Uri = url.parse().map_err(|_| ConsoleError::ExternalUrl)?;
    let authority = uri.authority().ok_or(ConsoleError::ExternalUrl)?.as_str().to_ascii_lowercase();
    let is_https = uri.scheme_str() == Some("https");
    let is_loopback = matches!(uri.host(), Some("127.0.0.1" | "[::1]" | "localhost"));
    let is_plain =
        matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.contains('@');
    let is_right = is_plain && (is_https || (uri.scheme_str() == Some("http") && is_loopback));
    if !is_right {
        return Err(ConsoleError::ExternalUrl);
    }
    // Browsers leave a scheme's own port out.
    let own = if is_https { ":443" } else { ":80" };
    let authority = authority.strip_suffix(own).unwrap_or(&authority).to_owned();
    let scheme = if is_https { "https" } else { "http" };
    Ok((Origin { whole: format!("{scheme}://{authority}"), authority }, is_https))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_at_https_or_on_this_host() {
        for (url, whole) in [
            ("https://console.bank.example", Some("https://console.bank.example")),
            ("https://Console.bank.example:443/", Some("https://console.bank.example")),
            ("https://console.bank.example:8443", Some("https://console.bank.example:8443")),
            ("http://127.0.0.1:9000", Some("http://127.0.0.1:9000")),
            ("http://[::1]:9000", Some("http://[::1]:9000")),
            ("http://console.bank.example", None),
            ("https://console.bank.example/console", None),
            ("https://a@console.bank.example", None),
            ("https://console.bank.example?x", None),
            ("console.bank.example", None),
            ("", None),
        ] {
            let found = origin(url).ok().map(|(origin, _)| origin.whole);
            assert_eq!(found.as_deref(), whole, "{url}");
        }
    }
}
