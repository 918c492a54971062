//! Passwords that are looked at before they are used: whether one is a token, the driver says.
//!
//! There are two. Where a credential of ours logs in, the agent can be asked for a password of its own: before its
//! opening is decided, and before anything goes up. Where the agent logs in itself and the server asks for the
//! password as it is, it goes up only once the driver has seen it. The agent's bytes stay on this host until then.

use types::addr::Side;
use types::command::CommandKind;
use types::secret::Secret;

use super::authority::{Pending, Request};
use super::expect::InFlight;
use super::frontend::MALFORMED;
use super::message;
use super::{Phase, PostgresSession};
use crate::reader::Reader;

/// AuthenticationCleartextPassword (PostgreSQL documentation, "Message Formats").
const CLEARTEXT: u32 = 3;

/// A password of the agent's.
#[derive(Debug)]
pub enum Password {
    /// What it answered to [`PostgresSession::ask_password`]; none where that is longer than any password
    /// (64 KiB). The session waits for [`PostgresSession::open`].
    Asked(Option<Secret<Vec<u8>>>),
    /// What it would send to the server as it is. The session waits for [`PostgresSession::pass_password`] or
    /// [`PostgresSession::refuse_token`].
    Relayed(Secret<Vec<u8>>),
}

/// In the place of a request: the driver has seen what answers it.
const PASSED: u32 = u32::MAX;

/// How far that is.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    /// The opening waits for the driver.
    holds_opening: bool,
    /// Passwords that are relayed wait for the driver.
    holds_relayed: bool,
    /// The startup packet, from when it came to when it is decided.
    startup: Vec<u8>,
    /// What the driver has not taken yet.
    given: Option<Password>,
    /// What the server asked for, until the agent answers.
    due: Option<u32>,
    /// The agent's answer waits at the head of the carry.
    is_held: bool,
}

impl Passwords {
    /// Whether the agent's next message waits for the driver.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_held
    }

    /// The startup packet that was kept, where one was.
    pub(super) fn take_startup(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.startup)).filter(|startup| !startup.is_empty())
    }

    /// Notes which authentication the server asks for.
    pub(super) fn asked(&mut self, kind: u32) {
        self.due = Some(kind);
    }
}

impl PostgresSession {
    /// Before any input: an opening waits for [`PostgresSession::open`].
    pub fn hold_opening(&mut self) {
        self.passwords.holds_opening = true;
    }

    /// Before any input: a password that is relayed as it is waits until the driver has seen it.
    pub fn hold_passwords(&mut self) {
        self.passwords.holds_relayed = true;
    }

    /// Whether a startup packet waits, and nothing was asked of the agent yet.
    pub fn is_met(&self) -> bool {
        self.phase == Phase::Met
    }

    /// Whether the agent's next bytes may hold a password: no copy of them should be left.
    pub fn awaits_password(&self) -> bool {
        let Passwords { holds_relayed, due, .. } = self.passwords;
        self.phase == Phase::Asking || (holds_relayed && due == Some(CLEARTEXT))
    }

    /// Asks the agent whose startup packet waits for a password.
    pub fn ask_password(&mut self) {
        if self.phase == Phase::Met {
            let out = self.transmit.downstream.buffer();
            message::frame(out, b'R', |out| out.extend_from_slice(&CLEARTEXT.to_be_bytes()));
            self.phase = Phase::Asking;
            self.resume(Side::Downstream);
        }
    }

    /// A password that came, once.
    pub fn password(&mut self) -> Option<Password> {
        let given = self.passwords.given.take()?;
        self.carry.downstream.wipe();
        Some(given)
    }

    /// Goes on with the opening that waits: it is to be decided.
    pub fn open(&mut self) {
        if !matches!(self.phase, Phase::Met | Phase::Weighing) {
            return;
        }
        let Some(startup) = &self.startup else { return };
        let (statement, bytes) = (startup.statement(), self.passwords.startup.len() as u64);
        self.phase = Phase::First;
        let id = self.ask(
            CommandKind::Connect,
            std::sync::Arc::clone(&statement),
            std::sync::Arc::default(),
        );
        self.next_batch = self.next_batch.wrapping_add(1);
        let command = InFlight::new(id, statement, bytes);
        // Nothing of it is in the carry.
        self.agent.pending = Some(Pending::new(0, Request::Startup, vec![command]));
    }

    /// Sends the password up that the driver has seen.
    pub fn pass_password(&mut self) {
        if std::mem::take(&mut self.passwords.is_held) {
            self.passwords.due = Some(PASSED);
            self.resume(Side::Downstream);
        }
    }

    /// Ends the session: what the agent would send to the server is not the server's to see.
    pub fn refuse_token(&mut self, told: &str, what: &'static str) {
        if std::mem::take(&mut self.passwords.is_held) {
            self.fail_login(Side::Downstream, *b"28P01", *b"28P01", (told, what));
        }
    }

    /// Keeps a startup packet until the driver says more; false where none is to wait.
    pub(super) fn keep_startup(&mut self, packet: &[u8]) -> bool {
        if self.passwords.holds_opening {
            self.passwords.startup = packet.to_vec();
            self.phase = Phase::Met;
        }
        self.passwords.holds_opening
    }

    /// Takes the agent's answer to what it was asked; false if that ended the session.
    pub(super) fn asked_message(&mut self, tag: u8, body: &[u8]) -> bool {
        match (tag, secret(body)) {
            (b'p', Some(password)) => {
                self.passwords.given = Some(Password::Asked(Some(password)));
                self.phase = Phase::Weighing;
                return true;
            }
            (b'p', None) => self.refuse_agent(MALFORMED, *b"08P01"),
            (b'X', _) => self.interrupt(),
            _ => self.refuse_agent("a request before the login", *b"08P01"),
        }
        false
    }

    /// Takes the head of an answer that is too long to be one; its rest is never read.
    pub(super) fn asked_too_much(&mut self) {
        self.passwords.given = Some(Password::Asked(None));
        self.phase = Phase::Weighing;
    }

    /// Whether an answer that would be relayed must wait, for the driver or for the server's request; it stays in
    /// the carry.
    pub(super) fn hold_password(&mut self, body: &[u8]) -> bool {
        let passwords = &mut self.passwords;
        if !passwords.holds_relayed {
            return false;
        }
        match (passwords.due.take(), secret(body)) {
            // What it is for is not known before the server asks.
            (None, _) => self.agent.waiting = true,
            (Some(CLEARTEXT), Some(password)) => {
                passwords.due = Some(CLEARTEXT);
                passwords.given = Some(Password::Relayed(password));
                passwords.is_held = true;
            }
            // The server says what is wrong with a malformed one.
            (Some(_), _) => return false,
        }
        true
    }
}

/// The password in a PasswordMessage.
fn secret(body: &[u8]) -> Option<Secret<Vec<u8>>> {
    let mut reader = Reader::new(body);
    let text = reader.cstr().filter(|_| reader.is_empty())?;
    Some(Secret::new(text.to_vec()))
}
