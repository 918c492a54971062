//! Writes sealed frames to the current segment and begins the next one when it is full.
//!
//! Each segment stands alone: the next one begins with a copy of the frames of every session and
//! command still open.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use types::clock::{Clock, Timestamp};

use crate::disk::{Disk, DiskFile};
use crate::encode::put_totals;
use crate::frame::{CHAIN_BYTES, Chain, FrameKind, HEADER_BYTES, Header, put_frame, seal};
use crate::live::{self, Live, Place, TOTALS_BYTES};
use crate::record::{BootId, Lsn};
use crate::recorder::{Reserve, Seals};
use crate::sealing::{Kept, KeptError, Sealed};
use crate::segment::{self, SegmentHeader};

/// What every segment of one writer has in common.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) dir: PathBuf,
    pub(crate) node: String,
    pub(crate) epoch: u32,
    pub(crate) boot_id: BootId,
    pub(crate) segment_bytes: u64,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) seals: Option<Seals>,
    /// Held for as long as something is written, so that no second one writes.
    pub(crate) lock: Option<Arc<File>>,
}

/// What is left of a writer whose disk refused: no file is held, so that the file system can be unmounted,
/// repaired and mounted again.
pub(crate) struct Rest {
    /// Without its lock.
    pub(crate) log: Log,
    /// The segment it wrote to, and how much of that is durable.
    pub(crate) first_lsn: Lsn,
    pub(crate) offset: u64,
    /// The frame behind the last durable one, and the chain there.
    pub(crate) durable: (Lsn, Chain),
}

/// Where a journal ends.
pub(crate) struct Position {
    pub(crate) next_lsn: Lsn,
    pub(crate) next_seq: u64,
    pub(crate) chain: Chain,
    pub(crate) live: Live,
    /// The segment that `live` points into; `None` for a new journal.
    pub(crate) file: Option<Box<dyn DiskFile>>,
}

/// The current segment.
pub(crate) struct Writer {
    log: Log,
    file: Box<dyn DiskFile>,
    first_lsn: Lsn,
    /// Where the next frame goes.
    offset: u64,
    /// Where the header and the carried frames end.
    carried_end: u64,
    /// Up to where the file's blocks were written, be it with zeros.
    written_end: u64,
    next_lsn: Lsn,
    next_seq: u64,
    chain: Chain,
    live: Live,
    /// The frame behind the last durable one, and the chain there.
    durable: (Lsn, Chain),
    sealer: Option<Sealer>,
}

/// What seals.
struct Sealer {
    kept: Kept,
    /// When the last seal was made, monotonic; `None` before the first, which is due whenever the machine was started.
    last_ns: Option<u64>,
    interval_ns: u64,
    /// The first frame that no seal covers.
    from: Lsn,
}

/// What one commit wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// Why a commit failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// The system refused.
    #[error("cannot {what} the journal: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The buffer does not hold whole frames; a defect of the recorder.
    #[error("commit buffer is damaged")]
    Buffer,
}

impl Writer {
    /// Begins a new segment where the journal ends.
    pub(crate) fn begin(log: Log, end: Position, clock: &dyn Clock) -> io::Result<Self> {
        let Position { next_lsn, next_seq, mut chain, mut live, file } = end;
        let header = SegmentHeader {
            node: log.node.clone(),
            epoch: log.epoch,
            boot_id: log.boot_id,
            at: clock.now(),
            first_lsn: next_lsn,
            first_seq: next_seq,
            previous_chain: chain,
            carried: live::frames(&live),
        };
        let mut head = Vec::new();
        put_sealed(&mut head, FrameKind::Segment, (next_lsn, next_seq), &mut chain, |out| {
            header.put(out);
        })?;
        if let Some(old) = &file {
            carry(&mut head, &**old, &mut live, (next_lsn, next_seq), &mut chain)?;
        }
        let file = segment::create(&*log.disk, &log.dir, next_lsn, log.segment_bytes, &head)?;
        let carried_end = u64::try_from(head.len()).map_err(io::Error::other)?;
        let sealer = log.seals.as_ref().map(|seals| Sealer::open(&*log.disk, seals, next_lsn));
        let sealer = sealer.transpose().map_err(io::Error::other)?;
        Ok(Self {
            log,
            file,
            first_lsn: next_lsn,
            offset: carried_end,
            carried_end,
            written_end: carried_end,
            next_lsn,
            next_seq,
            chain,
            live,
            // As recovery has it of a segment without a frame of its own.
            durable: (next_lsn, header.previous_chain),
            sealer,
        })
    }

    /// The next seal's number, and the last frame that one covers since this was opened; none where nothing is sealed.
    pub(crate) fn seals(&self) -> Option<(u64, Lsn)> {
        let sealer = self.sealer.as_ref()?;
        Some((sealer.kept.next, Lsn(sealer.from.0.saturating_sub(1))))
    }

    /// Seals what was committed, where a seal is due, or at the end is not there.
    pub(crate) fn seal_alone(
        &mut self,
        clock: &dyn Clock,
        at_the_end: bool,
    ) -> Result<(), CommitError> {
        let Some(sealer) = &self.sealer else { return Ok(()) };
        let is_covered = sealer.from == self.next_lsn || self.next_lsn == self.first_lsn;
        if is_covered || !(at_the_end || sealer.is_due(clock.now())) {
            return Ok(());
        }
        self.write(&[], clock, true)
    }

    /// Lets go of everything but where it stood.
    pub(crate) fn let_go(self) -> Rest {
        let Self { mut log, first_lsn, offset, durable, .. } = self;
        log.lock = None;
        Rest { log, first_lsn, offset, durable }
    }

    /// Seals and writes the frames in `batch` and makes them durable.
    pub(crate) fn commit(
        &mut self,
        batch: &mut [u8],
        clock: &dyn Clock,
    ) -> Result<Committed, CommitError> {
        let mut written = Committed { frames: 0, bytes: 0 };
        let mut group = true;
        let mut rest = batch;
        while !rest.is_empty() {
            // As many whole frames as fit this segment, at least one.
            let mut fits = 0;
            while let Some(bytes) = frame_bytes(rest.get(fits..).unwrap_or_default()) {
                if self.is_full(fits, bytes) {
                    break;
                }
                let frame = rest.get_mut(fits..fits + bytes).ok_or(CommitError::Buffer)?;
                self.seal(frame, group, fits).ok_or(CommitError::Buffer)?;
                group = false;
                fits += bytes;
                written.frames += 1;
            }
            let (now, later) = rest.split_at_mut(fits);
            self.write(now, clock, false)?;
            written.bytes += u64::try_from(fits).unwrap_or(0);
            rest = later;
            if !rest.is_empty() {
                if frame_bytes(rest).is_none() {
                    return Err(CommitError::Buffer);
                }
                self.rotate(clock).map_err(io_error("rotate"))?;
                group = true;
            }
        }
        Ok(written)
    }

    /// Free bytes of the file system, and how many must stay free.
    pub(crate) fn space(&self, reserve: Reserve) -> Result<(u64, u64), CommitError> {
        let (free, total) = self.file.space().map_err(io_error("measure"))?;
        let share = total / 100 * u64::from(reserve.percent.min(100));
        Ok((free, share.saturating_add(reserve.bytes)))
    }

    /// The next frame's place.
    pub(crate) fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// The next row's sequence number.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The current segment's first place.
    pub(crate) fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    /// This boot.
    pub(crate) fn boot_id(&self) -> BootId {
        self.log.boot_id
    }

    /// What is open.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Whether a frame of `bytes` belongs into the next segment. A segment takes ordinary frames
    /// of at least half its size, however much was carried into it, so that carrying at most
    /// doubles what is written while what is open fits a segment.
    fn is_full(&self, ahead: usize, bytes: usize) -> bool {
        let at = self.offset.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX));
        let end = at.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let limit =
            self.log.segment_bytes.max(self.carried_end.saturating_add(self.log.segment_bytes / 2));
        end > limit && at > self.carried_end
    }

    fn seal(&mut self, frame: &mut [u8], group: bool, ahead: usize) -> Option<()> {
        seal(frame, group, &mut self.chain)?;
        let (header, rest) = frame.split_first_chunk::<HEADER_BYTES>()?;
        let (body, _) = rest.split_last_chunk::<CHAIN_BYTES>()?;
        let header = Header::parse(header)?;
        let offset = self.offset + u64::try_from(ahead + HEADER_BYTES).ok()?;
        let place = Place { offset, bytes: header.body_bytes };
        live::note(&mut self.live, &header, body, place).ok()?;
        self.next_lsn = Lsn(self.next_lsn.0 + 1);
        self.next_seq += header.rows();
        Some(())
    }

    /// Writes whole frames, and a seal behind them where one is due or `sealed` says so, and makes them durable.
    fn write(&mut self, frames: &[u8], clock: &dyn Clock, sealed: bool) -> Result<(), CommitError> {
        let due = match &self.sealer {
            // A segment without a frame of its own is written anew by a start.
            Some(sealer) if self.next_lsn > self.first_lsn => {
                Some(clock.now()).filter(|now| sealed || sealer.is_due(*now))
            }
            _ => None,
        };
        let seal = due.map(|now| self.put_seal(now, frames.is_empty())).transpose()?;
        let seal = seal.as_deref().unwrap_or_default();
        let seal_at = self.offset + u64::try_from(frames.len()).unwrap_or(0);
        let end = seal_at + u64::try_from(seal.len()).unwrap_or(0);
        if end <= self.written_end {
            let written = self.file.write_durable([frames, seal], self.offset);
            written.map_err(io_error("write"))?;
        } else {
            self.file.write_all_at(frames, self.offset).map_err(io_error("write"))?;
            self.file.write_all_at(seal, seal_at).map_err(io_error("write"))?;
            self.zero_ahead(end).map_err(io_error("write"))?;
            self.file.sync_data().map_err(io_error("sync"))?;
        }
        self.offset = end;
        self.durable = (self.next_lsn, self.chain);
        if let (Some(sealer), Some(now)) = (&mut self.sealer, due) {
            // Where this fails the seal is found durable, and its key given up, when the disk works again.
            sealer.kept.advance().map_err(io_error("give up the key of a seal of"))?;
            (sealer.last_ns, sealer.from) = (Some(now.mono_ns), self.next_lsn);
        }
        Ok(())
    }

    /// A seal over all frames so far, as a frame; the first of its commit where it is `alone`.
    fn put_seal(&mut self, now: Timestamp, alone: bool) -> Result<Vec<u8>, CommitError> {
        let sealer = self.sealer.as_ref().ok_or(CommitError::Buffer)?;
        let sealed = Sealed {
            id: sealer.kept.id,
            index: sealer.kept.next,
            at_us: now.unix_us,
            lsn: self.next_lsn,
            seq: self.next_seq,
            chain: self.chain,
        };
        let mut frame = Vec::new();
        let place = (self.next_lsn, self.next_seq);
        put_frame(&mut frame, FrameKind::Seal, false, place, |out| {
            sealed.put(out, &sealer.kept.secret);
        })
        .map_err(|_| CommitError::Buffer)?;
        seal(&mut frame, alone, &mut self.chain).ok_or(CommitError::Buffer)?;
        Ok(frame)
    }

    /// Writes zeros behind `end`, once in a while: a sync of blocks that were written before has
    /// nothing to say of the inode, which saves one of three trips to the disk.
    fn zero_ahead(&mut self, end: u64) -> io::Result<()> {
        let ahead = self.log.segment_bytes.saturating_sub(end).min(ZEROS_BYTES);
        let zeros = usize::try_from(ahead).ok().and_then(|ahead| ZEROS.get(..ahead));
        self.file.write_all_at(zeros.unwrap_or_default(), end)?;
        self.written_end = end + ahead;
        Ok(())
    }

    fn rotate(&mut self, clock: &dyn Clock) -> io::Result<()> {
        self.file.set_len(self.offset)?;
        self.file.sync_all()?;
        let end = Position {
            next_lsn: self.next_lsn,
            next_seq: self.next_seq,
            chain: self.chain,
            live: std::mem::take(&mut self.live),
            file: Some(self.log.disk.open(&segment::path(&self.log.dir, self.first_lsn))?),
        };
        *self = Self::begin(self.log.clone(), end, clock)?;
        Ok(())
    }
}

impl Sealer {
    fn open(disk: &dyn Disk, seals: &Seals, from: Lsn) -> Result<Self, KeptError> {
        let kept = Kept::open(disk, &seals.path)?;
        let interval_ns = u64::try_from(seals.interval.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { kept, last_ns: None, interval_ns, from })
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.last_ns.is_none_or(|last| now.mono_ns.saturating_sub(last) >= self.interval_ns)
    }
}

/// Zeros written at once: 1 MiB takes about a millisecond, every 2,000 commands or so.
const ZEROS_BYTES: u64 = 1024 * 1024;
static ZEROS: [u8; 1024 * 1024] = [0; 1024 * 1024];

/// Appends copies of the frames of all that is open, read from `old`, and makes `live` point to
/// the copies.
fn carry(
    head: &mut Vec<u8>,
    old: &dyn DiskFile,
    live: &mut Live,
    at: (Lsn, u64),
    chain: &mut Chain,
) -> io::Result<()> {
    let mut body = Vec::new();
    for session in live.values_mut() {
        read_body(old, session.body, &mut body)?;
        body.truncate(body.len().saturating_sub(TOTALS_BYTES));
        put_totals(&mut body, &session.totals);
        session.body = put_carried(head, FrameKind::SessionOpen, at, chain, &body)?;
        for place in session.identities.values_mut() {
            read_body(old, *place, &mut body)?;
            *place = put_carried(head, FrameKind::Identity, at, chain, &body)?;
        }
        for place in session.commands.values_mut() {
            read_body(old, *place, &mut body)?;
            *place = put_carried(head, FrameKind::Begin, at, chain, &body)?;
        }
    }
    Ok(())
}

fn read_body(file: &dyn DiskFile, place: Place, body: &mut Vec<u8>) -> io::Result<()> {
    body.resize(place.bytes, 0);
    file.read_exact_at(body, place.offset)
}

fn put_carried(
    head: &mut Vec<u8>,
    kind: FrameKind,
    at: (Lsn, u64),
    chain: &mut Chain,
    body: &[u8],
) -> io::Result<Place> {
    let offset = head.len() + HEADER_BYTES;
    put_sealed(head, kind, at, chain, |out| out.extend_from_slice(body))?;
    Ok(Place { offset: u64::try_from(offset).map_err(io::Error::other)?, bytes: body.len() })
}

fn put_sealed(
    out: &mut Vec<u8>,
    kind: FrameKind,
    at: (Lsn, u64),
    chain: &mut Chain,
    body: impl FnOnce(&mut Vec<u8>),
) -> io::Result<()> {
    let start = out.len();
    let carried = kind != FrameKind::Segment;
    put_frame(out, kind, carried, at, body)
        .map_err(|_| io::Error::other("carried frame is too large"))?;
    out.get_mut(start..)
        .and_then(|frame| seal(frame, false, chain))
        .ok_or_else(|| io::Error::other("carried frame is damaged"))
}

fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let header = Header::parse(bytes.first_chunk()?)?;
    (header.frame_bytes() <= bytes.len()).then(|| header.frame_bytes())
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> CommitError {
    move |source| CommitError::Io { what, source }
}
