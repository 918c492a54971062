//! What happens to requests; each is written down before anybody acts on it.

use serde::{Deserialize, Serialize};
use types::id::RequestId;

use crate::request::{ApprovalRequest, Grant};
use crate::vote::Vote;

/// Something that happened to a request or a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A command waits.
    Requested(Box<ApprovalRequest>),
    /// A person answered.
    Voted {
        /// What.
        request: RequestId,
        /// The answer.
        vote: Vote,
    },
    /// Enough people approved.
    Granted(Grant),
    /// A command goes on by a grant.
    Spent {
        /// Which grant.
        grant: RequestId,
        /// The session, a UUIDv7.
        session: String,
        /// The command's place in it.
        command: u32,
        /// When, microseconds since 1970 UTC.
        at_us: i64,
    },
    /// A request is over without a grant.
    Ended {
        /// Which.
        request: RequestId,
        /// How.
        how: Ending,
        /// The reason that the agent is told, where a person gave one.
        reason: Option<String>,
        /// When, microseconds since 1970 UTC.
        at_us: i64,
    },
}

/// How a request ends that is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It was granted; a vote came too late.
    Granted,
    /// A person refused it.
    Refused,
    /// Nobody answered in time.
    Expired,
    /// It waited too long inside a transaction.
    TransactionExpired,
    /// The agent cancelled it.
    Cancelled,
    /// The agent went away.
    Disconnected,
    /// The target went away.
    TargetLost,
    /// Whom the agent acts for has lost access.
    IdentityEnded,
    /// The daemon was started anew: its connections ended.
    Restarted,
}

impl Ending {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::TransactionExpired => "transaction_expired",
            Self::Cancelled => "cancelled",
            Self::Disconnected => "disconnected",
            Self::TargetLost => "target_lost",
            Self::IdentityEnded => "identity_ended",
            Self::Restarted => "restarted",
        }
    }
}

impl Event {
    /// Which request it is of, or whose grant.
    pub fn request(&self) -> RequestId {
        match self {
            Self::Requested(request) => request.id,
            Self::Granted(grant) => grant.id,
            Self::Voted { request, .. } | Self::Ended { request, .. } => *request,
            Self::Spent { grant, .. } => *grant,
        }
    }

    /// The kind of its record.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Requested(_) => "approval.requested",
            Self::Voted { .. } => "approval.voted",
            Self::Granted(_) => "approval.granted",
            Self::Spent { .. } => "approval.spent",
            Self::Ended { .. } => "approval.ended",
        }
    }

    /// Its record: JSON, without the statement's literals and parameters.
    pub fn record(&self) -> String {
        let told = match self {
            Self::Requested(request) => {
                let mut request = request.clone();
                (request.text, request.parameters) = (String::new(), Vec::new());
                // Clients are started with statements, too.
                request.requester.command_line = None;
                serde_json::to_string(&Self::Requested(request))
            }
            _ => serde_json::to_string(self),
        };
        // Strings, numbers and lists: nothing of it can't be JSON.
        told.unwrap_or_default()
    }

    /// What a record of kind `approval.*` says; `None` if it is none.
    pub fn read(kind: &str, record: &str) -> Option<Self> {
        let event: Self = serde_json::from_str(record).ok()?;
        (event.kind() == kind).then_some(event)
    }
}
