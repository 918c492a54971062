//! A session's records: opened once its target is known, then a begin and an end for each command.

mod blind;
mod sealed;

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use journal::record::{
    Approval, Begin, Control, End, Frame, IdentityChange, Lsn, SessionClose, SessionOpen,
};
use journal::recorder::AppendError;
use mask::Masks;
use proto::sql::secrets;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tracing::{info, warn};
use types::accepted::Accepted;
use types::clock::Timestamp;
use types::command::{BlindTokens, Command, CommandKind, Parameter, Statement};
use types::decision::Decision;
use types::event::{Notification, Outcome, Violation};
use types::id::{AgentName, CommandId, SessionId};
use types::identity::{Identity, Way};
use types::principal::Principal;
use types::target::{Target, Tls, UsedCredential};

use crate::admit::Refused;
use crate::credentials::Loaded;
use crate::door::Door;
use crate::flows::Bytes;
use crate::sessions::Open;
use crate::sparing::Sparing;
use crate::taping::Taping;
use crate::targets::Protocol;

/// Characters of a channel's name that are written; PostgreSQL's names have 63 bytes.
const CHANNEL_CHARS_MAX: usize = 63;

/// Identities of one session: a token a minute for six weeks. The journal keeps where each is that an open
/// command may be of, 65,536 × about 40 B = 2.5 MiB.
const IDENTITIES_MAX: u32 = 65_536;

/// Writes one session's records.
pub(crate) struct Ledger<'d> {
    door: &'d Door,
    session: SessionId,
    at: Timestamp,
    accepted: Accepted,
    principal: Principal,
    target: Target,
    opened: bool,
    closed: bool,
    text: Option<KeptText>,
    blinding: Option<blind::Known>,
    /// The tokens of the command that is written next.
    blind: Option<BlindTokens>,
    taping: Rc<RefCell<Taping>>,
    /// Where recordings are sealed: whether commands share chunks, whether one has begun since the last, and how those
    /// ended whose answers wait for the next.
    gathers: bool,
    has_begun: bool,
    ended: Vec<(Outcome, Timestamp)>,
    notified: Sparing,
    /// Which of the session's identities the principal has, and whether that is written.
    identity: u32,
    unwritten: bool,
    /// Since when it acts for whom it does, microseconds since 1970 UTC; of its first, since ever.
    acts_since_us: i64,
    /// Its entry among the open sessions.
    entry: Option<Arc<Open>>,
}

/// A command as people are shown it.
pub(crate) struct Shown {
    pub(crate) text: Arc<str>,
    pub(crate) parameters: Vec<Parameter>,
    /// Whether something of it is replaced.
    pub(crate) is_masked: bool,
}

/// The text of the statement executed last, as it is kept: prepared statements run many times.
struct KeptText {
    statement: Arc<Statement>,
    text: Arc<str>,
    /// Recognised values stand in it as they came: it is sealed.
    is_whole: bool,
    /// Numbers, from 1, of the parameters that are secrets.
    secrets: Vec<usize>,
}

impl<'d> Ledger<'d> {
    /// A session's records; none is written before [`Ledger::open`].
    pub(crate) fn new(
        door: &'d Door,
        accepted: Accepted,
        principal: Principal,
        target: Target,
    ) -> Self {
        let at = door.clock.now();
        let session = SessionId::new(at, random());
        Self {
            door,
            session,
            at,
            accepted,
            principal,
            target,
            opened: false,
            closed: false,
            text: None,
            blinding: None,
            blind: None,
            taping: Rc::new(RefCell::new(Taping::none())),
            gathers: false,
            has_begun: false,
            ended: Vec::new(),
            notified: Sparing::default(),
            identity: 0,
            unwritten: false,
            acts_since_us: i64::MIN,
            entry: None,
        }
    }

    /// Who acts.
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What it reaches.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The connection.
    pub(crate) fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// Goes on for another identity, or by another token of the same one; written with the next command.
    /// `false` where a session had more than are kept.
    pub(crate) fn go_on_for(&mut self, identity: Arc<Identity>) -> bool {
        if self.principal.identity != identity {
            if let Some(entry) = &self.entry {
                entry.go_on_for(Arc::clone(&identity));
            }
            if !is_same(&self.principal.identity, &identity) {
                self.acts_since_us = self.door.clock.now().unix_us;
            }
            self.principal.identity = identity;
            // Before the opening is written it is the opening's own.
            if self.opened && !self.unwritten {
                self.identity += 1;
                self.unwritten = true;
            }
        }
        self.identity < IDENTITIES_MAX
    }

    /// Since when the session acts for whom it does, microseconds since 1970 UTC.
    pub(crate) fn acts_since_us(&self) -> i64 {
        self.acts_since_us
    }

    /// Writes that the session ends because its agent acts for nobody any more.
    pub(crate) fn dismissed(&mut self, why: &'static str, now: Timestamp) {
        self.open();
        info!(session = %self.session, why, "identity ended");
        let Identity { subject, .. } = &*self.principal.identity;
        let detail = serde_json::json!({
            "session_id": self.session.to_string(),
            "agent": self.principal.agent.as_str(),
            "instance": self.principal.instance,
            "why": why,
            "idp": subject.as_ref().map(|subject| &subject.idp),
            "sub": subject.as_ref().map(|subject| &subject.sub),
        });
        let detail = detail.to_string();
        self.write(Frame::Control(Control { at: now, kind: "session.dismissed", detail: &detail }));
    }

    /// Whether an operator wants it to end; whoever asks is woken when that is so.
    pub(crate) fn is_to_end(&self, cx: &std::task::Context<'_>) -> bool {
        self.entry.as_ref().is_some_and(|open| open.is_to_end(cx))
    }

    /// Which session.
    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// Notes what the startup asked for, and what is used instead; before [`Ledger::open`].
    pub(crate) fn bind(&mut self, database: &str, user: &str, credential: Option<&Loaded>) {
        self.target.database = Some(database.into());
        self.target.account = Some(user.into());
        if let Some(used) = credential {
            self.target.account = Some(Arc::clone(used.account()));
            let name = Arc::clone(used.name());
            self.target.credential = Some(UsedCredential { name, role: user.into() });
        }
    }

    /// Writes what became of a cancel request that policy allowed.
    pub(crate) fn cancelled(&self, session: SessionId, what: &'static str) {
        let detail = format!(
            r#"{{"session_id":"{}","agent":"{}","cancelled":"{session}","what":"{what}"}}"#,
            self.session, self.principal.agent
        );
        let at = self.door.clock.now();
        self.write(Frame::Control(Control { at, kind: "session.cancel", detail: &detail }));
    }

    /// Writes why a token that the session was given does not count. No part of it is known here.
    pub(crate) fn token_refused(&self, way: Way, why: &'static str) {
        let Principal { agent, instance, process, .. } = &self.principal;
        info!(session = %self.session, %agent, way = way.as_str(), why, "a token is refused");
        let detail = serde_json::json!({
            "session_id": self.session.to_string(),
            "agent": agent.as_str(),
            "instance": instance,
            "pid": process.key.tgid,
            "target": self.target.name,
            "way": way.as_str(),
            "why": why,
        });
        let at = self.door.clock.now();
        let detail = detail.to_string();
        self.write(Frame::Control(Control { at, kind: "identity.refused", detail: &detail }));
    }

    /// Writes that an answer was not given to the agent, by which rule and why.
    pub(crate) fn withheld(&self, command: CommandId, rule: &str, why: &str) {
        let detail = serde_json::json!({
            "session_id": self.session.to_string(),
            "agent": self.principal.agent.as_str(),
            "command": command.0,
            "rule": rule,
            "why": why,
        });
        let (at, detail) = (self.door.clock.now(), detail.to_string());
        self.write(Frame::Control(Control { at, kind: "answer.withheld", detail: &detail }));
    }

    /// The present.
    pub(crate) fn now(&self) -> Timestamp {
        self.door.clock.now()
    }

    /// Writes by which method a credential of ours was used.
    pub(crate) fn authenticated(&self, method: &'static str, now: Timestamp) {
        let detail = format!(
            r#"{{"session_id":"{}","agent":"{}","method":"{method}"}}"#,
            self.session, self.principal.agent
        );
        self.write(Frame::Control(Control {
            at: now,
            kind: "session.authenticated",
            detail: &detail,
        }));
    }

    /// Writes that others' word reached the agent.
    pub(crate) fn notified(&mut self, notification: &Notification, now: Timestamp) {
        let Some(unrecorded) = self.notified.record(now) else { return };
        let Notification { channel, process, bytes } = notification;
        let plain = |c: char| if c.is_control() || matches!(c, '"' | '\\') { '?' } else { c };
        let channel: String = channel.chars().map(plain).take(CHANNEL_CHARS_MAX).collect();
        let detail = format!(
            r#"{{"session_id":"{}","agent":"{}","channel":"{channel}","by":{process},"bytes":{bytes},"unrecorded_before":{unrecorded}}}"#,
            self.session, self.principal.agent
        );
        self.write(Frame::Control(Control { at: now, kind: "session.notified", detail: &detail }));
    }

    /// Notes how the target is reached; before [`Ledger::open`].
    pub(crate) fn reach(&mut self, tls: Option<Tls>, host: Option<Arc<str>>) {
        self.target.tls = tls;
        if host.is_some() {
            self.target.host = host;
        }
    }

    /// Writes the session's opening, once.
    pub(crate) fn open(&mut self) {
        if self.opened {
            return;
        }
        self.opened = true;
        let open = Open::new(self.at, &self.principal, self.accepted.source, &self.target);
        self.entry = Some(self.door.sessions.enter(self.session, open));
        let sealed = self.seal_command_line();
        self.write(Frame::SessionOpen(SessionOpen {
            session: self.session,
            at: self.at,
            principal: sealed.as_ref().unwrap_or(&self.principal),
            source: self.accepted.source,
            netns_cookie: self.accepted.netns_cookie,
            socket_cookie: self.accepted.socket_cookie,
            target: &self.target,
        }));
    }

    /// Writes a command and its decision; answers what must be durable before it takes effect. The
    /// caller has it committed, together with what other sessions write meanwhile.
    pub(crate) fn begin(
        &mut self,
        command: &Command,
        decision: &Decision,
        masks: Option<&Masks>,
        (now, decided): (Timestamp, Timestamp),
        approval: Option<&Approval>,
    ) -> Result<Lsn, AppendError> {
        if std::mem::take(&mut self.unwritten) {
            let (session, number) = (self.session, self.identity);
            let identity = &self.principal.identity;
            let change = IdentityChange { session, number, at: now, identity };
            self.door.recorder.gather(Frame::Identity(change)).inspect_err(|_| {
                self.unwritten = true;
            })?;
        }
        if let Some(entry) = &self.entry {
            entry.began(now);
        }
        let is_sealed = self.is_sealed();
        let mut text = match command.kind {
            // Its secrets are out of it already, and it is no SQL.
            CommandKind::Request if is_sealed => Arc::clone(&command.statement.text),
            CommandKind::Request => masks.map_or_else(
                || "".into(),
                |masks| masks.redact_literals(&command.statement.text).into_owned().into(),
            ),
            CommandKind::Connect
            | CommandKind::Query
            | CommandKind::FunctionCall
            | CommandKind::Cancel
            | CommandKind::Resolve => self.kept_text(&command.statement, masks, is_sealed),
        };
        let secrets = self.text.as_ref().map_or(&[][..], |kept| &kept.secrets);
        let mut parameters = kept_parameters(&command.parameters, masks, (secrets, is_sealed));
        if is_sealed {
            self.seal_request(command.id, &text, &parameters, now)?;
            text = "".into();
            parameters = Cow::Borrowed(&[]);
        }
        let blind = self.blind.take();
        self.door.recorder.gather(Frame::Begin(Begin {
            session: self.session,
            command: command.id,
            at: now,
            kind: command.kind,
            statement: &command.statement,
            text: &text,
            parameters: &parameters,
            batch: command.batch,
            decision,
            decided_us: u32::try_from(decided.us_since(now)).unwrap_or(u32::MAX),
            identity: self.identity,
            approval,
            blind: blind.as_ref(),
        }))
    }

    /// The text and the parameters of a command as people are shown them: as they are recorded.
    pub(crate) fn shown(&mut self, command: &Command, masks: Option<&Masks>) -> Shown {
        let text = self.kept_text(&command.statement, masks, false);
        let secrets = self.text.as_ref().map_or(&[][..], |kept| &kept.secrets);
        let parameters = kept_parameters(&command.parameters, masks, (secrets, false));
        let is_masked = *text != *command.statement.text || *parameters != *command.parameters;
        Shown { text, parameters: parameters.into_owned(), is_masked }
    }

    /// Writes how a command ended.
    pub(crate) fn end(&mut self, outcome: Outcome, now: Timestamp) {
        if self.is_sealed() {
            return self.seal_answer(outcome, now);
        }
        self.write(Frame::End(End { session: self.session, at: now, outcome: &outcome }));
    }

    /// Writes that one side broke the protocol.
    pub(crate) fn violation(&mut self, violation: Violation, now: Timestamp) {
        self.open();
        let Violation { side, what } = violation;
        let side = format!("{side:?}").to_lowercase();
        info!(session = %self.session, side, what, "protocol violation");
        let detail = format!(
            r#"{{"session_id":"{}","agent":"{}","side":"{side}","what":"{what}"}}"#,
            self.session, self.principal.agent
        );
        self.write(Frame::Control(Control {
            at: now,
            kind: "protocol.violation",
            detail: &detail,
        }));
    }

    /// Writes why no session begins between two sockets that are connected.
    pub(crate) fn not_begun(&mut self, reason: &str, what: &str, now: Timestamp) {
        self.open();
        info!(session = %self.session, target = %self.target.name, reason, what, "not begun");
        let detail = format!(
            r#"{{"session_id":"{}","agent":"{}","target":"{}","reason":"{reason}"}}"#,
            self.session, self.principal.agent, self.target.name
        );
        self.write(Frame::Control(Control { at: now, kind: "session.not_begun", detail: &detail }));
    }

    /// Writes the session's end, once; `carried` is what went between it and the agent.
    pub(crate) fn close(&mut self, reason: &str, carried: Bytes, now: Timestamp) {
        if self.closed {
            return;
        }
        self.open();
        self.closed = true;
        self.door.sessions.leave(self.session);
        self.taping.borrow_mut().end(self.door, self.session, reason, now);
        self.write_ended();
        self.write(Frame::SessionClose(SessionClose { session: self.session, at: now, reason }));
        let cookie = self.accepted.socket_cookie;
        if let Some(difference) = self.door.flows.session_ended(cookie, carried, now) {
            self.door.record_difference(&difference);
        }
    }

    /// Whether the session's end is written.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends a session whose target does not answer: recorded, and the agent is told.
    pub(crate) async fn unreachable(
        self,
        protocol: Protocol,
        downstream: TcpStream,
        error: &io::Error,
    ) {
        info!(target = %self.target.name, %error, "target unreachable");
        let text = format!("{} can't be reached: {}", self.target.name, error.kind());
        let code = (*b"08001", 502);
        self.turn_away("target_unreachable", (protocol, code, &text), downstream).await;
    }

    async fn turn_away(
        mut self,
        reason: &str,
        (protocol, (code, status), text): (Protocol, ([u8; 5], u16), &str),
        mut downstream: TcpStream,
    ) {
        let now = self.door.clock.now();
        let told = match protocol {
            Protocol::Postgresql => {
                proto::postgres::fatal_error(code, &format!("vestibule: {text}"))
            }
            Protocol::Http => crate::http::raw(status, text),
        };
        self.close(reason, Bytes::unread(told.len()), now);
        if let Err(error) = downstream.write_all(&told).await {
            info!(%error, "the agent had gone");
        }
    }

    /// Records that nothing waits for: if the journal fails, the next command is refused.
    fn write(&self, frame: Frame<'_>) {
        if let Err(error) = self.door.recorder.append(frame) {
            warn!(session = %self.session, %error, "not recorded");
        }
    }

    fn kept_text(
        &mut self,
        statement: &Arc<Statement>,
        masks: Option<&Masks>,
        is_whole: bool,
    ) -> Arc<str> {
        if let Some(kept) = &self.text
            && Arc::ptr_eq(&kept.statement, statement)
            && kept.is_whole == is_whole
        {
            return Arc::clone(&kept.text);
        }
        let found = secrets::find(&statement.text);
        let redacted = |masks: &Masks| {
            if is_whole { Cow::Borrowed(&*found.text) } else { masks.redact_literals(&found.text) }
        };
        let text: Arc<str> = match masks.map(redacted) {
            Some(Cow::Owned(masked)) => masked.into(),
            Some(Cow::Borrowed(_)) if matches!(found.text, Cow::Borrowed(_)) => {
                Arc::clone(&statement.text)
            }
            Some(Cow::Borrowed(rest)) => rest.into(),
            // Before policy has said what may be kept, nothing of the text is.
            None => "".into(),
        };
        let (statement, secrets) = (Arc::clone(statement), found.parameters);
        self.text = Some(KeptText { statement, text: Arc::clone(&text), is_whole, secrets });
        text
    }
}

/// Whether two identities are of the same people, whatever their tokens.
fn is_same(one: &Identity, other: &Identity) -> bool {
    let who = |identity: &Identity| {
        let subject = identity.subject.as_ref();
        subject.map(|subject| (Arc::clone(&subject.idp), Arc::clone(&subject.sub)))
    };
    who(one) == who(other) && one.actors == other.actors && one.owner == other.owner
}

/// Writes that a connection became no session. Strangers are written down no more often than
/// [`crate::sparing`] allows.
pub(crate) fn record_refusal(door: &Door, refused: &Refused) -> Result<(), AppendError> {
    let who = match refused {
        Refused::NoRecord { peer } => match door.strangers.record(door.clock.now()) {
            Some(unrecorded) => format!(r#","peer":"{peer}","unrecorded_before":{unrecorded}"#),
            None => return Ok(()),
        },
        Refused::Unattributed { tgid } => format!(r#","pid":{tgid}"#),
        Refused::IdentityEnded { why, principal } => {
            format!(
                r#","why":"{why}","agent":"{}","instance":"{}","pid":{}"#,
                principal.agent, principal.instance, principal.process.key.tgid
            )
        }
        Refused::UnknownTarget { addr, principal } | Refused::EncryptedDns { addr, principal } => {
            format!(
                r#","destination":"{addr}","agent":"{}","instance":"{}","pid":{}"#,
                principal.agent, principal.instance, principal.process.key.tgid
            )
        }
        Refused::TooMany { agent, tgid } => {
            let agent = agent.as_ref().map_or("", AgentName::as_str);
            format!(r#","agent":"{agent}","pid":{tgid}"#)
        }
        Refused::Loop => String::new(),
    };
    let detail = format!(r#"{{"reason":"{}"{who}}}"#, refused.kind());
    door.recorder.control("connection.refused", &detail)?;
    Ok(())
}

/// Parameters as they are kept: recognised values masked, unless they are sealed, and those left out that are secrets,
/// by their number or by what is in them.
fn kept_parameters<'p>(
    parameters: &'p [Parameter],
    masks: Option<&Masks>,
    (secrets, is_sealed): (&[usize], bool),
) -> Cow<'p, [Parameter]> {
    let Some(masks) = masks else { return Cow::Owned(Vec::new()) };
    let is_kept = |(at, parameter): (usize, &Parameter)| {
        !secrets::is_secret(parameter, secrets.contains(&at))
            && (is_sealed || !masks.redacts(parameter))
    };
    if (1..).zip(parameters).all(is_kept) {
        return Cow::Borrowed(parameters);
    }
    let mut kept = parameters.to_vec();
    for (at, parameter) in (1..).zip(&mut kept) {
        if !secrets::leave_out(parameter, secrets.contains(&at)) && !is_sealed {
            masks.redact_parameter(parameter);
        }
    }
    Cow::Owned(kept)
}

pub(crate) fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    // The kernel's random source, once seeded, does not fail (getrandom(2)); ids also hold the time.
    if let Err(error) = getrandom::fill(&mut bytes) {
        warn!(%error, "no random numbers");
    }
    bytes
}
