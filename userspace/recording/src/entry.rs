//! What is in a chunk: entries in the order in which things happened. Each is `kind u8 | flags u8 | command u32 | at i64 |
//! offset u64 | length u32` and so many bytes; integers are big-endian.
//!
//! What is longer than a chunk's rest goes on in the next one: all pieces but the last have the flag 1. `at` is in
//! microseconds since 1970 UTC. `offset` counts the bytes of one direction of the wire, gaps among them, or of the entry's own text.

use serde::{Deserialize, Serialize};
use types::id::CommandId;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request in words: a statement's whole text, a request line with its head. Secrets stand in it as `[secret]`.
    Statement,
    /// The values bound to it, a JSON list.
    Parameters,
    /// The response in words, as the agent saw it, cut where policy says.
    Answer,
    /// Bytes from the agent as they came.
    Sent,
    /// Bytes to the agent as it got them.
    Received,
    /// Bytes of the wire that are not kept: `{"side": "sent" | "received", "bytes": N, "why": …}`; see [`Gap`].
    Gap,
    /// The session ended; why. Nothing comes after it.
    End,
    /// The command line of the process that connected, without secrets.
    CommandLine,
}

impl Kind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Parameters => "parameters",
            Self::Answer => "answer",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Gap => "gap",
            Self::End => "end",
            Self::CommandLine => "command_line",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Statement => 1,
            Self::Parameters => 2,
            Self::Answer => 3,
            Self::Sent => 4,
            Self::Received => 5,
            Self::Gap => 6,
            Self::End => 7,
            Self::CommandLine => 8,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Statement,
            2 => Self::Parameters,
            3 => Self::Answer,
            4 => Self::Sent,
            5 => Self::Received,
            6 => Self::Gap,
            7 => Self::End,
            8 => Self::CommandLine,
            _ => return None,
        })
    }
}

/// An entry's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// More of the same follows.
    pub goes_on: bool,
    /// The command it is of; 0 where it is of none.
    pub command: CommandId,
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Where its first byte stands.
    pub offset: u64,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its head.
    pub head: Head,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What an entry of the kind [`Kind::Gap`] says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Whose bytes are not kept: `sent` or `received`.
    pub side: String,
    /// How many; they stand before what is kept next of that side.
    pub bytes: u64,
    /// Why.
    pub why: String,
}

impl Gap {
    /// What an entry's bytes say; none where they are not written so.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// Bytes of an entry's head.
pub const HEAD_BYTES: usize = 26;

const GOES_ON: u8 = 1;

/// Appends an entry.
pub(crate) fn put(out: &mut Vec<u8>, head: Head, bytes: &[u8]) {
    let Head { kind, goes_on, command, at_us, offset } = head;
    out.push(kind.code());
    out.push(if goes_on { GOES_ON } else { 0 });
    out.extend_from_slice(&command.0.to_be_bytes());
    out.extend_from_slice(&at_us.to_be_bytes());
    out.extend_from_slice(&offset.to_be_bytes());
    let length = u32::try_from(bytes.len()).expect("an entry fits a chunk");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A chunk's content is none that was written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk's content is malformed")]
pub struct Malformed;

/// The entries of an opened chunk, in order.
pub fn read(mut bytes: &[u8]) -> Result<Vec<Entry<'_>>, Malformed> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (entry, rest) = next(bytes).ok_or(Malformed)?;
        entries.push(entry);
        bytes = rest;
    }
    Ok(entries)
}

fn next(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let ([code, flags], rest) = bytes.split_first_chunk::<2>()?;
    let (command, rest) = rest.split_first_chunk::<4>()?;
    let (at_us, rest) = rest.split_first_chunk::<8>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (bytes, rest) = rest.split_at_checked(length)?;
    let goes_on = match *flags {
        0 => false,
        GOES_ON => true,
        _ => return None,
    };
    let head = Head {
        kind: Kind::from_code(*code)?,
        goes_on,
        command: CommandId(u32::from_be_bytes(*command)),
        at_us: i64::from_be_bytes(*at_us),
        offset: u64::from_be_bytes(*offset),
    };
    Some((Entry { head, bytes }, rest))
}
