//! The loop of one session: input → events → record → decide → record the decision → tell the
//! session → flush, with bytes held back until their records are durable.

mod catalog;
mod holding;
mod reading;
mod taped;
mod unrecorded;

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use identity::standing::{Held as Identified, Standing};
use journal::record::Approval;
use journal::record::Lsn;
use mask::{Catalog, Masks};
use policy::SessionPolicy;
use proto::postgres::PostgresSession;
use proto::session::{Obligations, Refusal, Session, Verdict};
use tracing::debug;
use types::addr::Side;
use types::clock::Timestamp;
use types::command::{Analysis, Command, CommandKind};
use types::decision::{Decision, Effect};
use types::event::Event;
use types::id::CommandId;
use types::redact::DataClass;

use crate::bearer::{self, Bearer, Weighed};
use crate::durability::Seat;
use crate::flows::Bytes;
use crate::follower::Follower;
use crate::held::{Held, Over};
use crate::knowledge::Knowledge;
use crate::ledger::Ledger;
use crate::leg::Leg;
use crate::limiter::{self, Limiter};
use crate::login::{self, Login};
use crate::serve::Worker;
use crate::targets::Ack;

/// One session between its two sockets.
pub(crate) struct Relay<'w> {
    worker: &'w Worker,
    seat: Seat,
    ack: Ack,
    session: PostgresSession,
    login: Login<'w>,
    bearer: Bearer<'w>,
    limiter: Limiter<'w>,
    follower: Follower,
    /// Why the agent acts for nobody any more.
    dismissed: Option<&'static str>,
    knowledge: Knowledge<'w>,
    ledger: Ledger<'w>,
    downstream: Leg,
    upstream: Leg,
    /// What must be durable before a byte goes to each side.
    gates: Gates,
    policy: Option<Arc<SessionPolicy>>,
    masks: Option<Arc<Masks>>,
    catalog: Arc<Catalog>,
    /// The version of the catalog that the session's redactor goes by; 0 where it goes by none.
    version: Option<u64>,
    /// What the agent sent that waits for a catalog: one read, [`types::limits::READ_BYTES`].
    held_back: Option<Vec<u8>>,
    /// The command that waits for people.
    held: Option<Box<Held>>,
    /// The last message of which something was refused.
    refused: Option<u32>,
    /// The commands under way of which policy has every byte kept.
    in_full: Vec<CommandId>,
    /// The agent is told that the journal can't be written: what is left to go to it says so, and nothing else.
    is_unrecorded: bool,
    /// Something was written since the server was last seen at rest outside of a transaction.
    wrote: bool,
    /// What the last statement probes, by this catalog.
    probed: Option<(Arc<Analysis>, Arc<[DataClass]>)>,
    /// The latest reading of the clock, and whether it is of this turn.
    read_at: Timestamp,
    is_read: bool,
    idle: Idle,
}

/// Which sides had nothing to read when they were asked in this turn. The sockets are looked at between turns: until the
/// next, for which they wake the session, nothing comes.
#[derive(Clone, Copy, Debug, Default)]
struct Idle {
    downstream: bool,
    upstream: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gates {
    downstream: Lsn,
    upstream: Lsn,
    /// A command has begun in this turn that goes to the server no sooner than it is recorded.
    awaits_begun: bool,
}

/// What a session's driver is made of.
type Parts<'w> = (PostgresSession, (Login<'w>, Bearer<'w>), Limiter<'w>, Follower);

/// Why an operator's end of a session is none of its identity.
const BY_OPERATOR: &str = "ended_by_operator";

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By its protocol, or by a peer that closed: what is left is flushed.
    Session,
    /// A socket failed.
    Socket(Side, io::Error),
    /// The journal failed: nothing more goes anywhere.
    Journal,
    /// The agent acts for nobody any more.
    Dismissed,
    /// An operator ended it.
    Operator,
}

impl End {
    /// The word in records.
    fn reason(&self) -> &'static str {
        match self {
            Self::Session => "closed",
            Self::Socket(Side::Downstream, _) => "agent_lost",
            Self::Socket(Side::Upstream, _) => "target_lost",
            Self::Journal => "journal_failed",
            Self::Dismissed => "identity_ended",
            Self::Operator => BY_OPERATOR,
        }
    }
}

impl<'w> Relay<'w> {
    pub(crate) fn new(
        worker: &'w Worker,
        (seat, ack): (Seat, Ack),
        (session, (login, bearer), limiter, follower): Parts<'w>,
        knowledge: Knowledge<'w>,
        mut ledger: Ledger<'w>,
        (downstream, upstream): (Leg, Leg),
    ) -> Self {
        ledger.gather();
        Self {
            worker,
            seat,
            ack,
            session,
            login,
            bearer,
            limiter,
            follower,
            dismissed: None,
            knowledge,
            ledger,
            downstream,
            upstream,
            gates: Gates::default(),
            policy: None,
            masks: None,
            catalog: Arc::new(Catalog::unknown()),
            version: None,
            held_back: None,
            held: None,
            refused: None,
            in_full: Vec::new(),
            is_unrecorded: false,
            wrote: false,
            probed: None,
            read_at: Timestamp::default(),
            is_read: false,
            idle: Idle::default(),
        }
    }

    /// Runs the session as far as its sockets and the journal allow; ready when it ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.is_read = false;
        self.idle = Idle::default();
        self.follower.watch(cx);
        // Mostly it is a socket that has something; what fails there counts once the rest had its turn.
        let mut read = self.poll_reads(cx);
        loop {
            self.follow(self.read_at);
            self.settle();
            if let Some(why) = self.dismissed {
                return Poll::Ready(if why == BY_OPERATOR {
                    End::Operator
                } else {
                    End::Dismissed
                });
            }
            let mut moved = self.login.poll(&mut self.session, cx).is_ready();
            moved |= self.poll_bearer(cx).is_ready();
            moved |= self.limiter.poll(&mut self.session, &self.ledger, cx).is_ready();
            moved |= self.poll_knowledge(cx).is_ready();
            moved |= self.poll_held(cx).is_ready();
            for side in [Side::Upstream, Side::Downstream] {
                // What was written makes nothing possible but reading, which comes next.
                if let Poll::Ready(Err(end)) = self.poll_write(side, cx) {
                    return Poll::Ready(end);
                }
            }
            if self.session.is_ended() {
                return Poll::Ready(End::Session);
            }
            if !matches!(read, Poll::Ready(Err(_))) {
                read = self.poll_reads(cx);
            }
            match read {
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Ready(Ok(())) => moved = true,
                Poll::Pending => {}
            }
            if moved {
                read = Poll::Pending;
                continue;
            }
            if !self.ledger.is_to_end(cx) {
                return Poll::Pending;
            }
            let now = self.now();
            self.dismiss(BY_OPERATOR, now);
        }
    }

    /// The present, as it was when this turn first asked for it or last read from a socket.
    fn now(&mut self) -> Timestamp {
        if self.is_read { self.read_at } else { self.look_at_clock() }
    }

    /// The present.
    fn look_at_clock(&mut self) -> Timestamp {
        self.read_at = self.worker.door.clock.now();
        self.is_read = true;
        self.read_at
    }

    /// Writes what is left to both sides; ready when nothing is.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.settle();
        for side in [Side::Upstream, Side::Downstream] {
            if side == Side::Upstream && self.login.holds_back() {
                // The session ended before it could log in: nothing is due.
                continue;
            }
            let flushed = loop {
                match ready!(self.poll_write(side, cx)) {
                    Ok(_) if self.session.transmit(side).is_empty() => {
                        break ready!(self.leg(side).poll_shutdown(cx))
                            .map_err(|error| End::Socket(side, error));
                    }
                    Ok(_) => {}
                    Err(end) => break Err(end),
                }
            };
            if let Err(end) = flushed {
                debug!(?end, "not flushed");
            }
        }
        Poll::Ready(())
    }

    /// Ends the session's records.
    pub(crate) fn close(mut self, end: &End) {
        if let End::Socket(side, error) = end {
            debug!(?side, %error, "socket failed");
        }
        self.finish(end.reason());
    }

    /// Takes the session's last events, which say what was cut off, and closes its records.
    fn finish(&mut self, reason: &'static str) {
        self.give_up(&holding::over(reason));
        let now = self.worker.door.clock.now();
        self.session.handle_eof(Side::Upstream, now);
        while let Some(event) = self.session.poll_event() {
            if let Event::Outcome(outcome) = event {
                self.ledger.end(outcome, now);
            }
        }
        let carried = Bytes { sent: self.downstream.came(), received: self.downstream.written() };
        self.ledger.close(reason, carried, now);
        self.knowledge.close(now);
        self.downstream.part();
    }

    fn poll_write(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        if !self.is_unrecorded && !self.seal_gathered() {
            self.tell_unrecorded();
            return Poll::Ready(Err(End::Journal));
        }
        if self.session.transmit(side).is_empty() {
            let flushed = ready!(self.leg(side).poll_flush(cx));
            return Poll::Ready(flushed.map(|()| false).map_err(|error| End::Socket(side, error)));
        }
        if side == Side::Upstream && self.login.holds_back() {
            return Poll::Pending;
        }
        let gate = match side {
            Side::Downstream => self.gates.downstream,
            Side::Upstream => self.gates.upstream,
        };
        if ready!(self.seat.poll(gate, cx)).is_err() || !self.keep_received(side) {
            self.tell_unrecorded();
            return Poll::Ready(Err(End::Journal));
        }
        if side == Side::Upstream {
            self.login.recheck(&mut self.session, &self.ledger);
            let now = self.now();
            self.session.sent(now);
        }
        let leg = match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        };
        leg.poll_write(cx, self.session.transmit(side)).map_err(|error| End::Socket(side, error))
    }

    fn leg(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// Takes what the session has to say: everything is recorded, commands are decided.
    fn settle(&mut self) {
        while let Some(event) = self.session.poll_event() {
            let now = self.now();
            match event {
                Event::Command(command) => self.decide(&command, now),
                Event::Outcome(outcome) => {
                    self.in_full.retain(|command| *command != outcome.command);
                    self.ledger.end(outcome, now);
                }
                Event::Violation(violation) => self.ledger.violation(violation, now),
                Event::Authenticated(method) => self.ledger.authenticated(method, now),
                Event::Notified(notification) => self.ledger.notified(&notification, now),
                Event::ProbeWanted => self.want_catalog(now),
                Event::Probed(rows) => self.take_catalog(rows.as_deref(), now),
            }
        }
        self.keep_sent();
        if self.knowledge.is_changing()
            && let Some(status) = self.session.at_rest()
        {
            self.knowledge.rests(status);
        }
        let who = (&self.ledger, self.follower.standing());
        self.login.settle(&mut self.session, &self.worker.door, who);
    }

    /// Goes by whom the agent acts for now: others' policies and masks, or none at all.
    fn follow(&mut self, now: Timestamp) {
        let Some(held) = self.follower.changed(now.unix_us) else { return };
        let kept = match held {
            Identified::For(identity) => self.ledger.go_on_for(identity),
            Identified::Ended(why) => return self.dismiss(why, now),
        };
        if !kept {
            return self.dismiss("too many identities", now);
        }
        if self.policy.take().is_some() {
            let door = &self.worker.door;
            let policy = door.policy.session(self.ledger.principal(), self.ledger.target());
            self.masks = Some(door.masks(policy.masks()));
            (self.policy, self.version) = (Some(policy), None);
            self.use_known();
        }
    }

    /// Weighs a password; where it is a token, the session goes on by that. Ready when that moved the session.
    fn poll_bearer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let who = (&self.ledger, self.follower.standing());
        match ready!(self.bearer.poll(&mut self.session, &self.login, who, cx)) {
            Weighed::Same => {}
            Weighed::By(standing) => {
                self.act_by(standing);
                self.session.open();
            }
        }
        Poll::Ready(())
    }

    /// Goes on by another standing, before the opening is written and decided.
    fn act_by(&mut self, standing: Arc<Standing>) {
        match self.follower.turn_to(standing) {
            Identified::For(identity) => drop(self.ledger.go_on_for(identity)),
            Identified::Ended(why) => self.dismiss(why, self.worker.door.clock.now()),
        }
    }

    /// A cancel request is of whom the session is that its key names.
    fn cancels_for(&mut self) {
        let Some(asked) = self.session.cancel_request() else { return };
        let (addr, principal) = (self.ledger.target().addr, self.ledger.principal());
        if let Ok(found) = self.worker.door.cancels.find(addr, asked, principal) {
            self.act_by(Arc::clone(found.standing()));
        }
    }

    /// Ends the session: the agent is told, the server is to give up what it works at.
    fn dismiss(&mut self, why: &'static str, now: Timestamp) {
        if self.dismissed.replace(why).is_some() {
            return;
        }
        self.give_up(&Over::IdentityEnded(why));
        self.ledger.dismissed(why, now);
        let text = match why {
            BY_OPERATOR => "vestibule: an operator ended this session".to_owned(),
            why => format!("vestibule: whom this agent acts for has lost access ({why})"),
        };
        // admin_shutdown (PostgreSQL documentation, appendix A): what a server says that ends a session.
        if let Some(request) = self.session.dismiss(*b"57P01", &text) {
            self.limiter.give_up(self.ledger.accepted().clone(), request);
        }
    }

    fn decide(&mut self, command: &Command, now: Timestamp) {
        if let Some(held) = &mut self.held {
            // It is of the same message.
            held.behind.push_back(command.clone());
            return;
        }
        self.follow(now);
        if command.kind == CommandKind::Cancel {
            self.cancels_for();
        }
        if self.session.at_rest() == Some(b'I') {
            self.wrote = false;
        }
        let decision = self.judge(command, now);
        if decision.effect == Effect::RequireApproval {
            return self.require(command, &decision, now);
        }
        let (decision, verdict) = self.verdict(command.kind, decision);
        let decided = self.look_at_clock();
        self.conclude(command, &decision, verdict, None, (now, decided));
    }

    /// What policy says to a command, and what more stands against it.
    fn judge(&mut self, command: &Command, now: Timestamp) -> Decision {
        let policy = self.open(command.kind);
        let probed = self.probed(command);
        let decision = match self.dismissed {
            None => policy.authorize(command, &probed, now.unix_us),
            Some(why) => policy.identity_ended(why),
        };
        let decision = (decision, &*self.worker.door);
        let decision = self.login.restrict(command.kind, &mut self.session, decision, &self.ledger);
        match self.bearer.refused() {
            Some(why) if command.kind == CommandKind::Connect => {
                login::refused(&decision, bearer::RULE, &bearer::told(why))
            }
            _ => decision,
        }
    }

    /// Records a command with its decision and what people said, and has it go its way. It came and was decided
    /// at these times.
    fn conclude(
        &mut self,
        command: &Command,
        decision: &Decision,
        verdict: Verdict,
        said: Option<&Approval>,
        (came, decided): (Timestamp, Timestamp),
    ) {
        let denied = matches!(verdict, Verdict::Deny(_) | Verdict::RollBack(_));
        if !denied && self.knowledge.begins(&command.statement) {
            self.use_known();
        }
        self.ledger.blind(command, &self.catalog);
        let masks = self.masks.as_deref();
        let verdict = match self.ledger.begin(command, decision, masks, (came, decided), said) {
            Ok(lsn) => {
                self.seat.gathered();
                self.gates.downstream = lsn;
                let is_write = command.statement.needs_wal();
                let waits = match self.ack {
                    Ack::Wal => is_write,
                    Ack::Group => command.statement.needs_wal_always(),
                };
                if !denied && (command.kind != CommandKind::Query || waits || said.is_some()) {
                    self.gates.upstream = lsn;
                    self.gates.awaits_begun = true;
                }
                self.wrote |= is_write && !denied;
                verdict
            }
            Err(error) => Verdict::Deny(unrecorded::refusal(&error)),
        };
        self.keep_wire(command, &verdict);
        let counters = &self.worker.door.counters;
        counters.commands_total.up();
        if denied {
            counters.commands_denied.up();
            self.refused = Some(command.batch);
        }
        if command.kind == CommandKind::Connect
            && matches!(verdict, Verdict::Allow | Verdict::Under(_))
        {
            self.login.admit();
        }
        self.session.handle_decision(command.id, verdict);
    }

    /// What the session is told: an allow with obligations that all are met, or a refusal; and the
    /// decision as it is recorded.
    fn verdict(&self, kind: CommandKind, decision: Decision) -> (Decision, Verdict) {
        let refusal = |message| {
            let mut refusal = Refusal::new(decision.rule().into(), message);
            if self.bearer.refused().is_some() && kind == CommandKind::Connect {
                // invalid_password
                refusal.code = *b"28P01";
            }
            refusal
        };
        let verdict = match decision.effect {
            Effect::Allow => match self.limiter.obligations(kind, &decision, &self.ledger) {
                Ok(Obligations { limits: None, record: None }) => Verdict::Allow,
                Ok(obligations) => Verdict::Under(obligations),
                Err(refusal) => {
                    return (limiter::refused(&decision, &refusal), Verdict::Deny(refusal));
                }
            },
            // What waits for people was let go or refused before.
            Effect::Deny | Effect::RequireApproval => {
                Verdict::Deny(refusal(Arc::clone(&decision.reason)))
            }
        };
        (decision, verdict)
    }

    /// The session's policy; its first command opens its record.
    fn open(&mut self, kind: CommandKind) -> Arc<SessionPolicy> {
        if let Some(policy) = &self.policy {
            return Arc::clone(policy);
        }
        if kind == CommandKind::Connect {
            self.login.open(&mut self.session, &self.worker.door, &mut self.ledger);
        }
        self.ledger.open();
        let door = &self.worker.door;
        let policy = door.policy.session(self.ledger.principal(), self.ledger.target());
        self.masks = Some(door.masks(policy.masks()));
        self.policy = Some(Arc::clone(&policy));
        policy
    }

    /// The masked classes that a command probes; those of the last statement are remembered.
    fn probed(&mut self, command: &Command) -> Arc<[DataClass]> {
        let analysis = &command.statement.analysis;
        if let Some((known, probed)) = &self.probed
            && Arc::ptr_eq(known, analysis)
        {
            return Arc::clone(probed);
        }
        let masks = self.masks.as_ref();
        let probed = masks.map(|masks| masks.probed(&self.catalog, analysis));
        let probed: Arc<[DataClass]> = probed.unwrap_or_default().into();
        self.probed = Some((Arc::clone(analysis), Arc::clone(&probed)));
        probed
    }
}

impl Drop for Relay<'_> {
    /// A session cut off by the daemon's stop still closes its records.
    fn drop(&mut self) {
        if !self.ledger.is_closed() {
            self.finish("daemon_stop");
        }
    }
}
