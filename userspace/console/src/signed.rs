//! Who a request is of.

use std::net::IpAddr;
use std::sync::Arc;

use approval::Approver;
use axum::extract::{FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use types::identity::Subject;

use crate::cookies::Cookie;
use crate::random::is_same;
use crate::refusal::{Refusal, own_path};
use crate::state::{State, browser};
use crate::visits::{NoVisit, Visit};

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // Whoever accepts connections says so.
        parts.extensions.get::<Self>().copied().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// A person who is signed in and may look at all.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    /// The visit.
    pub(crate) visit: Visit,
    /// Who.
    pub(crate) subject: Subject,
    /// From where.
    pub(crate) from: IpAddr,
}

impl Signed {
    /// The person as one who answers.
    pub(crate) fn approver(&self) -> Approver {
        approver(&self.subject)
    }

    /// The person as records say it.
    pub(crate) fn person(&self) -> String {
        format!("{}@{}", self.subject.sub, self.subject.idp)
    }

    /// Whether the person is in one of these groups.
    pub(crate) fn is_in(&self, groups: &[String]) -> bool {
        is_in(&self.subject, groups)
    }
}

/// A person as one who answers.
pub(crate) fn approver(subject: &Subject) -> Approver {
    let Subject { user, idp, sub, groups, token: _ } = subject;
    Approver {
        idp: idp.as_ref().to_owned(),
        sub: sub.as_ref().to_owned(),
        user: user.as_ref().to_owned(),
        groups: groups.iter().map(|group| group.as_ref().to_owned()).collect(),
    }
}

/// Whether a person is in one of these groups.
pub(crate) fn is_in(subject: &Subject, groups: &[String]) -> bool {
    groups.iter().any(|group| subject.groups.iter().any(|own| **own == **group))
}

impl FromRequestParts<Arc<State>> for Signed {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Refusal> {
        let Some(Peer(from)) = parts.extensions.get::<Peer>().copied() else {
            return Err(Refusal::failed("Nobody knows where this request comes from."));
        };
        let path = parts.uri.path();
        let is_poll = parts.headers.contains_key("hx-request");
        let sign_in = || Refusal::SignIn {
            to: if is_poll || parts.method != "GET" { "/".to_owned() } else { own_path(path) },
            is_poll,
        };
        let name = state.cookies.get(&parts.headers, Cookie::Visit).ok_or_else(sign_in)?;
        let own = state.browser_name(&parts.headers);
        let own = own.as_deref().map(|own| browser(own, &parts.headers));
        let visit = match state.visits.find(&name, own, !is_poll, state.now()) {
            Ok(visit) => visit,
            Err(NoVisit::None) => return Err(sign_in()),
            Err(NoVisit::Over(login)) => {
                state.parts.people.forget(&login);
                return Err(sign_in());
            }
            Err(NoVisit::OtherBrowser(login)) => {
                state.parts.people.forget(&login);
                state.refused("other_browser", None, from, path).await;
                return Err(sign_in());
            }
        };
        let subject = match state.parts.people.now(&visit.login).await {
            Ok(subject) => subject,
            Err(waiting) if waiting.may_pass => {
                let words = format!("Your issuer can't be asked who you are ({}).", waiting.why);
                return Err(Refusal::failed(words));
            }
            Err(ended) => {
                state.visits.end(&visit);
                state.parts.people.forget(&visit.login);
                state
                    .note("console.ended", serde_json::json!({ "why": ended.why, "from": from }))
                    .await;
                return Err(sign_in());
            }
        };
        let signed = Self { visit, subject, from };
        if !signed.is_in(&state.options.groups) {
            state.visits.end(&signed.visit);
            state.parts.people.forget(&signed.visit.login);
            state.refused("not_in_groups", Some(signed.person()), from, path).await;
            let words = "You are in none of the groups that may look at this.";
            return Err(Refusal::told(StatusCode::FORBIDDEN, words));
        }
        Ok(signed)
    }
}

/// Lets a form of a signed-in person's through that comes from one of our pages.
pub(crate) async fn own_form(
    state: &State,
    signed: &Signed,
    headers: &axum::http::HeaderMap,
    csrf: &str,
    path: &str,
) -> Result<(), Refusal> {
    let why = match state.is_own_page(headers) {
        Err(why) => Some(why),
        Ok(()) if is_same(csrf, &signed.visit.csrf) => None,
        Ok(()) => Some("csrf"),
    };
    if let Some(why) = why {
        state.refused(why, Some(signed.person()), signed.from, path).await;
        let words = "This did not come from a page of this console, so nothing was done.";
        return Err(Refusal::told(StatusCode::FORBIDDEN, words));
    }
    let act = state.acts.take(&signed.person(), state.now());
    act.map_err(Refusal::TooOften)
}

/// Says where a connection's requests come from.
pub(crate) fn with_peer<B>(mut request: Request<B>, ip: IpAddr) -> Request<B> {
    request.extensions_mut().insert(Peer(ip));
    request
}
