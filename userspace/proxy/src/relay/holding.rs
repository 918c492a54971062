//! Commands that need people's approval: by a grant that covers them they go on, else they wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use approval::request::Grant;
use journal::record::Approval;
use proto::session::{Refusal, Session, Verdict};
use types::approval::Coverage;
use types::clock::{Timestamp, utc};
use types::command::{Command, CommandKind, Transaction};
use types::decision::{Decision, Effect};

use super::Relay;
use crate::approvals::Answer;
use crate::approvals::asking::{self, Asking};
use crate::approvals::estimate;
use crate::approvals::terms::{Asked, Claim};
use crate::held::{Held, Over, granted};
use crate::limiter;

impl Relay<'_> {
    /// Has a command go on by a grant that covers it, or wait for one.
    pub(super) fn require(&mut self, command: &Command, decision: &Decision, now: Timestamp) {
        let decided = self.look_at_clock();
        let asked = match self.asked(command, decision) {
            Ok(asked) => asked,
            Err(refusal) => {
                return self.refuse(command, (decision, refusal), None, (now, decided));
            }
        };
        let claim = self.claim(command, &asked);
        if let Some(grant) = self.spend(command, &asked, &claim) {
            let said = granted(&grant);
            return self.approve(command, decision, &said, (now, decided));
        }
        let held = Held::new((command.clone(), decision.clone()), asked, (now, decided));
        self.held = Some(Box::new(held));
        self.session.handle_decision(command.id, Verdict::Hold);
    }

    /// Uses an earlier grant that covers a command.
    fn spend(&self, command: &Command, asked: &Asked, claim: &Claim) -> Option<Grant> {
        if asked.covers(&command.statement) == Coverage::Command {
            return None;
        }
        let approvals = &self.worker.door.approvals;
        approvals.spend(&claim.wanted(), command.id.0, self.ledger.acts_since_us())
    }

    /// What people are to be asked; the refusal where they can't be.
    fn asked(&self, command: &Command, decision: &Decision) -> Result<Asked, Refusal> {
        let refusal = |why: &str| {
            let reason = &decision.reason;
            Refusal::new(decision.rule().into(), format!("{reason} ({why})").into())
        };
        if command.kind != CommandKind::Query {
            return Err(refusal("approval can be asked for statements only"));
        }
        if self.refused == Some(command.batch) {
            return Err(refusal("another statement of the same message is refused"));
        }
        if self.session.is_skipping() {
            return Err(refusal("an earlier statement of the same run failed: it would not run"));
        }
        if let Some(why) = asking::not_shown(command, self.session.whole_parameters()) {
            return Err(refusal(why));
        }
        self.limiter.obligations(command.kind, decision, &self.ledger)?;
        Asked::of(decision).ok_or_else(|| refusal("no person may approve it"))
    }

    fn claim(&self, command: &Command, asked: &Asked) -> Claim {
        let whole = self.session.whole_parameters();
        Claim::new(&self.worker.door.approvals, &self.ledger, (command, asked), whole)
    }

    /// Goes on with the command that waits, where there is something to; ready when that moved the session.
    pub(super) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(held) = &self.held else { return Poll::Pending };
        let Some(request) = held.request else {
            if !self.session.is_settled() {
                return Poll::Pending;
            }
            if !self.estimate() {
                self.ask();
            }
            return Poll::Ready(());
        };
        let over = if self.session.is_left() {
            Over::Disconnected
        } else if self.login.is_withdrawn(cx) {
            Over::Cancelled
        } else if self.session.is_skipping() {
            Over::TargetLost
        } else {
            match self.worker.door.approvals.poll(request, cx.waker()) {
                Answer::Granted => return self.release(),
                Answer::Over(how, reason) => Over::of(how, reason),
                Answer::Waits => {
                    let (timeout_us, now) =
                        (self.session.statement_timeout_us(), self.worker.door.clock.now());
                    let holds_locks = self.session.may_hold_locks();
                    let Some(held) = &mut self.held else { return Poll::Pending };
                    let (at_ns, over) = held.due(timeout_us, holds_locks);
                    std::task::ready!(held.poll_until(at_ns, now, cx));
                    over
                }
            }
        };
        self.give_up(&over);
        Poll::Ready(())
    }

    /// Asks the server how many rows it expects, once, where policy lets it and the statement can be planned without
    /// effect; whether that is under way.
    fn estimate(&mut self) -> bool {
        let Some(held) = &mut self.held else { return false };
        let is_asked = std::mem::replace(&mut held.is_estimated, true);
        let may = held.asked.estimates() && estimate::is_planned_only(&held.command.statement);
        !is_asked && may && self.session.ask_plan()
    }

    /// Asks people, once the server has answered all that came before.
    fn ask(&mut self) {
        let Some(held) = self.held.take() else { return };
        if let Some(refusal) = self.not_asked(&held) {
            return self.conclude_held(*held, None, refusal);
        }
        let now = self.worker.door.clock.now();
        let claim = self.claim(&held.command, &held.asked);
        let shown = self.ledger.shown(&held.command, self.masks.as_deref());
        let approvals = &self.worker.door.approvals;
        let asking = Asking {
            node: approvals.node(),
            around: self.follower.standing().all(),
            command: &held.command,
            decision: &held.decision,
            asked: &held.asked,
            claim: &claim,
            shown,
            whole: self.session.whole_parameters(),
            transaction: self.session.transaction(),
            rows_estimated: self.session.plan().and_then(estimate::rows),
            now,
        };
        let request = asking::request(&self.ledger, asking);
        let (id, expires_us) = (request.id, request.expires_us);
        if let Err(error) = approvals.ask(request) {
            let message = format!("{} (nobody can be asked: {error})", held.decision.reason);
            // configuration_limit_exceeded
            let (policy, code) = (held.decision.rule().into(), *b"53400");
            let refusal = Refusal { policy, message: message.into(), code };
            return self.conclude_held(*held, None, Verdict::Deny(refusal));
        }
        let detail = format!(
            "{}; request {id}: {} may approve it until {}",
            held.decision.reason,
            held.asked.who(),
            utc(expires_us)
        );
        self.session.tell_held("vestibule: the statement waits for approval", &detail);
        self.session.ask_timeout();
        self.held = Some(held);
        if let Some(held) = &mut self.held {
            held.request = Some(id);
        }
    }

    /// Why people are not asked after all: what is known now that the server has answered.
    fn not_asked(&mut self, held: &Held) -> Option<Verdict> {
        let deny = |why: &str, code: [u8; 5]| {
            let policy = held.decision.rule().into();
            let message = format!("{} ({why})", held.decision.reason).into();
            Some(Verdict::Deny(Refusal { policy, message, code }))
        };
        if self.session.is_skipping() {
            let why = "an earlier statement of the same run failed: it would not run";
            return deny(why, *b"42501");
        }
        if self.session.transaction() == Transaction::Failed {
            // in_failed_sql_transaction
            return deny("the transaction has failed: it would not run", *b"25P02");
        }
        if held.asked.before_write() && self.wrote && self.session.may_hold_locks() {
            let why = "approval must be asked before the first write of a transaction";
            return deny(why, *b"42501");
        }
        let now = self.worker.door.clock.now();
        let denied = held.behind.iter().find_map(|command| {
            let decision = self.judge(command, now);
            (decision.effect == Effect::Deny).then_some(decision)
        })?;
        let message =
            format!("another statement of the same message is refused: {}", denied.reason);
        Some(Verdict::Deny(Refusal::new(denied.rule().into(), message.into())))
    }

    /// Lets the command go that waited, if what was granted still is what it is.
    fn release(&mut self) -> Poll<()> {
        if self.downstream.is_closed() {
            self.give_up(&Over::Disconnected);
            return Poll::Ready(());
        }
        let Some(held) = self.held.take() else { return Poll::Pending };
        let now = self.look_at_clock();
        let again = self.judge(&held.command, now);
        if again.effect == Effect::Deny {
            let refusal = Refusal::new(again.rule().into(), Arc::clone(&again.reason));
            self.conclude_held(*held, None, Verdict::Deny(refusal));
            return Poll::Ready(());
        }
        let asked = match again.effect {
            Effect::RequireApproval => Asked::of(&again),
            // What nobody needs to approve any more goes on as what was approved.
            Effect::Allow | Effect::Deny => Some(held.asked.clone()),
        };
        let grant = asked.filter(|asked| *asked == held.asked).and_then(|asked| {
            let claim = self.claim(&held.command, &asked);
            let (id, approvals) = (held.request?, &self.worker.door.approvals);
            let own = approvals.release(id, &claim.wanted());
            // A command that is alike may have used what was granted before this one woke.
            own.or_else(|| self.spend(&held.command, &asked, &claim))
        });
        if let Some(grant) = grant {
            self.conclude_held(*held, Some(&grant), Verdict::Allow);
        } else {
            let refusal = held.refusal(&Over::Changed);
            self.conclude_held(*held, None, refusal);
        }
        Poll::Ready(())
    }

    /// Ends the waiting of a command, if one waits: it is refused.
    pub(super) fn give_up(&mut self, over: &Over) {
        let Some(held) = self.held.take() else { return };
        if let Some(id) = held.request {
            self.worker.door.approvals.end(id, over.ending());
        }
        let refusal = held.refusal(over);
        self.conclude_held(*held, None, refusal);
    }

    /// Records what became of a command that waited, and goes on with those behind it.
    fn conclude_held(&mut self, held: Held, grant: Option<&Grant>, verdict: Verdict) {
        self.login.goes_on();
        let now = self.look_at_clock();
        let said = held.said(grant, now);
        let Held { command, decision, since, decided, behind, .. } = held;
        let times = (since, decided);
        match (verdict, &said) {
            (Verdict::Allow, Some(said)) => self.approve(&command, &decision, said, times),
            (Verdict::Deny(refusal), said) => {
                self.refuse(&command, (&decision, refusal), said.as_ref(), times);
            }
            (verdict, said) => {
                let denied = match &verdict {
                    Verdict::RollBack(refusal) => limiter::refused(&decision, refusal),
                    _ => decision,
                };
                self.conclude(&command, &denied, verdict, said.as_ref(), times);
            }
        }
        self.go_on(behind);
    }

    /// Decides the commands that stood behind one that waited.
    fn go_on(&mut self, mut behind: VecDeque<Command>) {
        while let Some(command) = behind.pop_front() {
            let now = self.look_at_clock();
            self.decide(&command, now);
            if let Some(held) = &mut self.held {
                behind.append(&mut held.behind);
                held.behind = behind;
                return;
            }
        }
    }

    fn approve(
        &mut self,
        command: &Command,
        decision: &Decision,
        said: &Approval,
        times: (Timestamp, Timestamp),
    ) {
        let allowed = Decision { effect: Effect::Allow, ..decision.clone() };
        let (decision, verdict) = self.verdict(command.kind, allowed);
        self.conclude(command, &decision, verdict, Some(said), times);
    }

    fn refuse(
        &mut self,
        command: &Command,
        (decision, refusal): (&Decision, Refusal),
        said: Option<&Approval>,
        times: (Timestamp, Timestamp),
    ) {
        let denied = limiter::refused(decision, &refusal);
        self.conclude(command, &denied, Verdict::Deny(refusal), said, times);
    }
}

/// How a session's end ends what waits in it.
pub(super) fn over(reason: &'static str) -> Over {
    match reason {
        "target_lost" => Over::TargetLost,
        "identity_ended" => Over::IdentityEnded("ended"),
        "daemon_stop" => Over::Stopped,
        _ => Over::Disconnected,
    }
}
