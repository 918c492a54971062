//! The records: a session for each process and server it asks, a command for each question.

use std::sync::Arc;

use hickory_resolver::proto::op::ResponseCode;
use journal::record::{Begin, End, Frame, IdentityChange, Lsn, SessionClose, SessionOpen};
use journal::recorder::{AppendError, Recorder};
use policy::lookup::Lookup;
use tokio::sync::watch;
use types::accepted::Accepted;
use types::clock::Clock;
use types::command::{Access, Analysis, CommandKind, Risk, Statement, TableName};
use types::decision::Decision;
use types::event::{Outcome, Status};
use types::id::{CommandId, SessionId};
use types::identity::Identity;
use types::limits::RESPONSE_SAMPLE_BYTES_MAX;
use types::principal::Principal;
use types::target::Target;

use crate::message::{Answer, Question, code_word};

/// The name of this host's forwarder as a target.
pub(crate) const TARGET: &str = "dns";

/// Writes records, and waits for them.
pub(crate) struct Ledger {
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: watch::Receiver<Durable>,
}

/// How far the journal is durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Durable {
    pub(crate) lsn: u64,
    pub(crate) has_failed: bool,
}

/// The journal does not take what must be recorded: nothing may go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRecorded {
    /// It was not appended.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It did not become durable.
    #[error("the journal can't be written")]
    Failed,
}

impl Ledger {
    /// Opens a session.
    pub(crate) fn open(
        &self,
        accepted: &Accepted,
        principal: &Principal,
        target: &Target,
    ) -> Result<SessionId, NotRecorded> {
        let at = self.clock.now();
        let session = SessionId::new(at, random());
        self.recorder.try_append(Frame::SessionOpen(SessionOpen {
            session,
            at,
            principal,
            source: accepted.source,
            netns_cookie: accepted.netns_cookie,
            socket_cookie: accepted.socket_cookie,
            target,
        }))?;
        Ok(session)
    }

    /// Writes that a session goes on for another identity, which of its own that is from 1.
    pub(crate) fn go_on_for(
        &self,
        (session, number): (SessionId, u32),
        identity: &Identity,
    ) -> Result<(), NotRecorded> {
        let at = self.clock.now();
        let change = IdentityChange { session, number, at, identity };
        self.recorder.try_append(Frame::Identity(change))?;
        Ok(())
    }

    /// Writes that a question is asked, with its decision and which identity of the session's it is of.
    pub(crate) fn begin(
        &self,
        (session, command): (SessionId, CommandId),
        (lookup, question): (&Lookup, &Question),
        (decision, identity): (&Decision, u32),
    ) -> Result<Lsn, NotRecorded> {
        let statement = statement(lookup, question);
        let lsn = self.recorder.try_append(Frame::Begin(Begin {
            session,
            command,
            at: self.clock.now(),
            kind: CommandKind::Resolve,
            statement: &statement,
            text: &statement.text,
            parameters: &[],
            batch: command.0,
            decision,
            decided_us: 0,
            identity,
            approval: None,
            blind: None,
        }))?;
        Ok(lsn)
    }

    /// Writes what is answered; `bytes` are those of the question and of the answer.
    pub(crate) fn end(
        &self,
        (session, command): (SessionId, CommandId),
        answer: &Answer,
        is_denied: bool,
        (bytes_in, bytes_out): (usize, usize),
    ) -> Result<Lsn, NotRecorded> {
        let status = match answer.code {
            _ if is_denied => Status::Denied,
            ResponseCode::NoError => Status::Ok,
            _ => Status::Error,
        };
        let outcome = Outcome {
            error_code: error_code(answer.code),
            rows: Some(answer.answers.len() as u64),
            bytes_in: bytes_in as u64,
            bytes_out: bytes_out as u64,
            sample: sample(answer),
            ..Outcome::new(command, status)
        };
        let end = End { session, at: self.clock.now(), outcome: &outcome };
        let lsn = self.recorder.append(Frame::End(end))?;
        self.recorder.commit();
        Ok(lsn)
    }

    /// Writes that a session ended.
    pub(crate) fn close(&self, session: SessionId, reason: &str) {
        let close = SessionClose { session, at: self.clock.now(), reason };
        if let Err(error) = self.recorder.append(Frame::SessionClose(close)) {
            tracing::warn!(%session, %error, "not recorded");
        }
    }

    /// Waits until everything up to `lsn` is durable.
    pub(crate) async fn durable(&self, lsn: Lsn) -> Result<(), NotRecorded> {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|now| now.lsn >= lsn.0 || now.has_failed).await;
        match reached {
            Ok(now) if now.lsn >= lsn.0 => Ok(()),
            _ => Err(NotRecorded::Failed),
        }
    }
}

/// What is asked, as a statement: the name is the object, the record type the verb.
fn statement(lookup: &Lookup, question: &Question) -> Statement {
    let Lookup { name, record_type, action, .. } = lookup;
    let table = Some(TableName { schema: None, name: Arc::clone(name) });
    let accesses = vec![Access { action: *action, table }];
    let (verb, normalized) = (question.record_type().into(), format!("$1 IN {record_type}"));
    let analysis = Analysis {
        fingerprint: i64::from(u16::from(question.record_type())),
        ..Analysis::new(verb, normalized, accesses, Risk::empty())
    };
    Statement::new(format!("{name} IN {record_type}"), analysis)
}

/// The answer as lines: the response code, its explanation, and each record as in a zone file.
fn sample(answer: &Answer) -> Vec<u8> {
    let mut text = code_word(answer.code);
    if let Some((_, why)) = &answer.explanation {
        text.push_str("; ");
        text.push_str(why);
    }
    for record in &answer.answers {
        let line = format!("\n{record}");
        if text.len() + line.len() > RESPONSE_SAMPLE_BYTES_MAX {
            text.push_str("\n…");
            break;
        }
        text.push_str(&line);
    }
    text.into_bytes()
}

/// `DNS` and the response code in two digits, but for success.
fn error_code(code: ResponseCode) -> Option<[u8; 5]> {
    let number = u16::from(code);
    let digit = |n: u16| u8::try_from(n % 10).map_or(b'?', |n| b'0' + n);
    (number != 0).then(|| [b'D', b'N', b'S', digit(number / 10), digit(number)])
}

fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    // The kernel's random source, once seeded, does not fail (getrandom(2)); ids also hold the time.
    if let Err(error) = getrandom::fill(&mut bytes) {
        tracing::warn!(%error, "no random numbers");
    }
    bytes
}
