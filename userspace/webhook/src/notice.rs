//! What there is to tell.

use std::sync::Arc;

use approval::desk::Standing;
use approval::event::{Ending, Event};
use approval::request::{ApprovalRequest, Reached, Requester, Wants};
use approval::vote::Answer;

/// Bytes of a statement that are told; the whole of it is at the desk.
const STATEMENT_BYTES_MAX: usize = 2_000;

/// Accesses, risks and links that are told.
const LISTED_MAX: usize = 32;

/// Bytes of each.
const WORD_BYTES_MAX: usize = 256;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A command waits.
    Requested,
    /// People approved it.
    Granted,
    /// A person refused it.
    Refused,
    /// It ended otherwise: nobody answered, the agent went away.
    Ended,
    /// One person let it through in an emergency: an alert.
    BreakGlass,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 5] =
        [Self::Requested, Self::Granted, Self::Refused, Self::Ended, Self::BreakGlass];

    /// The word in configurations and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Ended => "ended",
            Self::BreakGlass => "break_glass",
        }
    }
}

/// One message: what a request's records say, cut to what a message holds, so that it is the same whenever it is made.
/// About 2 KiB; at most 16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The message, by which receivers tell a repetition.
    pub id: Arc<str>,
    /// What happened.
    pub kind: Kind,
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
    /// The request.
    pub request: String,
    /// Its host.
    pub node: String,
    /// Until when it waits, microseconds since 1970 UTC.
    pub expires_us: i64,
    /// Who asks.
    pub requester: Requester,
    /// What is reached.
    pub target: Reached,
    /// `db.query`, ….
    pub command: String,
    /// What is done to what.
    pub accesses: Vec<String>,
    /// What makes it dangerous.
    pub risks: Vec<String>,
    /// The statement without literals.
    pub statement: String,
    /// Why policy holds it.
    pub reason: String,
    /// What each policy asks for.
    pub terms: Vec<Wants>,
    /// How it ended, where it did.
    pub outcome: Option<Outcome>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In a word.
    pub how: &'static str,
    /// Who said so, as names.
    pub people: Vec<String>,
    /// In their words.
    pub reason: Option<String>,
}

impl Notice {
    /// What an event is to be told as; of a vote that decides nothing and of a grant's use, nothing.
    pub fn of(event: &Event, standing: &Standing) -> Option<Self> {
        let (kind, at_us, outcome) = match event {
            Event::Requested(request) => (Kind::Requested, request.at_us, None),
            Event::Granted(grant) => {
                let (kind, answer) = if grant.broken_glass {
                    (Kind::BreakGlass, Answer::BreakGlass)
                } else {
                    (Kind::Granted, Answer::Approve)
                };
                let outcome = said(standing, kind.as_str(), answer);
                (kind, grant.at_us, Some(outcome))
            }
            Event::Ended { how: Ending::Refused, reason: _, at_us, request: _ } => {
                let outcome = said(standing, Ending::Refused.as_str(), Answer::Deny);
                (Kind::Refused, *at_us, Some(outcome))
            }
            Event::Ended { how, reason, at_us, request: _ } => {
                let reason = reason.clone();
                let outcome = Outcome { how: how.as_str(), people: Vec::new(), reason };
                (Kind::Ended, *at_us, Some(outcome))
            }
            Event::Voted { .. } | Event::Spent { .. } => return None,
        };
        Some(Self::told(kind, at_us, &standing.request, outcome))
    }

    /// What a request that stands so was to be told as, in order.
    pub fn all(standing: &Standing) -> Vec<Self> {
        let request = &standing.request;
        let asked = Self::told(Kind::Requested, request.at_us, request, None);
        let granted = standing.grant.clone().map(Event::Granted);
        let ended = standing.ended.as_ref().filter(|over| over.how != Ending::Granted);
        let ended = ended.map(|over| Event::Ended {
            request: request.id,
            how: over.how,
            reason: over.reason.clone(),
            at_us: over.at_us,
        });
        let later = [granted, ended].into_iter().flatten();
        std::iter::once(asked).chain(later.filter_map(|event| Self::of(&event, standing))).collect()
    }

    /// Whether it is an alert.
    pub fn is_alert(&self) -> bool {
        self.kind == Kind::BreakGlass
    }

    fn told(kind: Kind, at_us: i64, request: &ApprovalRequest, outcome: Option<Outcome>) -> Self {
        let ApprovalRequest { id, node, expires_us, requester, target, accesses, risks, .. } =
            request;
        let listed = |all: &[String]| {
            all.iter().take(LISTED_MAX).map(|one| cut(one, WORD_BYTES_MAX)).collect::<Vec<_>>()
        };
        let mut requester = requester.clone();
        requester.chain.truncate(LISTED_MAX);
        // What an agent was started with is for who decides, at the desk.
        requester.command_line = None;
        Self {
            id: format!("msg_{id}_{}", kind.as_str()).into(),
            kind,
            at_us,
            request: id.to_string(),
            node: node.clone(),
            expires_us: *expires_us,
            requester,
            target: target.clone(),
            command: request.kind.clone(),
            accesses: listed(accesses),
            risks: listed(risks),
            statement: cut(&request.normalized, STATEMENT_BYTES_MAX),
            reason: request.reason.clone(),
            terms: request.terms.clone(),
            outcome,
        }
    }
}

fn said(standing: &Standing, how: &'static str, answer: Answer) -> Outcome {
    let votes: Vec<_> = standing.votes.iter().filter(|vote| vote.answer == answer).collect();
    let people = votes.iter().map(|vote| vote.approver.user.clone()).collect();
    let reason = votes.last().map(|vote| vote.reason.clone()).filter(|reason| !reason.is_empty());
    Outcome { how, people, reason }
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{} …", &text[..text.floor_char_boundary(bytes_max)])
}
