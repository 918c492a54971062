//! Frames to rows: an ended command is an event row and a recording row, a sealed chunk a recording
//! row, a closed session a session row, a control record a control row. Streams; holds open sessions and commands only.

mod common;
mod fill;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use types::id::{CommandId, SequenceNumber, SessionId};
use types::identity::Identity;

use crate::codec::Malformed;
use crate::decode::Known;
use crate::frame::FrameKind;
use crate::imported;
use crate::reader::{ReadError, Reader, SegmentReader};
use crate::record::{BegunCommand, EndedCommand, Lsn, OpenedSession, Record};
use crate::row::Row;
use crate::segment::{self, SegmentHeader};

use common::{Commons, Statements};
pub use fill::parameters;

/// Why a journal gives no more rows.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The directory cannot be listed.
    #[error("cannot list the journal's segments")]
    List(#[from] std::io::Error),
    /// A frame is not as it was written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A frame with a sound checksum does not follow from those before it.
    #[error("frame {}: {fault}", lsn.0)]
    Frame {
        /// Which.
        lsn: Lsn,
        /// What is wrong.
        #[source]
        fault: Malformed,
    },
}

/// The rows of a journal, in order.
#[derive(Debug)]
pub struct Rows {
    reader: Reader,
    known: Known,
    open: Assembler,
    ready: VecDeque<Row>,
    from: u64,
    last_lsn: Lsn,
    next_seq: Option<u64>,
}

impl Rows {
    /// The rows from sequence number `from` on (from the first there is, if that is later), up to
    /// the frame `limit` or the end. Reads only the segments that can hold them. Of a journal that
    /// is being written, `limit` must be durable.
    pub fn open(dir: &Path, from: u64, limit: Option<Lsn>) -> Result<Self, AssembleError> {
        let mut start = Lsn(0);
        for segment in segment::list(dir)?.iter().rev() {
            if SegmentReader::open(segment)?.header().first_seq <= from {
                start = segment.first_lsn;
                break;
            }
        }
        Ok(Self {
            reader: Reader::open(dir, start, limit)?,
            known: Known::new(),
            open: Assembler::default(),
            ready: VecDeque::new(),
            from,
            last_lsn: Lsn(0),
            next_seq: None,
        })
    }

    /// The next row; `None` at the end.
    pub fn next_row(&mut self) -> Result<Option<Row>, AssembleError> {
        loop {
            while let Some(row) = self.ready.pop_front() {
                if row.seq().0 >= self.from {
                    return Ok(Some(row));
                }
            }
            if !self.read()? {
                return Ok(None);
            }
        }
    }

    /// The header of the segment that the last row came from.
    pub fn segment(&self) -> Option<&SegmentHeader> {
        self.reader.segment()
    }

    /// The place of the last frame read.
    pub fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// The sequence number of the row behind the last frame read; `None` before the first.
    pub fn next_seq(&self) -> Option<u64> {
        self.next_seq
    }

    fn read(&mut self) -> Result<bool, AssembleError> {
        let Some(frame) = self.reader.next_frame()? else { return Ok(false) };
        let (header, lsn) = (frame.header, frame.header.lsn);
        if header.kind == FrameKind::Seal {
            return Ok(true);
        }
        self.last_lsn = lsn;
        self.next_seq = Some(header.seq.saturating_add(header.rows()));
        let record = frame
            .record_by(&mut self.known)
            .map_err(|fault| AssembleError::Frame { lsn, fault })?;
        let Some(record) = record else { return Ok(true) };
        let carried = header.carried;
        let Some(segment) = self.reader.segment() else { return Ok(true) };
        let (seq, before) = (SequenceNumber(header.seq), self.ready.len());
        self.open
            .take(segment, (seq, carried), record, &mut self.ready)
            .map_err(|fault| AssembleError::Frame { lsn, fault })?;
        if imported::is_import(&segment.node) {
            self.ready.iter_mut().skip(before).for_each(imported::mark);
        }
        Ok(true)
    }
}

/// The sessions and commands that are open.
#[derive(Debug, Default)]
struct Assembler {
    sessions: FxHashMap<SessionId, Session>,
    statements: Statements,
}

/// An open session. At most [`crate::recorder::OPEN_SESSIONS_MAX`] of them with
/// [`crate::recorder::OPEN_COMMANDS_MAX`] commands each, as the recorder takes no more.
#[derive(Debug)]
struct Session {
    opened: Box<OpenedSession>,
    /// Later identities by number, those left out that no open command is of.
    identities: BTreeMap<u32, Arc<Identity>>,
    commands: FxHashMap<CommandId, Box<BegunCommand>>,
    commons: Commons,
}

impl Assembler {
    fn take(
        &mut self,
        segment: &SegmentHeader,
        (seq, carried): (SequenceNumber, bool),
        record: Record,
        rows: &mut VecDeque<Row>,
    ) -> Result<(), Malformed> {
        match record {
            Record::SessionOpen(opened) => {
                let known = self.sessions.contains_key(&opened.session);
                if known && !carried {
                    return Err(Malformed("session is open already"));
                }
                if !known {
                    let (identities, commands) = (BTreeMap::new(), FxHashMap::default());
                    let session =
                        Session { opened, identities, commands, commons: Commons::default() };
                    self.sessions.insert(session.opened.session, session);
                }
            }
            Record::Identity(changed) => {
                let session = self.session(changed.session)?;
                session.commons = Commons::default();
                if session.commands.is_empty() && !carried {
                    session.identities.clear();
                }
                session.identities.insert(changed.number, changed.identity);
            }
            Record::Begin(begun) => {
                let session = self.session(begun.session)?;
                if begun.identity != 0 && !session.identities.contains_key(&begun.identity) {
                    return Err(Malformed("command of an identity that was not given"));
                }
                if session.commands.insert(begun.command, begun).is_some() && !carried {
                    return Err(Malformed("command began already"));
                }
            }
            Record::End(ended) => {
                let (event, recording) = self.end(segment, seq, &ended)?;
                rows.push_back(event);
                rows.push_back(recording);
            }
            Record::Chunk(chunk) => {
                self.session(chunk.session)?;
                rows.push_back(fill::chunk(segment, seq, chunk));
            }
            Record::SessionClose(closed) => {
                let session = self.sessions.remove(&closed.session).ok_or(NOT_OPEN)?;
                rows.push_back(fill::session(segment, seq, &session.opened, &closed));
            }
            Record::Control(entry) => rows.push_back(fill::control(segment, seq, &entry)),
        }
        Ok(())
    }

    fn end(
        &mut self,
        segment: &SegmentHeader,
        seq: SequenceNumber,
        ended: &EndedCommand,
    ) -> Result<(Row, Row), Malformed> {
        let Self { sessions, statements } = self;
        let session = sessions.get_mut(&ended.session).ok_or(NOT_OPEN)?;
        let begun = session
            .commands
            .remove(&ended.outcome.command)
            .ok_or(Malformed("command did not begin"))?;
        let next = SequenceNumber(seq.0.saturating_add(1));
        let Session { opened, identities, commons, .. } = session;
        let identity = identities.get(&begun.identity).unwrap_or(&opened.principal.identity);
        let common = commons.of(segment, opened, (begun.identity, identity), &begun.decision);
        let statement = statements.of(segment, &begun);
        let event = fill::event(segment, seq, opened, (common, &statement), &begun, ended);
        let recording = fill::recording((next, common), *begun, ended);
        let outcome = &ended.outcome;
        let masked = outcome.masked.iter().fold(0_u64, |n, m| n.saturating_add(m.count));
        let denied = outcome.status == types::event::Status::Denied;
        let [rows, bytes_in, bytes_out] =
            [outcome.rows.unwrap_or(0), outcome.bytes_in, outcome.bytes_out];
        opened.totals.add(denied, [rows, bytes_in, bytes_out, masked]);
        Ok((event, recording))
    }

    fn session(&mut self, session: SessionId) -> Result<&mut Session, Malformed> {
        self.sessions.get_mut(&session).ok_or(NOT_OPEN)
    }
}

const NOT_OPEN: Malformed = Malformed("session is not open");
