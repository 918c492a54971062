//! Signing in: authorization code with PKCE (RFC 6749 §4.1, RFC 7636), and out.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::{Query, State as Shared};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use types::secret::Secret;

use super::{Frame, page};
use crate::cookies::Cookie;
use crate::people::{Asking, Unproven};
use crate::random::{self, digest_text, is_same};
use crate::rates::network;
use crate::refusal::{Refusal, own_path};
use crate::signed::{Peer, Signed, is_in, own_form};
use crate::state::{State, browser};
use crate::visits::NoVisit;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    issuer: String,
    told: Option<&'static str>,
    wrong: Option<&'static str>,
    csrf: String,
    to: String,
}

#[derive(Template)]
#[template(path = "go.html")]
struct GoPage {
    frame: Frame,
    issuer: String,
    url: String,
}

/// What the page of signing in is asked with.
#[derive(Debug, Deserialize)]
pub(crate) struct To {
    #[serde(default)]
    to: String,
    told: Option<String>,
}

/// What its form sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Going {
    csrf: String,
    #[serde(default)]
    to: String,
}

/// What an issuer answers (RFC 6749 §4.1.2, RFC 9207).
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// What the form of signing out sends.
#[derive(Debug, Deserialize)]
pub(crate) struct Leaving {
    csrf: String,
}

/// `GET /sign-in`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    Query(To { to, told }): Query<To>,
) -> Result<Response, Refusal> {
    let told = (told.as_deref() == Some("out")).then_some("You are signed out here.");
    offer(&state, &headers, &to, StatusCode::OK, (told, None))
}

fn offer(
    state: &State,
    headers: &HeaderMap,
    to: &str,
    status: StatusCode,
    (told, wrong): (Option<&'static str>, Option<&'static str>),
) -> Result<Response, Refusal> {
    let known = state.browser_name(headers);
    let is_new = known.is_none();
    let name = match known {
        Some(name) => name,
        None => random::name().map_err(|error| Refusal::failed(error.to_string()))?,
    };
    let template = SignInPage {
        frame: Frame::outside(state, "Sign in"),
        issuer: state.options.issuer.clone(),
        told,
        wrong,
        csrf: form_token(&name),
        to: own_path(to),
    };
    let mut response = page(status, &template);
    if is_new {
        set_cookie(&mut response, &state.cookies.set(Cookie::Browser, &name));
    }
    Ok(response)
}

/// `POST /sign-in`: sends the browser to the issuer, by a page of ours: a form's own redirection would have to be
/// allowed to every address that the issuer sends browsers on to.
pub(crate) async fn go(
    Shared(state): Shared<Arc<State>>,
    Peer(from): Peer,
    headers: HeaderMap,
    Form(Going { csrf, to }): Form<Going>,
) -> Result<Response, Refusal> {
    let now = state.now();
    state.sign_ins.take(&network(from), now).map_err(Refusal::TooOften)?;
    let Some(name) = state.browser_name(&headers) else {
        let wrong = Some("Your browser keeps no cookies, or this page was open for too long.");
        return offer(&state, &headers, &to, StatusCode::FORBIDDEN, (None, wrong));
    };
    let why = match state.is_own_page(&headers) {
        Err(why) => Some(why),
        Ok(()) if is_same(&csrf, &form_token(&name)) => None,
        Ok(()) => Some("csrf"),
    };
    if let Some(why) = why {
        state.refused(why, None, from, "/sign-in").await;
        let words = "This did not come from a page of this console, so nothing was done.";
        return Err(Refusal::told(StatusCode::FORBIDDEN, words));
    }
    let no_random = |error: random::NoRandom| Refusal::failed(error.to_string());
    let asking = Asking {
        redirect_uri: state.redirect_uri(),
        state: random::name().map_err(no_random)?,
        nonce: random::name().map_err(no_random)?,
        verifier: Secret::new(random::name().map_err(no_random)?),
    };
    let url = state.parts.people.ask(&asking).await.map_err(unproven)?;
    if !state.visits.ask(asking, browser(&name, &headers), own_path(&to), now) {
        return Err(Refusal::failed("Too many people sign in at once: try again."));
    }
    let frame = Frame::outside(&state, "Signing in");
    let issuer = state.options.issuer.clone();
    Ok(page(StatusCode::OK, &GoPage { frame, issuer, url }))
}

/// `GET /signed-in`: the issuer's answer.
pub(crate) async fn came_back(
    Shared(state): Shared<Arc<State>>,
    Peer(from): Peer,
    headers: HeaderMap,
    Query(Answer { state: name, code, error, iss }): Query<Answer>,
) -> Result<Response, Refusal> {
    let now = state.now();
    state.sign_ins.take(&network(from), now).map_err(Refusal::TooOften)?;
    let own = state.browser_name(&headers);
    let asked =
        own.as_deref().and_then(|own| state.visits.answered(&name, browser(own, &headers), now));
    let (Some((asking, to)), Some(own)) = (asked, own.as_deref()) else {
        state.refused("sign_in_of_another_browser", None, from, "/signed-in").await;
        let wrong = Some("This answer is to no question of this browser, or came too late.");
        return offer(&state, &headers, "/", StatusCode::FORBIDDEN, (None, wrong));
    };
    let (Some(code), None) = (code, error) else {
        state.refused("issuer_said_no", None, from, "/signed-in").await;
        let wrong = Some("You were not signed in there.");
        return offer(&state, &headers, &to, StatusCode::FORBIDDEN, (None, wrong));
    };
    let proven = state.parts.people.came_back(&asking, Secret::new(code), iss).await;
    let (login, subject) = match proven {
        Ok(proven) => proven,
        Err(error) => {
            state.refused(error.why, None, from, "/signed-in").await;
            return Err(unproven(error));
        }
    };
    let person = format!("{}@{}", subject.sub, subject.idp);
    if !is_in(&subject, &state.options.groups) {
        state.parts.people.forget(&login);
        state.refused("not_in_groups", Some(person), from, "/signed-in").await;
        let words = "You are in none of the groups that may look at this.";
        return Err(Refusal::told(StatusCode::FORBIDDEN, words));
    }
    // The visit of before, if there is one, ends: its name may be known to whoever had the browser.
    leave_before(&state, &headers);
    let begun = state.visits.begin(&login, person.clone(), browser(own, &headers), now);
    let (visit, ended) = begun.map_err(|error| Refusal::failed(error.to_string()))?;
    for login in &ended {
        state.parts.people.forget(login);
    }
    let detail = serde_json::json!({ "user": subject.user, "person": person, "from": from });
    state.note("console.signed_in", detail).await;
    let mut response = Redirect::to(&to).into_response();
    set_cookie(&mut response, &state.cookies.set(Cookie::Visit, &visit));
    Ok(response)
}

/// `POST /sign-out`.
pub(crate) async fn leave(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    headers: HeaderMap,
    Form(Leaving { csrf }): Form<Leaving>,
) -> Result<Response, Refusal> {
    own_form(&state, &signed, &headers, &csrf, "/sign-out").await?;
    state.visits.end(&signed.visit);
    state.parts.people.forget(&signed.visit.login);
    let detail = serde_json::json!({ "person": signed.person(), "from": signed.from });
    state.note("console.signed_out", detail).await;
    let mut response = Redirect::to("/sign-in?told=out").into_response();
    set_cookie(&mut response, &state.cookies.take(Cookie::Visit));
    Ok(response)
}

fn leave_before(state: &State, headers: &HeaderMap) {
    let Some(name) = state.cookies.get(headers, Cookie::Visit) else { return };
    let own = state.browser_name(headers);
    let own = own.as_deref().map(|own| browser(own, headers));
    match state.visits.find(&name, own, false, state.now()) {
        Ok(visit) => {
            state.visits.end(&visit);
            state.parts.people.forget(&visit.login);
        }
        Err(NoVisit::Over(login) | NoVisit::OtherBrowser(login)) => {
            state.parts.people.forget(&login);
        }
        Err(NoVisit::None) => {}
    }
}

/// What the form of signing in carries: made of what its browser alone knows.
fn form_token(browser: &str) -> String {
    digest_text(&format!("sign-in {browser}"))
}

fn unproven(error: Unproven) -> Refusal {
    let Unproven { why, may_pass } = error;
    if may_pass {
        return Refusal::failed(format!("The issuer can't be asked now ({why}): try again."));
    }
    Refusal::told(StatusCode::FORBIDDEN, format!("You were not signed in: {why}."))
}

fn set_cookie(response: &mut Response, cookie: &str) {
    let value = HeaderValue::from_str(cookie).expect("a name made here is what a header may hold");
    response.headers_mut().append(SET_COOKIE, value);
}
