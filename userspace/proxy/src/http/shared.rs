//! What the two connections' bodies and the session tell each other; all in one task.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use types::clock::{Clock, Timestamp};
use types::event::Outcome;

/// Shared by a session and its bodies.
pub(super) struct Shared {
    pub(super) clock: Arc<dyn Clock>,
    /// Why the agent acts for nobody any more.
    gone: Cell<Option<&'static str>>,
    /// Bytes that moved on either side.
    moved: Cell<u64>,
    /// Bytes of the request's body that came.
    body_bytes: Cell<u64>,
    /// Whether the agent may still be sending what nobody reads.
    lingers: Cell<bool>,
    /// How commands ended that is not written yet: one, as there is one at a time.
    ended: RefCell<Vec<(Outcome, Timestamp)>>,
}

impl Shared {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            gone: Cell::new(None),
            moved: Cell::new(0),
            body_bytes: Cell::new(0),
            lingers: Cell::new(false),
            ended: RefCell::default(),
        }
    }

    /// Why nothing more goes anywhere.
    pub(super) fn gone(&self) -> Option<&'static str> {
        self.gone.get()
    }

    /// Has nothing more go anywhere; answers whether that is new.
    pub(super) fn go(&self, why: &'static str) -> bool {
        self.gone.replace(Some(self.gone.get().unwrap_or(why))).is_none()
    }

    pub(super) fn moved(&self, bytes: usize) {
        self.moved.set(self.moved.get().wrapping_add(bytes as u64));
    }

    /// A number that is another one once something has moved.
    pub(super) fn movement(&self) -> u64 {
        self.moved.get()
    }

    /// Counts what came of the request's body.
    pub(super) fn took(&self, bytes: usize) {
        self.body_bytes.set(self.body_bytes.get() + bytes as u64);
    }

    /// What came of the request's body; counted from nothing again.
    pub(super) fn taken(&self) -> u64 {
        self.body_bytes.take()
    }

    /// Notes that the agent may go on sending what nobody reads.
    pub(super) fn linger(&self) {
        self.lingers.set(true);
    }

    /// Whether it may.
    pub(super) fn lingers(&self) -> bool {
        self.lingers.get()
    }

    /// Notes how a command ended.
    pub(super) fn end(&self, outcome: Outcome) {
        self.ended.borrow_mut().push((outcome, self.clock.now()));
    }

    /// What ended since it was last asked.
    pub(super) fn take_ended(&self) -> Vec<(Outcome, Timestamp)> {
        self.ended.take()
    }
}
