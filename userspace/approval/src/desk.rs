//! Where approvers come to: what a console, an API or a command line asks of a host or a hub.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use types::id::RequestId;

use crate::book::OVER_KEPT;
use crate::event::Ending;
use crate::request::{ApprovalRequest, Grant};
use crate::vote::{Vote, VoteError, Voted};

/// An answer that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One desk: of a host, or of a hub that several hosts ask at.
pub trait Desk: Send + Sync {
    /// Requests, newest first, at most `most`.
    fn list(&self, which: Which, most: usize) -> Later<'_, Result<Vec<Standing>, DeskError>>;

    /// One request and all that became of it.
    fn show(&self, id: RequestId) -> Later<'_, Result<Option<Standing>, DeskError>>;

    /// Requests that are over and were alike: the same pattern, newest first, at most `most`. Whoever has them at hand
    /// need not list all for it.
    fn alike<'a>(
        &'a self,
        request: &'a ApprovalRequest,
        most: usize,
    ) -> Later<'a, Result<Vec<Standing>, DeskError>> {
        Box::pin(async move {
            let over = self.list(Which::Over, OVER_KEPT).await?;
            let alike = over.into_iter().filter(|one| one.request.pattern == request.pattern);
            Ok(alike.take(most).collect())
        })
    }

    /// Takes a vote; it is durable, and what follows from it is on its way, when this answers.
    fn vote(
        &self,
        id: RequestId,
        vote: Vote,
    ) -> Later<'_, Result<Result<Voted, VoteError>, DeskError>>;

    /// Completes when something changed after `seen`; answers the number to see next. Start with 0.
    fn changed(&self, seen: u64) -> Later<'_, u64>;
}

/// Which requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Those that wait.
    Waiting,
    /// Those that are over, as far as they are kept.
    Over,
    /// All of both.
    All,
}

/// A request as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What was asked.
    pub request: ApprovalRequest,
    /// Who answered, in order.
    pub votes: Vec<Vote>,
    /// What was granted, if it was.
    pub grant: Option<Grant>,
    /// How it ended, if it is over.
    pub ended: Option<Over>,
}

impl Standing {
    /// The same without what is long: the text and the parameters.
    #[must_use]
    pub fn brief(&self) -> Self {
        let (text, parameters) = (String::new(), Vec::new());
        let Self { request, votes, grant, ended } = self;
        let request = ApprovalRequest { text, parameters, ..request.clone() };
        Self { request, votes: votes.clone(), grant: grant.clone(), ended: ended.clone() }
    }
}

/// How and when a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// How.
    pub how: Ending,
    /// The person's reason, where there is one.
    pub reason: Option<String>,
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
}

/// Why a desk can't answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the approval desk can't answer: {0}")]
pub struct DeskError(pub String);
