//! The PostgreSQL frontend/backend protocol, 3.0 and 3.2, between an agent and its server.
//!
//! Messages are taken apart as far as commands, rows and texts go; all else is relayed as it is.
//! A refused command goes up as one that fails, so that transactions and pipelines behave as the
//! server makes them, and the server's error is rewritten. What this does not do: TLS (it lies
//! below), keeping apart what functions prepare or open inside the server.

mod authority;
mod backend;
mod blind;
mod calls;
mod cancel;
mod carry;
mod copy_in;
mod copy_out;
mod credential;
mod cursors;
mod estimate;
mod executing;
mod expect;
mod extended;
mod frontend;
mod function_call;
mod holding;
mod limited;
mod login;
mod message;
mod names;
mod notice;
mod password;
mod plans;
mod prepared;
mod probe;
mod recorder;
mod replication;
mod response;
mod result;
mod rows;
mod sample;
mod scram;
mod startup;
mod transport;
mod value;
mod wire;

#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use types::addr::Side;
use types::clock::Timestamp;
use types::command::{Command, CommandKind, Parameter, Statement, Transaction};
use types::event::{Event, Status, Violation};
use types::id::CommandId;
use types::limits::{COMMANDS_IN_FLIGHT_MAX, TRANSMIT_BYTES_HIGH};
use types::redact::{MaskCount, Redactor};

use self::authority::Pending;
use self::blind::Blind;
use self::calls::Called;
use self::cancel::Cancel;
pub use self::cancel::{CANCEL_KEY_BYTES, CancelKey, IssuedKey};
pub use self::credential::{Credential, Injection, Methods};
use self::cursors::Cursors;
use self::expect::{Expect, InFlight};
use self::holding::Holding;
use self::limited::{Limiting, Under};
use self::login::Injected;
use self::names::Names;
pub use self::password::Password;
use self::password::Passwords;
use self::plans::Plans;
use self::prepared::{Plan, Portal, Prepared, Rows};
use self::probe::Probe;
pub use self::probe::ProbeFailure;
use self::recorder::Recorder;
pub use self::replication::Replication;
use self::result::CopyState;
use self::rows::Rest;
pub use self::scram::{KeysWanted, Nonce, ScramKeys, Verifier};
pub use self::startup::{EncryptionRequest, Startup, startup_packet};
pub use self::transport::{Leg, Transport};
use self::wire::Wire;
use crate::session::{Session, Transmit, Verdict};
use crate::sql::{Analyzer, Reading};

/// What all prepared statements and portals of one session may hold in texts and parameters:
/// 8,192 of 4 KiB each.
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A session of an agent with a PostgreSQL server.
pub struct PostgresSession {
    analyzer: Arc<Analyzer>,
    transport: Transport,
    redactor: Box<dyn Redactor>,
    /// What earlier redactors masked of the command that is being answered.
    counted: Vec<MaskCount>,
    phase: Phase,
    startup: Option<Startup>,
    /// What the server is told at the end of the application's name.
    mark: Option<Box<str>>,
    /// Set where a credential of ours authenticates instead of the agent's.
    login: Option<Box<Injected>>,
    passwords: Passwords,
    cancel: Cancel,
    /// The minor version that both ends speak, as far as is known: 3.0 is 0.
    minor_version: u32,
    /// Answered requests for encryption.
    refused_tls: bool,
    refused_gss: bool,
    events: VecDeque<Event>,
    next_command: u32,
    next_batch: u32,
    carry: Legs,
    transmit: Legs,
    agent: AgentSide,
    server: ServerSide,
    statements: Names<Prepared>,
    portals: Names<Portal>,
    cursors: Cursors,
    called: Option<Called>,
    /// Counts what may have prepared statements unseen.
    generation: u64,
    held: Arc<AtomicUsize>,
    expects: VecDeque<Expect>,
    probe: Probe,
    probe_failure: Option<ProbeFailure>,
    limiting: Limiting,
    holding: Option<Box<Holding>>,
    recorder: Recorder,
    /// Set where the bytes of the wire are recorded.
    wire: Option<Box<Wire>>,
    /// The latest time that was told.
    now: Timestamp,
    /// Descriptions and plans of an earlier epoch do not hold.
    epoch: u64,
    scratch: Vec<u8>,
}

/// An ErrorResponse that ends a session, for a connection that has none; `code` is the SQLSTATE.
pub fn fatal_error(code: [u8; 5], text: &str) -> Vec<u8> {
    let mut told = Vec::new();
    message::error(&mut told, "FATAL", code, text, "");
    told
}

/// How far the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first packet is due.
    First,
    /// A startup packet waits for the driver.
    Met,
    /// The agent was asked for a password; nothing went up.
    Asking,
    /// The driver looks at the password.
    Weighing,
    /// The agent is to prove the placeholder; nothing went up.
    Challenging,
    /// The server was sent the startup packet.
    Authenticating,
    /// Commands flow.
    Running,
    /// A cancel request went up; the server will close.
    Cancelling,
    /// Nothing more is taken.
    Ended,
}

/// One buffer for each side.
#[derive(Debug, Default)]
struct Legs {
    downstream: Transmit,
    upstream: Transmit,
}

impl Legs {
    fn of(&mut self, side: Side) -> &mut Transmit {
        match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        }
    }
}

/// Where the agent's messages are.
#[derive(Debug, Default)]
struct AgentSide {
    /// The message at the head of the carry, whose commands are being decided.
    pending: Option<Pending>,
    /// The next message needs an answer of the server first.
    waiting: bool,
    /// Bytes of a CopyData still to relay.
    stream_left: usize,
    /// Those go up in messages of our own.
    reframed: bool,
    /// The run of messages up to a Sync, counted.
    segment: u64,
    /// Where it begins in what goes up, as long as its Sync has not come.
    unsynced: Option<u64>,
    /// What is bound is digested where records have a part of it.
    keeps_wholes: bool,
    /// The server copies in: it ignores Sync and Flush.
    copy_in: bool,
    /// A command went up that changes how text is read: none is read before its answer.
    barrier: bool,
    /// A Flush of ours asked for that answer.
    flushed: bool,
    /// An empty list for the next message of one command.
    spare: Vec<InFlight>,
}

/// Where the server's messages are.
#[derive(Debug)]
struct ServerSide {
    rest: Option<Rest>,
    /// How the rows of the current result are treated.
    plan: Option<Arc<Plan>>,
    plans: Plans,
    copy: CopyState,
    /// The last description answered, for executions that went up before it came.
    described: Option<(Option<Arc<Prepared>>, Rows)>,
    /// An error came and no Sync went up since.
    skipping: bool,
    /// Syncs sent while copying in, which the server ignores unless its error came first.
    loose_syncs: usize,
    reading: Reading,
    /// Whether no byte of a character can be taken for ASCII.
    encoding_is_safe: bool,
    transaction: Transaction,
    /// A definition may have changed since the last probe.
    catalog_stale: bool,
    /// The transaction status since the server became ready, as long as nothing went up after that.
    at_rest: Option<u8>,
}

impl PostgresSession {
    /// A session of which nothing was read yet, over legs that are ready: where one is inside TLS,
    /// its bytes here are what TLS carries.
    pub fn new(analyzer: Arc<Analyzer>, transport: Transport) -> Self {
        Self {
            analyzer,
            transport,
            redactor: Box::new(Blind),
            counted: Vec::new(),
            phase: Phase::First,
            startup: None,
            mark: None,
            login: None,
            passwords: Passwords::default(),
            cancel: Cancel::default(),
            minor_version: 0,
            refused_tls: false,
            refused_gss: false,
            events: VecDeque::new(),
            next_command: 1,
            next_batch: 0,
            carry: Legs::default(),
            transmit: Legs::default(),
            agent: AgentSide::default(),
            server: ServerSide {
                rest: None,
                plan: None,
                plans: Plans::default(),
                copy: CopyState::None,
                described: None,
                skipping: false,
                loose_syncs: 0,
                reading: Reading { standard_conforming_strings: true },
                encoding_is_safe: true,
                transaction: Transaction::default(),
                catalog_stale: false,
                at_rest: None,
            },
            statements: Names::new(),
            portals: Names::new(),
            cursors: Cursors::default(),
            called: None,
            generation: 0,
            held: Arc::default(),
            expects: VecDeque::new(),
            probe: Probe::Idle,
            probe_failure: None,
            limiting: Limiting::default(),
            holding: None,
            recorder: Recorder::default(),
            wire: None,
            now: Timestamp::default(),
            epoch: 0,
            scratch: Vec::new(),
        }
    }

    /// Gives the session its masks, which go by the catalog of this version: rows of a cursor that was
    /// declared by another one are not known for what they are.
    pub fn set_masks(&mut self, redactor: Box<dyn Redactor>, version: u64) {
        self.set_redactor(redactor);
        self.cursors.catalog = version;
    }

    /// Has the server told, at the end of `application_name`, whose session it is: its own logs name it then.
    pub fn mark(&mut self, mark: Box<str>) {
        self.mark = Some(mark);
    }

    /// What the session was opened with; `None` before its startup packet and for cancel requests.
    pub fn startup(&self) -> Option<&Startup> {
        self.startup.as_ref()
    }

    /// What kind of session was asked for.
    fn replication(&self) -> Replication {
        self.startup.as_ref().map_or(Replication::No, |startup| startup.replication)
    }

    /// Asks for a command to be decided.
    fn ask(
        &mut self,
        kind: CommandKind,
        statement: Arc<Statement>,
        parameters: Arc<[Parameter]>,
    ) -> CommandId {
        let id = CommandId(self.next_command);
        self.next_command = self.next_command.saturating_add(1);
        let batch = self.next_batch;
        let transaction = self.server.transaction;
        let command = Command { id, kind, statement, parameters, batch, transaction };
        self.events.push_back(Event::Command(command));
        id
    }

    /// Records the end of a command.
    fn finish(&mut self, mut command: InFlight, status: Status, code: Option<[u8; 5]>) {
        if let Some(Under { limited, started: Some(started) }) = command.limited.as_deref() {
            limited.ran(self.now.us_since(*started));
        }
        let digest = self.digest_of(&mut command);
        if let Some(change) = command.change.take() {
            self.settle_name(*change, status == Status::Ok);
        }
        let mut outcome = command.outcome(status, code);
        outcome.digest = digest;
        outcome.first_at = match outcome.status {
            // Without, it came with what ended the one before.
            Status::Ok | Status::Error | Status::Limited => outcome.first_at.or(Some(self.now)),
            Status::Interrupted => outcome.first_at.filter(|_| outcome.bytes_out > 0),
            Status::Denied | Status::Skipped => {
                outcome.sent_at = None;
                None
            }
        };
        outcome.used = command.limited.and_then(|under| under.limited.used_of_windows());
        outcome.masked = self.take_counts();
        self.events.push_back(Event::Outcome(outcome));
    }

    /// What was masked since the last call.
    fn take_counts(&mut self) -> Vec<MaskCount> {
        let mut counts = self.redactor.take_counts();
        for MaskCount { class, count } in std::mem::take(&mut self.counted) {
            match counts.iter_mut().find(|known| known.class == class) {
                Some(known) => known.count += count,
                None => counts.push(MaskCount { class, count }),
            }
        }
        counts
    }

    /// Notes that the server's answer to what is due next has begun.
    fn answered(&mut self, now: Timestamp) {
        if let Some(command) = self.expects.front_mut().and_then(Expect::command) {
            command.first_at.get_or_insert(now);
        }
    }

    /// Ends the session because `side` broke the protocol; the agent is told with `code`, if any.
    fn violate(&mut self, side: Side, what: &'static str, code: Option<[u8; 5]>) {
        if self.phase == Phase::Ended {
            return;
        }
        if let Some(code) = code
            && self.server.rest.is_none()
        {
            message::error(self.transmit.downstream.buffer(), "FATAL", code, what, "");
        }
        self.interrupt();
        self.events.push_back(Event::Violation(Violation { side, what }));
    }

    /// Ends the session; whatever was under way is cut off.
    fn interrupt(&mut self) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        self.holding = None;
        if let Some(pending) = self.agent.pending.take() {
            for command in pending.into_commands() {
                self.finish(command, Status::Interrupted, None);
            }
        }
        for expect in std::mem::take(&mut self.expects) {
            self.abandon(expect, Status::Interrupted);
        }
        self.carry = Legs::default();
    }

    /// Records the end of what `expect` answers, which was not reached.
    fn abandon(&mut self, expect: Expect, status: Status) {
        match expect {
            Expect::Query(batch) => {
                for command in batch.commands {
                    let status = if command.completed { Status::Ok } else { status };
                    self.finish(command, status, None);
                }
            }
            Expect::Function(Some(command)) | Expect::Execute { command, .. } => {
                self.finish(command, status, None);
            }
            Expect::Parse { name, change, .. } => self.statements.drop_change(&name, change),
            Expect::Bind { name, change, .. } => self.portals.drop_change(&name, change),
            Expect::Close { target, name, change } => match target {
                expect::CloseTarget::Statement => self.statements.drop_change(&name, change),
                expect::CloseTarget::Portal => self.portals.drop_change(&name, change),
            },
            Expect::Function(None)
            | Expect::Describe { .. }
            | Expect::Sync
            | Expect::Failing
            | Expect::Undo
            | Expect::FailingStep => {}
        }
    }

    /// Whether messages from `side` must wait.
    fn is_blocked(&self, side: Side) -> bool {
        match side {
            Side::Upstream => matches!(self.probe, Probe::Wanted { .. }),
            Side::Downstream => {
                self.agent.pending.is_some()
                    || self.agent.waiting
                    || self.passwords.is_waiting()
                    || matches!(self.phase, Phase::Met | Phase::Weighing)
                    || !matches!(self.probe, Probe::Idle)
                    || self.expects.len() >= COMMANDS_IN_FLIGHT_MAX
            }
        }
    }
}

impl Session for PostgresSession {
    fn handle_input(&mut self, side: Side, input: &[u8], now: Timestamp) {
        self.now = now;
        if side == Side::Upstream {
            self.answered(now);
        }
        self.feed(side, input);
        if side == Side::Upstream {
            self.agent.waiting = false;
            if self.is_limited() {
                self.release();
            }
            self.resume(Side::Downstream);
        }
    }

    fn handle_eof(&mut self, side: Side, _now: Timestamp) {
        if self.phase == Phase::Cancelling
            && side == Side::Upstream
            && let Some(Expect::Execute { command, .. }) = self.expects.pop_front()
        {
            self.finish(command, Status::Ok, None);
        }
        // What a blocked side has sent may be whole messages that wait.
        let within = !self.carry.of(side).is_empty() && !self.is_blocked(side);
        if within || (side == Side::Upstream && self.server.rest.is_some()) {
            self.violate(side, "the stream ended within a message", None);
        }
        self.interrupt();
    }

    fn handle_decision(&mut self, command: CommandId, verdict: Verdict) {
        self.decide(command, verdict);
        self.resume(Side::Downstream);
    }

    fn set_redactor(&mut self, redactor: Box<dyn Redactor>) {
        // What was masked of the command that is being answered still counts.
        self.counted.extend(self.redactor.take_counts());
        self.redactor = redactor;
        self.epoch += 1;
    }

    fn probe(&mut self, sql: &str) {
        self.start_probe(sql);
        self.resume(Side::Upstream);
        self.resume(Side::Downstream);
    }

    fn skip_probe(&mut self) {
        self.end_probe();
        self.resume(Side::Upstream);
        self.resume(Side::Downstream);
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn transmit(&mut self, side: Side) -> &mut Transmit {
        self.transmit.of(side)
    }

    fn wants_input(&self, side: Side) -> bool {
        if self.phase == Phase::Ended {
            return false;
        }
        match side {
            Side::Downstream => {
                self.transmit.upstream.len() <= TRANSMIT_BYTES_HIGH
                    && (!self.is_blocked(side)
                        || self.carry.downstream.len() <= TRANSMIT_BYTES_HIGH)
            }
            Side::Upstream => {
                // What is dropped needs no room.
                (self.transmit.downstream.len() <= TRANSMIT_BYTES_HIGH || self.is_cut())
                    && !self.is_blocked(side)
            }
        }
    }

    fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }
}
