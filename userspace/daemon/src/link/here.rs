//! This host's end of the link: its approvals and its journal.

use std::sync::Arc;

use approval::book::Book;
use approval::desk::{DeskError, Later};
use approval::{Event, Vote, VoteError};
use hub::link::Host;
use hub::protocol::Outcome;
use journal::record::Lsn;
use journal::recorder::{AppendError, Recorder};
use proxy::approvals::Approvals;
use tokio::sync::broadcast;
use types::id::RequestId;

/// What the link drives.
pub(crate) struct Here {
    pub(crate) approvals: Arc<Approvals>,
    pub(crate) recorder: Recorder,
}

impl Here {
    /// Writes down that a vote does not count, as this host's own desk does.
    fn refused(&self, id: RequestId, vote: &Vote, error: &VoteError) -> Result<Lsn, AppendError> {
        let Vote { approver, answer, reason: _, at_us: _, way, from, shown_sha256 } = vote;
        let detail = serde_json::json!({
            "request": id, "approver": approver.key(), "user": approver.user, "answer": answer, "way": way,
            "from": from, "shown_sha256": shown_sha256, "why": error, "reason": error.to_string(),
        });
        tracing::warn!(%id, approver = approver.key(), why = %error, "a vote does not count");
        self.recorder.control("approval.vote_refused", &detail.to_string())
    }
}

impl Host for Here {
    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.approvals.events()
    }

    fn look(&self, look: &mut dyn FnMut(&Book)) {
        self.approvals.with(look);
    }

    fn votes(&self, votes: Vec<(RequestId, Vote)>) -> Later<'_, Result<Vec<Outcome>, DeskError>> {
        Box::pin(async move {
            let mut last = None;
            let mut taken = Vec::with_capacity(votes.len());
            for (id, vote) in votes {
                let (outcome, lsn) = match self.approvals.vote(id, &vote) {
                    Ok((voted, lsn)) => (Ok(voted), lsn),
                    Err(error) => {
                        let lsn = self.refused(id, &vote, &error);
                        (Err(error), lsn.map_err(|error| DeskError(error.to_string()))?)
                    }
                };
                last = last.max(Some(lsn));
                taken.push(outcome);
            }
            let Some(last) = last else { return Ok(taken) };
            let recorder = self.recorder.clone();
            let waited = tokio::task::spawn_blocking(move || recorder.wait(last)).await;
            let durable = waited.map_err(|_| DeskError("the daemon ends".into()))?;
            durable.map_err(|error| DeskError(error.to_string()))?;
            Ok(taken)
        })
    }

    fn record(&self, kind: &'static str, detail: &str) {
        if let Err(error) = self.recorder.control(kind, detail) {
            tracing::warn!(%error, kind, "not recorded");
        }
    }
}
