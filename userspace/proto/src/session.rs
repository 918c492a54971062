//! The one shape of every protocol session: bytes and time in, events and bytes out.
//!
//! A session owns no socket, clock or task. Its driver (`proxy::serve`) feeds it what it read,
//! records and decides what it emits, and writes what it transmits once the records are durable.

use std::sync::Arc;

use types::addr::Side;
use types::clock::Timestamp;
use types::decision::Keep;
use types::event::Event;
use types::id::CommandId;
use types::limits::TRANSMIT_BYTES_HIGH;
use types::redact::Redactor;

use crate::limit::Limits;

/// A protocol session between an agent (downstream) and its target (upstream).
///
/// After every call the driver drains [`Session::poll_event`] until `None`, answering each
/// `Event::Command` with [`Session::handle_decision`]; a session stops taking the agent's messages
/// apart at a command until it is decided, so no byte of an undecided command reaches
/// [`Session::transmit`] of `Upstream`.
pub trait Session: Send {
    /// Takes bytes read from `side`. All are taken; the driver stops reading a side while
    /// [`Session::wants_input`] is false, which bounds what is held.
    fn handle_input(&mut self, side: Side, input: &[u8], now: Timestamp);

    /// Takes the end of `side`'s byte stream.
    fn handle_eof(&mut self, side: Side, now: Timestamp);

    /// Answers the command emitted last and not yet decided.
    fn handle_decision(&mut self, command: CommandId, verdict: Verdict);

    /// Gives the session its masks; before this every value is masked whole.
    fn set_redactor(&mut self, redactor: Box<dyn Redactor>);

    /// Answers `Event::ProbeWanted`: run this catalog query on the agent's connection while it is
    /// idle, and hide it from the agent. `Event::Probed` brings the rows.
    fn probe(&mut self, sql: &str);

    /// Answers `Event::ProbeWanted`: nothing is needed, go on.
    fn skip_probe(&mut self);

    /// The next thing the session has to say.
    fn poll_event(&mut self) -> Option<Event>;

    /// What waits to be written to `side`. The driver writes from it and reports how much with
    /// [`Transmit::consume`].
    fn transmit(&mut self, side: Side) -> &mut Transmit;

    /// Whether `side` should be read.
    fn wants_input(&self, side: Side) -> bool;

    /// Once true, the driver flushes both sides, closes them and drops the session.
    fn is_ended(&self) -> bool;
}

/// What is to become of a command.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes upstream.
    Allow,
    /// It goes upstream; this is kept to while it runs.
    Under(Obligations),
    /// It is refused, and the agent is told so by the protocol.
    Deny(Refusal),
    /// It is refused, and the transaction is rolled back that it stands in: nothing of it holds locks.
    RollBack(Refusal),
    /// It waits: nothing of it goes up before the next verdict on it.
    Hold,
}

/// What is kept to while a command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obligations {
    /// It ends where it reaches one of these.
    pub limits: Option<Limits>,
    /// How much of its response is recorded, beside a digest of all of it.
    pub record: Option<Keep>,
}

/// What the agent is told of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The policy's id.
    pub policy: Arc<str>,
    /// Its message, in words.
    pub message: Arc<str>,
    /// The SQLSTATE.
    pub code: [u8; 5],
}

impl Refusal {
    /// What policy refuses: insufficient_privilege.
    pub fn new(policy: Arc<str>, message: Arc<str>) -> Self {
        Self { policy, message, code: *b"42501" }
    }
}

/// What an emptied buffer keeps: what a bulk transfer fills again at once.
const KEPT_BYTES_MAX: usize = 2 * TRANSMIT_BYTES_HIGH;

/// Bytes waiting for one side; one allocation, reused.
#[derive(Debug, Default)]
pub struct Transmit {
    bytes: Vec<u8>,
    start: usize,
    /// How many bytes were written from it, ever.
    written: u64,
    /// What was written before the first byte is not here any more, though more waits behind it.
    is_cut: bool,
}

impl Transmit {
    /// What is left to write.
    pub fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Notes that the first `count` pending bytes were written.
    pub fn consume(&mut self, count: usize) {
        let start = self.start.saturating_add(count).min(self.bytes.len());
        self.written += (start - self.start) as u64;
        self.start = start;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
            (self.start, self.is_cut) = (0, false);
        } else if self.start > KEPT_BYTES_MAX && self.start > self.bytes.len() / 2 {
            // More is dropped than moved, so each byte moves at most once on average.
            self.bytes.drain(..self.start);
            (self.start, self.is_cut) = (0, true);
        }
    }

    /// Overwrites what was written from it, where nothing is left to write.
    pub(crate) fn wipe(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.resize(self.bytes.capacity(), 0);
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Drops what waits; answers it where nothing before it waits for its rest.
    pub(crate) fn discard(&mut self) -> Option<Vec<u8>> {
        let is_fresh = self.start == 0 && !self.is_cut;
        let pending = std::mem::take(&mut self.bytes);
        (self.start, self.is_cut) = (0, false);
        is_fresh.then_some(pending)
    }

    /// How many bytes there were, ever: the place of the next one.
    pub(crate) fn place(&self) -> u64 {
        self.written + self.len() as u64
    }

    /// Takes back what lies from a place on; `None` where some of it was written.
    pub(crate) fn take_back(&mut self, from: u64) -> Option<Vec<u8>> {
        let kept = usize::try_from(from.checked_sub(self.written)?).ok()?;
        let at = self.start.saturating_add(kept).min(self.bytes.len());
        Some(self.bytes.split_off(at))
    }

    /// The buffer to append to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How much is left to write, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
