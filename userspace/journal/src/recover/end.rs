//! Where a journal ends: its segments are checked, and what is bad is set aside where a person said so.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::beginning::{begin_anew, beginning};
use super::harm::{Harm, name};
use super::torn::is_torn;
use super::{OpenError, Recovery, io_error};
use crate::codec::Malformed;
use crate::disk::Disk;
use crate::frame::{Chain, HEADER_BYTES, Header};
use crate::live::{self, Live, Place};
use crate::reader::{Fault, ReadError, SegmentReader};
use crate::record::Lsn;
use crate::recorder::Options;
use crate::segment::{self, Segment};
use crate::start::{self, Start};
use crate::writer::Position;

/// Where the journal ends, and what a crash left behind that.
pub(super) struct End {
    pub(super) position: Position,
    pub(super) tear: Option<Tear>,
    /// The last segment; none of an empty journal.
    pub(super) segment: Option<PathBuf>,
}

/// A torn tail.
pub(super) struct Tear {
    path: PathBuf,
    offset: u64,
}

impl Tear {
    /// Cuts it off; returns how many bytes that were not zero went.
    pub(super) fn cut(&self, disk: &dyn Disk) -> Result<u64, OpenError> {
        cut_tail(disk, &self.path, self.offset).map_err(io_error("cut", &self.path))
    }
}

/// Finds the end. Each round of the loop sets one segment aside, or all of it but its good beginning; or takes what is
/// there for the journal's beginning.
pub(super) fn find(options: &Options, recovery: &mut Recovery) -> Result<End, OpenError> {
    let dir = &options.dir;
    loop {
        let start = match beginning(options) {
            Err(error @ OpenError::Start { .. }) if options.accept_loss => {
                recovery.note(&error);
                set_aside(&*options.disk, &dir.join(start::NAME), None, recovery)?;
                continue;
            }
            start => start?,
        };
        let segments = segment::list(dir).map_err(io_error("list", dir))?;
        let Some((last, earlier)) = segments.split_last() else {
            let Start { lsn: next_lsn, seq: next_seq, chain } = start;
            let position = Position { next_lsn, next_seq, chain, live: Live::new(), file: None };
            return Ok(End { position, tear: None, segment: None });
        };
        match scan(&start, earlier, last, options) {
            Ok((position, tear)) => {
                return Ok(End { position, tear, segment: Some(last.path.clone()) });
            }
            Err(Damage { error, .. }) if !options.accept_loss => return Err(error),
            Err(Damage { error: OpenError::Tampered { damage, harm }, keep }) => {
                if begin_anew(options, &damage, harm, recovery)? {
                    continue;
                }
                let keep = keep.filter(|_| damage.segment == last.path);
                recovery.note(&OpenError::Tampered { damage, harm });
                set_aside(&*options.disk, &last.path, keep, recovery)?;
            }
            Err(Damage { error, .. }) => return Err(error),
        }
    }
}

/// Sets all segments aside and answers where a journal goes on whose rows a checkpoint covers: the archive has
/// them. The log's numbers go on behind what the checkpoint covers; sessions that were open are lost with the rest.
pub(super) fn begin_behind_checkpoint(
    options: &Options,
    end: &Position,
    recovery: &mut Recovery,
) -> Result<Position, OpenError> {
    let dir = &options.dir;
    for segment in segment::list(dir).map_err(io_error("list", dir))? {
        set_aside(&*options.disk, &segment.path, None, recovery)?;
    }
    // A first segment that is not the log's first stands for what was taken away before it.
    let next_lsn = Lsn(end.next_lsn.0.max(2));
    let (chain, next_seq) = (end.chain, options.checkpointed_rows);
    let start = Start { lsn: next_lsn, seq: next_seq, chain };
    start.keep(&*options.disk, dir).map_err(io_error("write the start of", dir))?;
    Ok(Position { next_lsn, next_seq, chain, live: Live::new(), file: None })
}

/// Why a scan found no end.
struct Damage {
    error: OpenError,
    /// How many bytes of the damaged segment are good and hold frames of its own.
    keep: Option<u64>,
}

impl From<OpenError> for Damage {
    fn from(error: OpenError) -> Self {
        Self { error, keep: None }
    }
}

impl From<ReadError> for Damage {
    fn from(damage: ReadError) -> Self {
        let error = match damage.fault {
            Fault::Io(source) => OpenError::Io { what: "read", path: damage.segment, source },
            fault => {
                let damage = ReadError { fault, ..damage };
                OpenError::Tampered { harm: name(&damage), damage }
            }
        };
        Self { error, keep: None }
    }
}

/// Checks the segments and returns where the last one ends. Those are read whole that hold rows which no
/// checkpoint covers, and the last two; of others the headers.
fn scan(
    start: &Start,
    earlier: &[Segment],
    last: &Segment,
    options: &Options,
) -> Result<(Position, Option<Tear>), Damage> {
    let mut end = Some((start.chain, start.lsn, start.seq));
    let mut behind = earlier.iter().skip(1).chain([last]);
    for (number, segment) in earlier.iter().enumerate() {
        let mut reader = open_segment(segment, end.take(), options)?;
        let next = behind.next().and_then(|next| segment::peek(&next.path).ok().flatten());
        let is_covered = next.is_some_and(|next| next.first_seq <= options.checkpointed_rows);
        if number + 1 == earlier.len() || !is_covered {
            while reader.next_frame()?.is_some() {}
            end = Some((reader.chain(), reader.next_lsn(), reader.next_seq()));
        }
    }
    let reader = open_segment(last, end, options)?;
    scan_last(last, reader, &*options.disk)
}

/// Opens a segment and checks that it is this log's and follows from `end`, where that is known.
fn open_segment(
    segment: &Segment,
    end: Option<(Chain, Lsn, u64)>,
    options: &Options,
) -> Result<SegmentReader, Damage> {
    let reader = SegmentReader::open(segment)?;
    let header = reader.header();
    if header.node != options.node || header.epoch != options.epoch {
        let (node, epoch) = (header.node.clone(), header.epoch);
        return Err(OpenError::Foreign { segment: segment.path.clone(), node, epoch }.into());
    }
    let start = (header.previous_chain, header.first_lsn, header.first_seq);
    if end.is_none_or(|end| end == start) {
        return Ok(reader);
    }
    let (path, lsn) = (segment.path.clone(), header.first_lsn);
    let damage = ReadError { segment: path, offset: 0, lsn, fault: Fault::Link };
    let harm = match end {
        Some((_, due, _)) if due < lsn => Harm::Missing { from: due, to: Lsn(lsn.0 - 1) },
        _ => Harm::Rewritten,
    };
    Err(OpenError::Tampered { damage, harm }.into())
}

/// Reads the last segment to its end, or to where a crash tore it.
fn scan_last(
    segment: &Segment,
    mut reader: SegmentReader,
    disk: &dyn Disk,
) -> Result<(Position, Option<Tear>), Damage> {
    let path = &segment.path;
    let previous_chain = reader.header().previous_chain;
    let mut live = Live::new();
    let mut tear = None;
    loop {
        let damage = match reader.next_frame() {
            Ok(None) => break,
            Ok(Some(frame)) => {
                let (offset, lsn) = (frame.offset, frame.header.lsn);
                let Err(fault) = note(&mut live, &frame.header, frame.body, offset) else {
                    continue;
                };
                ReadError { segment: path.clone(), offset, lsn, fault: fault.into() }
            }
            Err(damage) => damage,
        };
        let offset = damage.offset;
        let read = !matches!(damage.fault, Fault::Io(_) | Fault::Malformed(_));
        if read && !reader.in_head() && is_torn(path, &damage).map_err(io_error("read", path))? {
            tear = Some(Tear { path: path.clone(), offset });
            break;
        }
        let has_own = !reader.in_head() && reader.next_lsn() > segment.first_lsn;
        return Err(Damage { keep: has_own.then_some(offset), ..damage.into() });
    }
    let file = disk.open(path).map_err(io_error("open", path))?;
    // A segment without a frame of its own is written anew under the same name.
    let empty = reader.next_lsn() == segment.first_lsn;
    let chain = if empty { previous_chain } else { reader.chain() };
    let (next_lsn, next_seq) = (reader.next_lsn(), reader.next_seq());
    Ok((Position { next_lsn, next_seq, chain, live, file: Some(file) }, tear))
}

/// Cuts a segment off behind what is durable and reads it again from the disk; answers where it ends, or `None` where
/// it is not as it was.
pub(super) fn read_again(
    path: &Path,
    (first_lsn, durable): (Lsn, u64),
    disk: &dyn Disk,
) -> Result<Option<Position>, OpenError> {
    let fail = |what| io_error(what, path);
    let file = disk.open(path).map_err(fail("open"))?;
    if std::fs::metadata(path).map_err(fail("look at"))?.len() < durable {
        return Ok(None);
    }
    file.set_len(durable).map_err(fail("cut"))?;
    file.sync_all().map_err(fail("sync"))?;
    file.forget();
    let segment = Segment { first_lsn, path: path.to_owned() };
    let read = SegmentReader::open(&segment).map_err(Damage::from);
    match read.and_then(|reader| scan_last(&segment, reader, disk)) {
        Ok((position, None)) => Ok(Some(position)),
        Ok((_, Some(_))) | Err(Damage { error: OpenError::Tampered { .. }, .. }) => Ok(None),
        Err(Damage { error, .. }) => Err(error),
    }
}

fn note(live: &mut Live, header: &Header, body: &[u8], offset: u64) -> Result<(), Malformed> {
    let offset = offset + u64::try_from(HEADER_BYTES).map_err(|_| Malformed("offset"))?;
    live::note(live, header, body, Place { offset, bytes: body.len() })
}

/// Cuts a file off; returns how many bytes that were not zero went, counted from the cut.
fn cut_tail(disk: &dyn Disk, path: &Path, offset: u64) -> io::Result<u64> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let cut = disk.open(path)?;
    cut.set_len(offset)?;
    cut.sync_all()?;
    let used = tail.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    u64::try_from(used).map_err(io::Error::other)
}

/// Sets a segment aside; of it stays, under its own name, what is good: `keep` bytes.
pub(super) fn set_aside(
    disk: &dyn Disk,
    path: &Path,
    keep: Option<u64>,
    recovery: &mut Recovery,
) -> Result<(), OpenError> {
    let number = recovery.set_aside.len();
    let lost = free_name(path, number).map_err(io_error("set aside", path))?;
    if let Some(keep) = keep {
        std::fs::copy(path, &lost).map_err(io_error("copy", path))?;
        File::open(&lost).and_then(|f| f.sync_all()).map_err(io_error("sync", &lost))?;
        recovery.dropped_bytes += cut_tail(disk, path, keep).map_err(io_error("cut", path))?;
    } else {
        disk.rename(path, &lost).map_err(io_error("rename", path))?;
    }
    if let Some(dir) = path.parent() {
        disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    }
    recovery.set_aside.push(lost);
    Ok(())
}

/// A name beside `path` that no file has yet.
fn free_name(path: &Path, from: usize) -> io::Result<PathBuf> {
    for number in from..from + SET_ASIDE_NAMES {
        let name = path.with_extension(format!("vjl.lost{number}"));
        if !name.try_exists()? {
            return Ok(name);
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many segments set aside"))
}

/// Names tried for one segment set aside: one for each time a person accepted a loss there.
const SET_ASIDE_NAMES: usize = 1000;
