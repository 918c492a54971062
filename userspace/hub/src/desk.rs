//! The approval desk of all hosts.

use std::sync::Arc;
use std::time::Duration;

use approval::book::Book;
use approval::desk::{Desk, DeskError, Later, Standing, Which};
use approval::vote::Voted;
use approval::{Event, Vote, VoteError};
use tokio::time::Instant;
use types::id::RequestId;

use crate::protocol::VoteId;
use crate::store::{Awaited, Cast, Progress, Store, StoreError};

/// How long a person waits to hear what a host made of a vote; it is kept all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a hub lists at most.
const LISTED_MAX: usize = 1_000;

/// The desk over what a hub keeps.
#[derive(Clone, Debug)]
pub struct HubDesk {
    store: Arc<Store>,
}

impl HubDesk {
    /// Over this store.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    async fn take(
        &self,
        id: RequestId,
        vote: Vote,
    ) -> Result<Result<Voted, VoteError>, StoreError> {
        let Some(standing) = self.store.show(id).await? else {
            return Ok(Err(VoteError::NotFound));
        };
        // The host decides; what it would refuse is not worth its time.
        if let Err(error) = would_count(&standing, &vote) {
            return Ok(Err(error));
        }
        match self.store.cast(id, vote).await? {
            Cast::Kept(vote) => {
                let said = self.outcome(vote).await?;
                Ok(said.unwrap_or(Ok(Voted::Kept)))
            }
            Cast::Already(vote) => {
                let said = self.outcome(vote).await?;
                Ok(said.unwrap_or(Ok(Voted::Kept)).map(|voted| match voted {
                    Voted::Kept => Voted::Kept,
                    _ => Voted::Already,
                }))
            }
            Cast::Otherwise => Ok(Err(VoteError::Otherwise)),
            Cast::Gone => {
                let over = self.store.show(id).await?.and_then(|standing| standing.ended);
                Ok(Err(over.map_or(VoteError::NotFound, |over| VoteError::Over(over.how))))
            }
        }
    }

    /// What became of a vote; `None` where its host has not said in time.
    async fn outcome(&self, vote: VoteId) -> Result<Option<Result<Voted, VoteError>>, StoreError> {
        let waiter = self.store.wait_for(Awaited::Settled(vote));
        let until = Instant::now() + PATIENCE;
        loop {
            if let Progress::Settled(outcome) = self.store.progress(vote).await? {
                return Ok(Some(outcome));
            }
            if tokio::time::timeout_at(until, waiter.told()).await.is_err() {
                return Ok(None);
            }
        }
    }
}

impl Desk for HubDesk {
    fn list(&self, which: Which, most: usize) -> Later<'_, Result<Vec<Standing>, DeskError>> {
        Box::pin(async move {
            self.store.list(which, most.min(LISTED_MAX)).await.map_err(|error| told(&error))
        })
    }

    fn show(&self, id: RequestId) -> Later<'_, Result<Option<Standing>, DeskError>> {
        Box::pin(async move { self.store.show(id).await.map_err(|error| told(&error)) })
    }

    fn vote(
        &self,
        id: RequestId,
        vote: Vote,
    ) -> Later<'_, Result<Result<Voted, VoteError>, DeskError>> {
        Box::pin(async move { self.take(id, vote).await.map_err(|error| told(&error)) })
    }

    fn changed(&self, seen: u64) -> Later<'_, u64> {
        Box::pin(async move {
            let mut changes = self.store.changes();
            let changed = changes.wait_for(|number| *number != seen).await;
            let number = changed.ok().map(|number| *number);
            match number {
                Some(number) => number,
                // The store is gone, and whoever asks goes with it.
                None => std::future::pending().await,
            }
        })
    }
}

/// Whether a vote would count, by what the hub knows; a person's first answer stands, so what was said before does.
fn would_count(standing: &Standing, vote: &Vote) -> Result<(), VoteError> {
    let Standing { request, votes, grant: _, ended } = standing;
    if let Some(over) = ended {
        let same = approval::four_eyes::same_person;
        let mut before = votes.iter().filter(|before| same(&before.approver, &vote.approver));
        // Whoever lost the answer and votes again is told what it was.
        return match before.next() {
            Some(before) if before.answer == vote.answer => Ok(()),
            Some(_) => Err(VoteError::Otherwise),
            None => Err(VoteError::Over(over.how)),
        };
    }
    let mut book = Book::default();
    book.apply(&Event::Requested(Box::new(request.clone())));
    for vote in votes {
        book.apply(&Event::Voted { request: request.id, vote: vote.clone() });
    }
    book.vote(request.id, vote).map(drop)
}

fn told(error: &StoreError) -> DeskError {
    tracing::error!(%error, "the approval desk can't answer");
    DeskError(error.to_string())
}
