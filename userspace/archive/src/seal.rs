//! Turns what the journal holds into the archive, in steps; each ends with a signed checkpoint.
//!
//! Order of a step: Parquet files, texts, manifest, tiles, checkpoint, twice: once to keep and once as the newest. The checkpoint's rename is
//! the commit: whatever lies beyond it is of an interrupted step and goes at the next one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use journal::assemble::{AssembleError, Rows};
use journal::record::Lsn;
use journal::row::{Row, Table};
use sha2::{Digest, Sha256};
use types::clock::Timestamp;
use types::hex::hex;

use crate::key::{KeyError, Rotation, Signer};
use crate::layout::{self, FileEntry, Manifest};
use crate::log::{Log, LogError};
use crate::merkle::Tile;
use crate::note::Checkpoint;
use crate::writer::{TableFile, WriteError, Written};
use crate::{compacted, files, questions, schema, texts, trino, worm};

/// Rows of one step at most: its leaves take 4 Mi × 32 B = 128 MiB when it is verified, and no
/// Parquet file has more rows.
pub const STEP_ROWS_MAX: u64 = 4 * 1024 * 1024;

/// The size at which a Parquet file ends and another begins.
pub const FILE_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Parquet files open at once: four tables on two days around midnight. A further one ends the
/// one that was begun first.
const FILES_OPEN_MAX: usize = 8;

const DAY_US: i64 = 86_400_000_000;

/// An archive that one node fills.
#[derive(Clone, Debug)]
pub struct Archive {
    dir: PathBuf,
    node: String,
    is_immutable: bool,
}

/// What is sealed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Rows under the checkpoint.
    pub tree_size: u64,
    /// The tree's root, base64.
    pub root: String,
    /// The files written, below the archive's folder; none if there was nothing to seal.
    pub files: Vec<String>,
}

/// Why nothing, or not everything, was sealed. What was sealed stays so.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The system refused.
    #[error("cannot write the archive at {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log is not as it was left.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The key that follows could not be put in force.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A Parquet file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The journal can't be read.
    #[error("cannot read the journal: {0}")]
    Journal(#[from] AssembleError),
    /// The journal is another node's.
    #[error("journal is of node {0}")]
    OtherNode(String),
    /// The journal lacks rows between the archive's last and its own first.
    #[error("journal does not continue the archive: row {expected} is due, {found} comes")]
    Gap {
        /// The row that is due.
        expected: u64,
        /// The row that came.
        found: u64,
    },
    /// The journal yields fewer rows than are sealed: it was rolled back.
    #[error("journal holds {journal} rows, the archive {sealed}")]
    RolledBack {
        /// The journal's.
        journal: u64,
        /// The archive's.
        sealed: u64,
    },
}

impl Archive {
    /// The archive in `dir`, which is made if it is absent, as `node` fills it.
    pub fn open(dir: &Path, node: &str) -> Result<Self, SealError> {
        files::make_dir(dir).map_err(io_error(dir))?;
        Ok(Self { dir: dir.to_owned(), node: node.to_owned(), is_immutable: false })
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The same, whose sealed files are made unchangeable ([`worm`]).
    #[must_use]
    pub fn immutable(self) -> Self {
        Self { is_immutable: true, ..self }
    }

    /// The rows under the checkpoint of `epoch`; 0 where there is none. A journal that yields
    /// fewer was rolled back.
    pub fn sealed_rows(&self, epoch: i32, signer: &Signer) -> Result<u64, SealError> {
        let origin = layout::origin(&self.node, epoch);
        Ok(Log::load(&self.dir, &origin, &signer.keys())?.tree.size())
    }

    /// Archives the rows that the journal in `journal` yields up to the frame `durable` and are not
    /// archived yet, and signs a checkpoint over all. Waits for another seal or a verification of
    /// this archive to end.
    pub fn seal(
        &self,
        journal: &Path,
        durable: Lsn,
        signer: &mut Signer,
        now: Timestamp,
    ) -> Result<Sealed, SealError> {
        let fail = io_error(&self.dir);
        let _lock = File::open(&self.dir).and_then(|f| f.lock().map(|()| f)).map_err(fail)?;
        let (node, epoch) = first_header(journal)?;
        if node != self.node {
            return Err(SealError::OtherNode(node));
        }
        let origin = layout::origin(&self.node, epoch);
        let mut log = Log::load(&self.dir, &origin, &signer.keys())?;
        // Before a step is written that nobody could sign.
        signer.is_there()?;
        signer
            .catch_up(&fs::read_to_string(log.dir.join(layout::CHECKPOINT)).unwrap_or_default())?;
        log.remove_orphans(&self.dir, &self.node, epoch).map_err(io_error(&self.dir))?;
        let sealed = log.tree.size();
        let mut rows = Rows::open(journal, sealed, Some(durable))?;
        let mut written = Vec::new();
        let mut step = Step { archive: self, epoch, signer, now };
        while step.run(&mut log, &mut rows, &mut written)? {}
        let begins = rows.segment().map(|header| header.first_seq);
        let held = rows.next_seq().or(begins).unwrap_or(0);
        if held < sealed {
            return Err(SealError::RolledBack { journal: held, sealed });
        }
        let root = BASE64.encode(log.tree.root());
        Ok(Sealed { tree_size: log.tree.size(), root, files: written })
    }
}

/// One step of sealing.
struct Step<'a> {
    archive: &'a Archive,
    epoch: i32,
    signer: &'a mut Signer,
    now: Timestamp,
}

impl Step<'_> {
    /// Seals up to [`STEP_ROWS_MAX`] rows; false if there were none.
    fn run(
        &mut self,
        log: &mut Log,
        rows: &mut Rows,
        written: &mut Vec<String>,
    ) -> Result<bool, SealError> {
        let first_seq = log.tree.size();
        let mut tables = Tables {
            dir: &self.archive.dir,
            node: &self.archive.node,
            epoch: self.epoch,
            origin: log.origin.clone(),
            open: BTreeMap::new(),
            done: Vec::new(),
        };
        let (mut full, mut buffer) = (Vec::new(), Vec::with_capacity(64 * 1024));
        while log.tree.size() - first_seq < STEP_ROWS_MAX {
            let Some(row) = rows.next_row()? else { break };
            let (expected, found) = (log.tree.size(), row.seq().0);
            if expected != found {
                return Err(SealError::Gap { expected, found });
            }
            log.tree.push(row.leaf_hash_in(&mut buffer), &mut full);
            if let Row::Control(row) = &row
                && row.kind == Rotation::KIND
            {
                self.signer.follow(&row.detail);
            }
            full.retain(|tile: &Tile| tile.level > 0);
            tables.push(row)?;
        }
        if log.tree.size() == first_seq {
            return Ok(false);
        }
        let mut entries = tables.finish()?;
        entries.extend(self.texts(log)?);
        written.extend(entries.iter().map(|entry| entry.path.clone()));
        self.commit(log, first_seq, entries, &full)?;
        Ok(true)
    }

    /// Writes the texts that are not as the manifests list them.
    fn texts(&self, log: &mut Log) -> Result<Vec<FileEntry>, SealError> {
        let dir = &self.archive.dir;
        let has = |table: Table| compacted::has_days(dir, table);
        let key = format!("{}/{}", layout::log_dir(&log.origin), layout::KEY);
        let questions = questions::all().map(|question| {
            let path = format!("{}/{}.sql", layout::QUESTIONS, question.name);
            (path, question.template().to_owned())
        });
        let all = questions.chain([
            (layout::README.to_owned(), texts::readme()),
            (layout::VIEWS.to_owned(), texts::views(has)),
            (layout::SPARK_VIEWS.to_owned(), texts::spark_views(has)),
            (layout::TRINO_VIEWS.to_owned(), trino::views(has)),
            (key, self.signer.lines()),
            (schema::path(), schema::text().map_err(WriteError::from)?),
        ]);
        let mut entries = Vec::new();
        for (path, text) in all {
            let entry = FileEntry {
                path: path.clone(),
                table: None,
                sha256: hex(&Sha256::digest(&text)),
                bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
                rows: 0,
                first_seq: 0,
                last_seq: 0,
            };
            let file = dir.join(&path);
            let same = log.texts.get(&path) == Some(&entry)
                && fs::read(&file).is_ok_and(|bytes| bytes == text.as_bytes());
            if !same {
                files::write(&file, text.as_bytes(), 0o644).map_err(io_error(&file))?;
                log.texts.insert(path, entry.clone());
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn commit(
        &mut self,
        log: &mut Log,
        first_seq: u64,
        files: Vec<FileEntry>,
        full: &[Tile],
    ) -> Result<(), SealError> {
        let write = |name: &Path, bytes: &[u8]| {
            let path = log.dir.join(name);
            files::write(&path, bytes, 0o644).map_err(io_error(&path))
        };
        let size = log.tree.size();
        let previous = hex(&log.manifest);
        let sealed_us = self.now.unix_us;
        let tables = files.iter().filter(|entry| entry.table.is_some());
        let manifested: Vec<String> = tables.map(|entry| entry.path.clone()).collect();
        let manifest = Manifest { previous, sealed_us, first_seq, tree_size: size, files };
        let manifest = serde_json::to_vec_pretty(&manifest)
            .map_err(|e| io_error(&log.dir)(io::Error::other(e)))?;
        write(Path::new(&layout::manifest(first_seq, size)), &manifest)?;
        for tile in full.iter().cloned().chain(log.tree.partial()) {
            write(&tile.path(), &tile.bytes())?;
        }
        let checkpoint = Checkpoint {
            origin: log.origin.clone(),
            size,
            root: log.tree.root(),
            manifest: Sha256::digest(&manifest).into(),
        };
        let note = self.signer.sign(&checkpoint)?;
        write(Path::new(&layout::checkpoint(size)), note.as_bytes())?;
        write(Path::new(layout::CHECKPOINT), note.as_bytes())?;
        self.signer.settle()?;
        log.manifest = checkpoint.manifest;
        if self.archive.is_immutable {
            let tables = manifested.iter().map(|path| self.archive.dir.join(path));
            let tiles = full.iter().filter(|tile| worm::is_full(tile));
            let own = [layout::manifest(first_seq, size), layout::checkpoint(size)];
            let all = tables
                .chain(tiles.map(|tile| log.dir.join(tile.path())))
                .chain(own.iter().map(|name| log.dir.join(name)));
            for path in all {
                worm::protect(&path).map_err(io_error(&path))?;
            }
        }
        log.remove_tiles().map_err(io_error(&log.dir))
    }
}

/// The Parquet files of one step.
struct Tables<'a> {
    dir: &'a Path,
    node: &'a str,
    epoch: i32,
    origin: String,
    open: BTreeMap<(Table, i64), TableFile>,
    done: Vec<FileEntry>,
}

impl Tables<'_> {
    fn push(&mut self, row: Row) -> Result<(), SealError> {
        let key = (row.table(), row.ts().0.div_euclid(DAY_US));
        if !self.open.contains_key(&key) {
            while self.open.len() >= FILES_OPEN_MAX {
                let oldest = self.open.keys().min_by_key(|(table, day)| (*day, *table)).copied();
                oldest.map_or(Ok(()), |key| self.end(key))?;
            }
            let seq = row.seq().0;
            let name = layout::parquet(key.0, key.1, self.node, self.epoch, (seq, seq));
            let unfinished = self.dir.join(name + files::UNFINISHED);
            self.open.insert(key, TableFile::create(key.0, unfinished, &self.origin)?);
        }
        if let Some(file) = self.open.get_mut(&key) {
            file.push(row)?;
            if file.bytes() >= FILE_BYTES_MAX {
                self.end(key)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, key: (Table, i64)) -> Result<(), SealError> {
        let Some(file) = self.open.remove(&key) else { return Ok(()) };
        let (table, day) = key;
        let name = |seqs| layout::parquet(table, day, self.node, self.epoch, seqs);
        let Written { sha256, bytes, rows, seqs } =
            file.finish(|seqs| self.dir.join(name(seqs)))?;
        self.done.push(FileEntry {
            path: name(seqs),
            table: Some(table.as_str().to_owned()),
            sha256: hex(&sha256),
            bytes,
            rows,
            first_seq: seqs.0,
            last_seq: seqs.1,
        });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<FileEntry>, SealError> {
        while let Some(key) = self.open.keys().next().copied() {
            self.end(key)?;
        }
        self.done.sort_by_key(|entry| entry.first_seq);
        Ok(self.done)
    }
}

/// The node and epoch of a journal, by its first segment.
fn first_header(journal: &Path) -> Result<(String, i32), SealError> {
    let segments = journal::segment::list(journal).map_err(AssembleError::from)?;
    let none = || AssembleError::List(io::Error::new(io::ErrorKind::NotFound, "no segments"));
    let first = segments.first().ok_or_else(none)?;
    let reader = journal::reader::SegmentReader::open(first).map_err(AssembleError::from)?;
    let header = reader.header();
    Ok((header.node.clone(), i32::try_from(header.epoch).unwrap_or(i32::MAX)))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SealError {
    let path = path.to_owned();
    move |source| SealError::Io { path, source }
}
