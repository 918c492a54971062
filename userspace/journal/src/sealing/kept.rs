//! The key of the next seal as this host keeps it: one sector of a file, written over in place, so that what it held
//! before is gone as far as the file system and the disk let that be.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{SealBody, Secret};
use crate::disk::{Disk, DiskFile};
use crate::frame::FrameKind;
use crate::reader::{ReadError, SegmentReader};
use crate::segment;

/// Bytes of the file: what disks write as a whole.
const SECTOR: usize = 512;

const MAGIC: &[u8; 16] = b"vestibule-seal/1";

/// Bytes of it that are used: magic, id, index, key, and SHA-256 over these.
const USED: usize = 16 + 8 + 8 + 32 + 32;

/// The key of the next seal.
#[derive(Debug)]
pub(crate) struct Kept {
    file: Box<dyn DiskFile>,
    /// The first secret's name.
    pub(crate) id: [u8; 8],
    /// The next seal's number.
    pub(crate) next: u64,
    pub(crate) secret: Secret,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The system refused.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is not as it was written.
    #[error("{} does not hold the key of the journal's seals", .0.display())]
    Malformed(PathBuf),
}

/// Begins with the first secret: writes the file, which must not be there.
///
/// # Errors
/// If the system refuses.
pub fn begin(disk: &dyn Disk, path: &Path, first: &Secret) -> Result<(), KeptError> {
    let fail = |source| KeptError::Io { path: path.to_owned(), source };
    if path.exists() {
        return Err(fail(io::ErrorKind::AlreadyExists.into()));
    }
    let unnamed = path.with_extension("new");
    let file = disk.create(&unnamed, SECTOR as u64).map_err(fail)?;
    let sector = sector(first.id(), 0, first);
    file.write_all_at(&*sector, 0).and_then(|()| file.sync_all()).map_err(fail)?;
    disk.rename(&unnamed, path).map_err(fail)?;
    path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir)).map_err(fail)
}

impl Kept {
    /// The key in a file.
    ///
    /// # Errors
    /// If the system refuses, or the file holds something else.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, KeptError> {
        let fail = |source| KeptError::Io { path: path.to_owned(), source };
        let file = disk.open(path).map_err(fail)?;
        let mut sector = Zeroizing::new([0; SECTOR]);
        file.read_exact_at(&mut *sector, 0).map_err(fail)?;
        let (id, next, secret) = parse(&sector).ok_or(KeptError::Malformed(path.to_owned()))?;
        Ok(Self { file, id, next, secret })
    }

    /// Gives the key up for the next seal's: it is over on disk when this returns.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        let secret = self.secret.next();
        let sector = sector(self.id, self.next + 1, &secret);
        self.file.write_all_at(&*sector, 0)?;
        self.file.sync_data()?;
        // What it was is zeroed where it is dropped.
        self.secret = secret;
        self.next += 1;
        Ok(())
    }

    /// Gives up the keys up to that of the seal `index`.
    pub(crate) fn advance_beyond(&mut self, index: u64) -> io::Result<()> {
        while self.next < index {
            self.secret = self.secret.next();
            self.next += 1;
        }
        if self.next == index { self.advance() } else { Ok(()) }
    }
}

fn sector(id: [u8; 8], next: u64, secret: &Secret) -> Zeroizing<[u8; SECTOR]> {
    let mut used = Vec::with_capacity(USED);
    used.extend_from_slice(MAGIC);
    used.extend_from_slice(&id);
    used.extend_from_slice(&next.to_be_bytes());
    used.extend_from_slice(secret.expose());
    used.extend_from_slice(&Sha256::digest(&used));
    let mut sector = Zeroizing::new([0; SECTOR]);
    for (to, from) in sector.iter_mut().zip(&used) {
        *to = *from;
    }
    used.zeroize();
    sector
}

fn parse(sector: &[u8; SECTOR]) -> Option<([u8; 8], u64, Secret)> {
    let (said, rest) = sector.split_at_checked(USED - 32)?;
    let check = rest.first_chunk::<32>()?;
    if Sha256::digest(said).as_slice() != check {
        return None;
    }
    let (magic, said) = said.split_first_chunk::<16>()?;
    let (id, said) = said.split_first_chunk::<8>()?;
    let (next, secret) = said.split_first_chunk::<8>()?;
    let secret = Secret::new(secret.try_into().ok()?);
    (magic == MAGIC).then_some((*id, u64::from_be_bytes(*next), secret))
}

/// The last seal in the journal in `dir`, as far as it can be read; `None` where it has none.
///
/// # Errors
/// If it can't be listed.
pub(crate) fn last_seal(dir: &Path) -> io::Result<Option<SealBody>> {
    for segment in segment::list(dir)?.iter().rev() {
        // Damage is told of elsewhere: what stands before it counts.
        let mut found = None;
        let mut read = || -> Result<(), ReadError> {
            let mut reader = SegmentReader::open(segment)?;
            while let Some(frame) = reader.next_frame()? {
                if frame.header.kind == FrameKind::Seal {
                    found = SealBody::parse(frame.body).ok().or(found);
                }
            }
            Ok(())
        };
        if let Err(ReadError { fault: crate::reader::Fault::Io(error), .. }) = read() {
            return Err(error);
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
