//! What of a session's records is sealed, where recordings are.

use std::cell::RefCell;
use std::rc::Rc;

use journal::record::{End, Frame, Lsn};
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

/// How many ends of commands wait for their answers to be sealed: 64 × about 400 B = 25 KiB of one session, until the turn
/// in which they came is over.
const ENDED_MAX: usize = 64;

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

    /// Has commands that come together share a chunk: what they say, are answered and how they ended waits for
    /// [`Ledger::seal_gathered`], which whoever calls this calls before a byte goes anywhere.
    pub(crate) fn gather(&mut self) {
        self.gathers = true;
    }

    /// Seals what commands said and were answered since this was last called, and writes how those ended. Answers what
    /// must be durable before a byte goes where one of them does; nothing where none has begun.
    pub(crate) fn seal_gathered(&mut self) -> Result<Option<Lsn>, AppendError> {
        let has_begun = std::mem::take(&mut self.has_begun);
        if !has_begun && self.ended.is_empty() {
            return Ok(None);
        }
        let sealed = self.taping.borrow_mut().seal(&self.door.recorder);
        self.write_ended();
        // What a command was answered is waited for by nobody: where that can't be, the next one is refused.
        if has_begun { sealed.map(Some) } else { Ok(None) }
    }

    /// Puts what a command says on the tape; where it comes alone the journal has it before the command, else before a
    /// byte goes anywhere.
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
        if self.gathers {
            self.has_begun = true;
            return taping.is_whole();
        }
        taping.seal(recorder).map(drop)
    }

    /// Puts what a command was answered on the tape, and takes it out of what goes to the journal in clear: that is
    /// written behind it.
    pub(super) fn seal_answer(&mut self, mut outcome: Outcome, now: Timestamp) {
        let (what, sample) = ((Kind::Answer, outcome.command), std::mem::take(&mut outcome.sample));
        let mut taping = self.taping.borrow_mut();
        if !sample.is_empty() {
            taping.put(&self.door.recorder, what, now, &sample);
        }
        self.ended.push((outcome, now));
        if self.gathers && self.ended.len() < ENDED_MAX {
            return;
        }
        // Where that can't be, the next command is refused.
        drop(taping.seal(&self.door.recorder));
        drop(taping);
        self.write_ended();
    }

    /// Writes how commands ended whose answers are sealed.
    pub(super) fn write_ended(&mut self) {
        for (outcome, at) in std::mem::take(&mut self.ended) {
            self.write(Frame::End(End { session: self.session, at, outcome: &outcome }));
        }
    }
}
