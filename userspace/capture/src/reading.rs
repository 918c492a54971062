//! A whole capture: every connection in it, what it said, and what could not be read.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use proto::sql::Analyzer;
use types::addr::Side;
use types::clock::Timestamp;

use crate::connection::{Connection, Gap, Output, Why};
use crate::conversation::{Conversation, Said, Unread};
use crate::limit::{ALL_PENDING_BYTES_MAX, CONNECTIONS_MAX};
use crate::segment::{self, Other, Segment};
use crate::source::{Source, SourceError};

/// A connection's number in a capture, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Which.
    pub id: ConnectionId,
    /// Whose it is.
    pub client: SocketAddr,
    /// Where it goes.
    pub server: SocketAddr,
}

/// Something that is in a capture.
#[derive(Debug)]
pub enum Told<'t> {
    /// Said in a session.
    Said(Said<'t>),
    /// Bytes are missing; the connection is not read behind them.
    Gap(Gap),
    /// Bytes that were sent again were other ones.
    Conflict {
        /// By whom.
        side: Side,
        /// How many.
        bytes: u64,
    },
    /// A connection is over.
    Closed(Closed),
}

/// How a connection ended, as far as the capture goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why it ended: `closed`, `reset`, `capture_ended`, `too_many`.
    pub reason: &'static str,
    /// Why it, or its rest, was not read.
    pub unread: Option<Unread>,
    /// Bytes that were not read.
    pub unread_bytes: u64,
}

/// What takes what is in a capture.
pub trait Sink {
    /// Why it can't go on.
    type Error: From<SourceError>;

    /// Takes what a connection's segments came to at a time.
    ///
    /// # Errors
    /// Then nothing more is read.
    fn take(&mut self, ends: Ends, at: Timestamp, told: Told<'_>) -> Result<(), Self::Error>;

    /// Is told now and then how far the file is read, in bytes.
    fn progress(&mut self, bytes: u64);
}

/// What a capture holds, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames.
    pub frames: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Frames that are no TCP, by what they are.
    pub others: BTreeMap<Other, u64>,
    /// TCP connections.
    pub connections: u64,
    /// Of those, the ones that ended because more were open than are followed.
    pub evicted: u64,
    /// Of the first and of the last frame, microseconds since 1970 UTC; `None` without frames.
    pub first_us: Option<i64>,
    /// Of the last.
    pub last_us: Option<i64>,
    /// The file ends within a block.
    pub is_cut: bool,
}

/// Frames between two words of progress.
const PROGRESS_FRAMES: u64 = 10_000;

/// Reads a capture and tells all that is in it; answers what it came to.
///
/// # Errors
/// If the file can't be read, or the sink can't go on.
pub fn read<S: Sink>(
    path: &Path,
    analyzer: &Arc<Analyzer>,
    sink: &mut S,
) -> Result<Counts, S::Error> {
    read_from(Source::open(path)?, analyzer, sink)
}

/// The same of a source that is open.
///
/// # Errors
/// As [`read`].
pub fn read_from<S: Sink>(
    mut source: Source,
    analyzer: &Arc<Analyzer>,
    sink: &mut S,
) -> Result<Counts, S::Error> {
    let mut reading = Reading {
        analyzer,
        sink,
        open: HashMap::new(),
        by_use: BTreeMap::new(),
        uses: 0,
        pending_bytes: 0,
        counts: Counts::default(),
    };
    loop {
        let mut done = Ok(());
        let more = source.next(&mut |frame| {
            reading.counts.first_us.get_or_insert(frame.at_us);
            reading.counts.last_us = Some(frame.at_us);
            done = match segment::read(frame) {
                Ok(segment) => reading.segment(&segment),
                Err(other) => {
                    *reading.counts.others.entry(other).or_default() += 1;
                    Ok(())
                }
            };
        })?;
        done?;
        if !more {
            break;
        }
        if source.frames().is_multiple_of(PROGRESS_FRAMES) {
            reading.sink.progress(source.bytes());
        }
    }
    reading.end()?;
    let Counts { frames, bytes, is_cut, .. } = &mut reading.counts;
    (*frames, *bytes, *is_cut) = (source.frames(), source.bytes(), source.is_cut());
    Ok(reading.counts)
}

/// How a connection ends that goes on where the capture ends.
const CAPTURE_ENDED: &str = "capture_ended";

/// Both ends of a connection, the lesser first.
type Key = (SocketAddr, SocketAddr);

struct Reading<'r, S> {
    analyzer: &'r Arc<Analyzer>,
    sink: &'r mut S,
    open: HashMap<Key, Open>,
    /// The open connections by when they were last used.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    pending_bytes: usize,
    counts: Counts,
}

struct Open {
    id: ConnectionId,
    used: u64,
    connection: Connection,
    conversation: Conversation,
    /// It was told that it is over; what comes late is still known for its own.
    is_closed: bool,
}

impl<S: Sink> Reading<'_, S> {
    fn segment(&mut self, segment: &Segment<'_>) -> Result<(), S::Error> {
        let key = (segment.from.min(segment.to), segment.from.max(segment.to));
        let mut known = self.leave(key);
        if let Some(open) = known.as_mut().filter(|open| open.connection.is_followed_by(segment)) {
            self.close(open, "followed")?;
            known = None;
        }
        let mut open = match known {
            Some(open) => open,
            // What comes behind a connection's end, or has nothing in it, begins none.
            None if !segment.syn && segment.payload.is_empty() => return Ok(()),
            None => self.enter(segment)?,
        };
        if !open.is_closed {
            self.take(&mut open, segment)?;
            if open.connection.is_over() {
                let reason = if open.connection.is_reset() { "reset" } else { "closed" };
                self.close(&mut open, reason)?;
            }
        }
        self.stay(key, open);
        Ok(())
    }

    /// A new connection, for which there is room then.
    fn enter(&mut self, segment: &Segment<'_>) -> Result<Open, S::Error> {
        if self.open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.by_use.values().next().copied()
            && let Some(mut open) = self.leave(oldest)
        {
            self.counts.evicted += u64::from(!open.is_closed);
            self.close(&mut open, "too_many")?;
        }
        self.counts.connections += 1;
        let id = ConnectionId(self.counts.connections);
        let connection = Connection::new(segment);
        let conversation = if connection.is_whole() {
            Conversation::new()
        } else {
            Conversation::unread(Unread::BegunBefore)
        };
        Ok(Open { id, used: 0, connection, conversation, is_closed: false })
    }

    /// Takes a connection out of the open ones.
    fn leave(&mut self, key: Key) -> Option<Open> {
        let open = self.open.remove(&key)?;
        self.by_use.remove(&open.used);
        self.pending_bytes -= open.connection.pending_bytes();
        Some(open)
    }

    /// Puts a connection among the open ones.
    fn stay(&mut self, key: Key, mut open: Open) {
        self.uses += 1;
        open.used = self.uses;
        self.by_use.insert(self.uses, key);
        self.pending_bytes += open.connection.pending_bytes();
        self.open.insert(key, open);
    }

    fn take(&mut self, open: &mut Open, segment: &Segment<'_>) -> Result<(), S::Error> {
        let Open { id, connection, conversation, .. } = open;
        let ends = Ends { id: *id, client: connection.client(), server: connection.server() };
        let mut done = Ok(());
        let mut each = |output: Output<'_>| {
            if done.is_ok() {
                done = hear((self.analyzer, self.sink), ends, conversation, output);
            }
        };
        connection.take(segment, &mut each);
        if connection.pending_bytes() + self.pending_bytes > ALL_PENDING_BYTES_MAX {
            connection.flush(Why::TooMuchWaits, &mut each);
        }
        done
    }

    /// Tells that a connection is over, once.
    fn close(&mut self, open: &mut Open, reason: &'static str) -> Result<(), S::Error> {
        let Open { id, used: _, connection, conversation, is_closed } = open;
        if std::mem::replace(is_closed, true) {
            return Ok(());
        }
        let ends = Ends { id: *id, client: connection.client(), server: connection.server() };
        let mut done = Ok(());
        connection.flush(Why::Ended, &mut |output| {
            if done.is_ok() {
                done = hear((self.analyzer, self.sink), ends, conversation, output);
            }
        });
        done?;
        let at = timestamp(connection.at_us());
        let sink = &mut *self.sink;
        conversation.close(at, &mut |said, at| sink.take(ends, at, Told::Said(said)))?;
        let has_ended = connection.is_over() && !connection.is_reset();
        let reason = if reason == CAPTURE_ENDED && has_ended { "closed" } else { reason };
        let (unread, unread_bytes) = conversation.left_unread();
        // What it held goes; its ends and numbers stay.
        *conversation = Conversation::unread(Unread::Nothing);
        let closed = Closed { reason, unread, unread_bytes };
        self.sink.take(ends, at, Told::Closed(closed))
    }

    fn end(&mut self) -> Result<(), S::Error> {
        while let Some(key) = self.by_use.values().next().copied() {
            if let Some(mut open) = self.leave(key) {
                self.close(&mut open, CAPTURE_ENDED)?;
            }
        }
        Ok(())
    }
}

/// Gives a conversation what came of segments.
fn hear<S: Sink>(
    (analyzer, sink): (&Arc<Analyzer>, &mut S),
    ends: Ends,
    conversation: &mut Conversation,
    output: Output<'_>,
) -> Result<(), S::Error> {
    let mut say = |said: Said<'_>, at: Timestamp| sink.take(ends, at, Told::Said(said));
    match output {
        Output::Bytes { side, at_us, bytes } => {
            conversation.take(side, bytes, timestamp(at_us), analyzer, &mut say)
        }
        Output::End { side, at_us } => conversation.end(side, timestamp(at_us), &mut say),
        Output::Gap(gap) => {
            let at = timestamp(gap.at_us);
            conversation.interrupt(at, &mut say)?;
            sink.take(ends, at, Told::Gap(gap))
        }
        Output::Conflict { side, at_us, bytes } => {
            sink.take(ends, timestamp(at_us), Told::Conflict { side, bytes })
        }
    }
}

/// A time of a capture: its own clock is the only one that it has.
fn timestamp(unix_us: i64) -> Timestamp {
    let mono_ns = u64::try_from(unix_us).unwrap_or(0).saturating_mul(1_000);
    Timestamp { unix_us, mono_ns }
}
