//! Who a program's request is of.

use std::net::IpAddr;
use std::sync::Arc;

use approval::Approver;
use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use types::identity::Subject;
use types::secret::Secret;

use super::Problem;
use crate::people::Caller;
use crate::rates::network;
use crate::signed::{Peer, approver, is_in};
use crate::state::{Api, State};

/// A person's program that may look at all.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    /// Whom its token speaks of.
    pub(crate) subject: Subject,
    /// From where.
    pub(crate) from: IpAddr,
}

impl Called {
    /// The person as one who answers.
    pub(crate) fn approver(&self) -> Approver {
        approver(&self.subject)
    }
}

impl FromRequestParts<Arc<State>> for Called {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Problem> {
        let Some(Peer(from)) = parts.extensions.get::<Peer>().copied() else {
            return Err(Problem::unavailable("nobody knows where this request comes from"));
        };
        state.calls.take(&network(from), state.now()).map_err(Problem::too_often)?;
        match called(state, &parts.headers, from).await {
            Ok(called) => Ok(called),
            Err((problem, word)) => {
                if let Some((why, who)) = word {
                    state.refused(why, who, from, parts.uri.path()).await;
                }
                Err(problem)
            }
        }
    }
}

/// A problem, and what is written down of it: why, and whose the token was.
type Refused = (Problem, Option<(&'static str, Option<String>)>);

async fn called(state: &State, headers: &HeaderMap, from: IpAddr) -> Result<Called, Refused> {
    let Some(Api { audience, scope }) = &state.options.api else {
        let detail = "this console has no API";
        return Err((Problem::new(StatusCode::NOT_FOUND, "no_api", detail), None));
    };
    let token = bearer(headers).ok_or_else(|| (Problem::unauthorized("no_token"), None))?;
    let caller = state.parts.people.caller(token).await.map_err(|error| {
        if error.may_pass {
            (Problem::unavailable("the issuer can't be asked now"), None)
        } else {
            (Problem::unauthorized(error.why), Some((error.why, None)))
        }
    })?;
    let Caller { subject, audiences, scopes, is_delegated } = caller;
    let person = format!("{}@{}", subject.sub, subject.idp);
    if !audiences.contains(audience) {
        let word = Some(("wrong_audience", Some(person)));
        return Err((Problem::unauthorized("wrong_audience"), word));
    }
    let forbidden = |code, detail: &str| {
        let problem = Problem::new(StatusCode::FORBIDDEN, code, detail);
        (problem, Some((code, Some(person.clone()))))
    };
    // Who acts for a person must not answer for them: agents have such tokens.
    if is_delegated {
        return Err(forbidden("delegated", "somebody acts with this token for another person"));
    }
    // RFC 9068 §2.2: the subject of a token that a client got for itself is the client.
    if subject.token.client.as_ref() == Some(&subject.sub) {
        return Err(forbidden("program", "the token is a program's own, and no person's"));
    }
    if scope.as_ref().is_some_and(|scope| !scopes.contains(scope)) {
        return Err(forbidden("scope", "the token has not the scope of this API"));
    }
    if !is_in(&subject, &state.options.groups) {
        return Err(forbidden("not_in_groups", "you are in none of the groups that may look"));
    }
    Ok(Called { subject, from })
}

/// The token of a request that has one (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<Secret<String>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let is_one = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty();
    is_one.then(|| Secret::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_in_one_header() {
        for (values, found) in [
            (&["Bearer abc"][..], Some("abc")),
            (&["bearer  abc "], Some("abc")),
            (&["Bearer"], None),
            (&["Bearer "], None),
            (&["Basic abc"], None),
            (&["Bearer a", "Bearer b"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            let token = bearer(&headers);
            assert_eq!(token.as_ref().map(|token| token.expose().as_str()), found, "{values:?}");
        }
    }
}
