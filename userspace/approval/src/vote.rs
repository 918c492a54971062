//! Who answers, and how.

use serde::{Deserialize, Serialize};

use crate::event::Ending;

/// A person who answers, proven by a token of an issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approver {
    /// The issuer.
    pub idp: String,
    /// The issuer's key for the person.
    pub sub: String,
    /// A name to read.
    pub user: String,
    /// The person's groups by the issuer.
    pub groups: Vec<String>,
}

impl Approver {
    /// `sub@issuer`, as records say it.
    pub fn key(&self) -> String {
        format!("{}@{}", self.sub, self.idp)
    }
}

/// One person's answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Who.
    pub approver: Approver,
    /// What.
    pub answer: Answer,
    /// Why, in the person's words; at most [`REASON_BYTES_MAX`]. Needed for a refusal and to break the glass.
    pub reason: String,
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
    /// By what: `cli`, `console`, `api`.
    pub way: String,
    /// From where: an address, or who it is to the host.
    pub from: String,
    /// SHA-256 of what the person was shown, hexadecimal.
    pub shown_sha256: String,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It may go on.
    Approve,
    /// It may not, whoever else answers.
    Deny,
    /// It goes on at once by this one person's word; an emergency.
    BreakGlass,
}

/// What a person says at most: a paragraph.
pub const REASON_BYTES_MAX: usize = 1_000;

/// What became of a vote that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Voted {
    /// The same person said the same before: nothing changed.
    Already,
    /// More people are needed.
    Counted,
    /// The command goes on.
    Granted,
    /// The command is refused.
    Refused,
    /// Kept at a hub: the request's host could not be reached yet. It decides once it is.
    Kept,
}

/// Why a vote does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "detail", rename_all = "snake_case")]
pub enum VoteError {
    /// There is none, or it is long over.
    #[error("there is no such request")]
    NotFound,
    /// It is over.
    #[error("the request is over: {}", .0.as_str())]
    Over(Ending),
    /// Four eyes.
    #[error("{0}: whoever asks, answers for it or acts in between can't approve it")]
    Involved(String),
    /// In none of the groups.
    #[error("needs a member of {0}")]
    NotApprover(String),
    /// Breaking the glass is granted to others, or to nobody.
    #[error("breaking the glass here needs a member of {0}")]
    NotBreaker(String),
    /// The person answered otherwise before.
    #[error("you answered this request otherwise before")]
    Otherwise,
    /// What was shown is not what waits.
    #[error("what you were shown is not what waits: look at it again")]
    ShownDiffers,
    /// A reason is missing or too long.
    #[error("a reason of 1 to {REASON_BYTES_MAX} bytes is needed")]
    Reason,
    /// It can't be written down, so it did not happen.
    #[error("the vote could not be recorded: {0}")]
    NotRecorded(String),
}
