//! Where messages begin and end on one side of an HTTP/1.1 connection (RFC 9112 §6, §7.1): heads come whole, bodies as
//! they come.
//!
//! This repairs nothing: from what has more than one reading to the connection's end all is unreadable.

use std::collections::VecDeque;

use types::limits::HTTP_HEAD_BYTES_MAX;

use super::head::{self, Seen};

/// A part of what one side says; put together, all parts are all that it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A message's head, its empty line among it; an answer's may be of the kind that another one follows (1xx).
    Head(&'a [u8]),
    /// Bytes of its content.
    Content(&'a [u8]),
    /// What stands around chunks of its content.
    Framing(&'a [u8]),
    /// The fields behind the last chunk, with their empty line.
    Trailers(&'a [u8]),
    /// The message is over; holds no bytes.
    End,
    /// What can't be read.
    Unreadable(&'a [u8]),
}

/// Takes one side's messages apart, wherever their bytes are cut.
#[derive(Debug)]
pub struct Messages {
    state: State,
    /// Of a head, a size or trailers whose end has not come: at most [`HELD_BYTES_MAX`].
    held: Vec<u8>,
    /// Of answers: whether each of those to come is to a HEAD.
    answers: Option<VecDeque<bool>>,
}

/// The largest head that is taken, and what the driver's library reads with it.
const HELD_BYTES_MAX: usize = 2 * HTTP_HEAD_BYTES_MAX;

/// What is kept of the buffer between heads.
const KEPT_BYTES: usize = 1024;

/// The line of a chunk's size, its extensions among it: what the library takes of the latter.
const SIZE_BYTES_MAX: usize = 16 * 1024;

/// Finds where a section ends.
type FindEnd = fn(&[u8]) -> Option<usize>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// So much of the content is to come.
    Content(u64),
    Size,
    Chunk(u64),
    /// The line's end behind a chunk.
    ChunkEnd,
    Trailers,
    /// The content is all that comes.
    ToEnd,
    Unreadable,
}

impl Messages {
    /// Requests, from a connection's first byte on.
    pub fn requests() -> Self {
        Self { state: State::Head, held: Vec::new(), answers: None }
    }

    /// Answers, from a connection's first byte on; each is told of by [`Messages::answer_to`] first.
    pub fn answers() -> Self {
        Self { answers: Some(VecDeque::new()), ..Self::requests() }
    }

    /// Says of the next answer that is not told yet whether it is to a HEAD, whose answer has no content.
    pub fn answer_to(&mut self, is_head: bool) {
        if let Some(answers) = &mut self.answers {
            answers.push_back(is_head);
        }
    }

    /// Takes bytes; calls `each` with the parts that are there by then.
    pub fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Part<'_>)) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.section(bytes, (end_of_head, HELD_BYTES_MAX), each),
                State::Size => self.section(bytes, (end_of_line, SIZE_BYTES_MAX), each),
                State::ChunkEnd => self.section(bytes, (end_of_line, 2), each),
                State::Trailers => self.section(bytes, (end_of_trailers, HELD_BYTES_MAX), each),
                State::Content(left) | State::Chunk(left) => self.content(bytes, left, each),
                State::ToEnd => {
                    each(Part::Content(bytes));
                    &[]
                }
                State::Unreadable => {
                    each(Part::Unreadable(bytes));
                    &[]
                }
            };
        }
    }

    /// Takes the connection's end: what is not whole by now never will be.
    pub fn finish(&mut self, each: &mut dyn FnMut(Part<'_>)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            each(Part::Unreadable(&held));
        } else if self.state == State::ToEnd {
            each(Part::End);
        }
        self.state = State::Unreadable;
    }

    fn content<'b>(
        &mut self,
        bytes: &'b [u8],
        left: u64,
        each: &mut dyn FnMut(Part<'_>),
    ) -> &'b [u8] {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (now, rest) = bytes.split_at(count);
        let left = left - count as u64;
        each(Part::Content(now));
        self.state = match (self.state, left) {
            (State::Chunk(_), 0) => State::ChunkEnd,
            (State::Chunk(_), left) => State::Chunk(left),
            (_, 0) => {
                each(Part::End);
                State::Head
            }
            (_, left) => State::Content(left),
        };
        rest
    }

    /// Takes what `bytes` have of a section that has to be whole; answers what follows it.
    fn section<'b>(
        &mut self,
        bytes: &'b [u8],
        (end, most): (FindEnd, usize),
        each: &mut dyn FnMut(Part<'_>),
    ) -> &'b [u8] {
        if self.held.is_empty()
            && let Some(end) = end(bytes).filter(|end| *end <= most)
        {
            let (section, rest) = bytes.split_at(end);
            self.take(section, each);
            return rest;
        }
        let before = self.held.len();
        let (now, later) = bytes.split_at(most.saturating_sub(before).min(bytes.len()));
        self.held.extend_from_slice(now);
        // Its end begins in what was held already at most with its last bytes.
        let from = before.saturating_sub(3);
        let end: FindEnd =
            if self.state == State::Trailers && before >= 2 { end_of_head } else { end };
        let found = end(self.held.get(from..).unwrap_or_default()).map(|end| from + end);
        let mut held = std::mem::take(&mut self.held);
        match found {
            Some(end) => {
                self.take(held.get(..end).unwrap_or_default(), each);
                held.clear();
                held.shrink_to(KEPT_BYTES);
                self.held = held;
                bytes.get(end - before..).unwrap_or_default()
            }
            None if held.len() >= most => {
                self.state = State::Unreadable;
                each(Part::Unreadable(&held));
                later
            }
            None => {
                self.held = held;
                later
            }
        }
    }

    /// Takes a section that is whole.
    fn take(&mut self, section: &[u8], each: &mut dyn FnMut(Part<'_>)) {
        let state = match self.state {
            State::Head => self.begin(section),
            State::Size => size(section).map(|size| match size {
                0 => State::Trailers,
                size => State::Chunk(size),
            }),
            State::ChunkEnd => (section == b"\r\n").then_some(State::Size),
            State::Trailers => trailers(section).then_some(State::Head),
            State::Content(_) | State::Chunk(_) | State::ToEnd | State::Unreadable => None,
        };
        let Some(state) = state else {
            self.state = State::Unreadable;
            return each(Part::Unreadable(section));
        };
        each(match self.state {
            State::Head => Part::Head(section),
            State::Trailers => Part::Trailers(section),
            _ => Part::Framing(section),
        });
        let ends = match self.state {
            // An answer of the kind that another one follows is not the answer.
            State::Head => state == State::Head && !is_interim(section),
            State::Trailers => true,
            _ => false,
        };
        if ends {
            each(Part::End);
        }
        self.state = state;
    }

    /// What follows a head; none where it can't be read.
    fn begin(&mut self, head: &[u8]) -> Option<State> {
        let mut lines = head::lines(head).ok()?;
        let first = lines.next()?;
        let mut seen = Seen::default();
        for line in lines {
            seen.field(line).ok()?;
        }
        let length = seen.framed().ok()?;
        let has_content = match &mut self.answers {
            None => is_request_line(first),
            Some(answers) => {
                let status = head::status(head)?;
                match status {
                    // The protocol becomes another one.
                    101 => return None,
                    100..=199 => return Some(State::Head),
                    _ => {}
                }
                let is_to_head = answers.pop_front().unwrap_or(false);
                if is_to_head || matches!(status, 204 | 304) {
                    return Some(State::Head);
                }
                true
            }
        };
        Some(match length {
            _ if !has_content => return None,
            head::Length::Chunked => State::Size,
            head::Length::Bytes(0) => State::Head,
            head::Length::Bytes(count) => State::Content(count),
            head::Length::Unsaid if self.answers.is_some() => State::ToEnd,
            head::Length::Unsaid => State::Head,
        })
    }
}

/// `METHOD SP target SP HTTP/1.x`; what its target is, is of no concern here.
fn is_request_line(line: &[u8]) -> bool {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    !method.is_empty() && !target.is_empty() && matches!(version, b"HTTP/1.1" | b"HTTP/1.0")
}

fn is_interim(head: &[u8]) -> bool {
    matches!(head::status(head), Some(100..=199))
}

/// The size that a chunk's line says.
fn size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r\n")?;
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let text = std::str::from_utf8(digits).ok()?;
    let is_good = (1..=16).contains(&text.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(text, 16).ok().filter(|_| is_good && !line.contains(&b'\n'))
}

/// Whether what stands behind the last chunk is fields.
fn trailers(section: &[u8]) -> bool {
    section == b"\r\n"
        || head::lines(section).is_ok_and(|mut lines| lines.all(|line| head::field(line).is_ok()))
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

fn end_of_line(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes).map(|at| at + 1)
}

fn end_of_trailers(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") { Some(2) } else { end_of_head(bytes) }
}
