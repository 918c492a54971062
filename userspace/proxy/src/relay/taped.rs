//! The bytes of the wire on their way into a sealed recording, where policy has every one of them kept.

use proto::session::{Obligations, Verdict};
use recording::entry::Kind;
use types::addr::Side;
use types::command::Command;
use types::decision::Keep;

use super::{Gates, Relay};

impl Relay<'_> {
    /// Whether the bytes of the wire are kept from here on: all that comes is, from a command of which policy has all
    /// kept to the next of which it has not, and as long as one of the former is under way.
    pub(super) fn keep_wire(&mut self, command: &Command, verdict: &Verdict) {
        if !self.ledger.is_sealed() {
            return;
        }
        match verdict {
            Verdict::Under(Obligations { record: Some(Keep::Full), .. }) => {
                self.in_full.push(command.id);
                self.session.keep_wire(true);
            }
            Verdict::Allow | Verdict::Under(_) => self.session.keep_wire(!self.in_full.is_empty()),
            // What is refused changes nothing.
            Verdict::Deny(_) | Verdict::RollBack(_) | Verdict::Hold => {}
        }
    }

    /// Seals what commands said and were answered in this turn, together. What goes anywhere because of them waits for
    /// that; false where it can't be sealed.
    pub(super) fn seal_gathered(&mut self) -> bool {
        let Ok(sealed) = self.ledger.seal_gathered() else { return false };
        let Gates { downstream, upstream, awaits_begun } = &mut self.gates;
        let awaits_begun = std::mem::take(awaits_begun);
        if let Some(lsn) = sealed {
            *downstream = lsn.max(*downstream);
            if awaits_begun {
                *upstream = lsn.max(*upstream);
            }
        }
        true
    }

    /// Records what came from the agent and went its way.
    pub(super) fn keep_sent(&mut self) {
        if self.ledger.is_sealed() {
            let now = self.read_at;
            let Self { session, ledger, .. } = self;
            session.take_sent(|piece| ledger.wire(Kind::Sent, piece, now));
        }
    }

    /// Records what is about to be written to the agent, where that is kept; false where it can't be.
    pub(super) fn keep_received(&mut self, side: Side) -> bool {
        if side == Side::Upstream || self.is_unrecorded || !self.ledger.is_sealed() {
            return true;
        }
        let now = self.now();
        let Self { session, ledger, .. } = self;
        session.take_received(|piece| ledger.wire(Kind::Received, piece, now));
        ledger.seal()
    }
}
