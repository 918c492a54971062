//! Search of the archive.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::replay::{outcome, place};
use super::{Frame, count, page};
use crate::html::{Html, text};
use crate::refusal::Refusal;
use crate::signed::Signed;
use crate::state::State;
use crate::surroundings::{Found, PastCommand, Wanted};
use crate::times::{self, When};

/// Commands on the page.
const SHOWN_MAX: usize = 200;

/// Where nothing is said: the last day.
const SPAN_US: i64 = 86_400_000_000;

/// Bytes of a field: an agent's or an object's name.
const FIELD_BYTES_MAX: usize = 255;

const DECISIONS: &[(&str, &str)] = &[
    ("", "any"),
    ("allow", "allow"),
    ("mask", "mask"),
    ("approved", "approved"),
    ("deny", "deny"),
];

#[derive(Template)]
#[template(path = "archive.html")]
struct ArchivePage {
    frame: Frame,
    asked: Asked,
    decisions: &'static [(&'static str, &'static str)],
    wrong: Option<String>,
    found_words: String,
    is_cut: Option<String>,
    commands: Vec<Line>,
}

/// The form's fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    from: String,
    until: String,
    agent: String,
    person: String,
    object: String,
    decision: String,
    session: String,
}

struct Line {
    session: String,
    number: u32,
    verb: Html,
    objects: Html,
    decision: Html,
    status: Html,
    statement: Html,
    agent: Html,
    user: Option<Html>,
    target: Html,
    at: When,
    outcome: Html,
}

/// `GET /archive`.
pub(crate) async fn show(
    Shared(state): Shared<Arc<State>>,
    signed: Signed,
    Query(mut asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let none = || Refusal::told(StatusCode::NOT_FOUND, "There is no archive here: ask the host.");
    let past = state.parts.surroundings.past().ok_or_else(none)?;
    let now_us = state.now().unix_us;
    if asked.from.is_empty() && asked.until.is_empty() {
        asked.from = times::field(now_us - SPAN_US);
    }
    let (mut wrong, mut found) = (None, Found::default());
    let mut status = StatusCode::OK;
    match wanted(&asked) {
        Ok(wanted) => {
            let _place = place(&state).await?;
            match past.search(wanted).await {
                Ok(all) => found = all,
                Err(error) => {
                    (status, wrong) = (StatusCode::SERVICE_UNAVAILABLE, Some(error.to_string()));
                }
            }
        }
        Err(why) => (status, wrong) = (StatusCode::UNPROCESSABLE_ENTITY, Some(why.to_owned())),
    }
    let Found { commands, is_cut } = found;
    let number = u64::try_from(commands.len()).unwrap_or(u64::MAX);
    let template = ArchivePage {
        frame: Frame::of(&state, &signed, "archive", "Archive"),
        decisions: DECISIONS,
        wrong,
        found_words: count(number, "command") + " found.",
        is_cut,
        commands: commands.iter().map(|one| Line::of(one, now_us)).collect(),
        asked,
    };
    Ok(page(status, &template))
}

fn wanted(asked: &Asked) -> Result<Wanted, &'static str> {
    let Asked { from, until, agent, person, object, decision, session } = asked;
    let instant = |text: &str, otherwise: i64| match text {
        "" => Ok(otherwise),
        text => times::parse(text).ok_or("A time is written as 2026-12-01T08:15."),
    };
    let field = |text: &str| {
        let text = text.trim();
        if text.len() > FIELD_BYTES_MAX {
            return Err("A field is too long.");
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    };
    let (from_us, until_us) = (instant(from, 0)?, instant(until, i64::MAX)?);
    if from_us >= until_us {
        return Err("The search ends before it begins.");
    }
    if !DECISIONS.iter().any(|(known, _)| known == decision) {
        return Err("There is no such decision.");
    }
    Ok(Wanted {
        from_us,
        until_us,
        agent: field(agent)?,
        person: field(person)?,
        object: field(object)?,
        decision: field(decision)?,
        session: field(session)?,
        most: SHOWN_MAX,
    })
}

impl Line {
    fn of(command: &PastCommand, now_us: i64) -> Self {
        Self {
            session: command.session.clone(),
            number: command.number,
            verb: text(if command.verb.is_empty() { &command.kind } else { &command.verb }),
            objects: text(&command.objects.join(", ")),
            decision: text(&command.decision),
            status: text(&command.status),
            statement: text(&command.statement),
            agent: text(&command.agent),
            user: command.user.as_deref().map(text),
            target: text(&command.target),
            at: When::new(command.at_us, now_us),
            outcome: text(&outcome(command)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_checked() {
        let day = Asked { from: "2026-12-01T00:00".into(), ..Asked::default() };
        let wanted = |asked: &Asked| super::wanted(asked);
        let read = wanted(&Asked { agent: " a ".into(), decision: "deny".into(), ..day.clone() });
        let read = read.unwrap();
        assert_eq!((read.agent.as_deref(), read.decision.as_deref()), (Some("a"), Some("deny")));
        assert_eq!((read.person, read.until_us), (None, i64::MAX));
        for wrong in [
            Asked { from: "then".into(), ..day.clone() },
            Asked { until: "2026-11-30T00:00".into(), ..day.clone() },
            Asked { decision: "maybe".into(), ..day.clone() },
            Asked { object: "a".repeat(256), ..day.clone() },
        ] {
            assert!(wanted(&wrong).is_err(), "{wrong:?}");
        }
    }
}
