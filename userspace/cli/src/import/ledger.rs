//! The records of an import: what a capture tells, as a journal has it.

mod tally;
mod text;

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use capture::connection::Gap;
use capture::conversation::{Opening, Said};
use capture::map::Map;
use capture::reading::{Closed, ConnectionId, Counts, Ends, Sink, Told};
use journal::record::{Begin, Control, End, Frame, SessionClose, SessionOpen};
use journal::recorder::Recorder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use types::addr::Side;
use types::clock::{Clock as _, Timestamp};
use types::command::Command;
use types::decision::{Decision, Effect};
use types::event::{Outcome, Violation};
use types::id::{PolicyId, SessionId};

pub(super) use self::tally::Tally;
use self::text::Texts;
use super::place::Place;
use super::whose::Whose;

/// What stands for the rule by which an imported command was decided.
const RULE: &str = "imported";

/// Writes an import's records.
pub(super) struct Ledger {
    recorder: Recorder,
    whose: Whose,
    texts: Texts,
    decision: Decision,
    sha256: String,
    /// The sessions that are open.
    sessions: HashMap<ConnectionId, SessionId>,
    tally: Tally,
    /// Bytes of the file, to say how far it is.
    bytes: u64,
}

impl Ledger {
    /// Records for this place, by this map.
    pub(super) fn new(place: &Place, map: Map) -> Result<Self> {
        let decision = Decision {
            effect: Effect::Allow,
            obligations: [].into(),
            determining: [PolicyId(RULE.into())].into(),
            reason: "imported from a capture: nobody decided it".into(),
            policy_digest: [0; 32],
        };
        Ok(Self {
            recorder: place.recorder()?,
            whose: Whose::new(map)?,
            texts: Texts::new(),
            decision,
            sha256: place.sha256().to_owned(),
            sessions: HashMap::new(),
            tally: Tally::default(),
            bytes: 0,
        })
    }

    /// Writes which capture it is, and by which map, of this SHA-256.
    pub(super) fn begin(&mut self, capture: &Path, map_sha256: Option<&str>) -> Result<()> {
        self.bytes = capture.metadata().map_or(0, |file| file.len());
        let name = capture.file_name().map(|name| name.to_string_lossy().into_owned());
        let detail = json!({
            "capture": name, "bytes": self.bytes, "sha256": self.sha256, "map_sha256": map_sha256,
            "version": env!("CARGO_PKG_VERSION"),
        });
        self.control("begin", journal::clock::SystemClock.now(), &detail)
    }

    /// Writes what it came to, and closes the journal.
    pub(super) fn end(mut self, counts: &Counts) -> Result<Tally> {
        self.tally.count(counts, &self.whose);
        let detail = serde_json::to_value(&self.tally)?;
        self.control("end", journal::clock::SystemClock.now(), &detail)?;
        self.recorder.close()?;
        if io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        Ok(self.tally)
    }

    fn said(&mut self, ends: Ends, at: Timestamp, said: Said<'_>) -> Result<()> {
        match said {
            Said::Opens(opening) => self.open(ends, at, opening),
            Said::Command(command) => self.command(ends, at, command),
            Said::Request(request) => self.command(ends, at, request.command),
            Said::Outcome(outcome) => self.outcome(ends, at, outcome),
            Said::Violation(Violation { side, what }) => {
                self.tally.violations += 1;
                let detail = json!({"side": word(side), "what": what});
                self.about("protocol.violation", ends, at, detail)
            }
        }
    }

    fn open(&mut self, ends: Ends, at: Timestamp, opening: Opening<'_>) -> Result<()> {
        let session = self.session_id(ends, at);
        let principal = self.whose.principal(ends.client);
        let target = self.whose.target(ends, opening);
        self.sessions.insert(ends.id, session);
        self.tally.opened(&principal.agent);
        self.write(Frame::SessionOpen(SessionOpen {
            session,
            at,
            principal: &principal,
            source: ends.client,
            netns_cookie: 0,
            socket_cookie: 0,
            target: &target,
        }))
    }

    fn command(&mut self, ends: Ends, at: Timestamp, command: &Command) -> Result<()> {
        let session = self.session(ends)?;
        self.tally.statements += 1;
        let (text, parameters) = self.texts.kept(command);
        self.write(Frame::Begin(Begin {
            session,
            command: command.id,
            at,
            kind: command.kind,
            statement: &command.statement,
            text: &text,
            parameters: &parameters,
            batch: command.batch,
            decision: &self.decision,
            decided_us: 0,
            identity: 0,
            approval: None,
            blind: None,
        }))
    }

    fn outcome(&mut self, ends: Ends, at: Timestamp, mut outcome: Outcome) -> Result<()> {
        let session = self.session(ends)?;
        // Answers are counted: what of them may be kept, the server's catalog would have to say.
        outcome.sample = Vec::new();
        self.write(Frame::End(End { session, at, outcome: &outcome }))
    }

    fn closed(&mut self, ends: Ends, at: Timestamp, closed: Closed) -> Result<()> {
        let Closed { reason, unread, unread_bytes } = closed;
        if let Some(why) = unread {
            self.tally.unread(why, unread_bytes);
            let detail = json!({"reason": why.as_str(), "bytes": unread_bytes});
            self.about("unread", ends, at, detail)?;
        }
        if let Some(session) = self.sessions.remove(&ends.id) {
            self.write(Frame::SessionClose(SessionClose { session, at, reason }))?;
        }
        Ok(())
    }

    /// Writes something about a connection.
    fn about(&self, kind: &str, ends: Ends, at: Timestamp, mut detail: Value) -> Result<()> {
        let Ends { id, client, server } = ends;
        let session = self.sessions.get(&id).map(ToString::to_string);
        detail["connection"] = id.0.into();
        detail["client"] = client.to_string().into();
        detail["server"] = server.to_string().into();
        detail["session_id"] = session.into();
        self.control(kind, at, &detail)
    }

    fn control(&self, kind: &str, at: Timestamp, detail: &Value) -> Result<()> {
        let (kind, detail) =
            (format!("{}{kind}", journal::imported::KIND_PREFIX), detail.to_string());
        self.write(Frame::Control(Control { at, kind: &kind, detail: &detail }))
    }

    fn write(&self, frame: Frame<'_>) -> Result<()> {
        self.recorder.append(frame).map(drop).context("the import can't be recorded")
    }

    fn session(&self, ends: Ends) -> Result<SessionId> {
        let Some(session) = self.sessions.get(&ends.id) else {
            bail!("a command of connection {} comes before its session", ends.id.0);
        };
        Ok(*session)
    }

    /// The same for the same connection of the same capture, whenever it is imported.
    fn session_id(&self, ends: Ends, at: Timestamp) -> SessionId {
        let named = Sha256::new()
            .chain_update(&self.sha256)
            .chain_update(ends.id.0.to_be_bytes())
            .finalize();
        let mut random = [0; 10];
        random.iter_mut().zip(named).for_each(|(to, from)| *to = from);
        SessionId::new(at, random)
    }
}

impl Sink for Ledger {
    type Error = anyhow::Error;

    fn take(&mut self, ends: Ends, at: Timestamp, told: Told<'_>) -> Result<()> {
        match told {
            Told::Said(said) => self.said(ends, at, said),
            Told::Gap(Gap { side, at_us: _, place, bytes, why }) => {
                self.tally.gap(why, bytes);
                let detail = json!({
                    "side": word(side), "place": place, "bytes": bytes, "why": why.as_str(),
                });
                self.about("gap", ends, at, detail)
            }
            Told::Conflict { side, bytes } => {
                self.tally.conflicts += 1;
                let detail = json!({"side": word(side), "bytes": bytes});
                self.about("conflict", ends, at, detail)
            }
            Told::Closed(closed) => self.closed(ends, at, closed),
        }
    }

    fn progress(&mut self, bytes: u64) {
        if io::stderr().is_terminal() {
            let percent = bytes.saturating_mul(100) / self.bytes.max(1);
            let (megabytes, statements) = (bytes / 1_000_000, self.tally.statements);
            eprint!("\r\x1b[K{percent} %, {megabytes} MB, {statements} statements");
        }
    }
}

fn word(side: Side) -> &'static str {
    match side {
        Side::Downstream => "client",
        Side::Upstream => "server",
    }
}
