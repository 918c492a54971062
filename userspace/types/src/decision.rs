//! What policy answers.

use std::sync::Arc;

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
}
