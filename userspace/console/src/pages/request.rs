//! One request: all that an approver decides on, and the answer.

use std::sync::Arc;

use approval::desk::{Over, Standing};
use approval::four_eyes::involved;
use approval::request::{ApprovalRequest, Grant, Reached, Requester, Wants};
use approval::shown::{plain, shown_sha256};
use approval::vote::{Answer, Vote};
use askama::Template;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use types::id::RequestId;

use super::approvals::{Line, state_of};
use super::{Fact, Frame, or_dash, page};
use crate::html::{Html, statement, text};
use crate::refusal::Refusal;
use crate::signed::Signed;
use crate::state::State;
use crate::times::When;

/// Requests alike on the page.
const ALIKE_SHOWN: usize = 10;

/// What became of a vote, for the page that comes after it.
#[derive(Debug, Deserialize)]
pub(crate) struct After {
    told: Option<String>,
}

#[derive(Template)]
#[template(path = "request.html")]
struct RequestPage {
    frame: Frame,
    id: String,
    told: Option<&'static str>,
    wrong: Option<String>,
    state: &'static str,
    state_words: &'static str,
    is_waiting: bool,
    expires: When,
    risks: Vec<Html>,
    has_text: bool,
    statement: Html,
    is_masked: bool,
    has_strange: bool,
    parameters: Vec<Html>,
    rows_estimated: Option<u64>,
    facts: Vec<Fact>,
    needs: Vec<Html>,
    votes: Vec<VoteLine>,
    grant: Option<Html>,
    end: Option<Html>,
    cannot: Option<Html>,
    may_break: bool,
    shown: String,
    alike: Vec<Line>,
}

struct VoteLine {
    answer: &'static str,
    who: Html,
    at: When,
    way: Html,
    from: Html,
    reason: Option<Html>,
}

/// `GET /approvals/{id}`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Path(id): Path<String>,
    Query(After { told }): Query<After>,
) -> Result<Response, Refusal> {
    let told = match told.as_deref() {
        Some("granted") => Some("Approved: the command goes on."),
        Some("counted") => Some("Your approval counts; more people are needed."),
        Some("refused") => Some("Denied: the agent is told."),
        Some("kept") => Some("Your answer is kept; its host has not said yet what became of it."),
        Some("already") => Some("You said the same before; nothing changed."),
        _ => None,
    };
    let standing = find(&state, &id).await?;
    render(&state, &signed, &standing, told, None).await
}

/// The request of an id in a path.
pub(crate) async fn find(state: &State, id: &str) -> Result<Standing, Refusal> {
    let none =
        || Refusal::told(StatusCode::NOT_FOUND, "There is no such request, or it is long over.");
    let id: RequestId = id.parse().map_err(|_| none())?;
    let found = state.parts.desk.show(id).await;
    found.map_err(|error| Refusal::failed(error.to_string()))?.ok_or_else(none)
}

/// The page of a request; with why something was not done, where it was not.
pub(crate) async fn render(
    state: &State,
    signed: &Signed,
    standing: &Standing,
    told: Option<&'static str>,
    wrong: Option<(StatusCode, String)>,
) -> Result<Response, Refusal> {
    let Standing { request, votes, grant, ended } = standing;
    let alike = state.parts.desk.alike(request, ALIKE_SHOWN).await;
    let alike = alike.map_err(|error| Refusal::failed(error.to_string()))?;
    let now_us = state.now().unix_us;
    let (class, words) = state_of(standing);
    let has_text = !request.text.is_empty();
    let shown_text = if has_text { &request.text } else { &request.normalized };
    let (cannot, may_break) = may(signed, standing);
    let title = format!("{} at {}", plain(&request.verb), plain(&request.target.name));
    let (status, wrong) = wrong.map_or((StatusCode::OK, None), |(status, why)| (status, Some(why)));
    let template = RequestPage {
        frame: Frame::of(state, signed, "approvals", &title),
        id: request.id.to_string(),
        told,
        wrong,
        state: class,
        state_words: words,
        is_waiting: ended.is_none(),
        expires: When::new(request.expires_us, now_us),
        risks: request.risks.iter().map(|risk| text(risk)).collect(),
        has_text,
        statement: statement(shown_text, &request.target.protocol),
        is_masked: request.is_masked,
        has_strange: plain(shown_text) != *shown_text,
        parameters: request.parameters.iter().map(|one| text(one)).collect(),
        rows_estimated: request.rows_estimated,
        facts: facts(request, now_us),
        needs: request.terms.iter().map(need).collect(),
        votes: votes.iter().map(|vote| VoteLine::of(vote, now_us)).collect(),
        grant: grant.as_ref().map(granted),
        end: ended.as_ref().map(over),
        cannot,
        may_break,
        shown: shown_sha256(request),
        alike: alike.iter().map(|one| Line::of(one, now_us)).collect(),
    };
    Ok(page(status, &template))
}

/// All that [`approval::shown::shown`] says but the statement and its parameters, and what helps to weigh it.
pub(crate) fn facts(request: &ApprovalRequest, now_us: i64) -> Vec<Fact> {
    let Requester {
        agent,
        instance,
        chain,
        user,
        idp,
        sub,
        owner,
        around,
        pid,
        exe,
        exe_sha256,
        command_line,
    } = &request.requester;
    let Reached { name, host, database, account, protocol } = &request.target;
    let dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        ("Agent", text(&format!("{agent} {instance}"))),
        ("For", text(&format!("{} ({}@{})", dash(user), dash(sub), dash(idp)))),
        ("Chain", text(&chain.join(" > "))),
        ("Answers for it", or_dash(owner.as_deref())),
        ("Around it", or_dash(Some(&around.join(", ")))),
        ("Process", text(&format!("{pid} {}", dash(exe)))),
        ("Executable’s SHA-256", or_dash(exe_sha256.as_deref())),
        ("Started as", or_dash(command_line.as_deref())),
        ("Host", text(&request.node)),
        ("Target", text(&format!("{name} {} {protocol}", dash(host)))),
        ("Database", text(&format!("{} as {}", dash(database), dash(account)))),
        ("Kind", text(&request.kind)),
        ("Does", or_dash(Some(&request.accesses.join(", ")))),
        ("Risks", or_dash(Some(&request.risks.join(", ")))),
        ("Transaction", text(&request.transaction)),
        ("Policy says", text(&request.reason)),
        ("Covers", text(&format!("{} for {} s", request.covers, request.grant_s))),
        ("Asked", Html::of_when(When::new(request.at_us, now_us))),
        ("Request", text(&request.id.to_string())),
        ("Session", text(&format!("{}, command {}", request.session, request.command))),
        ("Policies’ SHA-256", text(&request.policy_digest)),
    ]
}

/// What one policy asks for.
fn need(wants: &Wants) -> Html {
    let Wants { policy, groups, people, break_glass: _ } = wants;
    text(&format!("{people} of {} ({policy})", groups.join(" or ")))
}

/// Why a person can't answer, if that is so; and whether they may break the glass.
pub(crate) fn may(signed: &Signed, standing: &Standing) -> (Option<Html>, bool) {
    let Standing { request, votes, .. } = standing;
    let approver = signed.approver();
    if let Some(how) = involved(&request.requester, &approver) {
        return (Some(text(&format!("You can't answer this: {how}."))), false);
    }
    if let Some(vote) = votes.iter().find(|vote| vote.approver.key() == approver.key()) {
        return (Some(text(&format!("You answered: {}.", word(vote.answer)))), false);
    }
    let groups: Vec<String> = request.terms.iter().flat_map(|wants| wants.groups.clone()).collect();
    let is_one = signed.is_in(&groups);
    let cannot =
        (!is_one).then(|| text(&format!("Only members of {} answer this.", groups.join(", "))));
    let may_break = request.terms.iter().all(|wants| signed.is_in(&wants.break_glass));
    (cannot, may_break && !request.terms.is_empty())
}

fn granted(grant: &Grant) -> Html {
    let how = if grant.broken_glass { "by breaking the glass" } else { "approved" };
    let used = match grant.spent {
        0 => "not used yet".to_owned(),
        1 => "used once".to_owned(),
        times => format!("used {times} times"),
    };
    text(&format!("Granted, {how} by {}; {used}.", grant.approvers.join(", ")))
}

fn over(over: &Over) -> Html {
    let Over { how: _, reason, at_us } = over;
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    text(&format!("Over since {} UTC{reason}", crate::times::utc(*at_us)))
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Approve => "approve",
        Answer::Deny => "deny",
        Answer::BreakGlass => "break the glass",
    }
}

impl VoteLine {
    fn of(vote: &Vote, now_us: i64) -> Self {
        let Vote { approver, answer, reason, at_us, way, from, shown_sha256: _ } = vote;
        Self {
            answer: word(*answer),
            who: text(&format!("{} ({})", approver.user, approver.key())),
            at: When::new(*at_us, now_us),
            way: text(way),
            from: text(from),
            reason: (!reason.is_empty()).then(|| text(reason)),
        }
    }
}
