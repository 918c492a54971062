//! The loop of one session: input → events → record → decide → record the decision → tell the
//! session → flush, with bytes held back until their records are durable.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use identity::standing::{Held, Standing};
use journal::record::Lsn;
use policy::SessionPolicy;
use policy::mask::{Catalog, Masks, catalog_query};
use proto::postgres::PostgresSession;
use proto::session::{Obligations, Refusal, Session, Verdict};
use tracing::debug;
use types::addr::Side;
use types::clock::Timestamp;
use types::command::{Analysis, Command, CommandKind};
use types::decision::{Decision, Effect};
use types::event::Event;
use types::redact::DataClass;

use crate::bearer::{self, Bearer, Weighed};
use crate::catalog_reader::{self, Why};
use crate::flows::Bytes;
use crate::follower::Follower;
use crate::knowledge::{Knowledge, Step};
use crate::ledger::Ledger;
use crate::leg::Leg;
use crate::limiter::{self, Limiter};
use crate::login::{self, Login};
use crate::serve::Worker;

/// One session between its two sockets.
pub(crate) struct Relay<'w> {
    worker: &'w Worker,
    slot: u64,
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
    /// What the last statement probes, by this catalog.
    probed: Option<(Arc<Analysis>, Arc<[DataClass]>)>,
    /// The latest reading of the clock in this turn.
    read_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gates {
    downstream: Lsn,
    upstream: Lsn,
}

/// What a session's driver is made of.
type Parts<'w> = (PostgresSession, (Login<'w>, Bearer<'w>), Limiter<'w>, Follower);

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
        }
    }
}

impl<'w> Relay<'w> {
    pub(crate) fn new(
        worker: &'w Worker,
        slot: u64,
        (session, (login, bearer), limiter, follower): Parts<'w>,
        knowledge: Knowledge<'w>,
        ledger: Ledger<'w>,
        (downstream, upstream): (Leg, Leg),
    ) -> Self {
        Self {
            worker,
            slot,
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
            probed: None,
            read_at: None,
        }
    }

    /// Runs the session as far as its sockets and the journal allow; ready when it ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.read_at = None;
        loop {
            self.follower.watch(cx);
            self.follow(self.worker.door.clock.now());
            self.settle();
            if self.dismissed.is_some() {
                return Poll::Ready(End::Dismissed);
            }
            let mut moved = self.login.poll(&mut self.session, cx).is_ready();
            moved |= self.poll_bearer(cx).is_ready();
            moved |= self.limiter.poll(&mut self.session, &self.ledger, cx).is_ready();
            moved |= self.poll_knowledge(cx).is_ready();
            for side in [Side::Upstream, Side::Downstream] {
                // What was written makes nothing possible but reading, which comes next.
                if let Poll::Ready(Err(end)) = self.poll_write(side, cx) {
                    return Poll::Ready(end);
                }
            }
            if self.session.is_ended() {
                return Poll::Ready(End::Session);
            }
            for side in [Side::Downstream, Side::Upstream] {
                match self.poll_read(side, cx) {
                    Poll::Ready(Ok(())) => moved = true,
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    Poll::Pending => {}
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
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
        let now = self.worker.door.clock.now();
        self.session.handle_eof(Side::Upstream, now);
        while let Some(event) = self.session.poll_event() {
            if let Event::Outcome(outcome) = event {
                self.ledger.end(&outcome, now);
            }
        }
        let carried = Bytes { sent: self.downstream.came(), received: self.downstream.written() };
        self.ledger.close(reason, carried, now);
        self.knowledge.close(now);
        self.worker.waiters.forget(self.slot);
    }

    fn poll_write(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<Result<bool, End>> {
        if self.session.transmit(side).is_empty() {
            let flushed = ready!(self.leg(side).poll_flush(cx));
            return Poll::Ready(flushed.map(|()| false).map_err(|error| End::Socket(side, error)));
        }
        if side == Side::Upstream && self.login.holds_back() {
            return Poll::Pending;
        }
        let (leg, gate) = match side {
            Side::Downstream => (&mut self.downstream, self.gates.downstream),
            Side::Upstream => (&mut self.upstream, self.gates.upstream),
        };
        if ready!(self.worker.waiters.poll(self.slot, gate, cx)).is_err() {
            return Poll::Ready(Err(End::Journal));
        }
        if side == Side::Upstream {
            self.login.recheck(&mut self.session, &self.ledger);
            let clock = &self.worker.door.clock;
            self.session.sent(*self.read_at.get_or_insert_with(|| clock.now()));
        }
        leg.poll_write(cx, self.session.transmit(side)).map_err(|error| End::Socket(side, error))
    }

    fn leg(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        }
    }

    fn poll_read(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let leg = match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        };
        let is_held = side == Side::Downstream && self.held_back.is_some();
        if is_held || leg.ended() || !self.session.wants_input(side) {
            return Poll::Pending;
        }
        let worker = self.worker;
        let mut scratch = worker.scratch.borrow_mut();
        let read = ready!(leg.poll_read(cx, &mut scratch));
        let read = match read {
            Ok(read) => read,
            Err(error) => return Poll::Ready(Err(End::Socket(side, error))),
        };
        self.worker.waiters.relayed(read.len());
        let now = self.worker.door.clock.now();
        if read.is_empty() {
            self.session.handle_eof(side, now);
            return Poll::Ready(Ok(()));
        }
        if side == Side::Downstream
            && self.session.at_rest().is_some()
            && self.knowledge.is_behind(read, now)
        {
            self.held_back = Some(read.to_vec());
            drop(scratch);
            self.catch_up(now);
            return Poll::Ready(Ok(()));
        }
        if self.knowledge.is_lost() {
            self.use_known();
        }
        let (wipes, bytes) = (self.session.awaits_password(), read.len());
        self.session.handle_input(side, read, now);
        if wipes && side == Side::Downstream {
            scratch.iter_mut().take(bytes).for_each(|byte| *byte = 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what the session has to say: everything is recorded, commands are decided.
    fn settle(&mut self) {
        while let Some(event) = self.session.poll_event() {
            let now = self.worker.door.clock.now();
            match event {
                Event::Command(command) => self.decide(&command, now),
                Event::Outcome(outcome) => self.ledger.end(&outcome, now),
                Event::Violation(violation) => self.ledger.violation(violation, now),
                Event::Authenticated(method) => self.ledger.authenticated(method, now),
                Event::Notified(notification) => self.ledger.notified(&notification, now),
                Event::ProbeWanted => self.want_catalog(now),
                Event::Probed(rows) => self.take_catalog(rows.as_deref(), now),
            }
        }
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
            Held::For(identity) => self.ledger.go_on_for(identity),
            Held::Ended(why) => return self.dismiss(why, now),
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
            Held::For(identity) => drop(self.ledger.go_on_for(identity)),
            Held::Ended(why) => self.dismiss(why, self.worker.door.clock.now()),
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
        self.ledger.dismissed(why, now);
        let text = format!("vestibule: whom this agent acts for has lost access ({why})");
        // admin_shutdown (PostgreSQL documentation, appendix A): what a server says that ends a session.
        if let Some(request) = self.session.dismiss(*b"57P01", &text) {
            self.limiter.give_up(self.ledger.accepted().clone(), request);
        }
    }

    fn decide(&mut self, command: &Command, now: Timestamp) {
        self.follow(now);
        if command.kind == CommandKind::Cancel {
            self.cancels_for();
        }
        let policy = self.open(command.kind);
        let probed = self.probed(command);
        let decision = match self.dismissed {
            None => policy.authorize(command, &probed, now.unix_us),
            Some(why) => policy.identity_ended(why),
        };
        let decision = (decision, &*self.worker.door);
        let decision = self.login.restrict(command.kind, &mut self.session, decision, &self.ledger);
        let decision = match self.bearer.refused() {
            Some(why) if command.kind == CommandKind::Connect => {
                login::refused(&decision, bearer::RULE, &bearer::told(why))
            }
            _ => decision,
        };
        let (decision, verdict) = self.verdict(command.kind, decision);
        let denied = matches!(verdict, Verdict::Deny(_));
        if !denied && self.knowledge.begins(&command.statement) {
            self.use_known();
        }
        let decided = self.worker.door.clock.now();
        self.read_at = Some(decided);
        let masks = self.masks.as_deref();
        let verdict = match self.ledger.begin(command, &decision, masks, (now, decided)) {
            Ok(lsn) => {
                self.worker.waiters.gathered();
                self.gates.downstream = lsn;
                let before_upstream =
                    command.kind != CommandKind::Query || command.statement.needs_wal();
                if before_upstream && !denied {
                    self.gates.upstream = lsn;
                }
                verdict
            }
            Err(error) => {
                let message = format!("{error}; nothing goes on unrecorded");
                Verdict::Deny(Refusal::new("journal".into(), message.into()))
            }
        };
        let counters = &self.worker.door.counters;
        counters.commands_total.up();
        if denied {
            counters.commands_denied.up();
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
            Effect::Deny => Verdict::Deny(refusal(Arc::clone(&decision.reason))),
            Effect::RequireApproval => {
                let reason = &decision.reason;
                let message =
                    format!("{reason} (needs a person's approval, and no approval desk is set up)");
                Verdict::Deny(refusal(message.into()))
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

    /// Before the agent's next bytes are taken: has a catalog sought, by a query of the session's own if
    /// it may ask one.
    fn catch_up(&mut self, now: Timestamp) {
        if !self.session.refresh() && self.knowledge.seek(&self.ledger, now, false) == Step::Done {
            self.use_known();
        }
    }

    /// The session asks for a catalog, and waits.
    fn want_catalog(&mut self, now: Timestamp) {
        // The server is ready, outside of a transaction.
        self.knowledge.rests(b'I');
        match self.knowledge.seek(&self.ledger, now, true) {
            Step::Wait => {}
            Step::Probe => {
                let classification = self.worker.door.policy.classification();
                self.session.probe(&catalog_query(classification, &self.knowledge.kept()));
            }
            Step::Done => {
                self.use_known();
                self.session.skip_probe();
            }
        }
    }

    fn take_catalog(&mut self, rows: Option<&catalog_reader::Rows>, now: Timestamp) {
        let failure = self.session.probe_failure().copied();
        let rows = rows.ok_or_else(|| failure.map_or(Why::Closed, Why::Probe));
        self.knowledge.read(&self.ledger, rows, now);
        self.use_known();
    }

    /// Goes on where waiting for a catalog ended; ready when that moved the session.
    fn poll_knowledge(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut moved = Poll::Pending;
        if self.knowledge.poll(cx).is_ready() {
            moved = Poll::Ready(());
            let now = self.worker.door.clock.now();
            if self.session.is_probing() {
                self.want_catalog(now);
            } else if self.knowledge.seek(&self.ledger, now, false) == Step::Done {
                self.use_known();
            }
        }
        if !self.knowledge.is_waiting()
            && !self.session.is_probing()
            && let Some(bytes) = self.held_back.take()
        {
            moved = Poll::Ready(());
            let now = self.worker.door.clock.now();
            self.session.handle_input(Side::Downstream, &bytes, now);
        }
        moved
    }

    /// Has masks go by what is known; they are made anew only for another version of it.
    fn use_known(&mut self) {
        let known = self.knowledge.known();
        let unknown = || (Arc::new(Catalog::unknown()), 0);
        let (catalog, version) =
            known.map_or_else(unknown, |known| (Arc::clone(&known.catalog), known.version));
        if self.version != Some(version)
            && let Some(masks) = &self.masks
        {
            self.version = Some(version);
            self.session.set_masks(masks.redactor(Arc::clone(&catalog)), version);
        }
        (self.catalog, self.probed) = (catalog, None);
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
