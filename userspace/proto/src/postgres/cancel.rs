//! Keys of cancel requests: the agent is given one of ours, the server's own stays here.

use std::fmt;
use std::ops::RangeInclusive;

use subtle::ConstantTimeEq;
use types::event::Status;
use types::secret::Secret;

use super::expect::{Expect, InFlight};
use super::startup::{self, CANCEL_REQUEST, Packet};
use super::{Phase, PostgresSession};
use crate::reader::Reader;

/// The length of our keys in protocol 3.2, which has room for 4 to 256 bytes.
pub const CANCEL_KEY_BYTES: usize = 32;

/// The length of a CancelRequest: a head of 12 bytes and a key of 4 (3.0) to 256 (3.2).
pub(super) const REQUEST_BYTES: RangeInclusive<usize> = 16..=12 + 256;

/// What cancels a session's command: BackendKeyData, or what a CancelRequest says.
#[derive(Clone)]
pub struct CancelKey {
    /// The server's process. Ours is the same as the server's: clients compare it with
    /// `pg_backend_pid()` and with who notified them.
    pub process: u32,
    /// The secret part; 4 bytes in protocol 3.0.
    pub key: Secret<Vec<u8>>,
}

impl CancelKey {
    /// Whether both are the same; takes as long whichever bytes differ.
    pub fn is(&self, other: &Self) -> bool {
        self.process == other.process && bool::from(self.key.expose().ct_eq(other.key.expose()))
    }

    /// Reads a process and a key, to the end.
    pub(super) fn read(mut reader: Reader<'_>) -> Option<Self> {
        let process = reader.u32()?;
        let key = reader.rest();
        (4..=256).contains(&key.len()).then(|| Self { process, key: Secret::new(key.to_vec()) })
    }

    /// The length of the CancelRequest that begins like this; `None` if another packet does.
    pub fn request_length(head: [u8; 8]) -> Option<usize> {
        let [a, b, c, d, code @ ..] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let is_one = u32::from_be_bytes(code) == CANCEL_REQUEST && REQUEST_BYTES.contains(&length);
        is_one.then_some(length)
    }

    /// What a whole CancelRequest names.
    pub fn of_request(packet: &[u8]) -> Option<Self> {
        match startup::read(packet) {
            Ok(Some((Packet::Cancel(key), _))) => Some(key),
            _ => None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.process.to_be_bytes());
        out.extend_from_slice(self.key.expose());
    }

    /// Appends a CancelRequest with this key.
    fn request(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(12 + self.key.expose().len()).expect("at most 256 bytes");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&CANCEL_REQUEST.to_be_bytes());
        self.write(out);
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey").field("process", &self.process).finish_non_exhaustive()
    }
}

/// The key that the server issued for a session, and the one that the agent was given.
#[derive(Clone, Debug)]
pub struct IssuedKey {
    /// The server's.
    pub real: CancelKey,
    /// Ours.
    pub own: CancelKey,
}

impl PostgresSession {
    /// Gives the session the key that its agent will get; random. Without one, an agent gets none
    /// and can cancel nothing. Its first four bytes are used in protocol 3.0.
    pub fn set_cancel_key(&mut self, key: Secret<[u8; CANCEL_KEY_BYTES]>) {
        self.cancel.own = Some(key);
    }

    /// The keys, once the server issued its own.
    pub fn issued_key(&self) -> Option<&IssuedKey> {
        self.cancel.issued.as_ref()
    }

    /// What the agent asks to be cancelled; `None` if this is no cancel request.
    pub fn cancel_request(&self) -> Option<&CancelKey> {
        self.cancel.asked.as_ref()
    }

    /// Before a cancel request is allowed: which key goes up for it. Without one nothing does, and
    /// the connection is closed, as a server closes it that knows no such key.
    pub fn forward_cancel(&mut self, real: CancelKey) {
        self.cancel.forwarded = Some(real);
    }

    /// Takes back a cancel request that was allowed and not written: what it was to cancel ended.
    pub fn withdraw_cancel(&mut self) {
        if self.phase == Phase::Cancelling {
            self.transmit.upstream = crate::session::Transmit::default();
            if let Some(Expect::Execute { command, .. }) = self.expects.pop_front() {
                self.finish(command, Status::Skipped, None);
            }
            self.interrupt();
        }
    }

    /// Ends the session for a reason that lies beyond it: nothing more goes up, and the agent is told, unless it
    /// is in the middle of a message. Answers the request that cancels what the server works at.
    pub fn dismiss(&mut self, code: [u8; 5], text: &str) -> Option<Vec<u8>> {
        if self.phase == Phase::Ended {
            return None;
        }
        let request = if self.expects.is_empty() { None } else { self.cancel.request() };
        if self.server.rest.is_none() {
            super::message::error(self.transmit.downstream.buffer(), "FATAL", code, text, "");
        }
        self.transmit.upstream = crate::session::Transmit::default();
        self.interrupt();
        request
    }

    /// Ends the session at once: what waits for either side is dropped, and the agent gets an error, where no message is
    /// half written. As [`Self::dismiss`], it answers a cancel request for what the server works at.
    pub fn drop_all(&mut self, code: [u8; 5], text: &str) -> Option<Vec<u8>> {
        if self.phase == Phase::Ended {
            return None;
        }
        let dropped = self.transmit.downstream.discard();
        let request = self.dismiss(code, text);
        if !dropped.is_some_and(|bytes| are_messages(&bytes)) {
            self.transmit.downstream.discard();
        }
        request
    }

    /// Whether there is something to cancel: a command that is being decided or answered.
    pub fn is_busy(&self) -> bool {
        !self.expects.is_empty() || self.agent.pending.is_some()
    }

    /// Sends an allowed cancel request up, with the server's key.
    pub(super) fn send_cancel(&mut self, command: InFlight) -> Option<InFlight> {
        let Some(real) = self.cancel.forwarded.take() else {
            self.finish(command, Status::Skipped, None);
            self.interrupt();
            return None;
        };
        real.request(self.transmit.upstream.buffer());
        Some(command)
    }

    /// BackendKeyData: the agent gets our key.
    pub(super) fn backend_key(&mut self, body: &[u8]) -> Option<()> {
        let real = CancelKey::read(Reader::new(body))?;
        let is_short = real.key.expose().len() == 4;
        // Protocol 3.0 has keys of 4 bytes (PostgreSQL documentation, "Message Formats").
        if self.cancel.issued.is_some() || (!is_short && self.minor_version < 2) {
            return None;
        }
        let Some(key) = &self.cancel.own else { return Some(()) };
        let length = if is_short { 4 } else { CANCEL_KEY_BYTES };
        let key = key.expose().get(..length)?.to_vec();
        let own = CancelKey { process: real.process, key: Secret::new(key) };
        super::message::frame(self.transmit.downstream.buffer(), b'K', |out| own.write(out));
        self.cancel.issued = Some(IssuedKey { real, own });
        Some(())
    }
}

/// A session's keys.
#[derive(Debug, Default)]
pub(super) struct Cancel {
    own: Option<Secret<[u8; CANCEL_KEY_BYTES]>>,
    issued: Option<IssuedKey>,
    pub(super) asked: Option<CancelKey>,
    forwarded: Option<CancelKey>,
}

impl Cancel {
    /// Whether the server issued a key.
    pub(super) fn has_key(&self) -> bool {
        self.issued.is_some()
    }

    /// A request to cancel what this session runs.
    pub(super) fn request(&self) -> Option<Vec<u8>> {
        let mut request = Vec::new();
        self.issued.as_ref()?.real.request(&mut request);
        Some(request)
    }
}

/// Whether bytes are whole messages of a server, one behind the other (PostgreSQL documentation, "Message Flow").
fn are_messages(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((header, _)) = rest.split_first_chunk::<5>() {
        let [tag, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let next = length.checked_add(1).filter(|_| length >= 4 && tag.is_ascii_alphanumeric());
        let Some(behind) = next.and_then(|next| rest.get(next..)) else { return false };
        rest = behind;
    }
    rest.is_empty()
}
