//! Statements under limits: what is over is dropped, the statement cancelled, and its end made an error.
//!
//! COPY data of the agent's own goes up in messages of ours, so that a CopyFail can end it anywhere: then
//! none of its rows takes effect.
//!
//! A cancel request names a session, not a statement. So that it hits no other, nothing goes up behind
//! a limited statement but its own Sync, until the server has answered all and the cancel request's
//! connection is closed. A server that was done before the request came says no error itself; where
//! that leaves a transaction open or a pipeline to come, something that fails is sent.

use std::sync::Arc;

use types::addr::Side;
use types::clock::Timestamp;
use types::command::{CopyFormat, Risk, Statement};
use types::decision::Measure;
use types::event::Status;
use types::limits::ROW_BYTES_MAX;

use super::PostgresSession;
use super::copy_in::CopyIn;
use super::expect::{Batch, Expect, InFlight};
use super::message::{self, HEADER};
use super::prepared::Plan;
use super::result::CopyState;
use super::rows::{self, Passage, Rest};
use crate::limit::{self, Limited};
use crate::session::Refusal;

/// query_canceled: the server's own answer to a cancel request.
const CANCELLED: [u8; 5] = *b"57014";

/// What is under way about limits.
#[derive(Debug, Default)]
pub(super) struct Limiting {
    /// A limited statement went up and not all is answered.
    barrier: bool,
    /// So did what makes the server answer and end its transaction.
    synced: bool,
    /// So did a Flush of ours.
    flushed: bool,
    cut: Option<Box<Cut>>,
    cancel: Cancelling,
    /// The rows that the agent copies in.
    copy_in: Option<Box<CopyIn>>,
}

/// A statement that reached a limit.
#[derive(Debug)]
struct Cut {
    refusal: Refusal,
    /// Something was dropped: it cannot end well.
    dropped: bool,
}

/// How far a cancel request of ours is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Cancelling {
    #[default]
    None,
    Wanted,
    Sent,
}

impl PostgresSession {
    /// Whether statements under limits are under way, so that [`Self::time_left`] and
    /// [`Self::take_cancel`] have something to say.
    pub fn is_limited(&self) -> bool {
        self.limiting.barrier
    }

    /// Whether a statement reached a limit and has not ended.
    pub fn is_cut(&self) -> bool {
        self.limiting.cut.is_some()
    }

    /// How many microseconds the statement that the server works at may still take; `None` if it may
    /// take any. After 0 call [`Self::time_out`].
    pub fn time_left(&mut self, now: Timestamp) -> Option<u64> {
        if self.is_cut() {
            return None;
        }
        let command = self.worked_at()?;
        let started = *command.limited.as_mut()?.started.get_or_insert(now);
        let (left, _) = command.limited.as_ref()?.limited.time_left(now.us_since(started))?;
        (!command.completed).then_some(left)
    }

    /// Ends the statement that the server works at, over its time; the bytes of its cancel request are
    /// [`Self::take_cancel`]'s.
    pub fn time_out(&mut self, now: Timestamp) {
        let Some(command) = self.worked_at() else { return };
        let Some(Under { limited, started }) = command.limited.as_deref() else { return };
        let ran = started.map_or(0, |started| now.us_since(started));
        let Some((0, limit)) = limited.time_left(ran) else { return };
        let refusal = limit::refusal(limit);
        self.cut(refusal);
    }

    /// The cancel request to be sent to the server on a connection of its own, once; then
    /// [`Self::cancel_ended`] is due. `None` if none is wanted.
    pub fn take_cancel(&mut self) -> Option<Vec<u8>> {
        if self.limiting.cancel != Cancelling::Wanted {
            return None;
        }
        self.limiting.cancel = Cancelling::Sent;
        self.cancel.request()
    }

    /// Wants one more cancel request, where one had no effect.
    pub fn cancel_again(&mut self) {
        if self.is_cut() && self.limiting.cancel == Cancelling::None && self.cancel.has_key() {
            self.limiting.cancel = Cancelling::Wanted;
        }
    }

    /// The cancel request's connection was closed by the server, or was never made; `sure`. Else the
    /// request may still hit what comes next, and the session ends.
    pub fn cancel_ended(&mut self, sure: bool) {
        self.limiting.cancel = Cancelling::None;
        if !sure {
            self.violate(
                Side::Upstream,
                "the server does not end a cancel request",
                Some(*b"08006"),
            );
            return;
        }
        self.release();
        self.agent.waiting = false;
        self.resume(Side::Downstream);
    }

    /// Notes that a command goes up under limits; `synced` if what ends its transaction goes with it.
    pub(super) fn limit(&mut self, synced: bool) {
        self.limiting.barrier = true;
        self.limiting.synced = synced;
        self.limiting.flushed = false;
    }

    /// Puts a FETCH under its cursor's limits, whose DECLARE stood in the same string before it.
    pub(super) fn limit_by_cursor(&mut self) {
        let Some(command) = self.expects.front_mut().and_then(Expect::command) else { return };
        let Some(Under { limited: cursor, .. }) = self.cursors.limits_of(command) else { return };
        let under = match command.limited.take().map(|under| *under) {
            None => Under { limited: cursor, started: Some(self.now) },
            Some(Under { limited, started }) => Under { limited: limited.reads(&cursor), started },
        };
        command.limited = Some(Box::new(under));
    }

    /// Whether the agent's message must wait for the end of a limited statement.
    pub(super) fn must_see_limited(&mut self, tag: u8) -> bool {
        if !self.limiting.barrier {
            return false;
        }
        self.release();
        let goes = match tag {
            _ if !self.limiting.barrier => true,
            b'X' | b'c' | b'f' | b'H' => true,
            b'S' => self.agent.copy_in || !std::mem::replace(&mut self.limiting.synced, true),
            _ => false,
        };
        if goes {
            return false;
        }
        self.agent.waiting = true;
        if !self.limiting.synced && !std::mem::replace(&mut self.limiting.flushed, true) {
            // Without it the server may keep its answers until a Sync that waits here.
            message::frame(self.transmit.upstream.buffer(), b'H', |_| {});
        }
        true
    }

    /// Lets the agent's messages go again once all is answered.
    pub(super) fn release(&mut self) {
        let limiting = &mut self.limiting;
        if self.expects.is_empty() && limiting.cancel == Cancelling::None {
            *limiting = Limiting::default();
        }
    }

    /// Cuts the command that is being answered: what comes of it from now on is dropped.
    fn cut(&mut self, refusal: Refusal) {
        if self.is_cut() {
            return;
        }
        if let Some(command) = self.worked_at() {
            command.cut = Some(refusal.code);
        }
        let copies_in = self.agent.copy_in && matches!(self.server.copy, CopyState::In);
        self.limiting.cut = Some(Box::new(Cut { refusal, dropped: copies_in }));
        if copies_in {
            message::copy_fail(self.transmit.upstream.buffer());
        } else if self.cancel.has_key() {
            self.limiting.cancel = Cancelling::Wanted;
        }
    }

    /// The command that the server works at, as far as it can be known: the answers to what went up
    /// before it may still lie in the server's buffer.
    fn worked_at(&mut self) -> Option<&mut InFlight> {
        let steps = self.expects.iter_mut();
        steps.take_while(|one| !matches!(one, Expect::Sync)).find_map(Expect::command)
    }

    /// Whether something of the answer was dropped, so that an error must end it.
    pub(super) fn has_dropped(&self) -> bool {
        self.limiting.cut.as_ref().is_some_and(|cut| cut.dropped)
    }

    /// What an error of the server's is to be told as, where it is a limit's doing; that tells it.
    pub(super) fn take_cut(&mut self, code: [u8; 5]) -> Option<Refusal> {
        let is_ours = |cut: &mut Box<Cut>| cut.dropped || code == CANCELLED;
        self.limiting.cut.take_if(is_ours).map(|cut| cut.refusal)
    }

    /// A statement that reached its time limit ended well before it was cancelled.
    pub(super) fn ended_in_time(command: &mut InFlight) {
        command.cut = None;
    }

    /// Relays the DataRows that `bytes` start with as far as the limits allow, and drops the rest.
    pub(super) fn take_limited_rows(&mut self, plan: &Arc<Plan>, bytes: &[u8]) -> usize {
        let Some(command) = self.expects.front_mut().and_then(Expect::command) else { return 0 };
        let Some(Under { limited, .. }) = command.limited.as_deref().cloned() else { return 0 };
        let here = Frames::of(bytes, u64::MAX, u64::MAX);
        let (rows, rows_by) = limited.take(Measure::Rows, here.rows);
        let (size, size_by) = limited.take(Measure::Bytes, here.bytes);
        let most = Frames::of(bytes, rows, size);
        let before = command.rows;
        let passage = Passage {
            redactor: self.redactor.as_mut(),
            command,
            out: self.transmit.downstream.buffer(),
            scratch: &mut self.scratch,
        };
        let relayed = rows::relay(plan, passage, bytes.get(..most.end).unwrap_or(bytes));
        let passed = self.expects.front_mut().and_then(Expect::command).map_or(0, |one| one.rows);
        let used = Frames::of(bytes, passed - before, u64::MAX);
        limited.settle(Measure::Rows, rows, used.rows);
        limited.settle(Measure::Bytes, size, used.bytes);
        let Ok(taken) = relayed else {
            self.refuse_server("a row that does not match its description");
            return 0;
        };
        self.server.rest = taken.rest;
        if most.rows == here.rows || used.rows < most.rows {
            return taken.bytes;
        }
        let by = if most.rows == rows { rows_by.or(size_by) } else { size_by.or(rows_by) };
        if let Some(refusal) = by.map(limit::refusal) {
            self.cut(refusal);
        }
        if self.server.rest.is_some() {
            // The last one that fits is not all here.
            return taken.bytes;
        }
        taken.bytes + self.drop_rows(bytes.get(taken.bytes..).unwrap_or_default())
    }

    /// Drops the DataRows that `bytes` start with; answers how many bytes that were.
    pub(super) fn drop_rows(&mut self, bytes: &[u8]) -> usize {
        if let Some(cut) = &mut self.limiting.cut {
            cut.dropped = true;
        }
        let mut at = 0;
        while let Some(rest @ [b'D', ..]) = bytes.get(at..) {
            match message::header(rest) {
                Ok(Some(header)) => at += self.drop_frame(rest, header.total),
                Ok(None) => break,
                Err(_) => {
                    self.refuse_server("impossible message length");
                    break;
                }
            }
        }
        at
    }

    /// Drops one frame, of which not all may be here.
    fn drop_frame(&mut self, bytes: &[u8], total: usize) -> usize {
        let here = total.min(bytes.len());
        self.server.rest = (total > here).then(|| Rest::Drop(total - here));
        here
    }

    /// Whether the agent's COPY data must wait until it is known what the server takes it for.
    pub(super) fn must_see_copying(&mut self) -> bool {
        self.limiting.barrier
            && matches!(self.server.copy, CopyState::None)
            && self.must_see_limited(b'd')
    }

    /// The server copies in from the agent now, and ignores what Syncs it was sent.
    pub(super) fn limit_copy_in(&mut self, statement: &Statement, binary: bool) {
        if !self.limiting.barrier {
            return;
        }
        self.limiting.synced = matches!(self.expects.front(), Some(Expect::Query(_)));
        let is_plain = self.server.encoding_is_safe && !statement.risks.contains(Risk::OPAQUE);
        let copy = statement.copy.as_ref().filter(|_| is_plain);
        self.limiting.copy_in = Some(Box::new(CopyIn::new(copy, binary)));
    }

    /// Whether the agent copies in under limits.
    pub(super) fn copies_limited(&mut self) -> bool {
        matches!(self.server.copy, CopyState::In)
            && self.running().is_some_and(|command| command.limited.is_some())
    }

    /// Sends COPY data up, of which `header` bytes are a message's header, or cuts the COPY where there is
    /// more than the limits leave.
    pub(super) fn send_limited_copy(&mut self, bytes: &[u8], header: usize) {
        // What comes behind its end the server ignores.
        if self.is_cut() || !self.copies_limited() {
            return;
        }
        let data = bytes.get(header..).unwrap_or_default();
        let Some(counter) = &mut self.limiting.copy_in else { return };
        let (begun, size) = (counter.feed(data), bytes.len() as u64);
        let Some(limited) = self.running().and_then(|command| command.limited.as_ref()) else {
            return;
        };
        let limited = limited.limited.clone();
        let (rows, rows_by) = limited.take(Measure::Rows, begun);
        let (room, room_by) = limited.take(Measure::Bytes, size);
        let fits = rows == begun && room == size;
        limited.settle(Measure::Rows, rows, if fits { rows } else { 0 });
        limited.settle(Measure::Bytes, room, if fits { room } else { 0 });
        match rows_by.or(room_by).map(limit::refusal) {
            Some(refusal) => self.cut(refusal),
            None if data.is_empty() => {}
            None => message::frame(self.transmit.upstream.buffer(), b'd', |out| {
                out.extend_from_slice(data);
            }),
        }
    }

    /// Takes a CopyData from what the limits leave; `Some` if it is dropped instead, with how many
    /// bytes that were.
    pub(super) fn limit_copy(&mut self, bytes: &[u8], total: usize) -> Option<usize> {
        if !self.is_cut() {
            let command = self.expects.front_mut().and_then(Expect::command)?;
            let limited = command.limited.as_ref()?.limited.clone();
            if bytes.len() < total && total <= ROW_BYTES_MAX {
                // It is taken whole, and counted then.
                return Some(0);
            }
            let is_row = u64::from(is_row(command, bytes, total));
            command.copied += 1;
            let size = total as u64;
            let (rows, rows_by) = limited.take(Measure::Rows, is_row);
            let (room, room_by) = limited.take(Measure::Bytes, size);
            let fits = rows == is_row && room == size;
            limited.settle(Measure::Rows, rows, if fits { is_row } else { 0 });
            limited.settle(Measure::Bytes, room, if fits { size } else { 0 });
            command.rows += if fits { is_row } else { 0 };
            if fits {
                return None;
            }
            let refusal = rows_by.or(room_by).map(limit::refusal)?;
            self.cut(refusal);
        }
        if let Some(cut) = &mut self.limiting.cut {
            cut.dropped = true;
        }
        Some(self.drop_frame(bytes, total))
    }

    /// Takes a message of an answer that is dropped; `None` if it is not due, `Some(false)` if it is
    /// not of such an answer.
    pub(super) fn drop_message(&mut self, tag: u8) -> Option<bool> {
        match tag {
            b'C' | b'I' | b's' => self.drop_end(tag)?,
            b'T' | b'H' | b'c' => {
                matches!(self.expects.front(), Some(Expect::Query(_) | Expect::Execute { .. }))
                    .then_some(())?;
            }
            b'G' => {
                // The agent will not hear that it is to send anything.
                message::copy_fail(self.transmit.upstream.buffer());
            }
            _ => return Some(false),
        }
        Some(true)
    }

    /// The end of a command of an answer that is dropped.
    fn drop_end(&mut self, tag: u8) -> Option<()> {
        self.server.plan = None;
        self.server.copy = CopyState::None;
        let is_last = self.expects.len() == 1;
        match self.expects.front_mut()? {
            Expect::Query(batch) if tag != b's' => {
                let command = batch.commands.front_mut()?;
                command.completed = true;
                if batch.commands.len() > 1
                    && let Some(command) = batch.commands.pop_front()
                {
                    self.finish(command, Status::Ok, None);
                }
            }
            Expect::Execute { command, .. } if is_last && !command.completed => {
                // What comes up to the Sync must not run.
                command.completed = true;
                message::failing_parse(self.transmit.upstream.buffer());
                message::frame(self.transmit.upstream.buffer(), b'H', |_| {});
            }
            Expect::Execute { command, .. } if !command.completed => {
                if let Some(Expect::Execute { command, .. }) = self.expects.pop_front() {
                    self.finish(command, Status::Ok, None);
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// ReadyForQuery after an answer that was cut, for which the server said no error: the agent is
    /// told now. True where the server's transaction is made to fail first.
    pub(super) fn end_cut(&mut self, status: u8) -> bool {
        let Some(cut) = self.limiting.cut.take() else { return false };
        if !cut.dropped {
            return false;
        }
        let Refusal { policy, message, code } = &cut.refusal;
        let mut detail = format!("policy {policy}: {message}");
        if status == b'I' {
            detail.push_str("; the server had ended the statement, and what it changed stands");
        }
        message::error(self.transmit.downstream.buffer(), "ERROR", *code, message, &detail);
        if status != b'T' {
            return false;
        }
        message::failing_query(self.transmit.upstream.buffer());
        self.expects.push_front(Expect::Failing);
        true
    }
}

/// A command's limits, and since when it runs.
#[derive(Clone, Debug)]
pub(super) struct Under {
    pub(super) limited: Limited,
    pub(super) started: Option<Timestamp>,
}

/// DataRows at the start of some bytes: how many, what they come to, and where the last one ends.
struct Frames {
    rows: u64,
    bytes: u64,
    end: usize,
}

impl Frames {
    /// The first of them, no more than so many and so large; the last may not be all here.
    fn of(bytes: &[u8], rows: u64, size: u64) -> Self {
        let mut found = Self { rows: 0, bytes: 0, end: 0 };
        while let Some(rest @ [b'D', ..]) = bytes.get(found.end..)
            && let Ok(Some(header)) = message::header(rest)
            && found.rows < rows
            && found.bytes + header.total as u64 <= size
        {
            found.rows += 1;
            found.bytes += header.total as u64;
            found.end += header.total;
        }
        found
    }
}

/// Whether a CopyData is a row: no line of names, no end of the binary format, nothing of files and logs.
fn is_row(command: &InFlight, bytes: &[u8], total: usize) -> bool {
    if command.statement.replicates() {
        return false;
    }
    let Some(copy) = &command.statement.copy else { return true };
    let is_header = copy.header && copy.format != CopyFormat::Binary && command.copied == 0;
    let is_end = copy.format == CopyFormat::Binary
        && total == HEADER + 2
        && bytes.get(HEADER..total) == Some(&[0xff; 2]);
    !is_header && !is_end
}

impl Batch {
    /// Whether a command of it is under limits.
    pub(super) fn is_limited(&self) -> bool {
        self.commands.iter().any(|command| command.limited.is_some())
    }
}
