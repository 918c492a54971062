//! Authentication: relayed, or with a credential of ours in the place of the agent's.
//!
//! With a credential there are two exchanges. The agent's, if it is to prove a placeholder, comes
//! first; only then does the startup packet go up, for the credential's account, and what the server
//! asks is answered here. The agent learns that the server is content, or that it is not.

use std::borrow::Cow;
use std::sync::Arc;

use md5::{Digest, Md5};
use types::addr::Side;
use types::event::{Event, Status, Violation};
use types::hex::hex;

use super::credential::{Credential, Injection};
use super::expect::Expect;
use super::message;
use super::replication::Replication;
use super::scram::{self, Binding, Client, KeysWanted, Nonce, ScramKeys, Server};
use super::transport::Leg;
use super::{Phase, PostgresSession};
use crate::reader::Reader;

/// AuthenticationRequest codes (PostgreSQL documentation, "Message Formats").
const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// invalid_authorization_specification.
const UNAUTHENTICATED: [u8; 5] = *b"28000";

/// A login with a credential.
#[derive(Debug)]
pub(super) struct Injected {
    credential: Arc<Credential>,
    nonce: Nonce,
    step: Step,
    /// The exchange with the agent, until it proved itself.
    agent: Option<Server>,
    /// The startup packet, until it goes up.
    startup: Vec<u8>,
    /// How the server asked.
    method: &'static str,
    wanted: Option<KeysWanted>,
}

/// How far the exchange with the server is.
#[derive(Debug)]
enum Step {
    /// Its request is due.
    Due,
    /// `client-first-message` went up.
    First(Client),
    /// Keys are being computed.
    Deriving(Client),
    /// The proof went up.
    Final(Client),
    /// All is said; AuthenticationOk is due.
    Proven,
    /// AuthenticationOk came.
    Done,
}

impl PostgresSession {
    /// Before an opening is allowed: authenticate with this instead of what the agent has.
    pub fn inject(&mut self, injection: Injection) {
        let Injection { credential, upstream, downstream } = injection;
        let end_point = match &self.transport.downstream {
            Leg::Tls { end_point } => end_point.clone(),
            Leg::Plain => None,
        };
        let verifier = credential.placeholder.clone();
        let agent = verifier.map(|verifier| Server::new(verifier, end_point, &downstream));
        let (step, startup, wanted) = (Step::Due, Vec::new(), None);
        let nonce = upstream;
        let injected = Injected { credential, nonce, step, agent, startup, method: "none", wanted };
        self.login = Some(Box::new(injected));
    }

    /// Ends a login whose startup packet has not gone up: there is nothing to log in with.
    pub fn abandon_login(&mut self, what: &'static str) {
        self.refuse_target(what, UNAUTHENTICATED);
        let up = &mut self.transmit.upstream;
        up.consume(up.len());
    }

    /// What keys a login waits for, once; answered with [`PostgresSession::set_keys`].
    pub fn keys_wanted(&mut self) -> Option<KeysWanted> {
        self.login.as_mut()?.wanted.take()
    }

    /// Gives a login the keys it asked for.
    pub fn set_keys(&mut self, keys: &ScramKeys) {
        let Some(login) = &mut self.login else { return };
        match std::mem::replace(&mut login.step, Step::Due) {
            Step::Deriving(mut client) => {
                if let Some(last) = client.last(keys) {
                    let out = self.transmit.upstream.buffer();
                    message::frame(out, b'p', |out| out.extend_from_slice(last.as_bytes()));
                }
                login.step = Step::Final(client);
            }
            other => login.step = other,
        }
    }

    /// Sends an allowed startup packet up: as it is, or for the credential's account, once the agent
    /// has proved itself.
    pub(super) fn send_startup(&mut self, frame: &[u8]) {
        self.phase = Phase::Authenticating;
        let marked = match &self.mark {
            // A standby's name says there whether commits wait for it.
            Some(mark) if self.replication() == Replication::No => {
                Cow::Owned(super::startup::marked(frame, mark))
            }
            _ => Cow::Borrowed(frame),
        };
        let frame = &*marked;
        let Some(login) = &mut self.login else {
            return self.transmit.upstream.buffer().extend_from_slice(frame);
        };
        let startup = super::startup::for_account(frame, &login.credential.account);
        let Some(agent) = &login.agent else {
            return self.transmit.upstream.buffer().extend_from_slice(&startup);
        };
        message::frame(self.transmit.downstream.buffer(), b'R', |out| {
            out.extend_from_slice(&SASL.to_be_bytes());
            for name in agent.mechanisms() {
                out.extend_from_slice(name.as_bytes());
                out.push(0);
            }
            out.push(0);
        });
        login.startup = startup;
        self.phase = Phase::Challenging;
    }

    /// Takes a message of the agent's while it is to prove the placeholder; false if that ended the
    /// session.
    pub(super) fn challenge_message(&mut self, tag: u8, body: &[u8]) -> bool {
        if tag == b'X' {
            self.interrupt();
            return false;
        }
        let agent = self.login.as_mut().and_then(|login| login.agent.as_mut());
        let (b'p', Some(agent)) = (tag, agent) else {
            self.refuse_agent("a request before the login", *b"08P01");
            return false;
        };
        let out = self.transmit.downstream.buffer();
        if !agent.is_begun() {
            let mut reader = Reader::new(body);
            let read = reader.cstr().zip(reader.value().flatten()).filter(|_| reader.is_empty());
            let Some((name, first)) = read else {
                self.refuse_agent("a malformed SASL response", *b"08P01");
                return false;
            };
            match agent.client_first(name, first) {
                Ok(told) => sasl(out, SASL_CONTINUE, &told),
                Err(failed) => return self.refuse_password(failed),
            }
            return true;
        }
        match agent.client_final(body) {
            Ok(told) => sasl(out, SASL_FINAL, &told),
            Err(failed) => return self.refuse_password(failed),
        }
        if let Some(login) = &mut self.login {
            login.agent = None;
            let startup = std::mem::take(&mut login.startup);
            self.transmit.upstream.buffer().extend_from_slice(&startup);
        }
        self.phase = Phase::Authenticating;
        true
    }

    /// Ends the session because the agent did not prove the placeholder; answers false.
    fn refuse_password(&mut self, scram::Failed(what): scram::Failed) -> bool {
        let user = self.startup.as_ref().map_or("", |startup| startup.user.as_str());
        let told = format!("password authentication failed for user \"{user}\"");
        self.fail_login(Side::Downstream, *b"28P01", *b"28P01", (&told, what));
        false
    }

    /// AuthenticationRequest, in whichever login.
    pub(super) fn authentication(&mut self, frame: &[u8], body: &[u8]) -> Option<()> {
        let mut reader = Reader::new(body);
        let kind = reader.u32()?;
        if self.login.is_none() {
            return self.relay_authentication(kind, frame, reader);
        }
        match self.answer(kind, reader) {
            Ok(true) => {
                let method = self.login.as_ref().map_or("none", |login| login.method);
                self.events.push_back(Event::Authenticated(method));
                self.relay(frame);
            }
            Ok(false) => {}
            Err(scram::Failed(what)) => self.refuse_target(what, UNAUTHENTICATED),
        }
        Some(())
    }

    /// Answers what the server asks; whether it is content with it all and says so.
    fn answer(&mut self, kind: u32, mut reader: Reader<'_>) -> Result<bool, scram::Failed> {
        let Some(login) = &mut self.login else { return Ok(false) };
        let methods = login.credential.methods;
        let is_tls = self.transport.upstream.is_tls();
        let out = self.transmit.upstream.buffer();
        login.step = match (kind, std::mem::replace(&mut login.step, Step::Done)) {
            (OK, Step::Proven) => return Ok(true),
            (OK, Step::Due) if methods.none => return Ok(true),
            (OK, Step::Due) => return Err(scram::Failed("the target asks for no authentication")),
            (SASL, Step::Due) => {
                let binding = binding(&self.transport.upstream, reader)?;
                login.method = match binding {
                    Binding::EndPoint(_) => scram::PLUS,
                    Binding::NotOffered | Binding::Unsupported => scram::PLAIN,
                };
                let client = Client::new(binding, &login.nonce);
                let first = client.first();
                message::frame(out, b'p', |out| {
                    out.extend_from_slice(login.method.as_bytes());
                    out.push(0);
                    let length = u32::try_from(first.len()).expect("a nonce and a few letters");
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(first.as_bytes());
                });
                Step::First(client)
            }
            (SASL_CONTINUE, Step::First(mut client)) => {
                login.wanted = Some(client.server_first(reader.rest())?);
                Step::Deriving(client)
            }
            (SASL_FINAL, Step::Final(mut client)) => {
                client.server_final(reader.rest())?;
                Step::Proven
            }
            (MD5, Step::Due) if methods.md5 => {
                let salt = reader.array::<4>().ok_or(scram::Failed("a malformed request"))?;
                let answer = md5_answer(&login.credential, salt);
                password(out, answer.as_bytes());
                login.method = "md5";
                Step::Proven
            }
            (CLEARTEXT, Step::Due)
                if methods.cleartext_without_tls || (methods.cleartext && is_tls) =>
            {
                password(out, login.credential.secret.expose());
                login.method = "password";
                Step::Proven
            }
            (MD5 | CLEARTEXT, Step::Due) => {
                let what =
                    "the target asks for the secret in a way that the credential does not allow";
                return Err(scram::Failed(what));
            }
            (kind, Step::Due) if !matches!(kind, SASL_CONTINUE | SASL_FINAL) => {
                return Err(scram::Failed(
                    "the target asks for an authentication that is not known",
                ));
            }
            _ => return Err(scram::Failed("an authentication message that is not due")),
        };
        Ok(false)
    }

    /// Relays what the server asks of the agent. Inside TLS on both legs a server that offers channel
    /// binding takes a relayed exchange for an attack, which it is; where the agent's leg is in clear,
    /// its client must not be offered what it can't do.
    fn relay_authentication(&mut self, kind: u32, frame: &[u8], rest: Reader<'_>) -> Option<()> {
        self.passwords.asked(kind);
        let mut names = rest;
        let (mut offers_plus, mut others) = (false, Vec::new());
        while kind == SASL && !names.is_empty() {
            match names.cstr()? {
                b"" => break,
                name if name == scram::PLUS.as_bytes() => offers_plus = true,
                other => others.push(other),
            }
        }
        if !offers_plus || !self.transport.upstream.is_tls() {
            self.relay(frame);
        } else if self.transport.downstream.is_tls() {
            let told = "vestibule: a credential must be configured for this target";
            let what = "the target binds authentication to its certificate, which can't be relayed";
            let side = Side::Upstream;
            self.fail_login(side, UNAUTHENTICATED, UNAUTHENTICATED, (told, what));
        } else {
            message::frame(self.transmit.downstream.buffer(), b'R', |out| {
                out.extend_from_slice(&SASL.to_be_bytes());
                for name in others {
                    out.extend_from_slice(name);
                    out.push(0);
                }
                out.push(0);
            });
        }
        Some(())
    }

    /// Whether an error of the server's refuses the credential; the agent is told so in our words.
    pub(super) fn is_refusal_of_credential(&self, code: [u8; 5]) -> bool {
        // Class 28, invalid authorization specification; other errors are the agent's business.
        self.login.is_some() && code.starts_with(b"28")
    }

    /// Ends a login because the target does not do its part.
    pub(super) fn refuse_target(&mut self, what: &'static str, code: [u8; 5]) {
        let told = "vestibule could not authenticate to the target";
        self.fail_login(Side::Upstream, code, UNAUTHENTICATED, (told, what));
    }

    /// Ends a login: `code` is recorded, the agent is told `shown`, the message and what was wrong.
    pub(super) fn fail_login(
        &mut self,
        side: Side,
        code: [u8; 5],
        shown: [u8; 5],
        (told, what): (&str, &'static str),
    ) {
        let detail = if side == Side::Upstream { what } else { "" };
        message::error(self.transmit.downstream.buffer(), "FATAL", shown, told, detail);
        if let Some(Expect::Execute { command, .. }) = self.expects.pop_front() {
            self.finish(command, Status::Error, Some(code));
        }
        self.interrupt();
        self.events.push_back(Event::Violation(Violation { side, what }));
    }
}

/// How an exchange is bound to the server's leg, by what the server offers.
fn binding(upstream: &Leg, mut names: Reader<'_>) -> Result<Binding, scram::Failed> {
    let (mut plus, mut plain) = (false, false);
    while let Some(name @ [_, ..]) = names.cstr() {
        plus |= name == scram::PLUS.as_bytes();
        plain |= name == scram::PLAIN.as_bytes();
    }
    match upstream {
        Leg::Plain if plus => {
            Err(scram::Failed("the target offers channel binding outside of TLS"))
        }
        Leg::Tls { end_point: Some(hash) } if plus => Ok(Binding::EndPoint(hash.clone())),
        Leg::Tls { end_point: Some(_) } if plain => Ok(Binding::NotOffered),
        Leg::Tls { end_point: None } | Leg::Plain if plain => Ok(Binding::Unsupported),
        Leg::Tls { .. } | Leg::Plain => {
            Err(scram::Failed("the target offers no SASL mechanism that is known"))
        }
    }
}

/// What answers a request for an MD5 password (PostgreSQL documentation, "MD5 Authentication").
fn md5_answer(credential: &Credential, salt: [u8; 4]) -> String {
    let inner = Md5::new().chain_update(credential.secret.expose());
    let inner = hex(&inner.chain_update(credential.account.as_bytes()).finalize());
    let outer = Md5::new().chain_update(inner).chain_update(salt);
    format!("md5{}", hex(&outer.finalize()))
}

fn password(out: &mut Vec<u8>, password: &[u8]) {
    message::frame(out, b'p', |out| {
        out.extend_from_slice(password);
        out.push(0);
    });
}

fn sasl(out: &mut Vec<u8>, code: u32, told: &str) {
    message::frame(out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(told.as_bytes());
    });
}
