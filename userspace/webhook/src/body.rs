//! What a message's body says, in the shape that its receiver reads.
//!
//! Texts come from agents, people and policies: in chats they stand where no markup is read, with strange characters by
//! their numbers.

use approval::request::{Reached, Requester, Wants};
use approval::shown::plain;
use serde_json::{Value, json};
use types::clock::utc;

use crate::notice::{Kind, Notice, Outcome};

/// Whom a body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A program.
    Generic,
    /// An incoming webhook of Slack's, or what understands the same.
    Slack,
    /// A workflow of Teams' ("when a webhook request is received"), with an adaptive card.
    Teams,
}

impl Shape {
    /// The word in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Slack => "slack",
            Self::Teams => "teams",
        }
    }

    /// The body of a message, and the link where people answer.
    pub fn body(self, notice: &Notice, link: Option<&str>) -> Vec<u8> {
        let body = match self {
            Self::Generic => generic(notice, link),
            Self::Slack => slack(notice, link),
            Self::Teams => teams(notice, link),
        };
        // Strings, numbers and lists: nothing of it can't be JSON.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

fn generic(notice: &Notice, link: Option<&str>) -> Value {
    let Notice {
        id: _,
        kind,
        at_us,
        request,
        node,
        expires_us,
        requester,
        target,
        command,
        accesses,
        risks,
        statement,
        reason,
        terms,
        outcome,
    } = notice;
    let Requester { agent, instance, chain, user, idp, sub, owner, around, pid, exe, .. } =
        requester;
    let Reached { name, host, database, account, protocol } = target;
    let terms = terms.iter().map(|wants| {
        let Wants { policy, groups, people, break_glass } = wants;
        json!({"policy": policy, "groups": groups, "people": people, "break_glass": break_glass})
    });
    json!({
        "type": format!("approval.{}", kind.as_str()),
        "timestamp": utc(*at_us),
        "data": {
            "request": request,
            "host": node,
            "expires": utc(*expires_us),
            "requester": {
                "agent": agent, "instance": instance, "chain": chain, "user": user, "idp": idp, "sub": sub,
                "owner": owner, "around": around, "pid": pid, "exe": exe,
            },
            "target": {
                "name": name, "host": host, "database": database, "account": account, "protocol": protocol,
            },
            "kind": command,
            "accesses": accesses,
            "risks": risks,
            "statement": statement,
            "reason": reason,
            "terms": terms.collect::<Vec<_>>(),
            "outcome": outcome.as_ref().map(|Outcome { how, people, reason }| {
                json!({"how": how, "people": people, "reason": reason})
            }),
            "url": link,
        },
    })
}

/// One line that says what happened.
fn headline(notice: &Notice) -> String {
    let Requester { agent, user, .. } = &notice.requester;
    let agent = user.as_ref().map_or(agent.clone(), |user| format!("{agent} for {user}"));
    let (target, people) = (&notice.target.name, people(notice));
    let text = match notice.kind {
        Kind::Requested => format!("{agent} waits for approval at {target}"),
        Kind::Granted => format!("{people} approved what {agent} asked for at {target}"),
        Kind::Refused => format!("{people} refused what {agent} asked for at {target}"),
        Kind::Ended => {
            let how = notice.outcome.as_ref().map_or("ended", |outcome| outcome.how);
            format!("the request of {agent} at {target} is over: {how}")
        }
        Kind::BreakGlass => format!("BREAK GLASS: {people} let {agent} through alone at {target}"),
    };
    line(&text)
}

fn people(notice: &Notice) -> String {
    notice.outcome.as_ref().map_or_else(String::new, |outcome| outcome.people.join(" and "))
}

/// What people see besides: a name and a value each.
fn facts(notice: &Notice) -> Vec<(&'static str, String)> {
    let Notice { request, node, accesses, risks, statement, reason, terms, outcome, .. } = notice;
    let needs =
        terms.iter().map(|wants| format!("{} of {}", wants.people, wants.groups.join(" or ")));
    let mut facts = vec![
        ("does", accesses.join(", ")),
        ("statement", statement.clone()),
        ("risks", risks.join(", ")),
        ("policy says", reason.clone()),
        ("needs", needs.collect::<Vec<_>>().join("; ")),
        ("chain", notice.requester.chain.join(" > ")),
        ("until", utc(notice.expires_us)),
    ];
    if let Some(said) = outcome.as_ref().and_then(|outcome| outcome.reason.clone()) {
        facts.push(("reason", said));
    }
    facts.push(("request", format!("{request} on {node}")));
    facts.retain(|(_, value)| !value.is_empty());
    facts.into_iter().map(|(name, value)| (name, line(&value))).collect()
}

fn line(text: &str) -> String {
    plain(text).replace(['\n', '\t'], " ")
}

/// Slack: `&`, `<` and `>` are escaped everywhere, and in plain text nothing else is read.
fn slack(notice: &Notice, link: Option<&str>) -> Value {
    const SECTION_MAX: usize = 2_900;
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let text = |text: &str| json!({"type": "plain_text", "text": escaped(text), "emoji": false});
    let headline = headline(notice);
    let told = facts(notice).into_iter().map(|(name, value)| format!("{name}: {value}"));
    let told = told.collect::<Vec<_>>().join("\n");
    // Slack takes 3,000 characters, counted before they are escaped or after: the longer is meant.
    let mut room = SECTION_MAX;
    let fits = |c: &char| {
        let left = room.checked_sub(if matches!(c, '&' | '<' | '>') { 5 } else { 1 });
        room = left.unwrap_or(0);
        left.is_some()
    };
    let told: String = told.chars().take_while(fits).collect();
    let mut blocks = vec![
        json!({"type": "section", "text": text(&headline)}),
        json!({"type": "section", "text": text(&told)}),
    ];
    if let Some(link) = link {
        blocks.push(json!({"type": "actions", "elements": [
            {"type": "button", "text": text("Look at it"), "url": link},
        ]}));
    }
    json!({"text": escaped(&headline), "mrkdwn": false, "blocks": blocks})
}

/// Teams: runs of text in an adaptive card, in which no Markdown is read; braces that would be functions stand apart.
fn teams(notice: &Notice, link: Option<&str>) -> Value {
    let apart = |text: &str| text.replace("{{", "{ {").replace("${", "$ {");
    let run = |text: &str, weight: &str| {
        let run = json!({"type": "TextRun", "text": apart(text), "weight": weight});
        json!({"type": "RichTextBlock", "inlines": [run]})
    };
    let mut told = vec![run(&headline(notice), "Bolder")];
    told.extend(facts(notice).into_iter().map(|(name, value)| {
        let name = json!({"type": "TextRun", "text": format!("{name}: "), "weight": "Bolder"});
        let value = json!({"type": "TextRun", "text": apart(&value)});
        json!({"type": "RichTextBlock", "inlines": [name, value]})
    }));
    let open = |link| json!([{"type": "Action.OpenUrl", "title": "Look at it", "url": link}]);
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": told,
                "actions": link.map_or(json!([]), open),
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice() -> Notice {
        Notice {
            id: "msg_1_requested".into(),
            kind: Kind::Requested,
            at_us: 1_764_576_000_000_000,
            request: "1".into(),
            node: "db<1>".into(),
            expires_us: 1_764_576_900_000_000,
            requester: Requester {
                agent: "bot".into(),
                user: Some("Carl <!channel> *b*".into()),
                ..Requester::default()
            },
            target: Reached { name: "bank".into(), ..Reached::default() },
            command: "db.query".into(),
            accesses: vec!["delete public.tr\u{430}nsfers".into()],
            risks: vec![],
            statement:
                "DELETE FROM transfers WHERE id = $1 -- {{DATE(x)}} & [a](http://b)\n\u{202e}"
                    .into(),
            reason: "deletes wait".into(),
            terms: vec![Wants {
                policy: "p".into(),
                groups: vec!["dba".into(), "risk".into()],
                people: 2,
                break_glass: vec![],
            }],
            outcome: None,
        }
    }

    fn body(shape: Shape, link: Option<&str>) -> Value {
        serde_json::from_slice(&shape.body(&notice(), link)).unwrap()
    }

    #[test]
    fn programs_get_everything_as_it_is() {
        let body = body(Shape::Generic, None);
        assert_eq!(body["type"], "approval.requested");
        assert_eq!(body["timestamp"], "2025-12-01T08:00:00Z");
        assert_eq!(body["data"]["accesses"][0], "delete public.tr\u{430}nsfers");
        assert_eq!(body["data"]["terms"][0]["people"], 2);
    }

    #[test]
    fn chats_get_no_markup_and_no_strange_characters() {
        let slack = body(Shape::Slack, Some("https://desk/x"));
        assert_eq!(slack["text"], "bot for Carl &lt;!channel&gt; *b* waits for approval at bank");
        let told = slack["blocks"][1]["text"]["text"].as_str().unwrap();
        assert!(
            told.contains("tr&lt;U+0430&gt;nsfers") && told.contains("&lt;U+202E&gt;"),
            "{told}"
        );
        assert!(!told.contains('<') && told.contains("needs: 2 of dba or risk"), "{told}");
        assert_eq!(slack["blocks"][1]["text"]["type"], "plain_text");
        assert_eq!(slack["blocks"][2]["elements"][0]["url"], "https://desk/x");
        let teams = body(Shape::Teams, None).to_string();
        assert!(!teams.contains("{{") && teams.contains("{ {DATE"), "{teams}");
        assert!(!teams.contains("\"TextBlock\"") && teams.contains("<U+202E>"), "{teams}");
    }

    #[test]
    fn chats_get_no_more_than_they_take() {
        let mut long = notice();
        long.accesses = vec!["<".repeat(60); 32];
        let body: Value = serde_json::from_slice(&Shape::Slack.body(&long, None)).unwrap();
        assert!(body["blocks"][1]["text"]["text"].as_str().unwrap().len() <= 2_900);
    }
}
