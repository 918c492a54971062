//! The server's messages: each must be one that is due.

use types::addr::Side;
use types::event::{Event, Status};
use types::limits::{MESSAGE_BYTES_MAX, ROW_BYTES_MAX};

use super::expect::{CloseTarget, Expect};
use super::message::{self, HEADER};
use super::notice;
use super::probe::Probe;
use super::rows::Rest;
use super::{Phase, PostgresSession};
use crate::reader::Reader;

/// Encodings in which the second byte of a character may be an ASCII one.
const UNSAFE_ENCODINGS: [&[u8]; 7] =
    [b"SJIS", b"BIG5", b"GBK", b"GB18030", b"UHC", b"JOHAB", b"SHIFT_JIS_2004"];

impl PostgresSession {
    /// Takes the server's next messages from `bytes`, or as much as may go; answers how many bytes
    /// that were, 0 if the next message is not all here.
    pub(super) fn take_server(&mut self, bytes: &[u8]) -> usize {
        match self.phase {
            Phase::First | Phase::Met | Phase::Asking | Phase::Weighing | Phase::Challenging => {
                self.violate(Side::Upstream, "bytes before anything was asked", Some(*b"08P01"));
                return 0;
            }
            // The answer to a cancel request is none.
            Phase::Cancelling => return bytes.len(),
            Phase::Ended => return 0,
            Phase::Authenticating | Phase::Running => {}
        }
        if let Some(rest) = self.server.rest.take() {
            return self.take_rest(rest, bytes);
        }
        let Ok(header) = message::header(bytes) else {
            self.refuse_server("impossible message length");
            return 0;
        };
        let Some(message::Header { tag, total }) = header else { return 0 };
        let probing = matches!(self.probe, Probe::Running { .. });
        match tag {
            b'D' if !probing => return self.take_rows(bytes),
            b'd' => return self.take_copy(bytes, total),
            _ => {}
        }
        let max = if tag == b'D' { ROW_BYTES_MAX } else { MESSAGE_BYTES_MAX };
        if total > max {
            self.refuse_server("message is too large");
            return 0;
        }
        let Some(frame) = bytes.get(..total) else { return 0 };
        let body = frame.get(HEADER..).unwrap_or_default();
        if self.server_message(tag, frame, body).is_none() {
            self.refuse_server("a message that is malformed or not due");
        }
        total
    }

    fn take_rest(&mut self, rest: Rest, bytes: &[u8]) -> usize {
        let out = self.transmit.downstream.buffer();
        let before = out.len();
        let (taken, rest) = match rest {
            Rest::Relay(left) => {
                let count = left.min(bytes.len());
                out.extend_from_slice(bytes.get(..count).unwrap_or_default());
                (count, (left > count).then(|| Rest::Relay(left - count)))
            }
            Rest::Drop(left) => {
                let count = left.min(bytes.len());
                (count, (left > count).then(|| Rest::Drop(left - count)))
            }
            Rest::Row(mut row) => {
                let Ok(taken) = row.feed(self.redactor.as_mut(), bytes, out) else {
                    // The agent is in the middle of a row: nothing can be said to it.
                    self.server.rest = Some(Rest::Row(row));
                    self.refuse_server("a row that does not match its description");
                    return 0;
                };
                (taken, (!row.is_done()).then_some(Rest::Row(row)))
            }
        };
        let sent = (out.len() - before) as u64;
        self.server.rest = rest;
        if let Some(command) = self.expects.front_mut().and_then(Expect::command) {
            command.bytes_out += sent;
        }
        taken
    }

    /// Ends the session over a message of the server's that cannot be.
    pub(super) fn refuse_server(&mut self, what: &'static str) {
        self.violate(Side::Upstream, what, Some(*b"08P01"));
    }

    /// Takes one whole message; `None` if it is malformed or not due.
    fn server_message(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Option<()> {
        match tag {
            b'N' => {
                let quotes = self.quotes();
                let (out, redactor) = (self.transmit.downstream.buffer(), self.redactor.as_mut());
                return notice::relay_fields(frame, quotes, redactor, &mut self.scratch, out);
            }
            b'A' => {
                let out = self.transmit.downstream.buffer();
                let redactor = self.redactor.as_mut();
                let told = notice::relay_notification(body, redactor, &mut self.scratch, out)?;
                self.events.push_back(Event::Notified(told));
                return Some(());
            }
            b'S' => {
                self.note_parameter(body)?;
                self.relay(frame);
                return Some(());
            }
            _ => {}
        }
        if self.phase == Phase::Authenticating {
            return self.login_message(tag, frame, body);
        }
        if matches!(self.probe, Probe::Running { .. }) {
            return self.probe_message(tag, frame, body);
        }
        if self.has_dropped() && self.drop_message(tag)? {
            return Some(());
        }
        match tag {
            b'E' => self.error_response(frame, body),
            b'Z' => self.ready_for_query(body),
            b'1' | b'2' | b'3' => self.step_complete(tag, frame),
            b't' | b'T' | b'n' => self.description(tag, frame, body),
            b'C' | b'I' | b's' => self.complete(tag, frame, body),
            b'G' | b'H' | b'W' => self.copy_response(tag, frame, body),
            b'c' => self.copy_done(frame),
            b'V' => self.function_response(frame, body),
            _ => None,
        }
    }

    /// Relays a message as it is, on the account of the command that is being answered.
    pub(super) fn relay(&mut self, frame: &[u8]) {
        self.transmit.downstream.buffer().extend_from_slice(frame);
        if let Some(command) = self.expects.front_mut().and_then(Expect::command) {
            command.bytes_out += frame.len() as u64;
        }
    }

    fn login_message(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> Option<()> {
        match tag {
            b'R' => return self.authentication(frame, body),
            b'K' => return self.backend_key(body),
            b'v' => {
                self.note_version(body)?;
                self.relay(frame);
            }
            b'E' => {
                let summary = notice::summary(body)?;
                if self.is_refusal_of_credential(summary.code) {
                    self.refuse_target("the target refused the credential", summary.code);
                    return Some(());
                }
                self.relay(frame);
                if let Some(Expect::Execute { command, .. }) = self.expects.pop_front() {
                    self.finish(command, Status::Error, Some(summary.code));
                }
            }
            b'Z' => {
                let [status] = body else { return None };
                let Some(Expect::Execute { command, .. }) = self.expects.pop_front() else {
                    return None;
                };
                self.finish(command, Status::Ok, None);
                self.phase = Phase::Running;
                self.login_ended();
                self.server.at_rest = Some(*status);
                self.want_probe(Some(*status));
            }
            _ => return None,
        }
        Some(())
    }

    /// NegotiateProtocolVersion: the newest version that the server speaks, in full or, as some
    /// servers have it, its minor number alone.
    fn note_version(&mut self, body: &[u8]) -> Option<()> {
        let newest = Reader::new(body).u32()?;
        matches!(newest >> 16, 0 | 3).then_some(())?;
        self.minor_version = self.minor_version.min(newest & 0xffff);
        Some(())
    }

    fn note_parameter(&mut self, body: &[u8]) -> Option<()> {
        let mut reader = Reader::new(body);
        let (name, value) = (reader.cstr()?, reader.cstr()?);
        reader.is_empty().then_some(())?;
        match name {
            b"standard_conforming_strings" => {
                self.server.reading.standard_conforming_strings = value == b"on";
            }
            b"client_encoding" => {
                let hides = |name: &&[u8]| value.eq_ignore_ascii_case(name);
                self.server.encoding_is_safe = !UNSAFE_ENCODINGS.iter().any(hides);
            }
            _ => {}
        }
        Some(())
    }

    /// ParseComplete, BindComplete, CloseComplete.
    fn step_complete(&mut self, tag: u8, frame: &[u8]) -> Option<()> {
        match (tag, self.expects.pop_front()?) {
            (b'1', Expect::Parse { name, change, prepared }) => {
                self.statements.confirm(&name, change, Some(prepared));
            }
            (b'2', Expect::Bind { name, change, portal }) => {
                self.portals.confirm(&name, change, Some(portal));
            }
            (b'3', Expect::Close { target, name, change }) => match target {
                CloseTarget::Statement => self.statements.confirm(&name, change, None),
                CloseTarget::Portal => self.portals.confirm(&name, change, None),
            },
            (_, other) => {
                self.expects.push_front(other);
                return None;
            }
        }
        self.transmit.downstream.buffer().extend_from_slice(frame);
        Some(())
    }
}
