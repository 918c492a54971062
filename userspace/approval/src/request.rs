//! What is asked, and what is granted.

use serde::{Deserialize, Serialize};
use types::approval::Coverage;
use types::id::RequestId;

/// A command that waits for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequest {
    /// Which.
    pub id: RequestId,
    /// The host where it waits.
    pub node: String,
    /// Since when, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Until when, microseconds since 1970 UTC.
    pub expires_us: i64,
    /// The session, a UUIDv7.
    pub session: String,
    /// The command's place in it.
    pub command: u32,
    /// Who asks.
    pub requester: Requester,
    /// What is reached.
    pub target: Reached,
    /// `db.query`, ….
    pub kind: String,
    /// The leading verb, upper case.
    pub verb: String,
    /// What is done to what, as `delete public.transfers`, sorted.
    pub accesses: Vec<String>,
    /// What makes it dangerous, in policies' words.
    pub risks: Vec<String>,
    /// The statement without literals.
    pub normalized: String,
    /// The statement as it is shown: whole; secrets and values that are masked for records are replaced.
    /// Not in journals, so empty where the request was read from one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Parameters as they are shown, in order; not in journals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// Whether something in text or parameters is replaced.
    #[serde(default)]
    pub is_masked: bool,
    /// How many rows the server expects it to touch, where policy lets it be asked.
    #[serde(default)]
    pub rows_estimated: Option<u64>,
    /// The server's transaction: `none`, `open`, `failed`.
    pub transaction: String,
    /// Why policy holds it.
    pub reason: String,
    /// SHA-256 of the policy set, hexadecimal.
    pub policy_digest: String,
    /// What each policy asks for.
    pub terms: Vec<Wants>,
    /// What a grant covers: of several policies' terms, the least.
    pub covers: Coverage,
    /// How long a grant lives, in seconds: of several policies' terms, the shortest.
    pub grant_s: u32,
    /// What identifies the very command: principal, target, exact text and parameters; a keyed digest,
    /// hexadecimal.
    pub binding: String,
    /// What identifies commands alike: the same without literals and parameters; a keyed digest, hexadecimal.
    pub pattern: String,
    /// SHA-256 of [`crate::shown::shown`], hexadecimal: what an approver must have seen.
    pub shown_sha256: String,
}

/// Who asks: a principal, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// The agent.
    pub agent: String,
    /// Which start of it.
    pub instance: String,
    /// Who acts, from the outermost to this agent; people and clients that act by a token's word as `sub@issuer`.
    pub chain: Vec<String>,
    /// The person's name.
    pub user: Option<String>,
    /// Who vouches for the person.
    pub idp: Option<String>,
    /// The voucher's key for the person.
    pub sub: Option<String>,
    /// Who answers for the agent: `sub@issuer` of a login, or a word.
    pub owner: Option<String>,
    /// Who else has a part in it: the people whom agents around this one act for and who answer for those, as
    /// `sub@issuer` and by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub around: Vec<String>,
    /// The process.
    pub pid: u32,
    /// Its executable.
    pub exe: Option<String>,
    /// SHA-256 of that, hexadecimal.
    pub exe_sha256: Option<String>,
    /// What it was started with, secrets replaced.
    pub command_line: Option<String>,
}

/// What is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The target's name in the configuration.
    pub name: String,
    /// Its host, where the agent named one.
    pub host: Option<String>,
    /// The database.
    pub database: Option<String>,
    /// The account there.
    pub account: Option<String>,
    /// `postgresql`, ….
    pub protocol: String,
}

/// One policy's terms, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// The policy.
    pub policy: String,
    /// Who may approve: members of any of these.
    pub groups: Vec<String>,
    /// How many people.
    pub people: u8,
    /// Who may break the glass.
    #[serde(default)]
    pub break_glass: Vec<String>,
}

/// A command that a grant is sought for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// See [`ApprovalRequest::binding`].
    pub binding: &'a str,
    /// See [`ApprovalRequest::pattern`].
    pub pattern: &'a str,
    /// The session.
    pub session: &'a str,
    /// See [`ApprovalRequest::accesses`].
    pub accesses: &'a [String],
    /// The policies that ask for approval: a grant counts only if it was given for all of them.
    pub policies: &'a [String],
}

/// What people approved; its id is the request's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Of which request.
    pub id: RequestId,
    /// Since when, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Until when, microseconds since 1970 UTC.
    pub expires_us: i64,
    /// What it covers.
    pub covers: Coverage,
    /// Of the request.
    pub binding: String,
    /// Of the request.
    pub pattern: String,
    /// Of the request.
    pub session: String,
    /// Of the request.
    pub accesses: Vec<String>,
    /// The policies whose terms were met.
    pub policies: Vec<String>,
    /// Who approved, as `sub@issuer`, in the order of their votes.
    pub approvers: Vec<String>,
    /// One person let it through in an emergency.
    #[serde(default)]
    pub broken_glass: bool,
    /// How often it was used.
    #[serde(default)]
    pub spent: u32,
}

impl Grant {
    /// Whether it still covers a command at `now_us`.
    pub fn covers(&self, wanted: &Wanted<'_>, now_us: i64) -> bool {
        let Wanted { binding, pattern, session, accesses, policies } = *wanted;
        let is_alive = now_us < self.expires_us;
        let for_all = policies.iter().all(|policy| self.policies.contains(policy));
        let fits = match self.covers {
            Coverage::Command => self.spent == 0 && self.binding == binding,
            Coverage::Alike(times) => self.spent < times && self.pattern == pattern,
            Coverage::Session => {
                self.session == session
                    && accesses.iter().all(|access| self.accesses.contains(access))
            }
        };
        is_alive && for_all && fits && !policies.is_empty()
    }
}
