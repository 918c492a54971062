//! What a connection says, by the protocol session that the proxy drives: here both sides' bytes are what was captured,
//! whatever a command is decided; it ran.

use std::sync::Arc;

use proto::postgres::{CancelKey, EncryptionRequest, PostgresSession, Transport};
use proto::session::{Session, Verdict};
use proto::sql::Analyzer;
use types::addr::Side;
use types::clock::Timestamp;
use types::command::Command;
use types::event::{Event, Outcome, Violation};
use types::secret::Secret;

use crate::exchange::{Exchanges, Request};
use crate::limit::{AHEAD_BYTES_MAX, PREFACE_BYTES_MAX};
use crate::unmasked::Unmasked;

/// Something that a connection said.
#[derive(Debug)]
pub enum Said<'s> {
    /// A session opens.
    Opens(Opening<'s>),
    /// It asks for something.
    Command(&'s Command),
    /// It asks for something over HTTP.
    Request(Request<'s>),
    /// That ended.
    Outcome(Outcome),
    /// One side broke the protocol; what follows is not read.
    Violation(Violation),
}

/// What a session is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening<'s> {
    /// What it speaks, in the words of records.
    pub protocol: &'static str,
    /// The database, where one is asked for.
    pub database: Option<&'s str>,
    /// The role.
    pub user: Option<&'s str>,
    /// What the client calls itself.
    pub application: &'s str,
}

impl Opening<'_> {
    /// One that says nothing else.
    pub(crate) fn of(protocol: &'static str) -> Self {
        Self { protocol, database: None, user: None, application: "" }
    }
}

/// Why a connection, or the rest of it, is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unread {
    /// It is encrypted by TLS.
    Tls,
    /// It is encrypted by GSSAPI.
    Gss,
    /// It goes on in another protocol: a tunnel, a WebSocket.
    OtherProtocol,
    /// It speaks something that is not known here.
    UnknownProtocol,
    /// It began before the capture.
    BegunBefore,
    /// Bytes of it are missing: what comes behind can't be told apart.
    Gap,
    /// One side broke the protocol.
    Violation,
    /// It sent more ahead than is held.
    TooFarAhead,
    /// It said nothing.
    Nothing,
}

impl Unread {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Gss => "gss",
            Self::OtherProtocol => "other_protocol",
            Self::UnknownProtocol => "unknown_protocol",
            Self::BegunBefore => "begun_before_capture",
            Self::Gap => "gap",
            Self::Violation => "violation",
            Self::TooFarAhead => "too_far_ahead",
            Self::Nothing => "nothing_said",
        }
    }
}

/// What takes what is said.
pub(crate) type Hear<'h, E> = &'h mut dyn FnMut(Said<'_>, Timestamp) -> Result<(), E>;

/// What one connection says.
pub(crate) struct Conversation {
    state: State,
    /// Why it is not read, or not any more.
    unread: Option<Unread>,
    unread_bytes: u64,
}

enum State {
    /// What was sent before it is known what it speaks; a request for encryption that waits for its answer.
    Preface(Vec<u8>, Option<EncryptionRequest>),
    Session(Box<Talk>),
    Http(Box<Exchanges>),
    Over,
}

struct Talk {
    session: PostgresSession,
    is_open: bool,
    /// Bytes that were given to it although it wanted none.
    ahead: usize,
    /// It does not end by itself: what it says of that is not what happened.
    is_cut: bool,
}

/// What records call it.
const POSTGRESQL: &str = "postgresql";

/// TLS without a request for it: a handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;
/// Protocol 3 (PostgreSQL documentation, "Message Formats").
const MAJOR_VERSION: [u8; 2] = [0, 3];
const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
];
/// How HTTP/2 begins (RFC 9113 §3.4).
const HTTP2: &[u8] = b"PRI * HTTP";

impl Conversation {
    pub(crate) fn new() -> Self {
        Self { state: State::Preface(Vec::new(), None), unread: None, unread_bytes: 0 }
    }

    /// One of which nothing is read.
    pub(crate) fn unread(why: Unread) -> Self {
        Self { state: State::Over, unread: Some(why), unread_bytes: 0 }
    }

    /// Why it is not read, or not any more, and how many bytes were not.
    pub(crate) fn left_unread(&self) -> (Option<Unread>, u64) {
        (self.unread, self.unread_bytes)
    }

    /// Takes the next bytes of a side.
    pub(crate) fn take<E>(
        &mut self,
        side: Side,
        bytes: &[u8],
        at: Timestamp,
        analyzer: &Arc<Analyzer>,
        hear: Hear<'_, E>,
    ) -> Result<(), E> {
        if let State::Preface(said, asked) = &mut self.state {
            match meet(said, asked, side, bytes) {
                Met::More => return Ok(()),
                Met::Postgres => {
                    let first = std::mem::take(said);
                    let mut session =
                        PostgresSession::new(Arc::clone(analyzer), Transport::default());
                    session.set_redactor(Box::new(Unmasked));
                    let talk = Talk { session, is_open: false, ahead: 0, is_cut: false };
                    self.state = State::Session(Box::new(talk));
                    return self.feed(Side::Downstream, &first, at, hear);
                }
                Met::Http => {
                    let first = std::mem::take(said);
                    self.state = State::Http(Box::new(Exchanges::new()));
                    return self.feed(Side::Downstream, &first, at, hear);
                }
                Met::Not(why) => {
                    let of_server = if side == Side::Upstream { bytes.len() } else { 0 };
                    self.unread_bytes += (said.len() + of_server) as u64;
                    self.stop(why);
                    return Ok(());
                }
            }
        }
        self.feed(side, bytes, at, hear)
    }

    /// Reads no further: bytes are missing.
    pub(crate) fn interrupt<E>(&mut self, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        self.unread.get_or_insert(Unread::Gap);
        self.close(at, hear)
    }

    /// Takes the end of one side.
    pub(crate) fn end<E>(&mut self, side: Side, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        match &mut self.state {
            State::Session(talk) => {
                talk.session.handle_eof(side, at);
                talk.settle(at, hear)
            }
            State::Http(exchanges) => {
                self.unread_bytes += exchanges.end(side, at, hear)?;
                Ok(())
            }
            State::Preface(..) | State::Over => Ok(()),
        }
    }

    /// Takes the end of both sides: what was under way was cut off.
    pub(crate) fn close<E>(&mut self, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        if let State::Preface(said, _) = &self.state {
            self.unread_bytes += said.len() as u64;
            let why = if said.is_empty() { Unread::Nothing } else { Unread::UnknownProtocol };
            self.stop(why);
        }
        if let State::Session(talk) = &mut self.state {
            talk.is_cut = true;
        }
        if let State::Http(exchanges) = &mut self.state {
            return exchanges.close(at, hear);
        }
        self.end(Side::Upstream, at, hear)
    }

    fn feed<E>(
        &mut self,
        side: Side,
        bytes: &[u8],
        at: Timestamp,
        hear: Hear<'_, E>,
    ) -> Result<(), E> {
        if let State::Http(exchanges) = &mut self.state {
            let (unread, why) = exchanges.take(side, bytes, at, hear)?;
            self.unread_bytes += unread;
            if let Some(why) = why {
                self.unread.get_or_insert(why);
            }
            return Ok(());
        }
        let State::Session(talk) = &mut self.state else {
            self.unread_bytes += bytes.len() as u64;
            return Ok(());
        };
        if talk.session.is_ended() {
            self.unread_bytes += bytes.len() as u64;
            return Ok(());
        }
        talk.ahead = match (side, talk.session.wants_input(side)) {
            (Side::Downstream, false) => talk.ahead + bytes.len(),
            (Side::Downstream, true) => 0,
            (Side::Upstream, _) => talk.ahead,
        };
        if talk.ahead > AHEAD_BYTES_MAX {
            self.unread_bytes += bytes.len() as u64;
            self.close(at, hear)?;
            self.stop(Unread::TooFarAhead);
            return Ok(());
        }
        talk.session.handle_input(side, bytes, at);
        let has_failed = talk.settle_saying(at, hear)?;
        if has_failed {
            self.unread.get_or_insert(Unread::Violation);
        }
        Ok(())
    }

    fn stop(&mut self, why: Unread) {
        if !matches!(&self.state, State::Session(_) | State::Http(_)) {
            self.state = State::Over;
        }
        self.unread.get_or_insert(why);
    }
}

impl Talk {
    fn settle<E>(&mut self, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        self.settle_saying(at, hear).map(drop)
    }

    /// Takes what the session has to say; whether it broke off.
    fn settle_saying<E>(&mut self, at: Timestamp, hear: Hear<'_, E>) -> Result<bool, E> {
        let mut has_failed = false;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Command(command) => self.command(&command, at, hear)?,
                Event::Outcome(outcome) => hear(Said::Outcome(outcome), at)?,
                Event::Violation(_) if self.is_cut => {}
                Event::Violation(violation) => {
                    has_failed = true;
                    self.open(at, hear)?;
                    hear(Said::Violation(violation), at)?;
                }
                Event::ProbeWanted => self.session.skip_probe(),
                Event::Authenticated(_) | Event::Notified(_) | Event::Probed(_) => {}
            }
            self.pass(at);
        }
        self.pass(at);
        Ok(has_failed)
    }

    fn command<E>(&mut self, command: &Command, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        self.open(at, hear)?;
        hear(Said::Command(command), at)?;
        // The key that the client was given is the server's own.
        if let Some(CancelKey { process, key }) = self.session.cancel_request() {
            let key = CancelKey { process: *process, key: Secret::new(key.expose().clone()) };
            self.session.forward_cancel(key);
        }
        self.session.handle_decision(command.id, Verdict::Allow);
        Ok(())
    }

    fn open<E>(&mut self, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        if std::mem::replace(&mut self.is_open, true) {
            return Ok(());
        }
        let opening = self.session.startup().map(|startup| Opening {
            protocol: POSTGRESQL,
            database: Some(&startup.database),
            user: Some(&startup.user),
            application: &startup.application_name,
        });
        hear(Said::Opens(opening.unwrap_or(Opening::of(POSTGRESQL))), at)
    }

    /// What the session passes on went its way when it was captured.
    fn pass(&mut self, at: Timestamp) {
        let count = self.session.transmit(Side::Upstream).len();
        if count > 0 {
            self.session.sent(at);
            self.session.transmit(Side::Upstream).consume(count);
        }
        let count = self.session.transmit(Side::Downstream).len();
        self.session.transmit(Side::Downstream).consume(count);
    }
}

/// What a connection is found to be.
enum Met {
    /// More is needed.
    More,
    Postgres,
    Http,
    Not(Unread),
}

/// Finds out what is spoken by what is said first.
fn meet(
    said: &mut Vec<u8>,
    asked: &mut Option<EncryptionRequest>,
    side: Side,
    bytes: &[u8],
) -> Met {
    if side == Side::Upstream {
        return match (asked.take(), bytes) {
            (Some(_), b"N") => Met::More,
            (Some(EncryptionRequest::Tls), [b'S', ..]) => Met::Not(Unread::Tls),
            (Some(EncryptionRequest::Gss), [b'G', ..]) => Met::Not(Unread::Gss),
            // Before a word of the client's, or an error of a server that can't say yes or no.
            _ => Met::Not(Unread::UnknownProtocol),
        };
    }
    said.extend_from_slice(bytes);
    if said.first() == Some(&HANDSHAKE) {
        return Met::Not(Unread::Tls);
    }
    if METHODS.iter().any(|method| said.starts_with(method)) {
        return Met::Http;
    }
    let Some((head, rest)) = said.split_first_chunk::<8>() else { return Met::More };
    if let Some(request) = EncryptionRequest::read(*head) {
        if !rest.is_empty() || asked.is_some() {
            return Met::Not(Unread::UnknownProtocol);
        }
        (*asked, *said) = (Some(request), Vec::new());
        return Met::More;
    }
    let [_, _, _, _, version @ .., _, _] = head;
    let is_startup = *version == MAJOR_VERSION;
    if is_startup || CancelKey::request_length(*head).is_some() {
        return Met::Postgres;
    }
    if said.len() > PREFACE_BYTES_MAX
        || said.starts_with(HTTP2)
        || !METHODS.iter().chain([&HTTP2]).any(|method| method.starts_with(said))
    {
        return Met::Not(Unread::UnknownProtocol);
    }
    Met::More
}
