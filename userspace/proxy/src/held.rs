//! A command that waits for people, as its session's driver keeps it: what it is, since when, and until when.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use approval::event::Ending;
use approval::request::Grant;
use approval::shown::spoken;
use journal::record::Approval;
use proto::session::{Refusal, Verdict};
use tokio::time::Sleep;
use types::clock::Timestamp;
use types::command::Command;
use types::decision::Decision;
use types::id::RequestId;

use crate::approvals::terms::Asked;

/// query_canceled: what the server says of a statement that did not end in time, or was cancelled.
const CANCELLED: [u8; 5] = *b"57014";

/// A command that waits.
pub(crate) struct Held {
    pub(crate) command: Command,
    /// As it was decided when it came.
    pub(crate) decision: Decision,
    pub(crate) asked: Asked,
    /// When it came.
    pub(crate) since: Timestamp,
    /// When it was decided that it waits.
    pub(crate) decided: Timestamp,
    /// Commands of the same message behind it, no more than a message may have.
    pub(crate) behind: VecDeque<Command>,
    /// The request, once people are asked.
    pub(crate) request: Option<RequestId>,
    /// The server was asked what it expects of it, or need not be.
    pub(crate) is_estimated: bool,
    timer: Option<(u64, Pin<Box<Sleep>>)>,
}

/// Why a command does not wait any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// A person refused it, in these words.
    Refused(Option<String>),
    /// Nobody answered in time.
    Expired,
    /// It waited too long inside a transaction.
    InTransaction,
    /// The server's `statement_timeout`, in microseconds.
    TimedOut(u64),
    /// The agent cancelled it.
    Cancelled,
    /// The agent went away.
    Disconnected,
    /// The target went away, or said that nothing of it would run.
    TargetLost,
    /// Whom the agent acts for has lost access; why.
    IdentityEnded(&'static str),
    /// The daemon stops.
    Stopped,
    /// What was granted is not what it is now, or is no more.
    Changed,
}

impl Over {
    /// Where a request ended with this.
    pub(crate) fn of(how: Ending, reason: Option<String>) -> Self {
        match how {
            Ending::Refused => Self::Refused(reason),
            Ending::Expired => Self::Expired,
            Ending::TransactionExpired => Self::InTransaction,
            Ending::Cancelled => Self::Cancelled,
            Ending::Disconnected => Self::Disconnected,
            Ending::TargetLost => Self::TargetLost,
            Ending::IdentityEnded => Self::IdentityEnded("ended"),
            Ending::Restarted => Self::Stopped,
            Ending::Granted => Self::Changed,
        }
    }

    /// How its request ends.
    pub(crate) fn ending(&self) -> Ending {
        match self {
            Self::Refused(_) => Ending::Refused,
            Self::Expired => Ending::Expired,
            Self::InTransaction => Ending::TransactionExpired,
            // The agent set it.
            Self::TimedOut(_) | Self::Cancelled => Ending::Cancelled,
            Self::Disconnected => Ending::Disconnected,
            Self::TargetLost => Ending::TargetLost,
            Self::IdentityEnded(_) => Ending::IdentityEnded,
            Self::Stopped => Ending::Restarted,
            Self::Changed => Ending::Granted,
        }
    }

    /// What the agent is told.
    fn told(&self, held: &Held) -> (String, [u8; 5]) {
        let Held { decision, asked, request, .. } = held;
        let reason = &decision.reason;
        let request = request.map_or_else(String::new, |id| format!("; request {id}"));
        match self {
            Self::Refused(Some(words)) => {
                let words = spoken(words);
                (format!("{reason} (refused: {words}{request})"), *b"42501")
            }
            Self::Refused(None) => (format!("{reason} (refused{request})"), *b"42501"),
            Self::Expired => {
                let seconds = asked.request_s();
                (format!("{reason} (nobody answered within {seconds} s{request})"), CANCELLED)
            }
            Self::InTransaction => {
                let seconds = asked.transaction_s();
                let told = format!(
                    "{reason} (it may wait {seconds} s inside a transaction, which is rolled back{request})"
                );
                (told, CANCELLED)
            }
            Self::TimedOut(us) => {
                let ms = us / 1_000;
                let told = format!(
                    "canceling statement due to statement timeout ({ms} ms, waiting for approval{request})"
                );
                (told, CANCELLED)
            }
            Self::Cancelled => {
                let told = format!(
                    "canceling statement due to user request (it waited for approval{request})"
                );
                (told, CANCELLED)
            }
            Self::Disconnected => (format!("{reason} (the agent went away{request})"), CANCELLED),
            Self::TargetLost => {
                (format!("{reason} (the target ended it meanwhile{request})"), CANCELLED)
            }
            Self::IdentityEnded(why) => {
                (format!("whom this agent acts for has lost access ({why})"), *b"42501")
            }
            Self::Stopped => (format!("{reason} (the daemon stopped{request})"), CANCELLED),
            Self::Changed => {
                (format!("{reason} (what was approved is not what it is now{request})"), *b"42501")
            }
        }
    }
}

impl Held {
    /// A command that came at `since`, and was found to wait at `decided`.
    pub(crate) fn new(
        (command, decision): (Command, Decision),
        asked: Asked,
        (since, decided): (Timestamp, Timestamp),
    ) -> Self {
        let (behind, request, timer) = (VecDeque::new(), None, None);
        let is_estimated = false;
        Self { command, decision, asked, since, decided, behind, request, is_estimated, timer }
    }

    /// Until when it may wait, monotonic nanoseconds, and what it is then; `timeout_us` is the server's, and
    /// `holds_locks` whether a transaction is open at the server.
    pub(crate) fn due(&self, timeout_us: Option<u64>, holds_locks: bool) -> (u64, Over) {
        let after = |us: u64| self.since.mono_ns.saturating_add(us.saturating_mul(1_000));
        let seconds = |seconds: u32| after(u64::from(seconds) * 1_000_000);
        let expiry = Some((seconds(self.asked.request_s()), Over::Expired));
        let transaction = || (seconds(self.asked.transaction_s()), Over::InTransaction);
        let timeout = timeout_us.map(|us| (after(us), Over::TimedOut(us)));
        let dues = [expiry, holds_locks.then(transaction), timeout];
        let first = dues.into_iter().flatten().min_by_key(|(at, _)| *at);
        first.unwrap_or((self.since.mono_ns, Over::Expired))
    }

    /// Ready at `at_ns`.
    pub(crate) fn poll_until(
        &mut self,
        at_ns: u64,
        now: Timestamp,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if now.mono_ns >= at_ns {
            return Poll::Ready(());
        }
        if self.timer.as_ref().is_none_or(|(armed, _)| *armed != at_ns) {
            let left = Duration::from_nanos(at_ns - now.mono_ns);
            self.timer = Some((at_ns, Box::pin(tokio::time::sleep(left))));
        }
        let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
        timer.as_mut().poll(cx)
    }

    /// What people said, for the record: that they granted it, or nothing.
    pub(crate) fn said(&self, grant: Option<&Grant>, now: Timestamp) -> Option<Approval> {
        let held_us = Some(now.us_since(self.decided));
        match (grant, self.request) {
            (Some(grant), _) => Some(Approval { held_us, ..granted(grant) }),
            (None, Some(request)) => Some(Approval {
                request,
                approvers: Vec::new(),
                granted_us: None,
                covers: None,
                broken_glass: false,
                held_us,
            }),
            (None, None) => None,
        }
    }

    /// What becomes of it where it waits no longer.
    pub(crate) fn refusal(&self, over: &Over) -> Verdict {
        let (message, code) = over.told(self);
        let policy = self.decision.rule().into();
        let refusal = Refusal { policy, message: message.into(), code };
        match over {
            Over::InTransaction => Verdict::RollBack(refusal),
            _ => Verdict::Deny(refusal),
        }
    }
}

/// What is recorded of a grant.
pub(crate) fn granted(grant: &Grant) -> Approval {
    Approval {
        request: grant.id,
        approvers: grant.approvers.clone(),
        granted_us: Some(grant.at_us),
        covers: Some(grant.covers),
        broken_glass: grant.broken_glass,
        held_us: None,
    }
}
