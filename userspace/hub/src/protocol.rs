//! What hosts and hubs say to each other: JSON over HTTP/1.1 over TLS 1.3, both sides with certificates.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/nodes/NODE/hello` | [`Hello`] | [`Wanted`] |
//! | `POST /v1/nodes/NODE/standings` | [`Standings`] | nothing (204) |
//! | `GET /v1/nodes/NODE/votes?wait_s=N` | | [`Due`], at the latest after N seconds |
//! | `POST /v1/nodes/NODE/outcomes` | [`Outcomes`] | nothing (204) |
//!
//! Whoever is answered 2xx knows that it is durable. Errors are answered as [`Problem`]: 400 for what makes no
//! sense, 403 for whom the certificate does not name, 503 where the store can't be reached; then the next hub is
//! asked. A vote is told until its outcome has come back, so it needs no cursor that could pass one by.

use approval::desk::Standing;
use approval::vote::Voted;
use approval::{Vote, VoteError};
use serde::{Deserialize, Serialize};
use types::id::RequestId;

/// The longest body either way: 64 requests of 64 KiB of text that JSON makes six times as long at the worst would
/// be 24 MiB; [`STANDINGS_BYTES`] of them, and one more, are less than 2 MiB.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Requests in one body.
pub const STANDINGS_MAX: usize = 64;

/// Bytes of JSON of requests in one body, above which no further one is added.
pub const STANDINGS_BYTES: usize = 1024 * 1024;

/// Votes in one answer: 256 × about 2 KiB = 512 KiB.
pub const DUE_MAX: usize = 256;

/// How long a hub may be asked to wait for votes, in seconds; below what firewalls forget idle connections after.
pub const WAIT_S_MAX: u64 = 25;

/// A vote as the hub has it: a number that is no other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VoteId(pub u64);

/// What a host says first, and again from time to time: what waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// When it was so, microseconds since 1970 UTC by the host's clock. Of what the hub believes to wait there
    /// since before, all else is over.
    pub at_us: i64,
    /// All that waits.
    pub waiting: Vec<Known>,
}

/// A request, and how far it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Which.
    pub id: RequestId,
    /// See [`progress`].
    pub progress: u64,
}

/// What the hub does not have, or not as far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The hub's name.
    pub hub: String,
    /// Which requests.
    pub requests: Vec<RequestId>,
}

/// How requests stand; with their texts while they wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standings {
    /// At most [`STANDINGS_MAX`].
    pub standings: Vec<Standing>,
}

/// Votes whose outcome the hub does not know yet, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// At most [`DUE_MAX`].
    pub votes: Vec<DueVote>,
}

/// A vote that waits for its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueVote {
    /// Which.
    pub id: VoteId,
    /// On what.
    pub request: RequestId,
    /// The vote.
    pub vote: Vote,
}

/// What became of votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcomes {
    /// At most [`DUE_MAX`].
    pub outcomes: Vec<Settled>,
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settled {
    /// Which.
    pub id: VoteId,
    /// What.
    pub outcome: Outcome,
}

/// What a host made of a vote.
pub type Outcome = Result<Voted, VoteError>;

/// Why a hub does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// In words.
    pub error: String,
}

/// How far a request went: grows with whatever happens to it at its host and never shrinks, so that of two
/// accounts of it the later one is known.
pub fn progress(standing: &Standing) -> u64 {
    let Standing { request: _, votes, grant, ended } = standing;
    let votes = u64::try_from(votes.len()).unwrap_or(u64::MAX);
    let spent = grant.as_ref().map_or(0, |grant| u64::from(grant.spent));
    // 64 votes at most, 2^32 uses.
    votes + spent + u64::from(ended.is_some())
}

#[cfg(test)]
mod tests {
    use approval::Ending;
    use approval::vote::Voted;

    use super::*;

    #[test]
    fn outcomes_are_read_as_they_are_written() {
        for outcome in [
            Ok(Voted::Granted),
            Ok(Voted::Counted),
            Err(VoteError::NotFound),
            Err(VoteError::Over(Ending::Expired)),
            Err(VoteError::NotApprover("dba".into())),
            Err(VoteError::Reason),
        ] {
            let settled = Settled { id: VoteId(7), outcome };
            let text = serde_json::to_string(&settled).unwrap();
            assert_eq!(serde_json::from_str::<Settled>(&text).unwrap(), settled, "{text}");
        }
    }
}
