//! The desk of this host, for whoever takes people's votes here.

use std::sync::Arc;
use std::time::Duration;

use approval::control::Ask;
use approval::desk::{Desk, DeskError, Later, Standing, Which};
use approval::request::ApprovalRequest;
use approval::vote::Voted;
use approval::{Vote, VoteError};
use journal::recorder::Recorder;
use proxy::approvals::Approvals;
use serde::Deserialize as _;
use tokio::sync::Semaphore;
use tracing::warn;
use types::id::RequestId;

/// How long a watch goes on without a change: less than its asker's patience.
const WATCH_PATIENCE: Duration = Duration::from_secs(25);

/// Watches at once, of 256 clients that the control socket takes: more are answered at once and ask again later.
const WATCHES_MAX: usize = 64;

/// The desk of this host.
pub(crate) struct HostDesk {
    approvals: Arc<Approvals>,
    recorder: Recorder,
    watches: Semaphore,
}

impl HostDesk {
    pub(crate) fn new(approvals: Arc<Approvals>, recorder: Recorder) -> Self {
        Self { approvals, recorder, watches: Semaphore::new(WATCHES_MAX) }
    }

    /// Completes when there is something to answer: for who watches, a change, or that it took too long.
    pub(crate) async fn watched(&self, ask: &serde_json::Value) {
        let Ok(Ask::Watch { seen }) = Ask::deserialize(ask) else { return };
        let Ok(_place) = self.watches.try_acquire() else { return };
        tokio::time::timeout(WATCH_PATIENCE, self.changed(seen)).await.ok();
    }

    /// What it is a desk of.
    pub(crate) fn approvals(&self) -> &Arc<Approvals> {
        &self.approvals
    }

    /// Takes a vote; it is durable when this answers, and so is that it does not count. Blocks.
    pub(crate) fn take(
        &self,
        id: RequestId,
        vote: &Vote,
    ) -> Result<Result<Voted, VoteError>, DeskError> {
        take(&self.approvals, &self.recorder, id, vote)
    }
}

impl Desk for HostDesk {
    fn list(&self, which: Which, most: usize) -> Later<'_, Result<Vec<Standing>, DeskError>> {
        Box::pin(async move { Ok(self.approvals.with(|book| book.list(which, most))) })
    }

    fn show(&self, id: RequestId) -> Later<'_, Result<Option<Standing>, DeskError>> {
        Box::pin(async move { Ok(self.approvals.with(|book| book.standing(id).cloned())) })
    }

    fn alike<'a>(
        &'a self,
        request: &'a ApprovalRequest,
        most: usize,
    ) -> Later<'a, Result<Vec<Standing>, DeskError>> {
        Box::pin(async move { Ok(self.approvals.with(|book| book.alike(request, most))) })
    }

    fn vote(
        &self,
        id: RequestId,
        vote: Vote,
    ) -> Later<'_, Result<Result<Voted, VoteError>, DeskError>> {
        let (approvals, recorder) = (Arc::clone(&self.approvals), self.recorder.clone());
        Box::pin(async move {
            let taken = move || take(&approvals, &recorder, id, &vote);
            let taken = tokio::task::spawn_blocking(taken).await;
            taken.unwrap_or_else(|_| Err(DeskError("it is about to end".to_owned())))
        })
    }

    fn changed(&self, seen: u64) -> Later<'_, u64> {
        let mut changes = self.approvals.changes();
        // A desk that was started anew counts from 0.
        Box::pin(async move { changes.wait_for(|now| *now != seen).await.map_or(seen, |now| *now) })
    }
}

fn take(
    approvals: &Approvals,
    recorder: &Recorder,
    id: RequestId,
    vote: &Vote,
) -> Result<Result<Voted, VoteError>, DeskError> {
    let refused = |error: &VoteError| {
        let Vote { approver, answer, reason: _, at_us: _, way, from, shown_sha256 } = vote;
        let detail = serde_json::json!({
            "request": id, "approver": approver.key(), "user": approver.user, "answer": answer, "way": way,
            "from": from, "shown_sha256": shown_sha256, "why": error, "reason": error.to_string(),
        });
        recorder.control("approval.vote_refused", &detail.to_string())
    };
    let not_durable = |error: &dyn std::error::Error| DeskError(error.to_string());
    let (taken, lsn) = match approvals.vote(id, vote) {
        Ok((voted, lsn)) => (Ok(voted), lsn),
        Err(error) => {
            let lsn = refused(&error).map_err(|error| not_durable(&error))?;
            warn!(%id, approver = vote.approver.key(), why = %error, "a vote does not count");
            (Err(error), lsn)
        }
    };
    recorder.wait(lsn).map_err(|error| not_durable(&error))?;
    Ok(taken)
}
