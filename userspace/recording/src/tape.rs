//! One session's recording as it is made: entries gather in one buffer, which is sealed into a chunk before
//! anything goes anywhere because of them, or when it is full: commands that come together share one. No allocation for an entry: the one buffer is the session's, and what
//! compresses and seals is the thread's.

use std::cell::RefCell;
use std::io;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey};
use types::clock::Timestamp;
use types::id::{CommandId, SessionId};
use types::limits::{RECORDING_CHUNK_BYTES_MAX, RECORDING_KEPT_BYTES};
use zstd::bulk::Compressor;

use crate::chunk::{self, CHUNKS_MAX};
use crate::entry::{self, HEAD_BYTES, Head, Kind};

/// zstd's own usual level.
const LEVEL: i32 = 3;

thread_local! {
    /// What compresses for all sessions of a thread, about 1.3 MiB at this level, and what it compresses to, 64 KiB.
    static PRESS: RefCell<Press> = RefCell::default();
}

#[derive(Default)]
struct Press {
    compressor: Option<Compressor<'static>>,
    sealed: Vec<u8>,
}

/// One session's recording, being written.
pub struct Tape {
    key: LessSafeKey,
    session: SessionId,
    stream: &'static str,
    next: u32,
    plain: Vec<u8>,
    /// What every chunk's place begins with, and how long that is.
    aad: Vec<u8>,
    aad_session: usize,
    /// Of what waits to be sealed: its first command, when it began and when it ended.
    waiting: Option<(CommandId, Timestamp, Timestamp)>,
    /// Bytes so far from the agent, and to it.
    sent: u64,
    received: u64,
}

/// A chunk that is sealed.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// Which session's key seals it; the key's name.
    pub session: SessionId,
    /// The stream.
    pub stream: &'static str,
    /// Its number.
    pub chunk: u32,
    /// The first command that something in it is of.
    pub command: CommandId,
    /// When its first entry was made.
    pub first_at: Timestamp,
    /// When its last one was.
    pub last_at: Timestamp,
    /// How it is compressed.
    pub codec: &'static str,
    /// Its nonce.
    pub nonce: [u8; 12],
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Why a chunk can't be sealed: the session can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It has as many chunks as there may be.
    #[error("the session has as many chunks as there may be")]
    TooMany,
    /// Nothing could be compressed.
    #[error("a recording can't be compressed")]
    Compression(#[source] io::Error),
    /// Nothing could be encrypted.
    #[error("a recording can't be encrypted")]
    Encryption,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Tape {
    /// A recording under `dek`, which is one session's and nobody else's.
    pub fn new(
        dek: &[u8; 32],
        (node, epoch): (&str, u32),
        session: SessionId,
        stream: &'static str,
    ) -> Self {
        let mut aad = Vec::new();
        chunk::put_session(&mut aad, (node, epoch), session, stream);
        Self {
            key: chunk::key(dek),
            session,
            stream,
            next: 0,
            plain: Vec::new(),
            aad_session: aad.len(),
            aad,
            waiting: None,
            sent: 0,
            received: 0,
        }
    }

    /// Chunks so far.
    pub fn chunks(&self) -> u32 {
        self.next
    }

    /// Takes as much of `bytes` as the chunk at hand has room for; answers the rest, which is to be put again once that
    /// is sealed. `offset` is where `bytes` stands in what it is a part of; on the wire, the tape counts itself.
    pub fn put<'b>(
        &mut self,
        (kind, command): (Kind, CommandId),
        at: Timestamp,
        offset: u64,
        bytes: &'b [u8],
    ) -> &'b [u8] {
        let room = RECORDING_CHUNK_BYTES_MAX.saturating_sub(self.plain.len() + HEAD_BYTES);
        if room == 0 {
            return bytes;
        }
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        let taken = now.len() as u64;
        let offset = match kind {
            Kind::Sent => self.sent,
            Kind::Received => self.received,
            Kind::Statement
            | Kind::Parameters
            | Kind::Answer
            | Kind::Gap
            | Kind::End
            | Kind::CommandLine => offset,
        };
        self.skip(kind, taken);
        let head = Head { kind, goes_on: !later.is_empty(), command, at_us: at.unix_us, offset };
        entry::put(&mut self.plain, head, now);
        let (first, began) = self.waiting.map_or((command, at), |(first, began, _)| (first, began));
        self.waiting = Some((first, began, at));
        later
    }

    /// Whether nothing waits to be sealed.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Whether the chunk at hand takes nothing more.
    pub fn is_full(&self) -> bool {
        self.plain.len() + HEAD_BYTES >= RECORDING_CHUNK_BYTES_MAX
    }

    /// Counts bytes of the wire, those that are not kept among them.
    pub fn skip(&mut self, kind: Kind, bytes: u64) {
        match kind {
            Kind::Sent => self.sent += bytes,
            Kind::Received => self.received += bytes,
            Kind::Statement
            | Kind::Parameters
            | Kind::Answer
            | Kind::Gap
            | Kind::End
            | Kind::CommandLine => {}
        }
    }

    /// Seals what was put since the last chunk, and gives it to `take`; answers nothing where nothing was put. It is gone
    /// from here then.
    pub fn seal<T>(&mut self, take: impl FnOnce(Sealed<'_>) -> T) -> Result<Option<T>, SealError> {
        let Some((command, first_at, last_at)) = self.waiting.take() else { return Ok(None) };
        let chunk = self.next;
        if chunk >= CHUNKS_MAX {
            return Err(SealError::TooMany);
        }
        // Whatever happens now, the number is used.
        self.next += 1;
        PRESS.with_borrow_mut(|press| {
            let codec = press.press(&self.plain).map_err(SealError::Compression)?;
            self.plain.clear();
            self.plain.shrink_to(RECORDING_KEPT_BYTES);
            self.aad.truncate(self.aad_session);
            chunk::put_chunk(&mut self.aad, chunk, codec);
            chunk::seal(&self.key, chunk, &self.aad, &mut press.sealed)
                .map_err(|_| SealError::Encryption)?;
            Ok(Some(take(Sealed {
                session: self.session,
                stream: self.stream,
                chunk,
                command,
                first_at,
                last_at,
                codec,
                nonce: chunk::nonce(chunk),
                bytes: &press.sealed,
            })))
        })
    }
}

impl Press {
    /// Leaves `plain` in `sealed`, compressed where that is shorter.
    fn press(&mut self, plain: &[u8]) -> io::Result<&'static str> {
        let Self { compressor, sealed } = self;
        let compressor = match compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(LEVEL)?),
        };
        sealed.clear();
        sealed.reserve(zstd::zstd_safe::compress_bound(plain.len()) + AES_256_GCM.tag_len());
        if compressor.compress_to_buffer(plain, sealed)? < plain.len() {
            return Ok(chunk::ZSTD);
        }
        sealed.clear();
        sealed.extend_from_slice(plain);
        Ok(chunk::RAW)
    }
}

#[cfg(test)]
mod tests;
