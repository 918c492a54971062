//! The bytes of the wire for the record, where policy has all of a session kept: what came from the agent, message by
//! message as each goes its way, and what waits to be written to it.
//!
//! Not kept is what the login says, and a message with a secret in it: a gap says how long it was. Whether there is a secret
//! in COPY data, nobody looks.

use std::ops::Range;

use super::message::HEADER;
use super::names::Lookup;
use super::prepared::Bind;
use super::{Phase, PostgresSession};
use crate::piece::{Gap, Piece};
use crate::reader::Reader;
use crate::session::Session;
use crate::sql::secrets;
use types::addr::Side;

/// How far the wire is recorded.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// Whether policy asks for what comes now.
    keeps: bool,
    /// What came from the agent since it was last taken: at most what one read and one held message bring.
    sent: Vec<u8>,
    pieces: Vec<Sent>,
    /// How much of what was ever to be written to the agent was looked at, and how much of that belongs to the login.
    looked_at: u64,
    login: Option<u64>,
}

#[derive(Debug)]
enum Sent {
    Bytes(Range<usize>),
    Gap(u64, Gap),
}

impl PostgresSession {
    /// Before any input: the bytes of the wire are to be recorded, as far as policy asks for it.
    pub fn record_wire(&mut self) {
        self.wire = Some(Box::default());
    }

    /// Whether policy asks for what comes now, as far as nobody says otherwise.
    pub fn keep_wire(&mut self, keeps: bool) {
        if let Some(wire) = &mut self.wire {
            wire.keeps = keeps;
        }
    }

    /// Calls `each` with what came from the agent since this was called last.
    pub fn take_sent(&mut self, mut each: impl FnMut(Piece<'_>)) {
        let Some(wire) = &mut self.wire else { return };
        for piece in wire.pieces.drain(..) {
            each(match piece {
                Sent::Bytes(range) => Piece::Bytes(wire.sent.get(range).unwrap_or_default()),
                Sent::Gap(bytes, why) => Piece::Gap(bytes, why),
            });
        }
        wire.sent.clear();
        wire.sent.shrink_to(HELD_BYTES);
    }

    /// Calls `each` with what waits to be written to the agent and was not given to it before.
    pub fn take_received(&mut self, mut each: impl FnMut(Piece<'_>)) {
        let Some(wire) = &mut self.wire else { return };
        let place = self.transmit.downstream.place();
        let waiting = self.transmit.downstream.pending();
        // What waited may have been dropped.
        let new = place.saturating_sub(wire.looked_at);
        let new = usize::try_from(new).unwrap_or(usize::MAX).min(waiting.len());
        wire.looked_at = place;
        let fresh = waiting.get(waiting.len() - new..).unwrap_or_default();
        let begun = place - new as u64;
        let login = wire.login.unwrap_or(u64::MAX).saturating_sub(begun);
        let login = usize::try_from(login).unwrap_or(usize::MAX).min(fresh.len());
        let (login, rest) = fresh.split_at(login);
        if !login.is_empty() {
            each(Piece::Gap(login.len() as u64, Gap::Login));
        }
        match rest {
            [] => {}
            rest if wire.keeps => each(Piece::Bytes(rest)),
            rest => each(Piece::Gap(rest.len() as u64, Gap::Policy)),
        }
    }

    /// Notes that the login is over: what is written to the agent from here on is no part of it.
    pub(super) fn login_ended(&mut self) {
        let place = self.transmit(Side::Downstream).place();
        if let Some(wire) = &mut self.wire {
            wire.login.get_or_insert(place);
        }
    }

    /// Notes a message of the agent's, or a piece of COPY data, that goes its way.
    pub(super) fn note_sent(&mut self, bytes: &[u8], is_data: bool) {
        let Some(wire) = &self.wire else { return };
        let why = if self.phase != Phase::Running {
            Some(Gap::Login)
        } else if !wire.keeps {
            Some(Gap::Policy)
        } else if !is_data && self.holds_secret(bytes) {
            Some(Gap::Secret)
        } else {
            None
        };
        let Some(wire) = &mut self.wire else { return };
        let Wire { sent, pieces, .. } = &mut **wire;
        match (why, pieces.last_mut()) {
            (Some(why), Some(Sent::Gap(more, of))) if *of == why => *more += bytes.len() as u64,
            (Some(why), _) => pieces.push(Sent::Gap(bytes.len() as u64, why)),
            (None, last) => {
                let start = sent.len();
                sent.extend_from_slice(bytes);
                match last {
                    Some(Sent::Bytes(range)) => range.end = sent.len(),
                    _ => pieces.push(Sent::Bytes(start..sent.len())),
                }
            }
        }
    }

    /// Whether a secret is in a message: in its text, or in what is bound.
    fn holds_secret(&self, frame: &[u8]) -> bool {
        let body = frame.get(HEADER..).unwrap_or_default();
        let mut reader = Reader::new(body);
        match frame.first() {
            Some(b'Q') => is_secret(reader.cstr()),
            Some(b'P') => {
                let text = reader.cstr().and_then(|_| reader.cstr());
                is_secret(text)
            }
            Some(b'B') => {
                let Some(bind) = Bind::read(body) else { return true };
                let Lookup::Known(prepared) =
                    self.statements.get(bind.statement, self.agent.segment)
                else {
                    return true;
                };
                let named = secrets::find(&prepared.statement.text).parameters;
                bind.each_value().enumerate().any(|(at, value)| {
                    let text = value.map(String::from_utf8_lossy);
                    text.is_some_and(|text| named.contains(&(at + 1)) || secrets::is_in(&text))
                })
            }
            _ => false,
        }
    }
}

/// Whether a text that a server would run has a secret in it; one that can't be read may have.
fn is_secret(text: Option<&[u8]>) -> bool {
    let Some(text) = text else { return true };
    let text = String::from_utf8_lossy(text);
    *secrets::find(&text).text != *text
}

/// What the buffer keeps between reads.
const HELD_BYTES: usize = 4 * 1024;
