//! Opens a journal after whatever happened to it.
//!
//! What a crash can leave is repaired and said: a torn tail is cut off, commands that were open
//! end as interrupted, sessions as `daemon_crash`. What a crash cannot leave is not repaired: the
//! journal stays closed unless told to accept the loss, and then sets aside what is bad.
//!
//! The last two segments are read whole, of earlier ones the headers: reading all would delay the
//! start by seconds per GiB; `verify` and the archive do it. A changed frame of the very last
//! commit looks like a torn one; signed checkpoints (`Options::checkpointed_rows`) narrow that.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use types::clock::Clock;

use crate::codec::Malformed;
use crate::encode::put_body;
use crate::frame::{
    CHAIN_BYTES, Chain, FrameKind, HEADER_BYTES, Header, digest, genesis, put_frame,
};
use crate::live::{self, Live, Place};
use crate::queue::interrupted;
use crate::reader::{Fault, ReadError, SegmentReader, follows_genesis};
use crate::record::{BootId, Control, End, Frame, Lsn, SessionClose};
use crate::recorder::Options;
use crate::segment::{self, Segment};
use crate::writer::{CommitError, Log, Position, Writer};

/// What opening a journal found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The last frame that was there.
    pub last_lsn: Lsn,
    /// Rows that were there.
    pub rows: u64,
    /// Bytes of a torn tail that were cut off.
    pub dropped_bytes: u64,
    /// Commands ended as interrupted.
    pub commands_interrupted: u64,
    /// Sessions closed as `daemon_crash`.
    pub sessions_closed: u64,
    /// Files set aside because the loss was accepted.
    pub set_aside: Vec<PathBuf>,
}

/// Why a journal was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process writes this journal.
    #[error("journal {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The segments are another node's or epoch's.
    #[error("journal {} belongs to node {node}, epoch {epoch}", segment.display())]
    Foreign {
        /// The segment that says so.
        segment: PathBuf,
        /// Its node.
        node: String,
        /// Its epoch.
        epoch: u32,
    },
    /// Frames were altered or lost in a way no crash does it.
    #[error("journal was altered; look into it before opening it with loss accepted")]
    Tampered(#[source] ReadError),
    /// The journal yields fewer rows than a signed checkpoint covers.
    #[error("journal was rolled back: it holds {rows} rows, a checkpoint covers {checkpointed}")]
    RolledBack {
        /// Rows it holds.
        rows: u64,
        /// Rows the checkpoint covers.
        checkpointed: u64,
    },
    /// The first commit failed.
    #[error("cannot commit to the journal: {0}")]
    Commit(String),
    /// The committing thread did not start.
    #[error("cannot start the committing thread")]
    Thread(#[source] io::Error),
}

/// Recovers the journal and begins a new segment that says what was found.
pub(crate) fn open(options: &Options, clock: &dyn Clock) -> Result<(Writer, Recovery), OpenError> {
    let dir = &options.dir;
    std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    let lock = Arc::new(take_lock(dir)?);
    segment::remove_unnamed(dir).map_err(io_error("clean", dir))?;
    let mut recovery = Recovery::default();
    let end = find_end(options, &mut recovery)?;
    recovery.last_lsn = Lsn(end.next_lsn.0 - 1);
    recovery.rows = end.next_seq;
    if end.next_seq < options.checkpointed_rows && !options.accept_loss {
        let checkpointed = options.checkpointed_rows;
        return Err(OpenError::RolledBack { rows: end.next_seq, checkpointed });
    }
    let log = Log {
        dir: dir.clone(),
        node: options.node.clone(),
        epoch: options.epoch,
        boot_id: boot_id()?,
        segment_bytes: options.segment_bytes,
        lock,
    };
    let mut writer = Writer::begin(log, end, clock).map_err(io_error("begin a segment in", dir))?;
    let mut batch = closing_frames(&writer, clock, options, &mut recovery);
    writer.commit(&mut batch, clock).map_err(|e: CommitError| OpenError::Commit(e.to_string()))?;
    Ok((writer, recovery))
}

fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(dir.to_owned())),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}

fn boot_id() -> Result<BootId, OpenError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(io_error("read", path))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16)
        .map_err(|e| io_error("read", path)(io::Error::other(e)))?;
    Ok(BootId(number.to_be_bytes()))
}

/// Where the journal ends, its torn tail cut off. Each round of the loop sets one segment aside,
/// or all of it but its good beginning.
fn find_end(options: &Options, recovery: &mut Recovery) -> Result<Position, OpenError> {
    let dir = &options.dir;
    loop {
        let segments = segment::list(dir).map_err(io_error("list", dir))?;
        let Some((last, earlier)) = segments.split_last() else {
            let chain = genesis(&options.node, options.epoch);
            let live = Live::new();
            return Ok(Position { next_lsn: Lsn(1), next_seq: 0, chain, live, file: None });
        };
        match scan(earlier, last, options, recovery) {
            Ok(end) => return Ok(end),
            Err(Damage { error, .. }) if !options.accept_loss => return Err(error),
            Err(Damage { error: OpenError::Tampered(damage), keep }) => {
                let keep = keep.filter(|_| damage.segment == last.path);
                set_aside(&last.path, keep, recovery)?;
            }
            Err(Damage { error, .. }) => return Err(error),
        }
    }
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
            fault => OpenError::Tampered(ReadError { fault, ..damage }),
        };
        Self { error, keep: None }
    }
}

/// Checks the segments and returns where the last one ends.
fn scan(
    earlier: &[Segment],
    last: &Segment,
    options: &Options,
    recovery: &mut Recovery,
) -> Result<Position, Damage> {
    let mut end = None;
    for (number, segment) in earlier.iter().enumerate() {
        let mut reader = open_segment(segment, end, number == 0, options)?;
        if number + 1 == earlier.len() {
            while reader.next_frame()?.is_some() {}
            end = Some((reader.chain(), reader.next_lsn(), reader.next_seq()));
        }
    }
    let reader = open_segment(last, end, earlier.is_empty(), options)?;
    scan_last(last, reader, recovery)
}

/// Opens a segment and checks that it is this log's and follows from `end`, where that is known.
fn open_segment(
    segment: &Segment,
    end: Option<(Chain, Lsn, u64)>,
    is_first: bool,
    options: &Options,
) -> Result<SegmentReader, Damage> {
    let reader = SegmentReader::open(segment)?;
    let header = reader.header();
    if header.node != options.node || header.epoch != options.epoch {
        let (node, epoch) = (header.node.clone(), header.epoch);
        return Err(OpenError::Foreign { segment: segment.path.clone(), node, epoch }.into());
    }
    let start = (header.previous_chain, header.first_lsn, header.first_seq);
    let follows = match end {
        Some(end) => end == start,
        None => !is_first || follows_genesis(header),
    };
    if follows {
        return Ok(reader);
    }
    let (path, lsn) = (segment.path.clone(), header.first_lsn);
    Err(ReadError { segment: path, offset: 0, lsn, fault: Fault::Link }.into())
}

/// Reads the last segment to its end and cuts off a torn tail.
fn scan_last(
    segment: &Segment,
    mut reader: SegmentReader,
    recovery: &mut Recovery,
) -> Result<Position, Damage> {
    let path = &segment.path;
    let previous_chain = reader.header().previous_chain;
    let mut live = Live::new();
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
            recovery.dropped_bytes += cut_tail(path, offset).map_err(io_error("cut", path))?;
            break;
        }
        let has_own = !reader.in_head() && reader.next_lsn() > segment.first_lsn;
        return Err(Damage { keep: has_own.then_some(offset), ..damage.into() });
    }
    let file = File::open(path).map_err(io_error("open", path))?;
    // A segment without a frame of its own is written anew under the same name.
    let empty = reader.next_lsn() == segment.first_lsn;
    let chain = if empty { previous_chain } else { reader.chain() };
    let (next_lsn, next_seq) = (reader.next_lsn(), reader.next_seq());
    Ok(Position { next_lsn, next_seq, chain, live, file: Some(file) })
}

fn note(live: &mut Live, header: &Header, body: &[u8], offset: u64) -> Result<(), Malformed> {
    let offset = offset + u64::try_from(HEADER_BYTES).map_err(|_| Malformed("offset"))?;
    live::note(live, header, body, Place { offset, bytes: body.len() })
}

/// Whether damage is what a crash leaves: nothing behind it that was written after it was durable.
fn is_torn(path: &Path, damage: &ReadError) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(damage.offset))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    // A torn frame's own body is the agent's bytes: nothing in it is taken for a frame.
    let own = rest
        .first_chunk()
        .and_then(Header::parse)
        .filter(|header| header.lsn == damage.lsn)
        .map_or(1, |header| header.frame_bytes());
    // What is preallocated is zeros, and no frame begins with one.
    let used = rest.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    if has_altered_length(rest.get(..own.min(used)).unwrap_or_default(), damage.lsn) {
        return Ok(false);
    }
    for at in own..used {
        let later = rest.get(at..).unwrap_or_default();
        let Some(raw) = later.first_chunk::<HEADER_BYTES>() else { break };
        let proof = Header::parse(raw)
            .filter(|header| header.group && header.lsn >= damage.lsn)
            .filter(|header| {
                let body = later.get(HEADER_BYTES..HEADER_BYTES + header.body_bytes);
                body.is_some_and(|body| digest(&[0; 32], raw, body).0 == header.crc)
            });
        if proof.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the frame at the beginning is whole but for its length, which would hide what follows:
/// where the next frame begins, the length that ends there fits the checksum. A torn frame's has no
/// end.
fn has_altered_length(bytes: &[u8], lsn: Lsn) -> bool {
    let Some(raw) = bytes.first_chunk::<HEADER_BYTES>() else { return false };
    let Some(header) = Header::parse(raw) else { return false };
    let fits = |at: usize| {
        let next = bytes.get(at..)?.first_chunk().and_then(Header::parse)?;
        let body = bytes.get(HEADER_BYTES..at.checked_sub(CHAIN_BYTES)?)?;
        let mut mended = *raw;
        mended
            .first_chunk_mut::<4>()?
            .copy_from_slice(&u32::try_from(body.len()).ok()?.to_be_bytes());
        let is_next = next.lsn == Lsn(lsn.0.wrapping_add(1));
        Some(is_next && digest(&[0; 32], &mended, body).0 == header.crc)
    };
    (HEADER_BYTES + CHAIN_BYTES..bytes.len()).any(|at| fits(at) == Some(true))
}

/// Cuts a file off; returns how many bytes that were not zero went, counted from the cut.
fn cut_tail(path: &Path, offset: u64) -> io::Result<u64> {
    let mut file = File::options().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    file.set_len(offset)?;
    file.sync_all()?;
    let used = tail.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    u64::try_from(used).map_err(io::Error::other)
}

/// Sets the last segment aside; of it stays, under its own name, what is good: `keep` bytes.
fn set_aside(path: &Path, keep: Option<u64>, recovery: &mut Recovery) -> Result<(), OpenError> {
    let number = recovery.set_aside.len();
    let lost = free_name(path, number).map_err(io_error("set aside", path))?;
    if let Some(keep) = keep {
        std::fs::copy(path, &lost).map_err(io_error("copy", path))?;
        File::open(&lost).and_then(|f| f.sync_all()).map_err(io_error("sync", &lost))?;
        recovery.dropped_bytes += cut_tail(path, keep).map_err(io_error("cut", path))?;
    } else {
        std::fs::rename(path, &lost).map_err(io_error("rename", path))?;
    }
    if let Some(dir) = path.parent() {
        segment::sync_dir(dir).map_err(io_error("sync", dir))?;
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

/// What the new segment begins with: what was found, the ends of what was open, the start.
fn closing_frames(
    writer: &Writer,
    clock: &dyn Clock,
    options: &Options,
    recovery: &mut Recovery,
) -> Vec<u8> {
    let at = clock.now();
    let mut batch = Batch {
        bytes: Vec::new(),
        lsn: writer.next_lsn(),
        seq: writer.next_seq(),
        boot_id: writer.boot_id(),
    };
    for (&session, entry) in writer.live() {
        for &command in entry.commands.keys() {
            let outcome = interrupted(command);
            batch.put(FrameKind::End, &Frame::End(End { session, at, outcome: &outcome }));
            recovery.commands_interrupted += 1;
        }
        let close = SessionClose { session, at, reason: "daemon_crash" };
        batch.put(FrameKind::SessionClose, &Frame::SessionClose(close));
        recovery.sessions_closed += 1;
    }
    let Recovery { last_lsn, dropped_bytes, commands_interrupted, sessions_closed, .. } = *recovery;
    let lost = recovery.set_aside.len();
    if dropped_bytes > 0 || sessions_closed > 0 || lost > 0 {
        let detail = format!(
            r#"{{"dropped_bytes":{dropped_bytes},"last_lsn":{},"commands_interrupted":{commands_interrupted},"sessions_closed":{sessions_closed},"segments_set_aside":{lost},"loss_accepted":{}}}"#,
            last_lsn.0, options.accept_loss
        );
        let control = Control { at, kind: "log.recovered", detail: &detail };
        batch.put(FrameKind::Control, &Frame::Control(control));
    }
    let detail = format!(r#"{{"last_lsn":{},"rows":{}}}"#, last_lsn.0, recovery.rows);
    let control = Control { at, kind: "log.start", detail: &detail };
    batch.put(FrameKind::Control, &Frame::Control(control));
    batch.bytes
}

struct Batch {
    bytes: Vec<u8>,
    lsn: Lsn,
    seq: u64,
    boot_id: BootId,
}

impl Batch {
    fn put(&mut self, kind: FrameKind, frame: &Frame<'_>) {
        let boot_id = self.boot_id;
        put_frame(&mut self.bytes, kind, false, (self.lsn, self.seq), |out| {
            put_body(out, frame, boot_id, None);
        })
        .expect("ends, closes and our own control records are small");
        self.lsn = Lsn(self.lsn.0 + 1);
        self.seq += kind.rows();
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
