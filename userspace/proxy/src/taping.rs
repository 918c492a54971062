//! A session's sealed recording on its way into the journal, where the node seals recordings.

use std::sync::Arc;

use journal::record::{Chunk, Frame, Lsn};
use journal::recorder::{AppendError, Recorder};
use proto::piece::{Gap, Piece};
use recording::entry::Kind;
use recording::sealing::NotSealed;
use recording::tape::Tape;
use tracing::warn;
use types::clock::Timestamp;
use types::id::{CommandId, SessionId};

use crate::door::Door;
use crate::targets::Protocol;

/// One session's tape, where there is one.
#[derive(Debug)]
pub(crate) struct Taping {
    tape: Option<Box<Tape>>,
    /// Something could not be recorded: nothing may go on.
    lost: Option<Arc<str>>,
    /// The last command that began.
    command: CommandId,
    /// Where the last chunk is in the journal; 0 where there is none.
    last: Lsn,
    /// Bytes of the wire that were not kept since some were, by direction and reason: at most eight.
    gaps: Vec<(Kind, Gap, u64)>,
    has_wire: bool,
}

/// Opens a session's tape, where recordings are sealed; its wrapped key is on disk then.
pub(crate) async fn open(
    door: &Door,
    session: SessionId,
    protocol: Protocol,
) -> Result<Taping, NotSealed> {
    let Some(sealing) = &door.recordings else { return Ok(Taping::none()) };
    let (sealing, now) = (Arc::clone(sealing), door.clock.now());
    let stream = match protocol {
        Protocol::Postgresql => "postgresql",
        Protocol::Http => "http",
    };
    // It writes a file and waits for the disk.
    let opened = tokio::task::spawn_blocking(move || sealing.open(session, stream, now)).await;
    let tape = opened.map_err(|_| NotSealed::Random)??;
    Ok(Taping::new(Some(Box::new(tape))))
}

impl Taping {
    /// None.
    pub(crate) fn none() -> Self {
        Self::new(None)
    }

    /// Notes that a command began: what comes is of it.
    pub(crate) fn began(&mut self, command: CommandId) {
        self.command = command;
    }

    fn new(tape: Option<Box<Tape>>) -> Self {
        Self {
            tape,
            lost: None,
            command: CommandId(0),
            last: Lsn(0),
            gaps: Vec::new(),
            has_wire: false,
        }
    }

    /// Whether recordings are sealed: the journal has nothing of them in clear then.
    pub(crate) fn is_on(&self) -> bool {
        self.tape.is_some()
    }

    /// Puts what a command said or was answered; what fills a chunk is sealed and goes to the journal.
    pub(crate) fn put(
        &mut self,
        recorder: &Recorder,
        what: (Kind, CommandId),
        at: Timestamp,
        bytes: &[u8],
    ) {
        let mut rest = bytes;
        loop {
            let Some(tape) = &mut self.tape else { return };
            let offset = (bytes.len() - rest.len()) as u64;
            rest = tape.put(what, at, offset, rest);
            if rest.is_empty() && !tape.is_full() {
                return;
            }
            if self.seal(recorder).is_err() || rest.is_empty() {
                return;
            }
        }
    }

    /// Whether all that was put so far is recorded, or waits here. An error stays: what is lost of a recording is not made
    /// good by what follows.
    pub(crate) fn is_whole(&self) -> Result<(), AppendError> {
        match &self.lost {
            Some(why) => Err(AppendError::Failed(Arc::clone(why))),
            None => Ok(()),
        }
    }

    /// Seals what was put, and appends it to the journal; answers where the last chunk is there: all that was put is
    /// durable with it. What is appended after it is durable no sooner.
    pub(crate) fn seal(&mut self, recorder: &Recorder) -> Result<Lsn, AppendError> {
        self.is_whole()?;
        let Some(tape) = &mut self.tape else { return Ok(self.last) };
        let sealed = tape.seal(|sealed| {
            recorder.append(Frame::Chunk(Chunk {
                session: sealed.session,
                command: sealed.command,
                stream: sealed.stream,
                chunk: sealed.chunk,
                first_at: sealed.first_at,
                last_at: sealed.last_at,
                codec: sealed.codec,
                nonce: sealed.nonce,
                sealed: sealed.bytes,
            }))
        });
        let why: Arc<str> = match sealed {
            Ok(Some(Ok(lsn))) => {
                self.last = lsn;
                return Ok(lsn);
            }
            Ok(None) => return Ok(self.last),
            Ok(Some(Err(error))) => error.to_string().into(),
            Err(error) => error.to_string().into(),
        };
        warn!(why = &*why, "a recording can't be continued");
        self.lost = Some(Arc::clone(&why));
        Err(AppendError::Failed(why))
    }

    /// Puts bytes of the wire, said or got since the last command that began. How many are not kept stands before those
    /// that are, once for all that come together.
    pub(crate) fn wire(
        &mut self,
        recorder: &Recorder,
        kind: Kind,
        piece: Piece<'_>,
        now: Timestamp,
    ) {
        match piece {
            Piece::Gap(bytes, why) => {
                match self.gaps.iter_mut().find(|gap| (gap.0, gap.1) == (kind, why)) {
                    Some(gap) => gap.2 += bytes,
                    None => self.gaps.push((kind, why, bytes)),
                }
            }
            Piece::Bytes(bytes) => {
                self.say_gaps(recorder, now);
                self.has_wire = true;
                self.put(recorder, (kind, self.command), now, bytes);
            }
        }
    }

    fn say_gaps(&mut self, recorder: &Recorder, now: Timestamp) {
        for (kind, why, bytes) in std::mem::take(&mut self.gaps) {
            let Some(tape) = &mut self.tape else { return };
            let (side, why) = (kind.as_str(), why.as_str());
            let said = format!(r#"{{"side":"{side}","bytes":{bytes},"why":"{why}"}}"#);
            tape.skip(kind, bytes);
            self.put(recorder, (Kind::Gap, self.command), now, said.as_bytes());
        }
    }

    /// Ends the recording; where nothing was recorded, its key is forgotten.
    pub(crate) fn end(&mut self, door: &Door, session: SessionId, reason: &str, now: Timestamp) {
        let Some(tape) = &self.tape else { return };
        if tape.chunks() == 0 && tape.is_empty() {
            if let Some(sealing) = &door.recordings {
                sealing.vault().forget(session);
            }
        } else {
            if self.has_wire {
                self.say_gaps(&door.recorder, now);
            }
            self.put(&door.recorder, (Kind::End, CommandId(0)), now, reason.as_bytes());
            // Its loss was said; the session ends in any case.
            drop(self.seal(&door.recorder));
        }
        self.tape = None;
    }
}
