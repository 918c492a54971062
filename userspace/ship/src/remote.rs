//! A store, in the few ways in which it is used: write a name once, replace what may change, read, list.

use std::fs;
use std::io::{Read, Write};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use sha2::{Digest, Sha256};

use crate::place::{Kind, Place};
use crate::s3::{Held, S3};
use crate::state::Upload;
use crate::store::{azure, gcs, options};
use crate::{ShipError, Sum, io_error};

/// Bytes of a part of a large object: with one at a time, 8 MiB of memory; 128 MiB are 16 of the 10,000 there may be.
pub const PART_BYTES: usize = 8 * 1024 * 1024;

/// A file beyond it goes in parts, where the store is S3. Elsewhere a file goes whole: 128 MiB and a row group's 32 at
/// most (`archive::seal::FILE_BYTES_MAX`), and as much memory.
const WHOLE_BYTES_MAX: u64 = 2 * PART_BYTES as u64;

/// A text, checkpoint, manifest or tile; a manifest of 4 Mi rows with some hundred files has 100 KiB.
const SMALL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How often what may change is read again because somebody else changed it in between.
const SWAPS_MAX: usize = 4;

/// An open store.
pub struct Remote {
    url: String,
    prefix: String,
    runtime: tokio::runtime::Runtime,
    store: Arc<dyn ObjectStore>,
    s3: Option<S3>,
    swaps: bool,
    bandwidth_limit: Option<u64>,
    /// Bytes sent and read since it was opened.
    moved: u64,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was written.
    Written,
    /// It lay there already, equal.
    There,
    /// Something else lies there that is as good, and stays.
    Left,
}

/// What to do with what lies under a name that may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is an earlier state of the same: replace it.
    Earlier,
    /// It is another's, and as good.
    Others,
    /// It is neither.
    Foreign,
}

/// Until the end of which day an object is held at least, from 1970-01-01; not at all where absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Until(pub Option<i64>);

impl Remote {
    /// Opens a store; asks it nothing yet.
    ///
    /// # Errors
    /// If the place can't be used as it is configured.
    pub fn open(place: &Place) -> Result<Self, ShipError> {
        place.check()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(io_error(FilePath::new("a runtime")))?;
        let (mut s3, mut swaps) = (None, true);
        let (store, prefix): (Arc<dyn ObjectStore>, String) = match &place.kind {
            Kind::S3(bucket) => {
                let opened = S3::open(place, bucket, options(place)?)?;
                let store = opened.plain();
                s3 = Some(opened);
                (store, bucket.prefix.clone())
            }
            Kind::Gcs(bucket) => (gcs(place, bucket)?, bucket.prefix.clone()),
            Kind::Azure(bucket) => (azure(place, bucket)?, bucket.prefix.clone()),
            Kind::File(folder) => {
                // A mount point that nothing is mounted on is an empty folder: only what is there is written to, and
                // the folder itself is never made.
                let store = LocalFileSystem::new_with_prefix(folder);
                swaps = false;
                (
                    Arc::new(store.map_err(store_error("the folder"))?.with_fsync(true)),
                    String::new(),
                )
            }
        };
        let url = place.url();
        let bandwidth_limit = place.bandwidth_limit;
        Ok(Self { url, prefix, runtime, store, s3, swaps, bandwidth_limit, moved: 0 })
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Bytes sent and read since it was opened.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// S3's own questions; `None` where the store is none.
    pub(crate) fn s3(&self) -> Option<(&S3, &tokio::runtime::Runtime, &str)> {
        self.s3.as_ref().map(|s3| (s3, &self.runtime, self.prefix.as_str()))
    }

    /// Writes a small content under a name that is written once; what lies there must be equal. It is read back before
    /// it counts as written.
    ///
    /// # Errors
    /// If something else lies there, or the store fails.
    pub fn create(&mut self, name: &str, bytes: &[u8], until: Until) -> Result<Put, ShipError> {
        self.put_whole(name, Bytes::copy_from_slice(bytes), sum(bytes), until)
    }

    /// As [`Self::create`], a file whose sum is known. A large one goes in parts, and `upload` says how far it is:
    /// it is told to `save` after each part, so that who comes later goes on.
    ///
    /// # Errors
    /// Also if the file is not what `due` says.
    pub fn create_file(
        &mut self,
        name: &str,
        path: &FilePath,
        (due, until): (Sum, Until),
        upload: &mut Option<Upload>,
        save: &mut dyn FnMut(&Option<Upload>) -> Result<(), ShipError>,
    ) -> Result<Put, ShipError> {
        if due.bytes <= WHOLE_BYTES_MAX || self.s3.is_none() {
            let bytes = fs::read(path).map_err(io_error(path))?;
            if sum(&bytes) != due {
                return Err(ShipError::Changed(path.to_owned()));
            }
            return self.put_whole(name, bytes.into(), due, until);
        }
        if file_sum(path)? != due {
            return Err(ShipError::Changed(path.to_owned()));
        }
        if let Some(there) = self.sum(name)? {
            return same(name, due, there);
        }
        self.put_parts(name, path, (due, until), upload, save)?;
        self.read_back(name, due, until)?;
        Ok(Put::Written)
    }

    /// Writes a small content under a name whose content may change. What lies there is replaced where `judge` says
    /// that it is an earlier state, and only if it is still that.
    ///
    /// # Errors
    /// If what lies there is foreign, or the store fails.
    pub fn change(
        &mut self,
        name: &str,
        bytes: &[u8],
        until: Until,
        judge: &mut dyn FnMut(&[u8]) -> Judged,
    ) -> Result<Put, ShipError> {
        for _ in 0..SWAPS_MAX {
            let Some((there, version)) = self.read(name)? else {
                match self.create(name, bytes, until) {
                    Err(ShipError::Conflict { .. }) => continue,
                    done => return done,
                }
            };
            if *there == *bytes {
                return Ok(Put::There);
            }
            match judge(&there) {
                Judged::Earlier => {}
                Judged::Others => return Ok(Put::Left),
                Judged::Foreign => return same(name, sum(bytes), sum(&there)),
            }
            let mode = if self.swaps { PutMode::Update(version) } else { PutMode::Overwrite };
            match self.put(name, Bytes::copy_from_slice(bytes), mode, until) {
                Err(ShipError::Store { source, .. })
                    if matches!(
                        *source,
                        Error::Precondition { .. } | Error::AlreadyExists { .. }
                    ) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.read_back(name, sum(bytes), until)?;
                    return Ok(Put::Written);
                }
            }
        }
        let told = "it is changed by somebody else at the same time".to_owned();
        Err(ShipError::Answer { name: name.to_owned(), told })
    }

    /// An object's length; `None` where there is none.
    ///
    /// # Errors
    /// If the store fails.
    pub fn length(&self, name: &str) -> Result<Option<u64>, ShipError> {
        let path = self.path(name)?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.runtime.block_on(self.store.get_opts(&path, options)) {
            Ok(result) => Ok(Some(result.meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(store_error(name)(source)),
        }
    }

    /// An object's sum, read wholly; `None` where there is none.
    ///
    /// # Errors
    /// If the store fails.
    pub fn sum(&mut self, name: &str) -> Result<Option<Sum>, ShipError> {
        self.stream(name, &mut |_| Ok(()))
    }

    /// Brings an object into a file, which is made; answers its sum.
    ///
    /// # Errors
    /// If either side fails.
    pub fn download(&mut self, name: &str, to: &FilePath) -> Result<Option<Sum>, ShipError> {
        let mut file = fs::File::create(to).map_err(io_error(to))?;
        let found = self.stream(name, &mut |bytes| file.write_all(bytes).map_err(io_error(to)))?;
        file.sync_all().map_err(io_error(to))?;
        Ok(found)
    }

    /// A small object and its version; `None` where there is none.
    ///
    /// # Errors
    /// If it is not small, or the store fails.
    pub fn read(&mut self, name: &str) -> Result<Option<(Bytes, UpdateVersion)>, ShipError> {
        let path = self.path(name)?;
        let read = async {
            let result = match self.store.get_opts(&path, GetOptions::default()).await {
                Ok(result) => result,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(source) => return Err(store_error(name)(source)),
            };
            if result.meta.size > SMALL_BYTES_MAX {
                let told =
                    format!("{} bytes, {SMALL_BYTES_MAX} are expected at most", result.meta.size);
                return Err(ShipError::Answer { name: name.to_owned(), told });
            }
            let version = UpdateVersion {
                e_tag: result.meta.e_tag.clone(),
                version: result.meta.version.clone(),
            };
            let bytes = result.bytes().await.map_err(store_error(name))?;
            Ok(Some((bytes, version)))
        };
        let read = self.runtime.block_on(read)?;
        self.count(read.as_ref().map_or(0, |(bytes, _)| length(bytes.len())));
        Ok(read)
    }

    /// Calls `take` with the name and length of each object below `under`.
    ///
    /// # Errors
    /// If the store fails, or `take` does.
    pub fn list(
        &self,
        under: &str,
        take: &mut dyn FnMut(&str, u64) -> Result<(), ShipError>,
    ) -> Result<(), ShipError> {
        let below = self.path(under)?;
        let skip = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
        let mut objects = self.store.list(Some(&below));
        self.runtime.block_on(async {
            while let Some(object) = objects.next().await {
                let object = object.map_err(store_error(under))?;
                take(object.location.as_ref().get(skip..).unwrap_or_default(), object.size)?;
            }
            Ok(())
        })
    }

    /// The folders right below `under`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn folders(&self, under: &str) -> Result<Vec<String>, ShipError> {
        let below = self.path(under)?;
        let skip = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
        let found = self.runtime.block_on(self.store.list_with_delimiter(Some(&below)));
        let found = found.map_err(store_error(under))?.common_prefixes;
        Ok(found
            .iter()
            .map(|path| path.as_ref().get(skip..).unwrap_or_default().to_owned())
            .collect())
    }

    fn path(&self, name: &str) -> Result<Path, ShipError> {
        let full = if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.prefix)
        };
        Path::parse(full.trim_end_matches('/')).map_err(|source| store_error(name)(source.into()))
    }

    fn put_whole(
        &mut self,
        name: &str,
        bytes: Bytes,
        due: Sum,
        until: Until,
    ) -> Result<Put, ShipError> {
        match self.put(name, bytes, PutMode::Create, until) {
            Ok(()) => {
                self.read_back(name, due, until)?;
                Ok(Put::Written)
            }
            Err(ShipError::Store { source, .. })
                if matches!(*source, Error::AlreadyExists { .. } | Error::Precondition { .. }) =>
            {
                let there = self.sum(name)?;
                let gone = || ShipError::Answer {
                    name: name.to_owned(),
                    told: "it is there and it is not".into(),
                };
                same(name, due, there.ok_or_else(gone)?)?;
                self.held(name, until)?;
                Ok(Put::There)
            }
            Err(error) => Err(error),
        }
    }

    fn put(
        &mut self,
        name: &str,
        bytes: Bytes,
        mode: PutMode,
        until: Until,
    ) -> Result<(), ShipError> {
        let path = self.path(name)?;
        let store = match (&mut self.s3, until) {
            (Some(s3), Until(Some(day))) => s3.locked(day)?,
            _ => Arc::clone(&self.store),
        };
        let sent = length(bytes.len());
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = store.put_opts(&path, PutPayload::from(bytes), options);
        self.runtime.block_on(put).map_err(store_error(name))?;
        self.count(sent);
        Ok(())
    }

    fn put_parts(
        &mut self,
        name: &str,
        path: &FilePath,
        (due, until): (Sum, Until),
        upload: &mut Option<Upload>,
        save: &mut dyn FnMut(&Option<Upload>) -> Result<(), ShipError>,
    ) -> Result<(), ShipError> {
        let object = self.path(name)?;
        let Some(s3) = self.s3.as_mut() else { return Ok(()) };
        if upload.as_ref().is_some_and(|it| !it.is_of(name, &due)) {
            let old = upload.take();
            let abort = old.as_ref().map(|old| s3.abort(&object, &old.id));
            // One that can't be ended is ended by the bucket's own rule for unfinished uploads.
            abort.map(|abort| self.runtime.block_on(abort).ok());
        }
        let mut one = match upload.take() {
            Some(one) => one,
            None => Upload::new(name, &due, self.runtime.block_on(s3.begin(&object, until.0)?)?),
        };
        *upload = Some(one.clone());
        save(upload)?;
        let mut file = fs::File::open(path).map_err(io_error(path))?;
        let done = u64::try_from(one.parts.len() * PART_BYTES).unwrap_or(u64::MAX);
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(done)).map_err(io_error(path))?;
        loop {
            let mut part = Vec::with_capacity(PART_BYTES);
            let limit = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
            Read::by_ref(&mut file).take(limit).read_to_end(&mut part).map_err(io_error(path))?;
            if part.is_empty() {
                break;
            }
            let sent = length(part.len());
            let number = one.parts.len();
            let Some(s3) = self.s3.as_ref() else { break };
            match self.runtime.block_on(s3.part(&object, &one.id, number, part)) {
                Ok(part) => one.parts.push(part),
                Err(Error::NotFound { .. }) => {
                    // The store has forgotten it: the next try begins anew.
                    *upload = None;
                    save(upload)?;
                    let told = "the store has forgotten the upload that was begun".to_owned();
                    return Err(ShipError::Answer { name: name.to_owned(), told });
                }
                Err(source) => return Err(store_error(name)(source)),
            }
            *upload = Some(one.clone());
            save(upload)?;
            self.count(sent);
        }
        let Some(s3) = self.s3.as_ref() else { return Ok(()) };
        let completed = self.runtime.block_on(s3.complete(&object, &one));
        *upload = None;
        save(upload)?;
        if let Err(source) = completed {
            // It may have been completed, and the answer lost; or somebody else was first.
            let Some(there) = self.sum(name)? else { return Err(store_error(name)(source)) };
            same(name, due, there)?;
        }
        Ok(())
    }

    /// Reads what was written and holds it against what it should be.
    fn read_back(&mut self, name: &str, due: Sum, until: Until) -> Result<(), ShipError> {
        let there = self.sum(name)?;
        let gone = || ShipError::Answer {
            name: name.to_owned(),
            told: "it was written and is not there".into(),
        };
        same(name, due, there.ok_or_else(gone)?)?;
        self.held(name, until)
    }

    /// Whether the store holds an object as long as it should.
    fn held(&self, name: &str, until: Until) -> Result<(), ShipError> {
        let (Some(s3), Until(Some(day))) = (&self.s3, until) else { return Ok(()) };
        let object = self.path(name)?;
        let Held { mode, until: held, legally: _ } =
            self.runtime.block_on(s3.held(object.as_ref()))?;
        let due = archive::layout::date(day);
        let is_held =
            mode.as_deref() == s3.mode() && held.as_deref().is_some_and(|held| *held >= *due);
        if is_held {
            return Ok(());
        }
        let [mode, held] = [mode, held].map(|it| it.unwrap_or_else(|| "none".to_owned()));
        Err(ShipError::Lock(format!("{name} is held by {mode} until {held}, {due} is due")))
    }

    fn stream(
        &mut self,
        name: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), ShipError>,
    ) -> Result<Option<Sum>, ShipError> {
        let path = self.path(name)?;
        let limit = self.bandwidth_limit;
        let read = async {
            let result = match self.store.get_opts(&path, GetOptions::default()).await {
                Ok(result) => result,
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(source) => return Err(store_error(name)(source)),
            };
            let (mut hash, mut bytes) = (Sha256::new(), 0);
            let mut stream = result.into_stream();
            while let Some(chunk) = stream.try_next().await.map_err(store_error(name))? {
                hash.update(&chunk);
                bytes += length(chunk.len());
                take(&chunk)?;
                rest(limit, length(chunk.len())).await;
            }
            Ok(Some(Sum { sha256: hash.finalize().into(), bytes }))
        };
        let found = self.runtime.block_on(read)?;
        self.moved += found.map_or(0, |sum| sum.bytes);
        Ok(found)
    }

    /// Counts bytes, and waits as long as they may take.
    fn count(&mut self, bytes: u64) {
        self.moved += bytes;
        self.runtime.block_on(rest(self.bandwidth_limit, bytes));
    }
}

/// Waits as long as `bytes` take at the limit; what they took already is not deducted, so it is never exceeded.
async fn rest(limit: Option<u64>, bytes: u64) {
    let Some(limit) = limit else { return };
    let micros = u128::from(bytes) * 1_000_000 / u128::from(limit.max(1));
    tokio::time::sleep(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))).await;
}

/// The sum of a content in memory.
pub fn sum(bytes: &[u8]) -> Sum {
    Sum { sha256: Sha256::digest(bytes).into(), bytes: length(bytes.len()) }
}

/// The sum of a file.
///
/// # Errors
/// If it can't be read.
pub fn file_sum(path: &FilePath) -> Result<Sum, ShipError> {
    let mut file = fs::File::open(path).map_err(io_error(path))?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(io_error(path))?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
        hash.update(read);
        bytes += length(count);
    }
    Ok(Sum { sha256: hash.finalize().into(), bytes })
}

fn same(name: &str, here: Sum, there: Sum) -> Result<Put, ShipError> {
    if here == there {
        return Ok(Put::There);
    }
    Err(ShipError::Conflict { name: name.to_owned(), here, there })
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

pub(crate) fn store_error(name: &str) -> impl FnOnce(Error) -> ShipError {
    let name = name.to_owned();
    move |source| ShipError::Store { name, source: Box::new(source) }
}
