//! Leaves in the order in which files have them, to be taken by log and sequence number: in memory as far as there are few,
//! then in a file that has no name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use rustix::fs::{Mode, OFlags};

use crate::merkle::Hash;

/// Leaves in memory at most: 4 Mi × 40 B = 160 MiB. Beyond that there are 40 B a row in the folder for temporary files.
const HELD_MAX: usize = 4 * 1024 * 1024;

/// Sequence numbers of one bucket: 40 MiB when it is read.
const BUCKET: u64 = 1 << 20;

/// Bytes of a leaf with its number.
const ROW_BYTES: usize = 40;

/// A log and a range of its sequence numbers.
type Place = (u32, u64);

/// Leaves.
#[derive(Debug, Default)]
pub(super) struct Spool {
    logs: HashMap<String, u32>,
    last: Option<(String, u32)>,
    buckets: HashMap<Place, Bucket>,
    held: usize,
    file: Option<File>,
    end: u64,
    /// The bucket that was asked for last, sorted.
    open: Option<(Place, Vec<(u64, Hash)>)>,
    /// What kept it from being kept; said when it is asked for.
    fault: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Bucket {
    rows: Vec<(u64, Hash)>,
    /// Where in the file there are how many.
    extents: Vec<(u64, usize)>,
}

impl Spool {
    /// Keeps a leaf.
    pub(super) fn push(&mut self, origin: &str, seq: u64, leaf: Hash) {
        let log = match &self.last {
            Some((name, log)) if name == origin => *log,
            _ => self.log(origin),
        };
        let place = (log, seq / BUCKET);
        if self.open.as_ref().is_some_and(|(open, _)| *open == place) {
            self.open = None;
        }
        self.buckets.entry(place).or_default().rows.push((seq, leaf));
        self.held += 1;
        if self.held >= HELD_MAX
            && let Err(error) = self.flush()
        {
            self.fault.get_or_insert(error);
        }
    }

    fn log(&mut self, origin: &str) -> u32 {
        let next = u32::try_from(self.logs.len()).unwrap_or(u32::MAX);
        let log = *self.logs.entry(origin.to_owned()).or_insert(next);
        self.last = Some((origin.to_owned(), log));
        log
    }

    fn flush(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(unnamed()?),
        };
        let mut bytes = Vec::new();
        for bucket in self.buckets.values_mut().filter(|bucket| !bucket.rows.is_empty()) {
            bytes.clear();
            for (seq, leaf) in &bucket.rows {
                bytes.extend_from_slice(&seq.to_be_bytes());
                bytes.extend_from_slice(leaf);
            }
            file.write_all(&bytes)?;
            bucket.extents.push((self.end, bucket.rows.len()));
            self.end += u64::try_from(bytes.len()).unwrap_or(0);
            self.held -= bucket.rows.len();
            bucket.rows = Vec::new();
        }
        Ok(())
    }

    /// Hands the leaves of a log within a range to `each`, in order.
    pub(super) fn range(
        &mut self,
        origin: &str,
        range: Range<u64>,
        each: &mut dyn FnMut(u64, Hash),
    ) -> io::Result<()> {
        if let Some(error) = self.fault.take() {
            return Err(error);
        }
        let Some(log) = self.logs.get(origin).copied() else { return Ok(()) };
        if range.is_empty() {
            return Ok(());
        }
        for bucket in range.start / BUCKET..=(range.end - 1) / BUCKET {
            let place = (log, bucket);
            if self.open.as_ref().is_none_or(|(open, _)| *open != place) {
                let rows = self.load(place)?;
                self.open = Some((place, rows));
            }
            let rows = self.open.as_ref().map(|(_, rows)| rows.as_slice()).unwrap_or_default();
            let from = rows.partition_point(|(seq, _)| *seq < range.start);
            let rows = rows.get(from..).unwrap_or_default();
            rows.iter()
                .take_while(|(seq, _)| *seq < range.end)
                .for_each(|(s, leaf)| each(*s, *leaf));
        }
        Ok(())
    }

    fn load(&mut self, place: Place) -> io::Result<Vec<(u64, Hash)>> {
        let Some(bucket) = self.buckets.get(&place) else { return Ok(Vec::new()) };
        let mut rows = bucket.rows.clone();
        for (offset, count) in &bucket.extents {
            let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
            let mut bytes = vec![0; count * ROW_BYTES];
            file.seek(SeekFrom::Start(*offset))?;
            file.read_exact(&mut bytes)?;
            for row in bytes.as_chunks::<ROW_BYTES>().0 {
                let (seq, leaf) = row.split_at(8);
                let seq = seq.try_into().map(u64::from_be_bytes).map_err(io::Error::other)?;
                rows.push((seq, leaf.try_into().map_err(io::Error::other)?));
            }
        }
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::End(0))?;
        }
        rows.sort_unstable();
        Ok(rows)
    }
}

/// A file that nobody else sees and that is gone when it is closed.
pub(super) fn unnamed() -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_to_the_file_comes_back_with_what_did_not() {
        let mut spool = Spool::default();
        let leaf = |seq: u64| {
            let mut leaf = [0; 32];
            leaf[..8].copy_from_slice(&seq.to_le_bytes());
            leaf
        };
        for seq in (0..BUCKET + 5000).rev().step_by(7) {
            for origin in ["a", "b"] {
                spool.push(origin, seq, leaf(seq));
            }
            if seq % 11 == 0 && seq % 5 == 0 && spool.held > 10_000 {
                spool.flush().unwrap();
            }
        }
        assert!(spool.end > 0 && spool.held > 0);
        let due: Vec<u64> = (0..BUCKET + 5000)
            .rev()
            .step_by(7)
            .filter(|seq| (500..BUCKET + 100).contains(seq))
            .collect();
        let mut found = Vec::new();
        spool
            .range("b", 500..BUCKET + 100, &mut |seq, hash| {
                assert_eq!(hash, leaf(seq));
                found.push(seq);
            })
            .unwrap();
        found.reverse();
        assert_eq!(found, due);
        spool.push("b", 501, leaf(501));
        let mut count = 0;
        spool.range("b", 501..502, &mut |_, _| count += 1).unwrap();
        assert_eq!(count, 1 + usize::from(due.contains(&501)));
        spool.range("c", 0..9, &mut |_, _| unreachable!("there is no such log")).unwrap();
    }
}
