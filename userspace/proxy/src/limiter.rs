//! Limits of one session's statements: what a decision sets, timers, and cancel requests of our own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::limit::{self, Bound, Limits};
use proto::postgres::PostgresSession;
use proto::session::{Obligations, Refusal};
use tokio::time::Sleep;
use tracing::warn;
use types::accepted::Accepted;
use types::command::CommandKind;
use types::decision::{Decision, Effect, Limit, Obligation};
use types::id::PolicyId;

use crate::cancels::Way;
use crate::door::Door;
use crate::ledger::Ledger;
use crate::preface;

/// How long a server may take to close a cancel request's connection.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// After which time a statement is cancelled again that did not end.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps one session's limits.
pub(crate) struct Limiter<'d> {
    door: &'d Arc<Door>,
    way: Way,
    timer: Option<Pin<Box<Sleep>>>,
    cancelling: Option<Cancelling<'d>>,
}

/// Whether the request can hit nothing more.
type Cancelling<'d> = Pin<Box<dyn Future<Output = bool> + 'd>>;

impl<'d> Limiter<'d> {
    /// For a session whose server is reached by `way`.
    pub(crate) fn new(door: &'d Arc<Door>, way: Way) -> Self {
        Self { door, way, timer: None, cancelling: None }
    }

    /// What a decision has kept to; where a limit is reached already, or can't be kept, the refusal.
    pub(crate) fn obligations(
        &self,
        kind: CommandKind,
        decision: &Decision,
        ledger: &Ledger<'_>,
    ) -> Result<Obligations, Refusal> {
        let (mut bounds, mut record) = (Vec::new(), None);
        for obligation in decision.obligations.iter() {
            // A new kind of obligation does not compile until it is met.
            let limit = match obligation {
                Obligation::Limit(limit) => limit,
                Obligation::Record(keep) => {
                    record = record.max(Some(*keep));
                    continue;
                }
                // The redactor's, in force for the whole session; and people's, who were asked before.
                Obligation::Mask(_) | Obligation::Approve(_) => continue,
            };
            if kind == CommandKind::Connect {
                // A login brings nothing; what it opens is limited command by command.
                continue;
            }
            if kind != CommandKind::Query {
                let message = "a limit can't be kept for this kind of request".into();
                return Err(Refusal::new(Arc::clone(&limit.policy.0), message));
            }
            bounds.push(self.bound(limit, ledger)?);
        }
        Ok(Obligations { limits: Limits::new(bounds), record })
    }

    fn bound(&self, limit: &Limit, ledger: &Ledger<'_>) -> Result<Bound, Refusal> {
        if limit.window_s.is_none() {
            return Ok(Bound { limit: limit.clone(), window: None });
        }
        let who = (&ledger.principal().agent, &ledger.target().name);
        let Some(tally) = self.door.windows.tally(limit, who, self.door.clock.now()) else {
            let message = "too many windows of limits are counted".into();
            return Err(Refusal::new(Arc::clone(&limit.policy.0), message));
        };
        if tally.left() == 0 {
            return Err(limit::refusal(limit));
        }
        Ok(Bound { limit: limit.clone(), window: Some(tally) })
    }

    /// Sends a cancel request for a session that ends now.
    pub(crate) fn give_up(&self, accepted: Accepted, request: Vec<u8>) {
        let (door, way) = (Arc::clone(self.door), self.way.clone());
        drop(tokio::task::spawn_local(async move { cancel(&door, accepted, way, request).await }));
    }

    /// Ends what is over its time, and has cancelled what is to be; ready when it moved the session.
    pub(crate) fn poll(
        &mut self,
        session: &mut PostgresSession,
        ledger: &Ledger<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if let Some(cancelling) = &mut self.cancelling {
            let Poll::Ready(sure) = cancelling.as_mut().poll(cx) else { return Poll::Pending };
            self.cancelling = None;
            self.timer = Some(Box::pin(tokio::time::sleep(AGAIN)));
            session.cancel_ended(sure);
            return Poll::Ready(());
        }
        if !session.is_limited() {
            self.timer = None;
            return Poll::Pending;
        }
        if let Some(request) = session.take_cancel() {
            ledger.cancelled(ledger.session(), "over its limit");
            let accepted = ledger.accepted().clone();
            let cancelling = cancel(self.door, accepted, self.way.clone(), request);
            self.cancelling = Some(Box::pin(cancelling));
            return Poll::Ready(());
        }
        if session.is_cut() {
            return self.wait(cx).map(|()| session.cancel_again());
        }
        let now = self.door.clock.now();
        let Some(left) = session.time_left(now) else { return Poll::Pending };
        if left == 0 {
            self.timer = None;
            session.time_out(now);
            return Poll::Ready(());
        }
        // Windows move on meanwhile: it is looked at again at least each second.
        let wait = Duration::from_micros(left).min(AGAIN);
        let timer = self.timer.insert(Box::pin(tokio::time::sleep(wait)));
        timer.as_mut().poll(cx).map(|()| self.door.windows.advance(now))
    }

    /// Waits for the timer that is set, once.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        let waited = timer.as_mut().poll(cx);
        if waited.is_ready() {
            self.timer = None;
        }
        waited
    }
}

/// What a decision is where a limit refuses what policy permits.
pub(crate) fn refused(decision: &Decision, refusal: &Refusal) -> Decision {
    Decision {
        effect: Effect::Deny,
        obligations: Arc::new([]),
        determining: Arc::new([PolicyId(Arc::clone(&refusal.policy))]),
        reason: Arc::clone(&refusal.message),
        policy_digest: decision.policy_digest,
    }
}

/// Sends a cancel request; false where it may hit what comes next.
async fn cancel(door: &Arc<Door>, accepted: Accepted, way: Way, request: Vec<u8>) -> bool {
    let cancelled = preface::cancel(door, &accepted, &way, &request);
    match tokio::time::timeout(CANCEL_PATIENCE, cancelled).await {
        Ok(Ok(())) => true,
        // Nothing was sent, or all of it and the connection is gone.
        Ok(Err(error)) => {
            warn!(%error, "a statement is not cancelled");
            true
        }
        Err(_) => false,
    }
}
