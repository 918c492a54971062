//! What is asked about approvals at a host's control socket, inside `types::control`'s requests and answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use types::id::RequestId;

use crate::desk::{Standing, Which};
use crate::vote::{Answer, VoteError, Voted};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Which requests there are.
    List {
        /// Which.
        which: Which,
        /// At most so many.
        most: usize,
    },
    /// One request, and past ones like it.
    Show {
        /// Which.
        id: RequestId,
    },
    /// Take the vote of whoever asks.
    Vote {
        /// On which request.
        id: RequestId,
        /// What.
        answer: Answer,
        /// Why.
        reason: String,
        /// SHA-256 of what was shown, hexadecimal.
        shown_sha256: String,
        /// Who called sudo, where somebody did.
        sudo_uid: Option<u32>,
        /// The file with the voter's token, in the place of a login on the host; an absolute path.
        token_file: Option<PathBuf>,
    },
    /// Answer once something changed after `seen`, or half a minute later.
    Watch {
        /// What the last answer said; 0 at first.
        seen: u64,
    },
    /// What is told to webhooks.
    Deliveries {
        /// At most so many that are due, and as many that are done.
        most: usize,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// To [`Ask::List`].
    Requests {
        /// Newest first, without their texts.
        requests: Vec<Standing>,
        /// How many are meant, shown or not.
        total: usize,
    },
    /// To [`Ask::Show`].
    Shown {
        /// The request.
        standing: Box<Standing>,
        /// Over ones like it, newest first.
        alike: Vec<Standing>,
    },
    /// To [`Ask::Vote`]: it counts, and is durable.
    Voted {
        /// What became of it.
        voted: Voted,
        /// Who voted, `sub@issuer`.
        approver: String,
        /// The request as it stands now.
        standing: Box<Standing>,
    },
    /// To [`Ask::Vote`]: it does not count.
    NotCounted {
        /// Who voted, `sub@issuer`.
        approver: String,
        /// Why.
        error: VoteError,
        /// The same in words.
        reason: String,
    },
    /// To [`Ask::Watch`].
    Changed {
        /// What to see next.
        seen: u64,
    },
    /// To [`Ask::Deliveries`].
    Deliveries {
        /// Each hook.
        hooks: Vec<HookStanding>,
        /// What is due, and what was done last.
        deliveries: Vec<Delivery>,
    },
}

/// How a webhook stands, since the daemon was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStanding {
    /// Its name.
    pub hook: String,
    /// What it hears of.
    pub events: Vec<String>,
    /// Messages that are due.
    pub due: usize,
    /// When what the oldest of them tells happened, microseconds since 1970 UTC.
    pub oldest_us: Option<i64>,
    /// Messages that were taken, as far as the journal was read.
    pub delivered: u64,
    /// Messages that are tried no more.
    pub given_up: u64,
    /// Why the last attempt failed, where it did.
    pub error: Option<String>,
}

/// One message to one webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The hook.
    pub hook: String,
    /// The message's id, which the receiver gets.
    pub message: String,
    /// `due`, `delivered` or `given_up`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When what it tells happened, where it is due; else when that was done; microseconds since 1970 UTC.
    pub at_us: i64,
    /// Why the last attempt failed, where it did.
    pub error: Option<String>,
}
