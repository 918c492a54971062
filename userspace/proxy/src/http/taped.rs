//! The bytes of the agent's wire on their way into a sealed recording, where policy has every one of them kept.
//!
//! What comes before it is decided waits for that: whether a request is kept in full is policy's word on that very
//! request. What is written to the agent is sealed first. Secrets in heads are gaps.

use std::cell::RefCell;
use std::mem::take;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use journal::recorder::AppendError;
use proto::http::pieces::Pieces;
use proto::piece::{Gap, Piece};
use recording::entry::Kind;
use types::clock::Timestamp;
use types::id::CommandId;

use crate::door::Door;
use crate::ledger::Ledger;
use crate::taping::Taping;

/// One agent's connection, where recordings are sealed.
pub(super) struct Taped {
    door: Arc<Door>,
    taping: Rc<RefCell<Taping>>,
    sent: Pieces,
    received: Pieces,
    /// Whether policy has all kept: from a request of which it has to the next of which it has not.
    keeps: bool,
    /// Whether the next request may begin, and whether it has.
    listens: bool,
    holds: bool,
    /// What came of a request that is not decided: what the library reads with a head, 128 KiB; it reads no further before
    /// the request is decided.
    held: Vec<u8>,
    pieces: Vec<Held>,
    /// How much of what the library wants written next is on the tape already.
    ahead: usize,
}

enum Held {
    Bytes(Range<usize>),
    Gap(u64, Gap),
}

/// What the buffer keeps between requests.
const KEPT_BYTES: usize = 4 * 1024;

impl Taped {
    /// Of a session's connection; none where its recording is not sealed.
    pub(super) fn of(ledger: &Ledger<'_>, door: &Arc<Door>) -> Option<Self> {
        ledger.is_sealed().then(|| Self {
            door: Arc::clone(door),
            taping: ledger.shared_tape(),
            sent: Pieces::sent(),
            received: Pieces::received(),
            keeps: false,
            listens: true,
            holds: false,
            held: Vec::new(),
            pieces: Vec::new(),
            ahead: 0,
        })
    }

    /// Takes what came from the agent.
    pub(super) fn came(&mut self, bytes: &[u8]) {
        let now = self.now();
        let Self { sent, listens, holds, held, pieces, taping, door, keeps, .. } = self;
        sent.push(bytes, &mut |begins, piece| {
            *holds |= *listens && begins;
            if !*holds {
                return tell((&*taping, &*door), (Kind::Sent, *keeps), piece, now);
            }
            pieces.push(match piece {
                Piece::Gap(count, why) => Held::Gap(count, why),
                Piece::Bytes(bytes) => {
                    let start = held.len();
                    held.extend_from_slice(bytes);
                    Held::Bytes(start..held.len())
                }
            });
        });
    }

    /// The next request may begin.
    pub(super) fn listen(&mut self) {
        self.listens = true;
    }

    /// A request begins as a command that is decided: whether all of it is kept, or as what was before it, where nobody
    /// says. `is_head` of one that has no content in its answer.
    pub(super) fn decided(&mut self, command: CommandId, keeps: Option<bool>, is_head: bool) {
        self.taping.borrow_mut().began(command);
        self.keeps = keeps.unwrap_or(self.keeps);
        self.received.answer_to(is_head);
        self.let_go();
        self.listens = false;
    }

    /// Puts what is about to be written on the tape, as far as it is not there, and seals it.
    pub(super) fn before_write(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        // What the library answers by itself is to what can't be read: nobody decides that.
        self.let_go();
        let now = self.now();
        let Self { received, taping, door, keeps, .. } = self;
        let fresh = bytes.get(self.ahead..).unwrap_or_default();
        received.push(fresh, &mut |_, piece| {
            tell((&*taping, &*door), (Kind::Received, *keeps), piece, now);
        });
        self.ahead = bytes.len();
        if !self.keeps {
            return Ok(());
        }
        self.taping.borrow_mut().seal(&self.door.recorder).map(drop)
    }

    /// Notes how much of that was written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.ahead = self.ahead.saturating_sub(count);
    }

    /// Keeps nothing any more: what is told now is that nothing can be recorded.
    pub(super) fn give_up(&mut self) {
        self.keeps = false;
    }

    /// Puts what is left on the tape.
    pub(super) fn finish(&mut self) {
        self.let_go();
        let now = self.now();
        let Self { sent, received, taping, door, keeps, .. } = self;
        for (pieces, kind) in [(sent, Kind::Sent), (received, Kind::Received)] {
            pieces.finish(&mut |_, piece| tell((&*taping, &*door), (kind, *keeps), piece, now));
        }
    }

    /// Puts what came of a request on the tape.
    fn let_go(&mut self) {
        if !take(&mut self.holds) {
            return;
        }
        let now = self.now();
        let Self { held, pieces, taping, door, keeps, .. } = self;
        for piece in pieces.drain(..) {
            let piece = match piece {
                Held::Bytes(range) => Piece::Bytes(held.get(range).unwrap_or_default()),
                Held::Gap(count, why) => Piece::Gap(count, why),
            };
            tell((&*taping, &*door), (Kind::Sent, *keeps), piece, now);
        }
        held.clear();
        held.shrink_to(KEPT_BYTES);
    }

    fn now(&self) -> Timestamp {
        self.door.clock.now()
    }
}

/// Puts a piece on the tape, or that it is not kept.
fn tell(
    (taping, door): (&Rc<RefCell<Taping>>, &Arc<Door>),
    (kind, keeps): (Kind, bool),
    piece: Piece<'_>,
    now: Timestamp,
) {
    let piece = match piece {
        piece if keeps => piece,
        Piece::Bytes(bytes) => Piece::Gap(bytes.len() as u64, Gap::Policy),
        Piece::Gap(count, _) => Piece::Gap(count, Gap::Policy),
    };
    taping.borrow_mut().wire(&door.recorder, kind, piece, now);
}
