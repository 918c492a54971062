//! What a connection says that speaks HTTP/1.1: requests, each with the answer that comes in its place (RFC 9112 §9.3.2).
//!
//! They are taken apart where the proxy takes its recordings apart, and read as it reads them. Here nobody refuses:
//! what has no one reading is told as such where its end is known, and ends the reading where it is not.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::http::messages::{Messages, Part};
use proto::http::{Asked, Refused, head, media, read};
use types::addr::Side;
use types::clock::Timestamp;
use types::command::{
    Access, Action, Analysis, Command, CommandKind, Risk, Statement, Transaction,
};
use types::event::{Outcome, Status, Violation};
use types::id::CommandId;
use types::limits::COMMANDS_IN_FLIGHT_MAX;

use crate::conversation::{Hear, Opening, Said, Unread};

/// A request, as far as it has one reading.
#[derive(Debug)]
pub struct Request<'s> {
    /// It as a command.
    pub command: &'s Command,
    /// What it asks for; none where that can be read in two ways.
    pub asked: Option<&'s Asked>,
    /// The host that it names, in lower case, without a port; empty where it names none.
    pub host: &'s str,
    /// What it says its content is, in lower case and without parameters; empty where it says nothing.
    pub content_type: &'s str,
}

/// Both sides of a connection.
pub(crate) struct Exchanges {
    requests: Messages,
    answers: Messages,
    number: u32,
    /// Requests whose answers have not ended, in order: at most [`COMMANDS_IN_FLIGHT_MAX`].
    waiting: VecDeque<Waiting>,
    /// Why it is not read any further.
    stopped: Option<Unread>,
}

struct Waiting {
    outcome: Outcome,
    /// Where the answer agrees, the connection speaks another protocol from there on.
    is_connect: bool,
    upgrades: bool,
}

impl Exchanges {
    pub(crate) fn new() -> Self {
        Self {
            requests: Messages::requests(),
            answers: Messages::answers(),
            number: 0,
            waiting: VecDeque::new(),
            stopped: None,
        }
    }

    /// Takes the next bytes of a side; answers how many of them were not read, and why nothing more is.
    pub(crate) fn take<E>(
        &mut self,
        side: Side,
        bytes: &[u8],
        at: Timestamp,
        hear: Hear<'_, E>,
    ) -> Result<(u64, Option<Unread>), E> {
        if self.stopped.is_some() {
            return Ok((bytes.len() as u64, self.stopped));
        }
        let (mut unread, mut done) = (0, Ok(()));
        // Taken out, so that what it tells can be taken.
        let mut messages = std::mem::replace(self.messages(side), Messages::requests());
        messages.push(bytes, &mut |part| {
            if done.is_err() || self.stopped.is_some() {
                unread += length(part);
                return;
            }
            if matches!(part, Part::Unreadable(_)) {
                unread += length(part);
            }
            done = match side {
                Side::Downstream => self.request(part, at, hear),
                Side::Upstream => self.answer(part, at, hear),
            };
        });
        *self.messages(side) = messages;
        done.map(|()| (unread, self.stopped))
    }

    /// Takes the end of a side: an answer may end with it.
    pub(crate) fn end<E>(
        &mut self,
        side: Side,
        at: Timestamp,
        hear: Hear<'_, E>,
    ) -> Result<u64, E> {
        let (mut unread, mut done) = (0, Ok(()));
        let mut messages = std::mem::replace(self.messages(side), Messages::requests());
        messages.finish(&mut |part| match part {
            Part::End if done.is_ok() && side == Side::Upstream => done = self.ended(at, hear),
            part => unread += length(part),
        });
        *self.messages(side) = messages;
        done.map(|()| unread)
    }

    /// Takes the end of both: what was under way was cut off.
    pub(crate) fn close<E>(&mut self, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        for Waiting { outcome, .. } in self.waiting.drain(..) {
            hear(Said::Outcome(outcome), at)?;
        }
        Ok(())
    }

    fn messages(&mut self, side: Side) -> &mut Messages {
        match side {
            Side::Downstream => &mut self.requests,
            Side::Upstream => &mut self.answers,
        }
    }

    fn request<E>(&mut self, part: Part<'_>, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        match part {
            Part::Head(head) => self.asks(head, at, hear),
            Part::Content(bytes) => {
                // Of one that was answered before it was whole, nothing waits.
                if let Some(Waiting { outcome, .. }) = self.waiting.back_mut() {
                    outcome.bytes_in += bytes.len() as u64;
                }
                Ok(())
            }
            Part::Framing(_) | Part::Trailers(_) | Part::End => Ok(()),
            Part::Unreadable(_) => self.breaks(Side::Downstream, UNREADABLE_REQUEST, at, hear),
        }
    }

    fn asks<E>(&mut self, bytes: &[u8], at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        if self.waiting.len() >= COMMANDS_IN_FLIGHT_MAX {
            self.stopped = Some(Unread::TooFarAhead);
            return Ok(());
        }
        let (method, target) = head::request(bytes).unwrap_or_default();
        let asked = asked(bytes, method, target);
        let host = head::value(bytes, "host").unwrap_or_default().to_ascii_lowercase();
        let content_type = media::read(head::value(bytes, "content-type")).essence;
        self.answers.answer_to(method == "HEAD");
        self.number += 1;
        let command = Command {
            id: CommandId(self.number),
            kind: CommandKind::Request,
            statement: asked
                .as_ref()
                .map_or_else(|_| unreadable(), |asked| Arc::clone(&asked.statement)),
            parameters: Arc::default(),
            batch: self.number,
            transaction: Transaction::None,
        };
        if self.number == 1 {
            hear(Said::Opens(Opening::of(HTTP)), at)?;
        }
        hear(
            Said::Request(Request {
                command: &command,
                asked: asked.as_ref().ok(),
                host: without_port(&host),
                content_type: &content_type,
            }),
            at,
        )?;
        let mut outcome = Outcome::new(command.id, Status::Interrupted);
        (outcome.bytes_in, outcome.sent_at) = (bytes.len() as u64, Some(at));
        let upgrades = head::value(bytes, "upgrade").is_some();
        self.waiting.push_back(Waiting { outcome, is_connect: method == "CONNECT", upgrades });
        Ok(())
    }

    fn answer<E>(&mut self, part: Part<'_>, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        match part {
            Part::Head(head) => self.answers(head, at, hear),
            Part::Content(bytes) => {
                if let Some(Waiting { outcome, .. }) = self.waiting.front_mut() {
                    outcome.bytes_out += bytes.len() as u64;
                }
                Ok(())
            }
            Part::Framing(_) | Part::Trailers(_) => Ok(()),
            Part::End => self.ended(at, hear),
            Part::Unreadable(bytes) if self.switches(bytes) => {
                self.answered(Status::Ok, bytes, at);
                self.stopped = Some(Unread::OtherProtocol);
                self.ended(at, hear)
            }
            Part::Unreadable(_) => self.breaks(Side::Upstream, UNREADABLE_ANSWER, at, hear),
        }
    }

    fn answers<E>(&mut self, bytes: &[u8], at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        let status = head::status(bytes).unwrap_or_default();
        let Some(Waiting { is_connect, .. }) = self.waiting.front() else {
            return self.breaks(Side::Upstream, UNASKED, at, hear);
        };
        if status < 200 {
            return Ok(());
        }
        let is_tunnel = *is_connect && status < 300;
        let is_error = status >= 400;
        self.answered(if is_error { Status::Error } else { Status::Ok }, bytes, at);
        if is_error && let Some(Waiting { outcome, .. }) = self.waiting.front_mut() {
            let digits = status.to_string();
            outcome.error_code = [b"HT", digits.as_bytes()].concat().try_into().ok();
        }
        if is_tunnel {
            self.ended(at, hear)?;
            self.stopped = Some(Unread::OtherProtocol);
        }
        Ok(())
    }

    /// Whether it is the last answer that is HTTP (RFC 9110 §15.2.2), to who asked for that.
    fn switches(&self, head: &[u8]) -> bool {
        self.waiting.front().is_some_and(|one| one.upgrades) && head::status(head) == Some(101)
    }

    /// Notes the head of an answer that is not an interim one.
    fn answered(&mut self, status: Status, head: &[u8], at: Timestamp) {
        if let Some(Waiting { outcome, .. }) = self.waiting.front_mut() {
            outcome.first_at = Some(at);
            outcome.bytes_out = head.len() as u64;
            (outcome.status, outcome.error_code) = (status, None);
        }
    }

    fn ended<E>(&mut self, at: Timestamp, hear: Hear<'_, E>) -> Result<(), E> {
        match self.waiting.pop_front() {
            Some(Waiting { outcome, .. }) => hear(Said::Outcome(outcome), at),
            None => Ok(()),
        }
    }

    fn breaks<E>(
        &mut self,
        side: Side,
        what: &'static str,
        at: Timestamp,
        hear: Hear<'_, E>,
    ) -> Result<(), E> {
        self.stopped = Some(Unread::Violation);
        if self.number == 0 {
            self.number = 1;
            hear(Said::Opens(Opening::of(HTTP)), at)?;
        }
        hear(Said::Violation(Violation { side, what }), at)
    }
}

/// What records call it.
const HTTP: &str = "http";

const UNREADABLE_REQUEST: &str =
    "a request that is not HTTP/1.1, or whose end can be read in two ways";
const UNREADABLE_ANSWER: &str =
    "an answer that is not HTTP/1.1, or whose end can be read in two ways";
const UNASKED: &str = "an answer to no request";

/// What a request asks for, as the proxy reads it.
fn asked(bytes: &[u8], method: &str, target: &str) -> Result<Asked, Refused> {
    head::examine(bytes)?;
    // In absolute form (RFC 9112 §3.2.2) the host is in it once more.
    let path = match target.strip_prefix("http://") {
        None => target,
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
    };
    let (path, query) =
        path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    read(method, path, query)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What is recorded of a request that has no one reading.
fn unreadable() -> Arc<Statement> {
    let access = Access { action: Action::Unknown, table: None };
    let analysis = Analysis::new("OTHER", "(unreadable)", vec![access], Risk::UNPARSED);
    Arc::new(Statement::new("", analysis))
}

fn length(part: Part<'_>) -> u64 {
    match part {
        Part::Head(bytes)
        | Part::Content(bytes)
        | Part::Framing(bytes)
        | Part::Trailers(bytes)
        | Part::Unreadable(bytes) => bytes.len() as u64,
        Part::End => 0,
    }
}
