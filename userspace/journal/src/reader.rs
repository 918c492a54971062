//! Reads a journal frame by frame and checks everything on the way: CRC, chain, order of frames
//! and rows, and that each segment follows from the one before. It never writes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use types::clock::Timestamp;

use crate::codec::Malformed;
use crate::decode::{self, Known};
use crate::frame::{CHAIN_BYTES, Chain, FrameKind, HEADER_BYTES, Header, digest, genesis};
use crate::record::{BootId, Lsn, Record};
use crate::segment::{self, Segment, SegmentHeader};

/// One frame, checked.
#[derive(Clone, Copy, Debug)]
pub struct RawFrame<'a> {
    /// Its header.
    pub header: Header,
    /// Its body.
    pub body: &'a [u8],
    /// Where it starts in its segment.
    pub offset: u64,
}

impl RawFrame<'_> {
    /// The record it holds; `None` for a segment's header.
    pub fn record(&self) -> Result<Option<Record>, Malformed> {
        decode::record(self.header.kind, self.body)
    }

    /// The same; what is `known` is not taken apart again.
    pub fn record_by(&self, known: &mut Known) -> Result<Option<Record>, Malformed> {
        decode::record_by(known, self.header.kind, self.body)
    }
}

/// What is wrong, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}, offset {offset}: bad frame {}", segment.display(), lsn.0)]
pub struct ReadError {
    /// The segment file.
    pub segment: PathBuf,
    /// Where in it the bad frame starts, in bytes.
    pub offset: u64,
    /// The place that was expected there.
    pub lsn: Lsn,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// What can be wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The system refused to read.
    #[error("cannot read")]
    Io(#[from] io::Error),
    /// The header is none that a writer writes.
    #[error("frame header is not valid")]
    Header,
    /// The file ends inside the frame.
    #[error("frame is cut off")]
    CutOff,
    /// The checksum does not fit.
    #[error("checksum differs")]
    Crc,
    /// The chain value does not follow from the one before.
    #[error("chain is broken")]
    Chain,
    /// The frame is not the next one.
    #[error("frame or row number does not follow")]
    Order,
    /// The frame kind does not belong here.
    #[error("frame kind does not belong here")]
    Kind,
    /// The body cannot be taken apart.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The segment does not follow from the one before it.
    #[error("segment does not follow from the one before")]
    Link,
}

/// Reads one segment.
#[derive(Debug)]
pub struct SegmentReader {
    path: PathBuf,
    file: BufReader<File>,
    header: SegmentHeader,
    offset: u64,
    chain: Chain,
    next_lsn: Lsn,
    next_seq: u64,
    /// Carried frames still to come.
    carried_left: u64,
    frame: Vec<u8>,
}

impl SegmentReader {
    /// Opens a segment and checks its header frame.
    pub fn open(segment: &Segment) -> Result<Self, ReadError> {
        let fail = |fault| ReadError {
            segment: segment.path.clone(),
            offset: 0,
            lsn: segment.first_lsn,
            fault,
        };
        let file = File::open(&segment.path).map_err(|e| fail(e.into()))?;
        let mut file = BufReader::with_capacity(256 * 1024, file);
        let mut frame = Vec::new();
        let first = read_frame(&mut file, &mut frame).map_err(fail)?;
        let (raw, body, stored) = first.ok_or_else(|| fail(Fault::CutOff))?;
        let parsed = Header::parse(raw).ok_or_else(|| fail(Fault::Header))?;
        if parsed.kind != FrameKind::Segment {
            return Err(fail(Fault::Kind));
        }
        let (crc, _) = digest(&[0; CHAIN_BYTES], raw, body);
        if crc != parsed.crc {
            return Err(fail(Fault::Crc));
        }
        let header = SegmentHeader::parse(body).map_err(|e| fail(e.into()))?;
        let (_, chain) = digest(&header.previous_chain, raw, body);
        if chain != *stored {
            return Err(fail(Fault::Chain));
        }
        let in_order = (parsed.lsn, parsed.seq) == (header.first_lsn, header.first_seq)
            && header.first_lsn == segment.first_lsn;
        if !in_order {
            return Err(fail(Fault::Order));
        }
        Ok(Self {
            path: segment.path.clone(),
            file,
            offset: u64::try_from(parsed.frame_bytes()).unwrap_or(u64::MAX),
            chain,
            next_lsn: header.first_lsn,
            next_seq: header.first_seq,
            carried_left: header.carried,
            header,
            frame,
        })
    }

    /// What the segment's first frame says.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The next frame behind the header's; `None` at the end of what was written. After an error
    /// the position stays at the bad frame's start, but no more can be read.
    pub fn next_frame(&mut self) -> Result<Option<RawFrame<'_>>, ReadError> {
        let offset = self.offset;
        match self.advance() {
            Ok(None) => Ok(None),
            Ok(Some(header)) => {
                let end = HEADER_BYTES + header.body_bytes;
                let body = self.frame.get(HEADER_BYTES..end).unwrap_or_default();
                Ok(Some(RawFrame { header, body, offset }))
            }
            Err(fault) => {
                Err(ReadError { segment: self.path.clone(), offset, lsn: self.next_lsn, fault })
            }
        }
    }

    /// Where the next frame starts, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The chain value after the last frame read.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// The place of the next counted frame.
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// The sequence number of the next row.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Whether carried frames are still to come. They, like the header, were durable before the
    /// segment got its name: a crash damages none of them.
    pub fn in_head(&self) -> bool {
        self.carried_left > 0
    }

    fn advance(&mut self) -> Result<Option<Header>, Fault> {
        let Some((raw, body, stored)) = read_frame(&mut self.file, &mut self.frame)? else {
            return if self.carried_left > 0 { Err(Fault::CutOff) } else { Ok(None) };
        };
        let header = Header::parse(raw).ok_or(Fault::Header)?;
        let (crc, chain) = digest(&self.chain, raw, body);
        if crc != header.crc {
            return Err(Fault::Crc);
        }
        if chain != *stored {
            return Err(Fault::Chain);
        }
        if header.kind == FrameKind::Segment || header.carried != (self.carried_left > 0) {
            return Err(Fault::Kind);
        }
        if (header.lsn, header.seq) != (self.next_lsn, self.next_seq) {
            return Err(Fault::Order);
        }
        if header.carried {
            self.carried_left -= 1;
        } else if header.is_counted() {
            self.next_lsn = Lsn(self.next_lsn.0.checked_add(1).ok_or(Fault::Order)?);
            self.next_seq = self.next_seq.checked_add(header.rows()).ok_or(Fault::Order)?;
        }
        self.chain = chain;
        self.offset += u64::try_from(header.frame_bytes()).unwrap_or(0);
        Ok(Some(header))
    }
}

/// Reads a journal's segments one after the other.
#[derive(Debug)]
pub struct Reader {
    segments: std::vec::IntoIter<Segment>,
    current: Option<SegmentReader>,
    limit: Option<Lsn>,
    /// Chain, next frame and next row behind the last segment read to its end.
    end: Option<(Chain, Lsn, u64)>,
}

impl Reader {
    /// Reads the journal in `dir` from the segment that holds `from` (the first there is, if it is
    /// earlier) to the frame `limit`, or the end. Of a journal that is being written, `limit` must
    /// be durable.
    pub fn open(dir: &Path, from: Lsn, limit: Option<Lsn>) -> io::Result<Self> {
        let mut segments = segment::list(dir)?;
        let start = segments.partition_point(|s| s.first_lsn <= from).saturating_sub(1);
        segments.drain(..start);
        Ok(Self { segments: segments.into_iter(), current: None, limit, end: None })
    }

    /// The next frame, segment headers included; `None` at the end.
    pub fn next_frame(&mut self) -> Result<Option<RawFrame<'_>>, ReadError> {
        loop {
            let at_limit = self.limit.is_some_and(|limit| {
                let next = self.current.as_ref().map_or(Lsn(0), SegmentReader::next_lsn);
                next > limit
            });
            if at_limit {
                return Ok(None);
            }
            let Some(mut current) = self.current.take() else {
                if !self.next_segment()? {
                    return Ok(None);
                }
                continue;
            };
            if current.step()? {
                return Ok(self.current.insert(current).last_frame());
            }
            self.end = Some((current.chain(), current.next_lsn(), current.next_seq()));
        }
    }

    /// The header of the segment that the last frame came from.
    pub fn segment(&self) -> Option<&SegmentHeader> {
        self.current.as_ref().map(SegmentReader::header)
    }

    fn next_segment(&mut self) -> Result<bool, ReadError> {
        let Some(segment) = self.segments.next() else { return Ok(false) };
        let reader = SegmentReader::open(&segment)?;
        let header = reader.header();
        let here = (header.previous_chain, header.first_lsn, header.first_seq);
        let follows = match self.end {
            Some(end) => end == here,
            None => follows_genesis(header),
        };
        if !follows {
            let SegmentReader { path, next_lsn: lsn, .. } = reader;
            return Err(ReadError { segment: path, offset: 0, lsn, fault: Fault::Link });
        }
        self.current = Some(reader);
        Ok(true)
    }
}

/// Where reading begins that is to reach back `span` from `now`, and the boot that the daemon which writes runs in;
/// `None` if there is nothing. By the wall's clock where the machine was started since.
pub fn since(
    dir: &Path,
    now: Timestamp,
    span: Duration,
) -> Result<Option<(Lsn, BootId)>, ReadError> {
    let unlisted = |error: io::Error| ReadError {
        segment: dir.to_owned(),
        offset: 0,
        lsn: Lsn(0),
        fault: error.into(),
    };
    let (mut from, mut boot) = (None, None);
    for segment in segment::list(dir).map_err(unlisted)?.iter().rev() {
        let reader = SegmentReader::open(segment)?;
        let SegmentHeader { boot_id, at, first_lsn, .. } = reader.header();
        let own = *boot.get_or_insert(*boot_id);
        from = Some((*first_lsn, own));
        if age(now, own, *at, *boot_id) > span {
            break;
        }
    }
    Ok(from)
}

/// How long before `now`, in the boot `own`, it was; by the wall's clock where the machine was started since.
pub fn age(now: Timestamp, own: BootId, at: Timestamp, boot: BootId) -> Duration {
    if boot == own {
        return Duration::from_nanos(now.mono_ns.saturating_sub(at.mono_ns));
    }
    let us = now.unix_us.saturating_sub(at.unix_us);
    Duration::from_micros(u64::try_from(us).unwrap_or(0))
}

impl SegmentReader {
    /// Reads the next frame into the buffer; false at the end.
    fn step(&mut self) -> Result<bool, ReadError> {
        Ok(self.next_frame()?.is_some())
    }

    /// The frame that the last [`SegmentReader::step`] read.
    fn last_frame(&self) -> Option<RawFrame<'_>> {
        let header = Header::parse(self.frame.first_chunk()?)?;
        let body = self.frame.get(HEADER_BYTES..HEADER_BYTES + header.body_bytes)?;
        let bytes = u64::try_from(header.frame_bytes()).ok()?;
        Some(RawFrame { header, body, offset: self.offset - bytes })
    }
}

/// Whether a segment, if it is a journal's first, starts from the log's name.
pub(crate) fn follows_genesis(header: &SegmentHeader) -> bool {
    header.first_lsn > Lsn(1)
        || (header.first_lsn == Lsn(1)
            && header.first_seq == 0
            && header.previous_chain == genesis(&header.node, header.epoch))
}

/// A frame's header, body and chain value as they stand in the file.
type Parts<'a> = (&'a [u8; HEADER_BYTES], &'a [u8], &'a Chain);

/// Reads one frame into `frame`; `None` where nothing but zeros follows.
fn read_frame<'a>(
    file: &mut impl Read,
    frame: &'a mut Vec<u8>,
) -> Result<Option<Parts<'a>>, Fault> {
    frame.clear();
    fill(file, frame, HEADER_BYTES)?;
    if frame.iter().all(|b| *b == 0) {
        return if rest_is_zero(file)? { Ok(None) } else { Err(Fault::Header) };
    }
    let raw = frame.first_chunk::<HEADER_BYTES>().ok_or(Fault::CutOff)?;
    let header = Header::parse(raw).ok_or(Fault::Header)?;
    fill(file, frame, header.body_bytes + CHAIN_BYTES)?;
    if frame.len() < header.frame_bytes() {
        return Err(Fault::CutOff);
    }
    let (raw, rest) = frame.split_first_chunk().ok_or(Fault::CutOff)?;
    let (body, chain) = rest.split_last_chunk().ok_or(Fault::CutOff)?;
    Ok(Some((raw, body, chain)))
}

/// Appends up to `bytes` more bytes; fewer only at the file's end.
fn fill(file: &mut impl Read, frame: &mut Vec<u8>, bytes: usize) -> io::Result<()> {
    let mut end = frame.len();
    frame.resize(end + bytes, 0);
    while let Some(rest) = frame.get_mut(end..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => end += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    frame.truncate(end);
    Ok(())
}

fn rest_is_zero(file: &mut impl Read) -> io::Result<bool> {
    // Slices are compared by the machine's own means, byte by byte they are not: a fresh segment has 64 MiB of these.
    static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
    let mut piece = ZEROS;
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(true);
        }
        if piece.get(..count) != ZEROS.get(..count) {
            return Ok(false);
        }
    }
}
