//! Which sessions and commands are open, and where in the current segment their frames are: what
//! has to be carried into the next one.

use std::collections::BTreeMap;

use types::event::Status;
use types::id::{CommandId, SessionId};

use crate::codec::{Cursor, Malformed};
use crate::frame::{FrameKind, Header};
use crate::kind;
use crate::record::Totals;

/// Open sessions by id. Each costs about 100 B, each open command about 24 B: bodies stay on disk.
pub(crate) type Live = BTreeMap<SessionId, LiveSession>;

/// An open session.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveSession {
    /// Where its SessionOpen's body is.
    pub(crate) body: Place,
    /// Where the bodies of its later identities are, by number: the latest, and those that came while
    /// commands were open, which may be of them.
    pub(crate) identities: BTreeMap<u32, Place>,
    /// What its ended commands come to.
    pub(crate) totals: Totals,
    /// Where the bodies of its open commands are.
    pub(crate) commands: BTreeMap<CommandId, Place>,
}

/// Where a body is in the current segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// From the file's start.
    pub(crate) offset: u64,
    /// Its length.
    pub(crate) bytes: usize,
}

/// Takes note of a frame whose body is at `place`.
pub(crate) fn note(
    live: &mut Live,
    header: &Header,
    body: &[u8],
    place: Place,
) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(body);
    match header.kind {
        FrameKind::Segment | FrameKind::Control | FrameKind::Chunk | FrameKind::Seal => {}
        FrameKind::SessionOpen => {
            let session = SessionId::from_bytes(cursor.array()?);
            let totals = if header.carried { carried_totals(body)? } else { Totals::default() };
            let entry = LiveSession { body: place, totals, ..LiveSession::default() };
            live.insert(session, entry);
        }
        FrameKind::Identity => {
            let session = SessionId::from_bytes(cursor.array()?);
            let number = cursor.u32()?;
            let entry = live.get_mut(&session).ok_or(Malformed("session is not open"))?;
            // Carried ones come before the commands that are of them.
            if entry.commands.is_empty() && !header.carried {
                entry.identities.clear();
            }
            entry.identities.insert(number, place);
        }
        FrameKind::Begin => {
            let session = SessionId::from_bytes(cursor.array()?);
            let command = CommandId(cursor.u32()?);
            let entry = live.get_mut(&session).ok_or(Malformed("session is not open"))?;
            entry.commands.insert(command, place);
        }
        FrameKind::End => {
            let session = SessionId::from_bytes(cursor.array()?);
            let command = CommandId(cursor.u32()?);
            let entry = live.get_mut(&session).ok_or(Malformed("session is not open"))?;
            entry.commands.remove(&command).ok_or(Malformed("command did not begin"))?;
            add_end(&mut entry.totals, &mut cursor)?;
        }
        FrameKind::SessionClose => {
            let session = SessionId::from_bytes(cursor.array()?);
            live.remove(&session).ok_or(Malformed("session is not open"))?;
        }
    }
    Ok(())
}

/// How many frames carry all that is open.
pub(crate) fn frames(live: &Live) -> u64 {
    live.values()
        .map(|session| 1 + session.identities.len() + session.commands.len())
        .map(|frames| u64::try_from(frames).unwrap_or(u64::MAX))
        .fold(0, u64::saturating_add)
}

/// Bytes of encoded [`Totals`].
pub(crate) const TOTALS_BYTES: usize = 48;

fn carried_totals(body: &[u8]) -> Result<Totals, Malformed> {
    let (_, totals) =
        body.split_last_chunk::<TOTALS_BYTES>().ok_or(Malformed("session without totals"))?;
    crate::decode::totals(&mut Cursor::new(totals))
}

/// Adds an End, read from behind its command id.
fn add_end(totals: &mut Totals, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
    cursor.timestamp()?;
    let status = kind::status(cursor.u8()?)?;
    cursor.opt(Cursor::array::<5>)?;
    let rows = cursor.opt(Cursor::u64)?.unwrap_or(0);
    let bytes_in = cursor.u64()?;
    let bytes_out = cursor.u64()?;
    let mut masked = 0_u64;
    for _ in 0..cursor.u32()? {
        cursor.bytes()?;
        masked = masked.saturating_add(cursor.u64()?);
    }
    totals.add(status == Status::Denied, [rows, bytes_in, bytes_out, masked]);
    Ok(())
}

impl Totals {
    /// Adds one ended command with its rows, bytes in, bytes out and masked values.
    pub(crate) fn add(&mut self, denied: bool, [rows, bytes_in, bytes_out, masked]: [u64; 4]) {
        self.events = self.events.saturating_add(1);
        self.denied = self.denied.saturating_add(u64::from(denied));
        self.rows = self.rows.saturating_add(rows);
        self.bytes_in = self.bytes_in.saturating_add(bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(bytes_out);
        self.masked = self.masked.saturating_add(masked);
    }
}
