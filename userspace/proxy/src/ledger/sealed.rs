//! What of a session's records is sealed, where recordings are.

use std::cell::RefCell;
use std::rc::Rc;

use journal::recorder::AppendError;
use proto::piece::Piece;
use recording::entry::Kind;
use recording::sealing::NotSealed;
use tokio::net::TcpStream;
use tracing::warn;
use types::clock::Timestamp;
use types::command::Parameter;
use types::event::Outcome;
use types::id::CommandId;
use types::principal::Principal;

use super::Ledger;
use crate::taping::Taping;
use crate::targets::Protocol;

impl Ledger<'_> {
    /// Records what is said and answered on this tape.
    pub(crate) fn tape(&mut self, taping: Taping) {
        self.taping = Rc::new(RefCell::new(taping));
    }

    /// The tape, for who sees the session's bytes pass.
    pub(crate) fn shared_tape(&self) -> Rc<RefCell<Taping>> {
        Rc::clone(&self.taping)
    }

    /// Whether recordings are sealed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.taping.borrow().is_on()
    }

    /// Records bytes of the wire that came from the agent or go to it, or how many of them are not kept.
    pub(crate) fn wire(&mut self, kind: Kind, piece: Piece<'_>, now: Timestamp) {
        self.taping.borrow_mut().wire(&self.door.recorder, kind, piece, now);
    }

    /// Seals what was recorded since the last chunk; false where it can't be: nothing may go on.
    pub(crate) fn seal(&mut self) -> bool {
        self.taping.borrow_mut().seal(&self.door.recorder).is_ok()
    }

    /// Ends a session that can't be recorded as configured: nothing goes on unrecorded.
    pub(crate) async fn unsealed(
        self,
        protocol: Protocol,
        downstream: TcpStream,
        error: &NotSealed,
    ) {
        warn!(error = error as &dyn std::error::Error, "a recording can't be sealed");
        // io_error (PostgreSQL documentation, appendix A).
        let code = (*b"58030", 503);
        let text = "the session can't be recorded; nothing goes on unrecorded";
        self.turn_away("not_recorded", (protocol, code, text), downstream).await;
    }

    /// Where recordings are sealed, the principal as the journal has it: without the command line, in which values may
    /// stand (`psql -c`). That is put on the tape.
    pub(super) fn seal_command_line(&mut self) -> Option<Principal> {
        if !self.taping.borrow().is_on() {
            return None;
        }
        let mut principal = self.principal.clone();
        let line = principal.process.provenance.command_line.take()?;
        let what = (Kind::CommandLine, CommandId(0));
        self.taping.borrow_mut().put(&self.door.recorder, what, self.at, line.as_bytes());
        Some(principal)
    }

    /// Seals what a command says: the journal has it before the command.
    pub(super) fn seal_request(
        &mut self,
        command: CommandId,
        text: &str,
        parameters: &[Parameter],
        now: Timestamp,
    ) -> Result<(), AppendError> {
        let (recorder, mut taping) = (&self.door.recorder, self.taping.borrow_mut());
        taping.began(command);
        taping.put(recorder, (Kind::Statement, command), now, text.as_bytes());
        if !parameters.is_empty() {
            let parameters = journal::assemble::parameters(parameters);
            taping.put(recorder, (Kind::Parameters, command), now, parameters.as_bytes());
        }
        taping.seal(recorder)
    }

    /// Seals what a command was answered, and takes it out of what goes to the journal in clear.
    pub(super) fn seal_answer(&mut self, outcome: &mut Outcome, now: Timestamp) {
        let (what, sample) = ((Kind::Answer, outcome.command), std::mem::take(&mut outcome.sample));
        let mut taping = self.taping.borrow_mut();
        if !sample.is_empty() {
            taping.put(&self.door.recorder, what, now, &sample);
        }
        // Where that can't be, the next command is refused.
        drop(taping.seal(&self.door.recorder));
    }
}
