//! Segment files: their names, their first frame, how one is made.
//!
//! A segment gets its name only once its header and the frames carried into it are durable, so a
//! named segment without a header was never written by a crash.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use types::clock::Timestamp;

use crate::codec::{Cursor, Malformed, put_str, put_timestamp, put_u16, put_u32, put_u64};
use crate::disk::{Disk, DiskFile};
use crate::frame::{Chain, FrameKind, HEADER_BYTES, Header, VERSION, is_known};
use crate::record::{BootId, Lsn, NAME_BYTES_MAX};
use crate::start::Start;

const MAGIC: &[u8; 16] = b"vestibulejournal";

/// What a segment's first frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The node's name.
    pub node: String,
    /// The log's epoch.
    pub epoch: u32,
    /// The boot in which it was begun.
    pub boot_id: BootId,
    /// When it was begun.
    pub at: Timestamp,
    /// The place of its first counted frame.
    pub first_lsn: Lsn,
    /// The sequence number of its first row.
    pub first_seq: u64,
    /// The chain value before it.
    pub previous_chain: Chain,
    /// How many carried frames follow; they were durable before the segment got its name.
    pub carried: u64,
}

impl SegmentHeader {
    /// Appends the body of a segment's first frame.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let Self { node, epoch, boot_id, at, first_lsn, first_seq, previous_chain, carried } = self;
        out.extend_from_slice(MAGIC);
        put_u16(out, VERSION);
        put_str(out, node, NAME_BYTES_MAX);
        put_u32(out, *epoch);
        out.extend_from_slice(&boot_id.0);
        put_timestamp(out, *at);
        put_u64(out, first_lsn.0);
        put_u64(out, *first_seq);
        out.extend_from_slice(previous_chain);
        put_u64(out, *carried);
    }

    /// Reads the body of a segment's first frame.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        if cursor.array()? != *MAGIC || !is_known(cursor.u16()?) {
            return Err(Malformed("not a journal segment of this version"));
        }
        let header = Self {
            node: cursor.str()?.to_owned(),
            epoch: cursor.u32()?,
            boot_id: BootId(cursor.array()?),
            at: cursor.timestamp()?,
            first_lsn: Lsn(cursor.u64()?),
            first_seq: cursor.u64()?,
            previous_chain: cursor.array()?,
            carried: cursor.u64()?,
        };
        cursor.finish()?;
        Ok(header)
    }
}

/// A segment file of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// The place of its first counted frame, by its name.
    pub first_lsn: Lsn,
    /// The file.
    pub path: PathBuf,
}

/// The segments of the journal in `dir`, in order: those that are not let go ([`Start`]).
///
/// # Errors
/// If the directory, or where the journal begins, can't be read.
pub fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = list_all(dir)?;
    if let Some(start) = Start::read(dir)? {
        segments.retain(|segment| segment.first_lsn >= start.lsn);
    }
    Ok(segments)
}

/// The segment files in `dir`, in order; other files are passed over.
pub(crate) fn list_all(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let lsn = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".vjl"))
            .filter(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        if let Some(lsn) = lsn {
            segments.push(Segment { first_lsn: Lsn(lsn), path });
        }
    }
    segments.sort();
    Ok(segments)
}

/// The name of the segment that begins with `first_lsn`.
pub(crate) fn path(dir: &Path, first_lsn: Lsn) -> PathBuf {
    dir.join(format!("{:020}.vjl", first_lsn.0))
}

/// Makes a segment of `bytes` preallocated bytes that begins with `head`, durable under its name.
pub(crate) fn create(
    disk: &dyn Disk,
    dir: &Path,
    first_lsn: Lsn,
    bytes: u64,
    head: &[u8],
) -> io::Result<Box<dyn DiskFile>> {
    let name = path(dir, first_lsn);
    let unnamed = name.with_extension("vjl.new");
    let bytes = bytes.max(u64::try_from(head.len()).unwrap_or(u64::MAX));
    let made = fill(disk, &unnamed, bytes, head);
    let file = made.inspect_err(|_| {
        // What it took of a full disk is given back; where that fails, the next attempt tries again.
        disk.remove(&unnamed).ok();
    })?;
    disk.rename(&unnamed, &name)?;
    disk.sync_dir(dir)?;
    Ok(file)
}

fn fill(disk: &dyn Disk, path: &Path, bytes: u64, head: &[u8]) -> io::Result<Box<dyn DiskFile>> {
    let file = disk.create(path, bytes)?;
    file.write_all_at(head, 0)?;
    file.sync_all()?;
    Ok(file)
}

/// Removes what a crash left of a segment that had no name yet.
pub(crate) fn remove_unnamed(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path
            .to_str()
            .is_some_and(|path| path.ends_with(".vjl.new") || path.ends_with("/start.new"))
        {
            disk.remove(&path)?;
        }
    }
    Ok(())
}

/// What a file says of itself where it begins as a segment does, whatever its name; nothing else of it is checked.
pub(crate) fn peek(path: &Path) -> io::Result<Option<SegmentHeader>> {
    let mut start = Vec::new();
    File::open(path)?.take(HEAD_BYTES_MAX).read_to_end(&mut start)?;
    let header = start.first_chunk().and_then(Header::parse);
    let header = header.filter(|header| header.kind == FrameKind::Segment);
    let body = header.and_then(|header| start.get(HEADER_BYTES..HEADER_BYTES + header.body_bytes));
    Ok(body.and_then(|body| SegmentHeader::parse(body).ok()))
}

/// More than a segment's first frame has: its name's bytes and a hundred or so.
const HEAD_BYTES_MAX: u64 = 4096;
