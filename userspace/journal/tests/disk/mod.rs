//! A disk that remembers what was asked of it, and what could be left of that when the power goes.
//!
//! Everything also happens on the real file system, so that whoever writes can read. What a power loss leaves is
//! made of the memory: what was synced is there; of what was not, any sectors are, in any order of writing; a file
//! is as long as it was after any of the operations since its last sync; of names changed since the folder's last
//! sync a beginning took effect, because file systems keep the order of those.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use journal::disk::{Disk, DiskFile, Os};
use journal::record::Lsn;

/// Bytes that a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// Something that was asked, in the order in which it was begun; syncs in that in which they ended.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create {
        file: usize,
        path: PathBuf,
        bytes: u64,
    },
    Write {
        file: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    SetLen {
        file: usize,
        bytes: usize,
    },
    Sync {
        file: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    SyncDir,
    /// No operation: somebody was told that this record is durable.
    Acknowledged(Lsn),
}

/// The memory, from files that were durable when it began.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    begun: BTreeMap<PathBuf, usize>,
    durable: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, usize>,
    pub(crate) ops: Vec<Op>,
    files: usize,
}

/// The disk; clones share its memory.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    memory: Arc<Mutex<Memory>>,
    /// Syncs of a file's data are answered and not made: a disk that lies.
    pub(crate) lies: bool,
}

impl Recorded {
    /// A disk that has the files in `dir`, all of them durable.
    pub(crate) fn over(dir: &Path) -> Self {
        let mut memory = Memory::default();
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            memory.begun.insert(path.clone(), memory.files);
            memory.durable.push(std::fs::read(&path).unwrap());
            memory.files += 1;
        }
        memory.names = memory.begun.clone();
        Self { memory: Arc::new(Mutex::new(memory)), lies: false }
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    /// Notes that somebody was told.
    pub(crate) fn acknowledged(&self, lsn: Lsn) {
        self.push(Op::Acknowledged(lsn));
    }

    fn push(&self, op: Op) {
        self.memory().ops.push(op);
    }
}

impl Disk for Recorded {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut memory = self.memory();
        let file = memory.files;
        memory.files += 1;
        memory.names.insert(path.to_owned(), file);
        memory.ops.push(Op::Create { file, path: path.to_owned(), bytes });
        drop(memory);
        Ok(Box::new(RecordedFile { disk: self.clone(), file, real: Os.create(path, bytes)? }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let real = Os.open(path)?;
        let file = *self.memory().names.get(path).expect("it was made here");
        Ok(Box::new(RecordedFile { disk: self.clone(), file, real }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut memory = self.memory();
        let file = memory.names.remove(from).expect("it was made here");
        memory.names.insert(to.to_owned(), file);
        memory.ops.push(Op::Rename { from: from.to_owned(), to: to.to_owned() });
        drop(memory);
        Os.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut memory = self.memory();
        memory.names.remove(path);
        memory.ops.push(Op::Remove { path: path.to_owned() });
        drop(memory);
        Os.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.push(Op::SyncDir);
        Ok(())
    }
}

#[derive(Debug)]
struct RecordedFile {
    disk: Recorded,
    file: usize,
    real: Box<dyn DiskFile>,
}

impl DiskFile for RecordedFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.real.read_exact_at(bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).unwrap();
        self.disk.push(Op::Write { file: self.file, offset: at, bytes: bytes.to_vec() });
        self.real.write_all_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.disk.push(Op::SetLen { file: self.file, bytes: usize::try_from(bytes).unwrap() });
        self.real.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.disk.lies {
            self.disk.push(Op::Sync { file: self.file });
        }
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.push(Op::Sync { file: self.file });
        Ok(())
    }

    fn forget(&self) {}

    fn space(&self) -> io::Result<(u64, u64)> {
        self.real.space()
    }
}

/// A file while the memory is gone through again.
#[derive(Clone, Debug, Default)]
struct Content {
    durable: Vec<u8>,
    /// What was written since its last sync, and how long it was after each.
    since: Vec<(usize, Vec<u8>)>,
    lengths: Vec<usize>,
    length: usize,
}

impl Content {
    fn resize(&mut self, length: usize) {
        self.length = length;
        self.lengths.push(length);
    }

    fn sync(&mut self) {
        let written = std::mem::take(&mut self.since);
        let longest = self.lengths.iter().copied().max().unwrap_or(0).max(self.durable.len());
        self.durable.resize(longest, 0);
        for (offset, bytes) in written {
            self.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        self.durable.resize(self.length, 0);
        self.lengths.clear();
    }

    /// What could be there without a sync.
    fn torn(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let longest = self.lengths.iter().copied().max().unwrap_or(0).max(bytes.len());
        bytes.resize(longest, 0);
        let share = *dice.pick(&[0, 10, 50, 90, 100]);
        for (offset, written) in &self.since {
            let mut at = 0;
            while at < written.len() {
                let start = offset + at;
                let end = (start / SECTOR_BYTES + 1) * SECTOR_BYTES;
                let part = (end - start).min(written.len() - at);
                if dice.below(100) < share {
                    bytes[start..start + part].copy_from_slice(&written[at..at + part]);
                }
                at += part;
            }
        }
        let number = dice.below(self.lengths.len() as u64 + 1);
        let length = usize::try_from(number).unwrap().checked_sub(1);
        bytes.resize(length.map_or(self.durable.len(), |number| self.lengths[number]), 0);
        bytes
    }
}

impl Memory {
    /// Leaves in `dir` what could be left if the power goes before the operation number `before`; answers the last
    /// record that somebody was told to be durable by then.
    pub(crate) fn lose_power(&self, before: usize, dice: &mut Dice, dir: &Path) -> Lsn {
        let mut files: Vec<Content> = vec![Content::default(); self.files];
        for (file, bytes) in files.iter_mut().zip(&self.durable) {
            *file = Content { durable: bytes.clone(), length: bytes.len(), ..Content::default() };
        }
        let mut names = self.begun.clone();
        let mut renamed: Vec<&Op> = Vec::new();
        let mut acknowledged = Lsn(0);
        for op in &self.ops[..before] {
            match op {
                Op::Create { file, bytes, .. } => {
                    files[*file].resize(usize::try_from(*bytes).unwrap());
                    renamed.push(op);
                }
                Op::Write { file, offset, bytes } => {
                    let file = &mut files[*file];
                    let length = file.length.max(offset + bytes.len());
                    file.since.push((*offset, bytes.clone()));
                    file.resize(length);
                }
                Op::SetLen { file, bytes } => files[*file].resize(*bytes),
                Op::Sync { file } => files[*file].sync(),
                Op::Rename { .. } | Op::Remove { .. } => renamed.push(op),
                Op::SyncDir => {
                    for op in renamed.drain(..) {
                        apply(op, &mut names);
                    }
                }
                Op::Acknowledged(lsn) => acknowledged = acknowledged.max(*lsn),
            }
        }
        let kept = usize::try_from(dice.below(renamed.len() as u64 + 1)).unwrap();
        renamed.truncate(kept);
        for op in renamed {
            apply(op, &mut names);
        }
        for (path, file) in names {
            let bytes = files[file].torn(dice);
            std::fs::write(dir.join(path.file_name().unwrap()), bytes).unwrap();
        }
        acknowledged
    }
}

fn apply(op: &Op, names: &mut BTreeMap<PathBuf, usize>) {
    match op {
        Op::Create { file, path, .. } => {
            names.insert(path.clone(), *file);
        }
        Op::Rename { from, to } => {
            let file = names.remove(from).expect("names are in order");
            names.insert(to.clone(), file);
        }
        Op::Remove { path } => {
            names.remove(path);
        }
        _ => {}
    }
}

/// Chance that can be had again (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}
