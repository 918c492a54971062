//! Undecided commands: held at the head of the carry, sent up or made to fail once decided.

use std::collections::VecDeque;
use std::sync::Arc;

use types::addr::Side;
use types::command::{Risk, Statement};
use types::event::Status;
use types::id::CommandId;

use super::expect::{Batch, Expect, InFlight};
use super::message;
use super::prepared::{Portal, Rows};
use super::{Phase, PostgresSession};
use crate::session::{Obligations, Refusal, Verdict};

/// A message whose commands are being decided.
#[derive(Debug)]
pub(super) struct Pending {
    /// Its length on the wire; it lies at the head of the carry.
    pub(super) length: usize,
    pub(super) kind: Request,
    pub(super) commands: Vec<InFlight>,
    /// How many of the commands were decided.
    pub(super) decided: usize,
    /// Whether it is refused together with its transaction.
    rolls_back: bool,
}

/// What kind of message it is.
#[derive(Debug)]
pub(super) enum Request {
    Startup,
    Cancel,
    Query,
    Function,
    Execute { name: Box<[u8]>, portal: Option<Arc<Portal>> },
}

impl Pending {
    pub(super) fn new(length: usize, kind: Request, commands: Vec<InFlight>) -> Self {
        Self { length, kind, commands, decided: 0, rolls_back: false }
    }

    pub(super) fn into_commands(self) -> Vec<InFlight> {
        self.commands
    }
}

impl PostgresSession {
    /// Takes one decision; with the last of a message the message goes its way.
    pub(super) fn decide(&mut self, id: CommandId, verdict: Verdict) {
        let Some(pending) = &mut self.agent.pending else { return };
        let Some(command) = pending.commands.get_mut(pending.decided) else { return };
        if command.id != id {
            return;
        }
        match verdict {
            Verdict::Hold => return self.begin_hold(),
            Verdict::Allow => command.limited = self.cursors.limits_of(command).map(Box::new),
            Verdict::Deny(refusal) => command.refusal = Some(refusal),
            Verdict::RollBack(refusal) => {
                pending.rolls_back = true;
                command.refusal = Some(refusal);
            }
            Verdict::Under(Obligations { limits, record }) => {
                if let Some(keep) = record {
                    self.recorder.record(command, keep);
                }
                let under = match (limits, &pending.kind) {
                    (None, _) => self.cursors.limits_of(command),
                    (Some(limits), Request::Query) => Some(self.cursors.limited(command, limits)),
                    (Some(limits), Request::Execute { portal, .. }) => {
                        let mut under = self.cursors.limited(command, limits);
                        if let Some(portal) = portal {
                            under.limited =
                                under.limited.counted_in(portal.used.get_or_init(Arc::default));
                        }
                        Some(under)
                    }
                    // A limit that can't be kept is no obligation that is met.
                    (Some(_), Request::Startup | Request::Cancel | Request::Function) => {
                        let message = "a limit can't be kept for this kind of request".into();
                        command.refusal = Some(Refusal::new("limit".into(), message));
                        None
                    }
                };
                command.limited = under.map(Box::new);
            }
        }
        pending.decided += 1;
        if pending.decided < pending.commands.len() {
            return;
        }
        let Some(pending) = self.agent.pending.take() else { return };
        self.end_hold();
        let mut carry = std::mem::take(&mut self.carry.downstream);
        let frame = carry.pending().get(..pending.length).unwrap_or_default();
        let length = frame.len();
        self.note_sent(frame, false);
        self.dispatch(pending, frame);
        carry.consume(length);
        if self.phase != Phase::Ended {
            self.carry.downstream = carry;
        }
    }

    fn dispatch(&mut self, pending: Pending, frame: &[u8]) {
        let Pending { length: _, kind, mut commands, decided: _, rolls_back } = pending;
        let is_extended = matches!(kind, Request::Execute { .. });
        match kind {
            Request::Query => self.dispatch_query(commands, frame),
            Request::Startup | Request::Cancel | Request::Function | Request::Execute { .. } => {
                let Some(command) = commands.pop() else { return };
                self.agent.spare = commands;
                match kind {
                    Request::Startup => {
                        let kept = self.passwords.take_startup();
                        let frame = kept.as_deref().unwrap_or(frame);
                        self.dispatch_first(command, frame, Phase::Authenticating);
                    }
                    Request::Cancel => self.dispatch_first(command, frame, Phase::Cancelling),
                    Request::Function => self.dispatch_function(command, frame),
                    Request::Execute { name, portal } => {
                        self.dispatch_execute(command, frame, &name, portal);
                    }
                    Request::Query => {}
                }
            }
        }
        if rolls_back {
            self.undo(is_extended);
        }
    }

    fn dispatch_first(&mut self, mut command: InFlight, frame: &[u8], next: Phase) {
        if let Some(refusal) = command.refusal.take() {
            if next == Phase::Authenticating {
                let out = self.transmit.downstream.buffer();
                message::refusal(out, "FATAL", &refusal);
                command.bytes_out = out.len() as u64;
            }
            self.finish(command, Status::Denied, Some(refusal.code));
            self.interrupt();
            return;
        }
        if next == Phase::Cancelling {
            let Some(sent) = self.send_cancel(command) else { return };
            command = sent;
            self.phase = next;
        } else {
            self.send_startup(frame);
        }
        self.expects.push_back(Expect::Execute { command, portal: None, rows: Rows::None });
    }

    fn dispatch_query(&mut self, mut commands: Vec<InFlight>, frame: &[u8]) {
        let refusal = commands.iter().find_map(|command| command.refusal.clone());
        if refusal.is_none() && !self.server.skipping {
            for command in &mut commands {
                self.foresee(&command.statement);
                self.foresee_names(command);
            }
            if commands.iter().any(|command| command.change.is_some()) {
                // The server goes on behind a Query that fails: what follows waits for its answer.
                self.agent.segment += 1;
            }
        }
        self.send(refusal.as_ref(), frame, message::failing_query);
        self.agent.unsynced = None;
        let batch = Batch { commands: VecDeque::from(commands), refusal, failed: false };
        if batch.refusal.is_none() && batch.is_limited() {
            self.limit(true);
        }
        self.expect(Expect::Query(batch));
    }

    fn dispatch_function(&mut self, mut command: InFlight, frame: &[u8]) {
        if command.refusal.is_none() {
            self.server.catalog_stale |= command.statement.may_define();
        }
        self.foresee_names(&mut command);
        self.send(command.refusal.as_ref(), frame, message::failing_call);
        self.agent.unsynced = None;
        self.expect(Expect::Function(Some(command)));
    }

    fn dispatch_execute(
        &mut self,
        mut command: InFlight,
        frame: &[u8],
        name: &[u8],
        portal: Option<Arc<Portal>>,
    ) {
        let mut rows = Rows::Unknown;
        self.agent.unsynced.get_or_insert(self.transmit.upstream.place());
        if command.refusal.is_none() && !self.server.skipping {
            rows = self.describe_before(name, portal.as_deref());
            self.foresee(&command.statement);
            if command.limited.is_some() {
                self.limit(false);
            }
            self.foresee_names(&mut command);
        }
        self.send(command.refusal.as_ref(), frame, message::failing_parse);
        self.expect(Expect::Execute { command, portal, rows });
    }

    fn send(&mut self, refusal: Option<&Refusal>, frame: &[u8], failing: fn(&mut Vec<u8>)) {
        let out = self.transmit.upstream.buffer();
        match refusal {
            Some(_) => failing(out),
            None => out.extend_from_slice(frame),
        }
    }

    /// Notes an answer that is due; while the server skips, none is.
    pub(super) fn expect(&mut self, expect: Expect) {
        self.server.at_rest = None;
        if !self.server.skipping || matches!(expect, Expect::Sync) {
            self.expects.push_back(expect);
            return;
        }
        self.skip(expect, None);
    }

    /// Records the end of what stood behind an error, or what was refused with it (`code`).
    pub(super) fn skip(&mut self, expect: Expect, code: Option<[u8; 5]>) {
        match expect {
            Expect::Query(batch) => {
                for command in batch.commands {
                    self.skip_command(command, code);
                }
            }
            Expect::Execute { command, .. } | Expect::Function(Some(command)) => {
                self.skip_command(command, code);
            }
            other => self.abandon(other, Status::Skipped),
        }
    }

    fn skip_command(&mut self, command: InFlight, code: Option<[u8; 5]>) {
        match (&command.refusal, code) {
            (Some(refusal), _) => {
                let code = refusal.code;
                self.finish(command, Status::Denied, Some(code));
            }
            (None, Some(code)) => self.finish(command, Status::Error, Some(code)),
            (None, None) => self.finish(command, Status::Skipped, None),
        }
    }

    /// Draws the consequences of a statement that goes up, before its answer is here.
    fn foresee(&mut self, statement: &Statement) {
        if statement.verb == "DECLARE" {
            self.portals.forget(|name| may_name(&statement.text, name));
        }
        if statement.risks.intersects(Risk::UNPARSED) {
            self.statements.forget(|_| true);
            self.portals.forget(|_| true);
        }
        if statement.risks.intersects(Risk::REINTERPRETS | Risk::UNPARSED) {
            self.agent.barrier = true;
        }
        self.server.catalog_stale |= statement.may_define();
        if statement.risks.intersects(Risk::REINTERPRETS | Risk::UNPARSED | Risk::DDL) {
            self.epoch += 1;
        }
    }

    /// Ends the session over a message of the agent's that cannot be.
    pub(super) fn refuse_agent(&mut self, what: &'static str, code: [u8; 5]) {
        self.violate(Side::Downstream, what, Some(code));
    }
}

/// Whether `text` may name `name`. An identifier may be written in escapes; then any may be meant.
pub(super) fn may_name(text: &str, name: &[u8]) -> bool {
    let text = text.to_lowercase();
    let name = String::from_utf8_lossy(name).to_lowercase();
    let in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    if text.contains("u&") || !name.chars().all(in_word) {
        return text.contains("u&") || text.contains(&name);
    }
    text.split(|c| !in_word(c)).any(|word| word == name)
}
