//! Writing past the page cache: what is durable when the call returns is not copied, marked and searched for before.
//!
//! A disk takes whole blocks then. The last one, begun by one write and ended by a later one, is written again with the same
//! beginning, as the page cache would.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// What a write is a multiple of, in the file and in memory: as much as any disk asks for (open(2), `O_DIRECT`).
const BLOCK_BYTES: usize = 4096;

/// The most that is written so; a commit of more takes long enough for the page cache not to matter.
const BUFFER_BYTES: usize = 64 * BLOCK_BYTES;

/// A file whose writes go to the disk at once.
#[derive(Debug)]
pub(super) struct Direct {
    file: File,
    /// What may be written so of the file, in bytes.
    length: u64,
    /// [`BUFFER_BYTES`] from `aligned` on; one for each journal that is open, 260 KiB.
    buffer: Vec<u8>,
    aligned: usize,
    /// Where the last write ended; the buffer begins with what its last block has up to there.
    end: Option<u64>,
}

impl Direct {
    /// Opens a file of `length` bytes.
    ///
    /// # Errors
    /// If the file system can't, or refuses.
    pub(super) fn open(path: &Path, length: u64) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
        let buffer = vec![0; BUFFER_BYTES + BLOCK_BYTES];
        let aligned = buffer.as_ptr().align_offset(BLOCK_BYTES);
        Ok(Self { file, length, buffer, aligned, end: None })
    }

    /// Writes `parts`, one behind the other, from `offset` on, and zeros to the end of a block; durable when it returns.
    /// What its first block has before is read from `file`, the same one, if it isn't known. False, and nothing done, where
    /// that is too much or beyond the file.
    ///
    /// # Errors
    /// If the system refuses; what was written is unknown then.
    pub(super) fn write(
        &mut self,
        file: &File,
        parts: [&[u8]; 2],
        offset: u64,
    ) -> io::Result<bool> {
        let block = u64::try_from(BLOCK_BYTES).map_err(io::Error::other)?;
        let lead = usize::try_from(offset % block).map_err(io::Error::other)?;
        let start = offset - offset % block;
        let bytes = parts.iter().fold(lead, |bytes, part| bytes.saturating_add(part.len()));
        let whole = bytes.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(usize::MAX);
        let end = start.saturating_add(u64::try_from(whole).map_err(io::Error::other)?);
        let buffer = self.buffer.get_mut(self.aligned..self.aligned + BUFFER_BYTES);
        let Some(out) =
            buffer.and_then(|buffer| buffer.get_mut(..whole)).filter(|_| end <= self.length)
        else {
            return Ok(false);
        };
        if self.end.take() != Some(offset) {
            let (before, _) = out.split_at_mut(lead);
            file.read_exact_at(before, start)?;
        }
        let mut rest = out.get_mut(lead..).unwrap_or_default();
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        rest.fill(0);
        let written = pwritev2(&self.file, &[IoSlice::new(out)], start, ReadWriteFlags::DSYNC)?;
        if written != whole {
            return Err(io::ErrorKind::WriteZero.into());
        }
        out.copy_within(bytes - bytes % BLOCK_BYTES.., 0);
        self.end = offset.checked_add(u64::try_from(bytes - lead).map_err(io::Error::other)?);
        Ok(true)
    }
}

/// Whether the system says that it can't write so at all.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::super::{Disk, Os};
    use super::*;

    /// What is in the file is what was written, however the writes lie in blocks, and whoever wrote between.
    #[test]
    fn writes_one_behind_the_other_whatever_their_lengths() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let length = 2_000_000;
        let mut file = Os.create(&path, length).unwrap();
        let mut expected = Vec::new();
        let mut dice = 7_u64;
        let mut fill = 0_u8;
        while expected.len() < 1_900_000 {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let roll = usize::try_from(dice >> 33).unwrap();
            // Small ones, some that end with a block, some that are too long to be written so.
            let first = match roll % 16 {
                0 => BLOCK_BYTES - expected.len() % BLOCK_BYTES,
                1 => BUFFER_BYTES + roll % 7,
                2 => 0,
                _ => roll / 16 % 9000,
            };
            fill = fill % 250 + 1;
            let (first, second) = (vec![fill; first], vec![fill + 1; roll / 7 % 700]);
            let offset = u64::try_from(expected.len()).unwrap();
            if roll % 11 == 0 {
                file.write_all_at(&first, offset).unwrap();
                file.write_all_at(&second, offset + u64::try_from(first.len()).unwrap()).unwrap();
                file.sync_data().unwrap();
            } else {
                file.write_durable([&first, &second], offset).unwrap();
            }
            expected.extend(first);
            expected.extend(second);
            if roll % 5 == 0 {
                // Somebody reads on the way, and has the page cache hold what is behind.
                let read = std::fs::read(&path).unwrap();
                assert!(read.get(..expected.len()) == Some(&expected[..]), "{}", expected.len());
            }
        }
        let read = std::fs::read(&path).unwrap();
        assert!(read.get(..expected.len()) == Some(&expected[..]));
        assert!(read[expected.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(
            u64::try_from(read.len()).unwrap(),
            length.max(u64::try_from(expected.len()).unwrap())
        );
    }

    #[test]
    fn what_does_not_fit_is_left_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        std::fs::write(&path, [0; 10_000]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let Ok(mut direct) = Direct::open(&path, 10_000) else { return };
        assert!(direct.write(&file, [&[1; 5000], &[2]], 0).unwrap());
        assert!(!direct.write(&file, [&[3; 3200], &[]], 5001).unwrap(), "a block beyond the end");
        assert!(!direct.write(&file, [&vec![3; BUFFER_BYTES], &[]], 5001).unwrap(), "too much");
        assert!(direct.write(&file, [&[4; 3000], &[]], 5001).unwrap());
        let read = std::fs::read(&path).unwrap();
        assert_eq!([read[4999], read[5000], read[5001], read[8000], read[8001]], [1, 2, 4, 4, 0]);
        assert_eq!(read.len(), 10_000);
    }
}
