//! Both directions of a connection, in an order in which they can have happened.
//!
//! What a side sent is given on only once all that it had heard is: an answer never comes before its question, however
//! packets were captured.

use std::net::SocketAddr;

use types::addr::Side;

use crate::limit::{GAP_SEGMENTS, PENDING_BYTES_MAX, PENDING_PIECES_MAX};
use crate::segment::Segment;
use crate::stream::{Content, Piece, Stream};

/// What comes of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// The next bytes of a direction.
    Bytes {
        /// Who sent them.
        side: Side,
        /// When, microseconds since 1970 UTC.
        at_us: i64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Bytes of a direction are not in the capture.
    Gap(Gap),
    /// What was sent again was other than before.
    Conflict {
        /// Who sent it.
        side: Side,
        /// When it was captured.
        at_us: i64,
        /// How many bytes differ.
        bytes: u64,
    },
    /// A direction's last byte was given on.
    End {
        /// Whose.
        side: Side,
        /// When.
        at_us: i64,
    },
}

/// Bytes that are not in the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Who sent them.
    pub side: Side,
    /// When it was given up to wait for them, microseconds since 1970 UTC.
    pub at_us: i64,
    /// The place of the first in its direction.
    pub place: u64,
    /// How many.
    pub bytes: u64,
    /// Why they are missing.
    pub why: Why,
}

/// Why bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Packets were cut when they were captured (snapshot length).
    Snaplen,
    /// They came to their receiver, which acknowledged them, and not into the capture.
    NotCaptured,
    /// The connection or the capture ended before they came.
    Ended,
    /// More waited behind them than is held.
    TooMuchWaits,
}

impl Why {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snaplen => "snaplen",
            Self::NotCaptured => "not_captured",
            Self::Ended => "ended",
            Self::TooMuchWaits => "too_much_waits",
        }
    }
}

/// A connection between a client and a server.
#[derive(Debug)]
pub struct Connection {
    client: SocketAddr,
    server: SocketAddr,
    down: Direction,
    up: Direction,
    /// Its beginning is in the capture.
    is_whole: bool,
    /// The client's first number, by which another connection between the same ends is told apart.
    opening: Option<u32>,
    is_reset: bool,
    /// Of its latest segment.
    at_us: i64,
}

#[derive(Debug, Default)]
struct Direction {
    stream: Stream,
    /// How far its receiver says it has it.
    acknowledged: u64,
    /// Segments of the connection since something that was acknowledged is missing.
    waits: u32,
    has_ended: bool,
}

impl Direction {
    /// How far bytes go by an acknowledgement: the end of a direction has a number of its own (RFC 9293 §3.4).
    fn sent(&self, acknowledged: u64) -> u64 {
        acknowledged.min(self.stream.end().unwrap_or(u64::MAX))
    }
}

impl Connection {
    /// The connection that a segment is of, with nothing of it taken yet. Where its beginning is not in the capture, the
    /// end with the higher port is taken for the client.
    pub fn new(segment: &Segment<'_>) -> Self {
        let Segment { from, to, syn, ack, .. } = *segment;
        let is_of_client = match (syn, ack) {
            (true, None) => true,
            (true, Some(_)) => false,
            (false, _) => from.port() > to.port(),
        };
        let (client, server) = if is_of_client { (from, to) } else { (to, from) };
        Self {
            client,
            server,
            down: Direction::default(),
            up: Direction::default(),
            is_whole: syn,
            opening: None,
            is_reset: false,
            at_us: segment.at_us,
        }
    }

    /// Whose it is.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Where it goes.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Whether its beginning is in the capture.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// When its latest segment was captured, microseconds since 1970 UTC.
    pub fn at_us(&self) -> i64 {
        self.at_us
    }

    /// Whether nothing more comes: both directions ended, or one side broke it off.
    pub fn is_over(&self) -> bool {
        self.is_reset || (self.down.has_ended && self.up.has_ended)
    }

    /// Whether it was broken off.
    pub fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// Bytes that wait.
    pub fn pending_bytes(&self) -> usize {
        self.down.stream.pending_bytes() + self.up.stream.pending_bytes()
    }

    /// Whether a segment begins another connection between the same ends.
    pub fn is_followed_by(&self, segment: &Segment<'_>) -> bool {
        let begins = segment.syn && segment.ack.is_none() && !segment.rst;
        begins && (self.is_over() || self.opening != Some(segment.seq))
    }

    /// Takes a segment.
    pub fn take(&mut self, segment: &Segment<'_>, out: &mut dyn FnMut(Output<'_>)) {
        let side = if segment.from == self.client { Side::Downstream } else { Side::Upstream };
        let Segment { at_us, seq, ack, syn, fin, rst, payload, missing, .. } = *segment;
        self.at_us = at_us;
        if syn && side == Side::Downstream {
            self.opening.get_or_insert(seq);
        }
        let (own, other) = self.of(side);
        own.stream.begin(seq.wrapping_add(u32::from(syn)));
        let place = own.stream.place(seq.wrapping_add(u32::from(syn))).unwrap_or(0);
        // Before a side has said anything, what it acknowledges is where the other begins.
        if let Some(ack) = ack
            && place == 0
        {
            other.stream.begin(ack);
        }
        let heard =
            ack.and_then(|ack| other.stream.place(ack)).and_then(|at| u64::try_from(at).ok());
        other.acknowledged = other.acknowledged.max(heard.unwrap_or(0));
        let known = own.stream.insert(place, (payload, missing), at_us, heard);
        if fin {
            let length = i64::try_from(payload.len() + missing).unwrap_or(i64::MAX);
            let end = u64::try_from(place.saturating_add(length)).unwrap_or(0);
            own.stream.finish(end);
        }
        if known.differing > 0 {
            out(Output::Conflict { side, at_us, bytes: known.differing });
        }
        self.settle(out);
        if rst {
            self.is_reset = true;
            self.flush(Why::Ended, out);
        } else {
            self.give_up_waiting(out);
        }
    }

    /// Gives on all that is there, and says what is not; nothing waits after that.
    pub fn flush(&mut self, why: Why, out: &mut dyn FnMut(Output<'_>)) {
        loop {
            self.settle(out);
            if !self.skip_one(why, out) && !self.force(out) {
                break;
            }
        }
        self.down.stream.clear();
        self.up.stream.clear();
    }

    /// Gives on what is in order.
    fn settle(&mut self, out: &mut dyn FnMut(Output<'_>)) {
        loop {
            let mut has_moved = false;
            for side in [Side::Downstream, Side::Upstream] {
                while self.is_due(side) {
                    self.give(side, out);
                    has_moved = true;
                }
            }
            if !has_moved {
                return;
            }
        }
    }

    /// Whether what is next of a side is there, and all that it had heard was given on.
    fn is_due(&mut self, side: Side) -> bool {
        let (own, other) = self.of(side);
        let Some(piece) = own.stream.head() else { return false };
        let is_heard = |heard| other.sent(heard) <= other.stream.delivered();
        !other.stream.is_begun() || piece.heard.is_none_or(is_heard)
    }

    /// Gives on what is next of a side.
    fn give(&mut self, side: Side, out: &mut dyn FnMut(Output<'_>)) {
        let (own, _) = self.of(side);
        let place = own.stream.delivered();
        let Some(Piece { at_us, content, .. }) = own.stream.take() else { return };
        own.waits = 0;
        match content {
            Content::Bytes(bytes) => out(Output::Bytes { side, at_us, bytes: &bytes }),
            Content::Missing(bytes) => {
                out(Output::Gap(Gap { side, at_us, place, bytes, why: Why::Snaplen }));
            }
        }
        self.end(side, at_us, out);
    }

    fn end(&mut self, side: Side, at_us: i64, out: &mut dyn FnMut(Output<'_>)) {
        let (own, _) = self.of(side);
        if own.stream.end() == Some(own.stream.delivered()) && !own.has_ended {
            own.has_ended = true;
            out(Output::End { side, at_us });
        }
    }

    /// Gives up to wait for what does not come any more.
    fn give_up_waiting(&mut self, out: &mut dyn FnMut(Output<'_>)) {
        let at_us = self.at_us;
        for side in [Side::Downstream, Side::Upstream] {
            self.end(side, at_us, out);
            let (own, _) = self.of(side);
            let acknowledged = own.sent(own.acknowledged);
            let is_lost = acknowledged > own.stream.delivered() && own.stream.head().is_none();
            own.waits = if is_lost { own.waits.saturating_add(1) } else { 0 };
            if own.waits > GAP_SEGMENTS {
                self.skip(side, Why::NotCaptured, out);
                self.settle(out);
            }
        }
        while self.holds_too_much() {
            let has_skipped = self.skip_one(Why::TooMuchWaits, out);
            if !has_skipped && !self.force(out) {
                break;
            }
            self.settle(out);
        }
    }

    fn holds_too_much(&self) -> bool {
        [&self.down, &self.up].iter().any(|one| {
            one.stream.pending_bytes() > PENDING_BYTES_MAX
                || one.stream.pending_pieces() > PENDING_PIECES_MAX
        })
    }

    /// Goes on behind the first hole that there is; false where there is none.
    fn skip_one(&mut self, why: Why, out: &mut dyn FnMut(Output<'_>)) -> bool {
        [Side::Downstream, Side::Upstream].into_iter().any(|side| self.skip(side, why, out))
    }

    fn skip(&mut self, side: Side, why: Why, out: &mut dyn FnMut(Output<'_>)) -> bool {
        let at_us = self.at_us;
        let (own, _) = self.of(side);
        if own.stream.head().is_some() {
            return false;
        }
        let acknowledged = own.sent(own.acknowledged);
        let Some(to) = own.stream.hole_end(acknowledged) else { return false };
        let why = if acknowledged >= to { Why::NotCaptured } else { why };
        let place = own.stream.delivered();
        let bytes = own.stream.skip_to(to);
        own.waits = 0;
        out(Output::Gap(Gap { side, at_us, place, bytes, why }));
        self.end(side, at_us, out);
        true
    }

    /// Gives on what is there although each side is to have heard the other first: no such connection can have been, and
    /// what was captured first goes first. False where nothing is there.
    fn force(&mut self, out: &mut dyn FnMut(Output<'_>)) -> bool {
        let at = |one: &Direction| one.stream.head().map(|piece| piece.at_us);
        let side = match (at(&self.down), at(&self.up)) {
            (None, None) => return false,
            (Some(down), Some(up)) if up < down => Side::Upstream,
            (None, Some(_)) => Side::Upstream,
            (Some(_), _) => Side::Downstream,
        };
        self.give(side, out);
        true
    }

    fn of(&mut self, side: Side) -> (&mut Direction, &mut Direction) {
        match side {
            Side::Downstream => (&mut self.down, &mut self.up),
            Side::Upstream => (&mut self.up, &mut self.down),
        }
    }
}
