//! One direction of a connection: its bytes in their order, whatever order they were captured in.
//!
//! What was seen first stands; what comes again is held against it, and bytes that differ are counted. What never comes
//! is a gap, and whoever drives this says when to go on behind it.

use std::collections::{BTreeMap, VecDeque};

use crate::limit::HISTORY_BYTES;

/// One direction.
#[derive(Debug, Default)]
pub struct Stream {
    /// The sequence number of its first byte.
    first: Option<u32>,
    /// Bytes that were taken or skipped.
    delivered: u64,
    /// What waits, by its place; pieces do not overlap.
    pending: BTreeMap<u64, Piece>,
    pending_bytes: usize,
    /// How long it is, once its end was seen.
    end: Option<u64>,
    /// The last bytes that were taken, as far as they are kept.
    history: VecDeque<u8>,
}

/// What lies somewhere in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// When it was captured, microseconds since 1970 UTC.
    pub at_us: i64,
    /// How far its sender had the other direction, where that is known.
    pub heard: Option<u64>,
    /// What it is.
    pub content: Content,
}

/// What a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many that the capture does not have.
    Missing(u64),
}

impl Piece {
    fn len(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Missing(count) => *count,
        }
    }
}

/// What was known already of what was put in, in bytes.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The same as before.
    pub same: u64,
    /// Other than before: what was seen first stands.
    pub differing: u64,
    /// Taken so long ago, or missing, that it can't be said.
    pub uncompared: u64,
}

impl Stream {
    /// Says which sequence number its first byte has; what was said first stands.
    pub fn begin(&mut self, number: u32) {
        self.first.get_or_insert(number);
    }

    /// Whether that is known.
    pub fn is_begun(&self) -> bool {
        self.first.is_some()
    }

    /// The place that a sequence number means, the nearest to what is due; negative before the first byte.
    pub fn place(&self, number: u32) -> Option<i64> {
        let due = i64::try_from(self.delivered).unwrap_or(i64::MAX);
        // Sequence numbers wrap (RFC 9293 §3.4): the difference counts, as a signed number.
        let due_number = self.first?.wrapping_add(wrapped(self.delivered));
        let difference = number.wrapping_sub(due_number).cast_signed();
        Some(due.saturating_add(i64::from(difference)))
    }

    /// Bytes that were taken or skipped: the place of what is due.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes that wait.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Pieces that wait.
    pub fn pending_pieces(&self) -> usize {
        self.pending.len()
    }

    /// Where it ends, once that is known.
    pub fn end(&self) -> Option<u64> {
        self.end
    }

    /// Says where it ends; what was said first stands.
    pub fn finish(&mut self, end: u64) {
        self.end.get_or_insert(end.max(self.delivered));
    }

    /// Puts bytes in at a place, behind which so many are missing.
    pub fn insert(
        &mut self,
        place: i64,
        (bytes, missing): (&[u8], usize),
        at_us: i64,
        heard: Option<u64>,
    ) -> Known {
        let before = usize::try_from(place.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let bytes = bytes.get(before.min(bytes.len())..).unwrap_or_default();
        let place = u64::try_from(place).unwrap_or(0);
        let mut known = Known::default();
        let piece = Piece { at_us, heard, content: Content::Bytes(Vec::new()) };
        self.put(place, Some(bytes), bytes.len() as u64, &piece, &mut known);
        if missing > 0 {
            self.put(place + bytes.len() as u64, None, missing as u64, &piece, &mut known);
        }
        known
    }

    /// Puts what is new of a range in; `bytes` are absent where it is missing.
    fn put(
        &mut self,
        start: u64,
        bytes: Option<&[u8]>,
        length: u64,
        like: &Piece,
        known: &mut Known,
    ) {
        let end = start.saturating_add(length);
        if let Some(bytes) = bytes {
            self.hold_against_history(start, bytes, known);
        }
        let mut at = start.max(self.delivered);
        // The last that begins before the end, and those before it as far as they reach in.
        let mut within: Vec<u64> = self
            .pending
            .range(..end)
            .rev()
            .take_while(|(place, piece)| **place + piece.len() > at)
            .map(|(place, _)| *place)
            .collect();
        within.reverse();
        for place in within {
            self.fill(at, place.min(end), start, bytes, like);
            let Some(piece) = self.pending.get(&place) else { continue };
            let (from, to) = (at.max(place), end.min(place + piece.len()));
            match (&piece.content, bytes) {
                (Content::Bytes(first), Some(bytes)) => {
                    compare(range(first, place, from, to), range(bytes, start, from, to), known);
                }
                (Content::Missing(_), Some(_)) => known.uncompared += to.saturating_sub(from),
                (_, None) => {}
            }
            at = at.max(to);
        }
        self.fill(at, end, start, bytes, like);
    }

    /// Keeps a part of a range of which nothing is there.
    fn fill(&mut self, from: u64, to: u64, start: u64, bytes: Option<&[u8]>, like: &Piece) {
        if from >= to {
            return;
        }
        let content = match bytes {
            Some(bytes) => {
                let part = range(bytes, start, from, to);
                self.pending_bytes += part.len();
                Content::Bytes(part.to_vec())
            }
            None => Content::Missing(to - from),
        };
        self.pending.insert(from, Piece { content, ..like.clone() });
    }

    fn hold_against_history(&self, start: u64, bytes: &[u8], known: &mut Known) {
        let oldest = self.delivered - self.history.len() as u64;
        let end = (start + bytes.len() as u64).min(self.delivered);
        if start >= end {
            return;
        }
        known.uncompared += oldest.min(end).saturating_sub(start);
        let from = start.max(oldest);
        let again = range(bytes, start, from, end);
        let skipped = usize::try_from(from.saturating_sub(oldest)).unwrap_or(usize::MAX);
        for (first, again) in self.history.iter().skip(skipped).zip(again) {
            count(first == again, known);
        }
    }

    /// What is due, where it is there.
    pub fn head(&self) -> Option<&Piece> {
        self.pending.get(&self.delivered)
    }

    /// Takes what is due, where it is there.
    pub fn take(&mut self) -> Option<Piece> {
        let piece = self.pending.remove(&self.delivered)?;
        self.delivered += piece.len();
        match &piece.content {
            Content::Bytes(bytes) => {
                self.pending_bytes -= bytes.len();
                self.history.extend(bytes.iter().rev().take(HISTORY_BYTES).rev());
                let excess = self.history.len().saturating_sub(HISTORY_BYTES);
                self.history.drain(..excess);
            }
            Content::Missing(_) => self.history = VecDeque::new(),
        }
        Some(piece)
    }

    /// Where that goes on which is missing now, if it is known that something follows: a piece, the end, or what the
    /// other side has `acknowledged`.
    pub fn hole_end(&self, acknowledged: u64) -> Option<u64> {
        let piece = self.pending.keys().next().copied();
        let known = [piece, self.end, Some(acknowledged)].into_iter().flatten();
        known.filter(|place| *place > self.delivered).min()
    }

    /// Goes on behind a hole; answers how many bytes are missing.
    pub fn skip_to(&mut self, place: u64) -> u64 {
        let missing = place.saturating_sub(self.delivered);
        self.delivered += missing;
        self.history = VecDeque::new();
        missing
    }

    /// Drops what it holds.
    pub fn clear(&mut self) {
        self.pending = BTreeMap::new();
        self.pending_bytes = 0;
        self.history = VecDeque::new();
    }
}

/// The low 32 bits.
fn wrapped(place: u64) -> u32 {
    u32::try_from(place & u64::from(u32::MAX)).unwrap_or(0)
}

/// Of bytes that begin at `start`, those from `from` to `to`.
fn range(bytes: &[u8], start: u64, from: u64, to: u64) -> &[u8] {
    let at = |place: u64| usize::try_from(place.saturating_sub(start)).unwrap_or(usize::MAX);
    bytes.get(at(from)..at(to).min(bytes.len())).unwrap_or_default()
}

fn compare(first: &[u8], again: &[u8], known: &mut Known) {
    for (first, again) in first.iter().zip(again) {
        count(first == again, known);
    }
}

fn count(is_same: bool, known: &mut Known) {
    if is_same {
        known.same += 1;
    } else {
        known.differing += 1;
    }
}
