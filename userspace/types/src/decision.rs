//! What policy answers.

use std::fmt;
use std::sync::Arc;

use crate::approval::Terms;
use crate::id::PolicyId;
use crate::redact::MaskRule;

/// The answer to one command: what happens, what must be done with it, and why.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub effect: Effect,
    /// What an allow must come with.
    pub obligations: Arc<[Obligation]>,
    /// The policies that determined it; empty where nothing permitted it (default deny).
    pub determining: Arc<[PolicyId]>,
    /// Why, in words the agent is shown; holds no literal of the statement.
    pub reason: Arc<str>,
    /// SHA-256 of the policy set and its schema, so that the record can name it.
    pub policy_digest: [u8; 32],
}

impl Decision {
    /// Whether the command may go on.
    pub fn is_allow(&self) -> bool {
        self.effect == Effect::Allow
    }

    /// The first determining policy, or `default-deny` where none matched.
    pub fn rule(&self) -> &str {
        self.determining.first().map_or("default-deny", |id| &id.0)
    }
}

/// What happens to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It goes on.
    Allow,
    /// It is refused.
    Deny,
    /// It waits for a person.
    RequireApproval,
}

impl Effect {
    /// The archive's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::RequireApproval => "approval_required",
        }
    }
}

/// What must be done when an allowed command goes on. One that is not understood means deny.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obligation {
    /// Mask this class of data in the response.
    Mask(MaskRule),
    /// Cut the response, or end the statement, where this is reached.
    Limit(Limit),
    /// Record so much of the response, as the agent sees it, and a digest of all of it.
    Record(Keep),
    /// Hold it until people approved, on these terms: those of each policy that asks for it.
    Approve(Arc<Terms>),
}

/// How much of a response is recorded. The more, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Keep {
    /// Nothing but the digest.
    Digest,
    /// So many bytes of it in words.
    Head(u32),
    /// All of it, where recordings are sealed: the bytes of the wire in both directions. In words as much as may be.
    Full,
}

impl Keep {
    /// How many bytes in words, as far as there is room.
    pub fn words(self) -> usize {
        match self {
            Self::Digest => 0,
            Self::Head(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            Self::Full => usize::MAX,
        }
    }
}

impl fmt::Display for Keep {
    /// As policies have it: `digest`, `16384`, `full`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest => f.write_str("digest"),
            Self::Head(bytes) => bytes.fmt(f),
            Self::Full => f.write_str("full"),
        }
    }
}

/// How much there may be of something, in one statement or in all statements of a window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// The policy that sets it.
    pub policy: PolicyId,
    /// Of what.
    pub measure: Measure,
    /// How much: rows, bytes, or microseconds.
    pub most: u64,
    /// The window, in seconds, over which all statements of an agent at a target are counted
    /// together; `None`: each statement for itself.
    pub window_s: Option<u32>,
}

/// What a limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Rows of results and of COPY data, to the agent and from it.
    Rows,
    /// Their bytes, as the server or the agent sent them, and those of what is replicated.
    Bytes,
    /// How long statements run, in microseconds.
    Time,
}

impl Measure {
    /// Its word in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for Limit {
    /// `rows=1000`, `bytes=1048576/3600s`, `time=30000ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy: _, measure, most, window_s } = self;
        match measure {
            Measure::Rows | Measure::Bytes => write!(f, "{}={most}", measure.as_str())?,
            Measure::Time => write!(f, "time={}ms", most / 1_000)?,
        }
        match window_s {
            Some(window) => write!(f, "/{window}s"),
            None => Ok(()),
        }
    }
}
