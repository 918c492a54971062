//! What a journal asks of the disk: few operations, each of which a test can watch, delay or fail.
//!
//! [`Os`] is the only one in the product. Reading for recovery, sealing and verifying goes to the files themselves.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fdatasync, fstatvfs};

use self::direct::Direct;

mod direct;

/// Where segments are made.
pub trait Disk: Debug + Send + Sync {
    /// Makes a file, empty if it was there, with `bytes` set aside for it and read as zeros.
    ///
    /// # Errors
    /// If the system refuses, or there is no space.
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, to read and write.
    ///
    /// # Errors
    /// If the system refuses.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, which may be another file's; durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// If the system refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file away; durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// If the system refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// If the system refuses; which names are durable is unknown then.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file of a [`Disk`].
pub trait DiskFile: Debug + Send {
    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// If the system refuses, or the file ends before.
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes `bytes` at `offset`; durable after a sync.
    ///
    /// # Errors
    /// If the system refuses; what was written is unknown then.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file this long; durable after a sync.
    ///
    /// # Errors
    /// If the system refuses.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes what was written durable, and as much about the file as reading that takes.
    ///
    /// # Errors
    /// If the system refuses; what is durable is unknown then, also after a later sync that succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Writes `parts`, one behind the other, from `offset` on, where the file has nothing but zeros, and makes them durable;
    /// what [`DiskFile::write_all_at`] wrote before is durable by a sync of its own.
    ///
    /// # Errors
    /// As [`DiskFile::write_all_at`] and [`DiskFile::sync_data`].
    fn write_durable(&mut self, parts: [&[u8]; 2], offset: u64) -> io::Result<()> {
        write_and_sync(self, parts, offset)
    }

    /// Makes everything about the file durable.
    ///
    /// # Errors
    /// As [`DiskFile::sync_data`].
    fn sync_all(&self) -> io::Result<()>;

    /// Has what is read next come from the disk, as far as the system does that.
    fn forget(&self);

    /// Free bytes of the file system, and how many it has.
    ///
    /// # Errors
    /// If the system can't say.
    fn space(&self) -> io::Result<(u64, u64)>;
}

/// [`DiskFile::write_durable`] by the two of which any disk makes it.
fn write_and_sync(
    file: &(impl DiskFile + ?Sized),
    parts: [&[u8]; 2],
    offset: u64,
) -> io::Result<()> {
    let mut at = offset;
    for part in parts {
        file.write_all_at(part, at)?;
        at += u64::try_from(part.len()).map_err(io::Error::other)?;
    }
    file.sync_data()
}

/// The operating system's disk.
#[derive(Clone, Copy, Debug)]
pub struct Os;

impl Disk for Os {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // Not every file system can preallocate; there the file is sparse and a full disk shows
            // at the write.
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes)?,
            other => other?,
        }
        // Not every file system has it.
        let direct = Direct::open(path, bytes).ok();
        Ok(Box::new(OsFile { file, direct }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Box::new(OsFile { file, direct: None }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
    direct: Option<Direct>,
}

impl DiskFile for OsFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }

    fn write_durable(&mut self, parts: [&[u8]; 2], offset: u64) -> io::Result<()> {
        if let Some(direct) = &mut self.direct {
            match direct.write(&self.file, parts, offset) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                // A file system that lets a file be opened so, and then not be written.
                Err(error) if direct::is_unsupported(&error) => self.direct = None,
                Err(error) => return Err(error),
            }
        }
        write_and_sync(self, parts, offset)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn forget(&self) {
        // A hint: where it is not taken, what is read is what the system holds.
        fadvise(&self.file, 0, None, Advice::DontNeed).ok();
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let stat = fstatvfs(&self.file)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok((bytes(stat.f_bavail), bytes(stat.f_blocks)))
    }
}
