//! The agent's messages: which are commands, which are relayed, which cannot be.

use std::sync::Arc;

use types::addr::Side;
use types::command::{Access, Action, CommandKind, Risk, Statement};
use types::limits::{COMMANDS_IN_FLIGHT_MAX, TRANSMIT_BYTES_HIGH};

use super::authority::{Pending, Request};
use super::expect::{Expect, InFlight};
use super::message::{self, HEADER};
use super::replication::{self, Replication};
use super::startup::{self, Packet, plain_statement, unknown_statement};
use super::{Phase, PostgresSession};
use crate::reader::Reader;
use crate::session::Transmit;

pub(super) const MALFORMED: &str = "malformed message";

impl PostgresSession {
    /// Takes the agent's next message from `bytes`, or as much of it as may go; answers how many
    /// bytes that were, 0 if it is not all here or has to wait.
    pub(super) fn take_agent(&mut self, bytes: &[u8]) -> usize {
        match self.phase {
            Phase::First => return self.take_first(bytes),
            Phase::Cancelling => {
                self.violate(Side::Downstream, "bytes behind a cancel request", None);
                return 0;
            }
            Phase::Ended | Phase::Met | Phase::Weighing => return 0,
            Phase::Asking | Phase::Challenging | Phase::Authenticating | Phase::Running => {}
        }
        if self.agent.stream_left > 0 {
            let count = self.agent.stream_left.min(bytes.len());
            self.agent.stream_left -= count;
            self.send_copy(bytes.get(..count).unwrap_or_default(), 0);
            return count;
        }
        let Ok(header) = message::header(bytes) else {
            self.refuse_agent("impossible message length", *b"08P01");
            return 0;
        };
        let Some(message::Header { tag, total }) = header else {
            // An unknown type is refused at its first byte.
            if message::held_max(bytes.first().copied().unwrap_or_default()) == Some(0) {
                self.refuse_agent("unknown message type", *b"08P01");
            }
            return 0;
        };
        match message::held_max(tag) {
            None if self.phase != Phase::Running => {
                self.refuse_agent("COPY data before the login", *b"08P01");
            }
            None => {
                if self.must_see_copying() {
                    return 0;
                }
                let head = bytes.get(..total).unwrap_or(bytes);
                self.agent.stream_left = total - head.len();
                self.agent.reframed = self.copies_limited();
                self.send_copy(head, HEADER);
                return head.len();
            }
            Some(0) => self.refuse_agent("unknown message type", *b"08P01"),
            Some(max) if total > max && tag == b'p' && self.phase == Phase::Asking => {
                self.asked_too_much();
            }
            Some(max) if total > max => {
                self.refuse_agent("message is too large to be judged", *b"54000");
            }
            Some(_) => {
                if let Some(frame) = bytes.get(..total) {
                    let body = frame.get(HEADER..).unwrap_or_default();
                    if self.agent_message(tag, frame, body) {
                        return total;
                    }
                }
            }
        }
        0
    }

    /// Takes one whole message; false if it must wait or ended the session.
    fn agent_message(&mut self, tag: u8, frame: &[u8], body: &[u8]) -> bool {
        match self.phase {
            Phase::Asking => return self.asked_message(tag, body),
            Phase::Challenging => return self.challenge_message(tag, body),
            _ => {}
        }
        if self.phase == Phase::Authenticating && !matches!(tag, b'p' | b'X') {
            self.agent.waiting = true;
            return false;
        }
        if self.agent.copy_in && !matches!(tag, b'c' | b'f' | b'H' | b'S' | b'X') {
            self.refuse_agent("a request in the middle of COPY data", *b"08P01");
            return false;
        }
        if self.must_see_limited(tag) {
            return false;
        }
        let place = self.transmit.upstream.place();
        let taken = match tag {
            b'Q' => self.query(frame, body),
            b'P' => self.parse(frame, body),
            b'B' => self.bind(frame, body),
            b'D' => self.describe(frame, body),
            b'E' => self.execute(frame, body),
            b'C' => self.close(frame, body),
            b'F' => self.function_call(frame, body),
            b'S' => self.sync(frame),
            b'c' | b'f' => {
                self.agent.copy_in = false;
                // Of a COPY that was cut, the server knows already.
                self.is_cut() || self.forward(frame)
            }
            b'p' if self.login.is_some() && self.phase == Phase::Authenticating => {
                self.refuse_agent("a password that nobody asked for", *b"08P01");
                false
            }
            b'p' if self.phase == Phase::Running => {
                self.refuse_agent("a password after the login", *b"08P01");
                false
            }
            b'p' if self.hold_password(body) => false,
            b'X' => {
                self.forward(frame);
                self.note_sent(frame, false);
                self.interrupt();
                false
            }
            _ => self.forward(frame),
        };
        if taken && matches!(tag, b'P' | b'B' | b'D' | b'C') {
            self.agent.unsynced.get_or_insert(place);
        }
        taken
    }

    /// Relays a message as it is.
    pub(super) fn forward(&mut self, frame: &[u8]) -> bool {
        self.transmit.upstream.buffer().extend_from_slice(frame);
        true
    }

    /// Sends a piece of COPY data up, of which so many bytes are a message's header.
    fn send_copy(&mut self, bytes: &[u8], header: usize) {
        if let Some(command) = self.expects.front_mut().and_then(Expect::command) {
            command.bytes_in += bytes.len() as u64;
        }
        if self.agent.reframed {
            self.send_limited_copy(bytes, header);
        } else {
            self.transmit.upstream.buffer().extend_from_slice(bytes);
        }
    }

    fn take_first(&mut self, bytes: &[u8]) -> usize {
        if self.refused_tls || self.refused_gss {
            if !self.transmit.downstream.is_empty() {
                // They may have been put there by somebody else (CVE-2021-23214). The answer that
                // waits is all that waits; it is not given.
                self.transmit.downstream = Transmit::default();
                let what = "bytes behind a request for encryption, before its answer";
                self.violate(Side::Downstream, what, None);
                return 0;
            }
            if bytes.first() == Some(&0x16) {
                self.violate(Side::Downstream, "TLS after it was declined", None);
                return 0;
            }
        }
        match startup::read(bytes) {
            Ok(None) => 0,
            Ok(Some((Packet::Ssl, length))) => self.decline(true, length, bytes.len()),
            Ok(Some((Packet::Gss, length))) => self.decline(false, length, bytes.len()),
            Ok(Some((Packet::Cancel(key), length))) => {
                self.cancel.asked = Some(key);
                let accesses = vec![Access { action: Action::Cancel, table: None }];
                let statement = plain_statement("CANCEL", "", "CANCEL", accesses, Risk::empty());
                self.hold(CommandKind::Cancel, Arc::new(statement), length, Request::Cancel);
                0
            }
            Ok(Some((Packet::Startup(startup), length))) => {
                let statement = startup.statement();
                self.minor_version = startup.version & 0xffff;
                self.startup = Some(*startup);
                if self.keep_startup(bytes.get(..length).unwrap_or_default()) {
                    return length;
                }
                self.hold(CommandKind::Connect, statement, length, Request::Startup);
                0
            }
            Err(error) => {
                let code = error.code();
                let told = (error != startup::StartupError::Tls).then_some(code);
                self.violate(Side::Downstream, error.what(), told);
                0
            }
        }
    }

    /// Answers a request for encryption with no; `TLS` if for that, else for GSSAPI.
    fn decline(&mut self, tls: bool, length: usize, available: usize) -> usize {
        if self.transport.downstream.is_tls() {
            self.violate(Side::Downstream, "encryption is requested inside TLS", None);
            return 0;
        }
        let asked = if tls { &mut self.refused_tls } else { &mut self.refused_gss };
        if std::mem::replace(asked, true) {
            self.violate(Side::Downstream, "encryption is requested twice", None);
            return 0;
        }
        if available > length {
            let what = "bytes behind a request for encryption, before its answer";
            self.violate(Side::Downstream, what, None);
            return 0;
        }
        self.transmit.downstream.buffer().push(b'N');
        length
    }

    /// Holds a message of one command until that is decided.
    fn hold(
        &mut self,
        kind: CommandKind,
        statement: Arc<Statement>,
        length: usize,
        request: Request,
    ) {
        let id = self.ask(kind, Arc::clone(&statement), Arc::default());
        self.next_batch = self.next_batch.wrapping_add(1);
        let command = InFlight::new(id, statement, length as u64);
        self.agent.pending = Some(Pending::new(length, request, self.alone(command)));
    }

    /// The list of one command.
    pub(super) fn alone(&mut self, command: InFlight) -> Vec<InFlight> {
        let mut commands = std::mem::take(&mut self.agent.spare);
        commands.reserve_exact(1);
        commands.push(command);
        commands
    }

    fn query(&mut self, frame: &[u8], body: &[u8]) -> bool {
        if self.must_see_answers() {
            return false;
        }
        let Some(text) = whole_text(body) else {
            self.refuse_agent(MALFORMED, *b"08P01");
            return false;
        };
        let Some(statements) = self.resolve(&self.analyze(text)) else { return false };
        if statements.len() > COMMANDS_IN_FLIGHT_MAX {
            self.refuse_agent("too many statements in one string", *b"54000");
            return false;
        }
        let mut bytes_in = frame.len() as u64;
        let commands = statements
            .iter()
            .map(|statement| {
                let id = self.ask(CommandKind::Query, Arc::clone(statement), Arc::default());
                InFlight::new(id, Arc::clone(statement), std::mem::take(&mut bytes_in))
            })
            .collect();
        self.next_batch = self.next_batch.wrapping_add(1);
        self.agent.pending = Some(Pending::new(frame.len(), Request::Query, commands));
        false
    }

    /// What `text` does; nothing is known of it where its encoding hides its delimiters.
    pub(super) fn analyze(&self, text: &[u8]) -> Arc<[Arc<Statement>]> {
        if self.replication() != Replication::No
            && let Some(command) = replication::read(text)
        {
            return Arc::new([command]);
        }
        if self.server.encoding_is_safe {
            self.analyzer.analyze(text, self.server.reading)
        } else {
            Arc::new([unknown_statement(&String::from_utf8_lossy(text))])
        }
    }

    /// Whether text must not be read yet, since a command in flight may change how it is read.
    pub(super) fn must_see_answers(&mut self) -> bool {
        if !self.agent.barrier {
            return false;
        }
        if self.expects.is_empty() {
            self.agent.barrier = false;
            self.agent.flushed = false;
            return false;
        }
        self.agent.waiting = true;
        if !std::mem::replace(&mut self.agent.flushed, true) {
            // Without it the server may keep its answers until a Sync that waits here.
            message::frame(self.transmit.upstream.buffer(), b'H', |_| {});
        }
        true
    }

    fn sync(&mut self, frame: &[u8]) -> bool {
        if self.agent.copy_in {
            self.server.loose_syncs = self.server.loose_syncs.saturating_add(1);
            return self.forward(frame);
        }
        self.server.skipping = false;
        self.agent.segment += 1;
        self.agent.unsynced = None;
        self.expect(Expect::Sync);
        self.forward(frame)
    }

    /// Whether the agent is quiet: nothing is held of it and nothing is due to it.
    pub(super) fn is_idle(&self) -> bool {
        self.expects.is_empty()
            && self.agent.pending.is_none()
            && self.agent.stream_left == 0
            && self.carry.downstream.is_empty()
            && self.transmit.upstream.len() <= TRANSMIT_BYTES_HIGH
    }
}

/// The one string that a body is, without its NUL.
fn whole_text(body: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(body);
    reader.cstr().filter(|_| reader.is_empty())
}
