//! Segment files: their names, their first frame, how one is made.
//!
//! A segment gets its name only once its header and the frames carried into it are durable, so a
//! named segment without a header was never written by a crash.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use types::clock::Timestamp;

use crate::codec::{Cursor, Malformed, put_str, put_timestamp, put_u16, put_u32, put_u64};
use crate::frame::{Chain, VERSION, is_known};
use crate::record::{BootId, Lsn, NAME_BYTES_MAX};

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

/// The segments in `dir`, in order; other files are passed over.
pub fn list(dir: &Path) -> io::Result<Vec<Segment>> {
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
pub(crate) fn create(dir: &Path, first_lsn: Lsn, bytes: u64, head: &[u8]) -> io::Result<File> {
    let name = path(dir, first_lsn);
    let unnamed = name.with_extension("vjl.new");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unnamed)?;
    let bytes = bytes.max(u64::try_from(head.len()).unwrap_or(u64::MAX));
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // Not every file system can preallocate; there the file is sparse and a full disk shows
        // at the write.
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes)?,
        other => other?,
    }
    file.write_all_at(head, 0)?;
    file.sync_all()?;
    std::fs::rename(&unnamed, &name)?;
    sync_dir(dir)?;
    Ok(file)
}

/// Removes what a crash left of a segment that had no name yet.
pub(crate) fn remove_unnamed(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.to_str().is_some_and(|path| path.ends_with(".vjl.new")) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Makes the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
