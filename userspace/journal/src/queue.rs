//! What waits to be committed, and what is open: the state behind the recorder's lock.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxBuildHasher;
use types::clock::Timestamp;
use types::event::{Outcome, Status};
use types::id::{CommandId, SessionId};
use types::limits::RECORDING_SEALED_BYTES_MAX;

use crate::encode::put_body;
use crate::frame::{BodyTooLarge, FrameKind, put_frame};
use crate::record::{
    Begin, BootId, CONTROL_DETAIL_BYTES_MAX, Chunk, Control, End, Frame, IdentityChange, Lsn,
    SessionClose, SessionOpen,
};
use crate::recorder::{AppendError, Health, OPEN_COMMANDS_MAX, OPEN_SESSIONS_MAX};

/// Frames encoded and numbered, waiting for the committer.
pub(crate) struct Queue {
    frames: Frames,
    health: Health,
    closing: bool,
    /// The committer is gone: nothing more becomes durable.
    stopped: bool,
    /// Something waits that somebody waits for.
    urgent: bool,
    /// It is left to the committing thread: nobody who gathers more for the same commit is about to make it.
    due: bool,
    taken: u64,
    /// Frames refused since the disk refuses.
    refused: u64,
    /// Bytes that may wait while it does.
    pending_bytes_max: usize,
    /// What the committer does while nothing is urgent.
    rest: Rest,
    /// Threads that wait.
    pub(crate) awaited: Awaited,
    /// Open sessions, and of each the open commands in ascending order. At most
    /// [`OPEN_SESSIONS_MAX`] × (16 B + 24 B) and 24 B for each command in flight, 56 B more where it changes something.
    open: HashMap<SessionId, Vec<OpenCommand>, FxBuildHasher>,
    /// When and why sessions ended whose end found no room while the disk refuses. Each is open still: at most
    /// [`OPEN_SESSIONS_MAX`] × about 100 B.
    parted: HashMap<SessionId, (Timestamp, Box<str>), FxBuildHasher>,
}

/// The frames that wait, one behind the other, and the numbers of the next.
struct Frames {
    pending: Vec<u8>,
    next_lsn: Lsn,
    next_seq: u64,
    boot_id: BootId,
}

/// A command that has begun.
struct OpenCommand {
    id: CommandId,
    anchor: Anchor,
}

/// Whether a row of its own says that a command has begun, before there is one of its end.
enum Anchor {
    /// None is due: it changes nothing, or there is one.
    No,
    /// At the checkpoint after the next, if it is open then.
    Later(Box<Begun>),
    /// At the next.
    Next(Box<Begun>),
}

/// What such a row says.
struct Begun {
    lsn: Lsn,
    at: Timestamp,
    verb: &'static str,
    fingerprint: i64,
}

/// What the committing thread does while nothing is urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It works, or was woken.
    Awake,
    /// It looks by itself before long; only what is urgent wakes it.
    Dozing,
    /// It looks only when it is woken.
    Asleep,
}

/// How many threads wait for what: nobody is told what nobody waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Awaited {
    /// Appenders, for space.
    pub(crate) space: usize,
    /// Whoever wants something to be durable.
    pub(crate) commit: usize,
}

impl Queue {
    /// An empty queue whose first frame and row get these numbers.
    pub(crate) fn new(
        (next_lsn, next_seq): (Lsn, u64),
        boot_id: BootId,
        pending_bytes_max: usize,
    ) -> Self {
        Self {
            frames: Frames { pending: Vec::new(), next_lsn, next_seq, boot_id },
            health: Health::Open,
            closing: false,
            stopped: false,
            urgent: false,
            due: false,
            taken: 0,
            refused: 0,
            pending_bytes_max,
            rest: Rest::Awake,
            awaited: Awaited::default(),
            // Nobody chooses a session's id: there is nothing to defend.
            open: HashMap::default(),
            parted: HashMap::default(),
        }
    }

    /// Checks that a frame may come now, numbers and encodes it. A session that closes with
    /// commands open ends them as interrupted first.
    pub(crate) fn push(
        &mut self,
        frame: &Frame<'_>,
        digest: Option<[u8; 32]>,
    ) -> Result<Lsn, AppendError> {
        if let Err(error) = self.admit(frame) {
            let is_failing = matches!(error, AppendError::Failing(_));
            match *frame {
                Frame::SessionClose(close) if is_failing => self.note_parted(&close),
                _ => self.refused += u64::from(is_failing),
            }
            return Err(error);
        }
        self.urgent |= is_urgent(frame);
        match *frame {
            Frame::SessionOpen(SessionOpen { session, .. }) => {
                if self.open.contains_key(&session) {
                    return Err(AppendError::OutOfOrder("session opens twice"));
                }
                if self.open.len() >= OPEN_SESSIONS_MAX {
                    return Err(AppendError::TooMany("sessions"));
                }
                let lsn = self.frames.put(frame, FrameKind::SessionOpen, None)?;
                self.open.insert(session, Vec::new());
                Ok(lsn)
            }
            Frame::Identity(IdentityChange { session, .. }) => {
                self.commands(session)?;
                self.frames.put(frame, FrameKind::Identity, None)
            }
            Frame::Begin(Begin { session, command, at, statement, .. }) => {
                let commands = self.open.get_mut(&session).ok_or(NOT_OPEN)?;
                if commands.len() >= OPEN_COMMANDS_MAX {
                    return Err(AppendError::TooMany("commands"));
                }
                let place = commands.binary_search_by_key(&command, |open| open.id);
                let Err(place) = place else {
                    return Err(AppendError::OutOfOrder("command begins twice"));
                };
                let lsn = self.frames.put(frame, FrameKind::Begin, digest)?;
                let anchor = if statement.needs_wal() {
                    let (verb, fingerprint) =
                        (statement.analysis.verb, statement.analysis.fingerprint);
                    Anchor::Later(Box::new(Begun { lsn, at, verb, fingerprint }))
                } else {
                    Anchor::No
                };
                commands.insert(place, OpenCommand { id: command, anchor });
                Ok(lsn)
            }
            Frame::End(End { session, outcome, .. }) => {
                let commands = self.open.get_mut(&session).ok_or(NOT_OPEN)?;
                let place = commands.binary_search_by_key(&outcome.command, |open| open.id);
                let Ok(place) = place else {
                    return Err(AppendError::OutOfOrder("command ends that did not begin"));
                };
                let lsn = self.frames.put(frame, FrameKind::End, None)?;
                commands.remove(place);
                Ok(lsn)
            }
            Frame::Chunk(Chunk { session, .. }) => {
                self.commands(session)?;
                self.frames.put(frame, FrameKind::Chunk, None)
            }
            Frame::SessionClose(SessionClose { session, at, .. }) => {
                for command in std::mem::take(self.commands(session)?) {
                    self.interrupt(session, command.id, at)?;
                }
                let lsn = self.frames.put(frame, FrameKind::SessionClose, None)?;
                self.open.remove(&session);
                Ok(lsn)
            }
            Frame::Control(_) => self.frames.put(frame, FrameKind::Control, None),
        }
    }

    /// Has a row say of each command that changes something and was open at the last checkpoint that it has begun.
    pub(crate) fn anchor(&mut self, now: Timestamp) -> Result<(), AppendError> {
        let mut due = Vec::new();
        for (session, commands) in &mut self.open {
            for OpenCommand { id, anchor } in commands {
                *anchor = match std::mem::replace(anchor, Anchor::No) {
                    Anchor::No => continue,
                    Anchor::Later(begun) => Anchor::Next(begun),
                    Anchor::Next(begun) => {
                        due.push((*session, *id, begun));
                        continue;
                    }
                };
            }
        }
        for (session, command, begun) in due {
            let Begun { lsn, at, verb, fingerprint } = *begun;
            let detail = format!(
                r#"{{"session_id":"{session}","command":{},"verb":"{verb}","fingerprint":{fingerprint},"begun_us":{},"frame":{}}}"#,
                command.0, at.unix_us, lsn.0
            );
            self.push(
                &Frame::Control(Control { at: now, kind: "cmd.begin", detail: &detail }),
                None,
            )?;
        }
        Ok(())
    }

    /// Writes the ends that found no room while the disk refused. What they push is as much as is open, whatever may wait.
    pub(crate) fn part(&mut self) -> Result<(), AppendError> {
        for (session, (at, reason)) in std::mem::take(&mut self.parted) {
            let close = SessionClose { session, at, reason: &reason };
            self.push(&Frame::SessionClose(close), None)?;
        }
        Ok(())
    }

    fn note_parted(&mut self, close: &SessionClose<'_>) {
        if self.open.contains_key(&close.session) {
            self.parted.insert(close.session, (close.at, close.reason.into()));
        }
    }

    /// Bytes that wait.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.frames.pending.len()
    }

    /// The place of the frame that was pushed last.
    pub(crate) fn last(&self) -> Lsn {
        Lsn(self.frames.next_lsn.0 - 1)
    }

    /// Whether frames may still be taken.
    pub(crate) fn is_open(&self) -> bool {
        !self.closing && !self.stopped && matches!(self.health, Health::Open | Health::Pressure)
    }

    /// Why nothing more becomes durable for now, if so.
    pub(crate) fn ended(&self) -> Option<Arc<str>> {
        match &self.health {
            Health::Failed(reason) | Health::Failing(reason) => Some(Arc::clone(reason)),
            Health::Open | Health::Pressure => self.stopped.then(|| Arc::from("closed")),
        }
    }

    /// How the journal is.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// Changes how the journal is; a failure stays.
    pub(crate) fn set_health(&mut self, health: Health) {
        if !matches!(self.health, Health::Failed(_)) {
            self.health = health;
        }
    }

    /// How many frames were refused because the disk refuses; asked once.
    pub(crate) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Takes nothing more; returns the last frame's place.
    pub(crate) fn close(&mut self) -> Lsn {
        self.closing = true;
        self.last()
    }

    /// Whether it was closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Notes that the committer is gone.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Notes how the committer rests.
    pub(crate) fn set_rest(&mut self, rest: Rest) {
        self.rest = rest;
    }

    /// Leaves what was pushed last to the committing thread; answers whether that must be woken for it, be it `urgent`
    /// or not. Asked once.
    pub(crate) fn take_wake(&mut self, urgent: bool) -> bool {
        self.due |= urgent;
        let wake = match self.rest {
            Rest::Awake => false,
            Rest::Dozing => urgent,
            // Beside what is urgent, whoever pushed that has it committed.
            Rest::Asleep => urgent || !self.urgent,
        };
        if wake {
            self.rest = Rest::Awake;
        }
        wake
    }

    /// Whether somebody waits for what waits here: ends of commands and sessions can stay until
    /// the next commit, or [`crate::committer::DOZE`], because nothing is held back for them. A
    /// chunk comes with the beginning of what it is of, before or after that, and is committed with it.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether the committing thread is to commit what waits here at once.
    pub(crate) fn is_due(&self) -> bool {
        self.due
    }

    /// Exchanges what waits for an empty buffer.
    pub(crate) fn swap(&mut self, empty: &mut Vec<u8>) {
        self.urgent = false;
        self.due = false;
        self.taken += u64::from(!self.frames.pending.is_empty());
        std::mem::swap(&mut self.frames.pending, empty);
    }

    /// How often something was taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    fn admit(&self, frame: &Frame<'_>) -> Result<(), AppendError> {
        if let Health::Failed(reason) = &self.health {
            return Err(AppendError::Failed(Arc::clone(reason)));
        }
        if self.closing || self.stopped {
            return Err(AppendError::Closed);
        }
        let begins = matches!(frame, Frame::SessionOpen(_) | Frame::Identity(_) | Frame::Begin(_));
        match &self.health {
            Health::Pressure if begins => return Err(AppendError::Pressure),
            Health::Failing(reason) if begins || self.pending_bytes() >= self.pending_bytes_max => {
                return Err(AppendError::Failing(Arc::clone(reason)));
            }
            _ => {}
        }
        match frame {
            Frame::Control(Control { detail, .. }) if detail.len() > CONTROL_DETAIL_BYTES_MAX => {
                Err(AppendError::TooLarge(detail.len()))
            }
            Frame::Chunk(Chunk { sealed, .. }) if sealed.len() > RECORDING_SEALED_BYTES_MAX => {
                Err(AppendError::TooLarge(sealed.len()))
            }
            _ => Ok(()),
        }
    }

    fn commands(&mut self, session: SessionId) -> Result<&mut Vec<OpenCommand>, AppendError> {
        self.open.get_mut(&session).ok_or(NOT_OPEN)
    }

    fn interrupt(
        &mut self,
        session: SessionId,
        command: CommandId,
        at: Timestamp,
    ) -> Result<Lsn, AppendError> {
        let outcome = interrupted(command);
        self.frames.put(&Frame::End(End { session, at, outcome: &outcome }), FrameKind::End, None)
    }
}

impl Frames {
    fn put(
        &mut self,
        frame: &Frame<'_>,
        kind: FrameKind,
        digest: Option<[u8; 32]>,
    ) -> Result<Lsn, AppendError> {
        let lsn = self.next_lsn;
        let boot_id = self.boot_id;
        put_frame(&mut self.pending, kind, false, (lsn, self.next_seq), |out| {
            put_body(out, frame, boot_id, digest);
        })
        .map_err(|BodyTooLarge(bytes)| AppendError::TooLarge(bytes))?;
        self.next_lsn = Lsn(lsn.0 + 1);
        self.next_seq += kind.rows();
        Ok(lsn)
    }
}

/// What is said of a session that is not open.
const NOT_OPEN: AppendError = AppendError::OutOfOrder("session is not open");

/// Whether somebody waits for such a frame to be durable.
pub(crate) fn is_urgent(frame: &Frame<'_>) -> bool {
    !matches!(frame, Frame::End(_) | Frame::Chunk(_) | Frame::SessionClose(_))
}

/// The outcome of a command whose end nobody saw.
pub(crate) fn interrupted(command: CommandId) -> Outcome {
    Outcome::new(command, Status::Interrupted)
}
