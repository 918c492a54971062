//! One shipment: what is sealed and not in the store yet goes there, the newest checkpoint last.
//!
//! The order: Parquet files and texts, tiles, manifests and their checkpoints with cosignatures, and then `checkpoint`,
//! which says what counts. Until it is replaced, the store holds what it held, whole; what lies beyond is of a shipment
//! under way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use archive::files;
use archive::layout::{self, FileEntry, Manifest};
use archive::note;
use archive::retention::{self, Gone};
use types::hex::{hex, unhex};

use crate::remote::{Judged, Put, Remote, Until, sum};
use crate::snapshot::{Snapshot, Step};
use crate::state::State;
use crate::{ShipError, Sum, io_error};

/// Cosignatures that may still change: a witness is asked for the newest checkpoint only, and answers within 15 s.
/// 256 names and digests are 25 KiB of state.
const COSIGNED_MAX: usize = 256;

/// Names that this process has shipped and that are not in the state yet: of 150 B each, 10 MiB.
const DONE_MAX: usize = 65_536;

const DAY_US: i64 = 86_400_000_000;

/// Ships one log of one archive to one store.
pub struct Shipper {
    archive: PathBuf,
    origin: String,
    state_dir: PathBuf,
    remote: Remote,
    state: State,
    /// The state was not found: what the store has is looked at before it is sent.
    is_lost: bool,
    done: BTreeSet<String>,
    /// What records say that was disposed of, where that was asked in this pass.
    disposed: BTreeMap<String, Gone>,
    is_checked: bool,
}

/// What a shipment did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Rows under the checkpoint that is in the store.
    pub size: u64,
    /// Objects written.
    pub written: u64,
    /// Objects that lay there already, equal.
    pub there: u64,
    /// Texts that are another host's, and as good.
    pub left: u64,
    /// Bytes sent and read.
    pub bytes: u64,
}

/// What is sealed and not shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Files of tables.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// When the oldest of them were sealed, microseconds since 1970 UTC.
    pub oldest_sealed_us: Option<i64>,
}

impl Shipped {
    fn count(&mut self, put: Put) {
        match put {
            Put::Written => self.written += 1,
            Put::There => self.there += 1,
            Put::Left => self.left += 1,
        }
    }
}

impl Shipper {
    /// One that goes on from the state in `state_dir`.
    ///
    /// # Errors
    /// If the state can't be read.
    pub fn open(
        archive: &Path,
        origin: &str,
        state_dir: &Path,
        remote: Remote,
    ) -> Result<Self, ShipError> {
        let found = State::load(state_dir, remote.url(), origin)?;
        let is_lost = found.is_none();
        let state = found.unwrap_or_else(|| State::new(remote.url(), origin));
        Ok(Self {
            archive: archive.to_owned(),
            origin: origin.to_owned(),
            state_dir: state_dir.to_owned(),
            remote,
            state,
            is_lost,
            done: BTreeSet::new(),
            disposed: BTreeMap::new(),
            is_checked: false,
        })
    }

    /// How far it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The store.
    pub fn remote(&mut self) -> &mut Remote {
        &mut self.remote
    }

    /// What is sealed and not shipped.
    ///
    /// # Errors
    /// If the archive can't be read.
    pub fn backlog(&self) -> Result<Backlog, ShipError> {
        let folder = self.archive.join(layout::log_dir(&self.origin)).join("manifest");
        let mut backlog = Backlog::default();
        for path in files::walk(&folder).map_err(io_error(&folder))? {
            if layout::manifest_size(&path).is_none_or(|size| size <= self.state.size) {
                continue;
            }
            let Ok(manifest) =
                serde_json::from_slice::<Manifest>(&fs::read(&path).map_err(io_error(&path))?)
            else {
                continue;
            };
            backlog.rows += manifest.tree_size.saturating_sub(manifest.first_seq);
            backlog.oldest_sealed_us.get_or_insert(manifest.sealed_us);
            let upto = self.state.files_upto;
            for entry in tables(&manifest).filter(|_| manifest.tree_size > upto) {
                backlog.files += 1;
                backlog.bytes += entry.bytes;
            }
        }
        Ok(backlog)
    }

    /// Ships what is sealed now. What it shipped before it failed is not shipped again.
    ///
    /// # Errors
    /// If something lies in the way, or either side fails.
    pub fn pass(&mut self) -> Result<Shipped, ShipError> {
        let moved = self.remote.moved();
        let mut shipped = Shipped::default();
        let result = self.ship(&mut shipped);
        shipped.bytes = self.remote.moved() - moved;
        shipped.size = self.state.size;
        result.map(|()| shipped)
    }

    fn ship(&mut self, shipped: &mut Shipped) -> Result<(), ShipError> {
        self.check_lock()?;
        let State { size, manifest, .. } = &self.state;
        let Some(now) = Snapshot::take(&self.archive, &self.origin, *size, manifest)? else {
            return Ok(());
        };
        if now.checkpoint.size > self.state.size {
            for step in &now.steps {
                self.files(step, shipped)?;
            }
            let sealed_us = now.steps.last().map_or(0, |step| step.manifest.sealed_us);
            let until = self.until(layout::STANDARD, sealed_us);
            for name in &now.whole {
                let path = self.archive.join(name);
                let bytes = fs::read(&path).map_err(io_error(&path))?;
                self.small(name, &bytes, until, shipped)?;
            }
            for (name, bytes) in &now.partial {
                self.small(name, bytes, until, shipped)?;
            }
            // Other hosts know by now that this one is there.
            self.texts(&now.steps, shipped)?;
            for step in &now.steps {
                let until = self.until(layout::STANDARD, step.manifest.sealed_us);
                self.small(&step.name, &step.bytes, until, shipped)?;
                let path = self.archive.join(&step.checkpoint);
                let bytes = fs::read(&path).map_err(io_error(&path))?;
                self.small(&step.checkpoint, &bytes, until, shipped)?;
                self.cosigned(&step.cosigned, Some(until), shipped)?;
            }
            self.newest(&now, until, shipped)?;
            self.state.size = now.checkpoint.size;
            self.state.files_upto = now.checkpoint.size;
            self.state.manifest = hex(&now.checkpoint.manifest);
            self.done.clear();
            self.disposed.clear();
            self.save()?;
            self.is_lost = false;
        }
        self.late_cosignatures(shipped)?;
        self.stamps(shipped)
    }

    /// The Parquet files of a step.
    fn files(&mut self, step: &Step, shipped: &mut Shipped) -> Result<(), ShipError> {
        if step.manifest.tree_size <= self.state.files_upto {
            return Ok(());
        }
        for entry in tables(&step.manifest) {
            if self.done.contains(&entry.path) {
                continue;
            }
            let class = entry.path.split('/').next().unwrap_or_default();
            let until = self.until(class, step.manifest.sealed_us);
            let path = self.archive.join(&entry.path);
            if !path.exists() && self.is_disposed(entry)? {
                continue;
            }
            let sha256 = unhex(&entry.sha256).ok_or_else(|| ShipError::Changed(path.clone()))?;
            let due = Sum { sha256, bytes: entry.bytes };
            if self.is_lost && self.remote.length(&entry.path)?.is_some() {
                let there = self.remote.sum(&entry.path)?;
                if there == Some(due) {
                    self.took(&entry.path, Put::There, shipped);
                    continue;
                }
            }
            let Self { remote, state, state_dir, .. } = self;
            let mut upload = state.upload.take();
            let put =
                remote.create_file(&entry.path, &path, (due, until), &mut upload, &mut |upload| {
                    state.upload.clone_from(upload);
                    state.save(state_dir)
                });
            self.state.upload = upload;
            self.took(&entry.path, put?, shipped);
        }
        self.state.files_upto = step.manifest.tree_size;
        self.save()
    }

    /// The texts that the steps list, as they are now.
    fn texts(&mut self, steps: &[Step], shipped: &mut Shipped) -> Result<(), ShipError> {
        let listed =
            steps.iter().flat_map(|step| step.manifest.files.iter().map(move |e| (step, e)));
        let newest: BTreeMap<&str, (&Step, &FileEntry)> = listed
            .filter(|(_, entry)| entry.table.is_none())
            .map(|(step, entry)| (entry.path.as_str(), (step, entry)))
            .collect();
        let key = format!("{}/{}", layout::log_dir(&self.origin), layout::KEY);
        for (name, (step, entry)) in newest {
            if self.done.contains(name) {
                continue;
            }
            let path = self.archive.join(name);
            let bytes = fs::read(&path).map_err(io_error(&path))?;
            if hex(&sum(&bytes).sha256) != entry.sha256 {
                return Err(ShipError::Changed(path));
            }
            let until = self.until(layout::STANDARD, step.manifest.sealed_us);
            let before = if name == key {
                BTreeSet::new()
            } else {
                listed_before(&self.archive, &self.origin, name)?
            };
            let mut is_shared = false;
            let put = loop {
                let put = self.remote.change(name, &bytes, until, &mut |there| {
                    // Keys are only added; other texts go by what this log listed, or are another host's.
                    let is_earlier = if name == key {
                        bytes.starts_with(there)
                    } else {
                        before.contains(&hex(&sum(there).sha256))
                    };
                    match (is_earlier, is_shared && name != key) {
                        (true, _) => Judged::Earlier,
                        (false, true) => Judged::Others,
                        (false, false) => Judged::Foreign,
                    }
                });
                match put {
                    Err(ShipError::Conflict { .. }) if !is_shared && self.has_others()? => {
                        is_shared = true;
                    }
                    put => break put?,
                }
            };
            self.took(name, put, shipped);
        }
        Ok(())
    }

    /// Whether other hosts' logs are in the store.
    fn has_others(&self) -> Result<bool, ShipError> {
        let own = layout::log_dir(&self.origin);
        let (nodes, _) = own.rsplit_once('/').unwrap_or_default();
        let (all, _) = nodes.rsplit_once('/').unwrap_or_default();
        Ok(self.remote.folders(all)?.iter().any(|node| node != nodes))
    }

    /// The newest checkpoint, in the place of an earlier one of this log.
    fn newest(
        &mut self,
        now: &Snapshot,
        until: Until,
        shipped: &mut Shipped,
    ) -> Result<(), ShipError> {
        let name = format!("{}/{}", layout::log_dir(&self.origin), layout::CHECKPOINT);
        let (archive, origin) = (self.archive.clone(), self.origin.clone());
        let mut judge = |there: &[u8]| {
            let says = str::from_utf8(there).ok().and_then(note::split);
            let says = says.and_then(|(text, _)| note::Checkpoint::parse(text));
            let kept = says.filter(|says| says.size < now.checkpoint.size).and_then(|says| {
                let name =
                    format!("{}/{}", layout::log_dir(&origin), layout::checkpoint(says.size));
                fs::read(archive.join(name)).ok()
            });
            if kept.is_some_and(|kept| kept == there) { Judged::Earlier } else { Judged::Foreign }
        };
        let put = self.remote.change(&name, now.note.as_bytes(), until, &mut judge)?;
        self.took(&name, put, shipped);
        Ok(())
    }

    /// Cosignatures of a checkpoint, if there are any: witnesses' lines are added and renewed, and what lies there is
    /// replaced where it has no witness that is not here.
    fn cosigned(
        &mut self,
        name: &str,
        until: Option<Until>,
        shipped: &mut Shipped,
    ) -> Result<(), ShipError> {
        let path = self.archive.join(name);
        let Ok(bytes) = fs::read(&path) else { return Ok(()) };
        let size =
            path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok()).unwrap_or(0);
        let digest = hex(&sum(&bytes).sha256);
        if self.state.cosigned.get(&size) == Some(&digest) {
            return Ok(());
        }
        let until = until.unwrap_or_else(|| self.until(layout::STANDARD, self.sealed_us(size)));
        let names = |bytes: &[u8]| -> Option<BTreeSet<String>> {
            let lines = note::lines(str::from_utf8(bytes).ok()?)?;
            Some(lines.into_iter().map(|line| line.name).collect())
        };
        let here = names(&bytes).unwrap_or_default();
        let put = self.remote.change(name, &bytes, until, &mut |there| {
            let is_part = names(there).is_some_and(|there| there.is_subset(&here));
            if is_part { Judged::Earlier } else { Judged::Foreign }
        })?;
        shipped.count(put);
        self.state.cosigned.insert(size, digest);
        while self.state.cosigned.len() > COSIGNED_MAX {
            self.state.cosigned.pop_first();
        }
        Ok(())
    }

    /// Cosignatures that came after their checkpoint was shipped.
    fn late_cosignatures(&mut self, shipped: &mut Shipped) -> Result<(), ShipError> {
        let below = format!("{}/{}", layout::log_dir(&self.origin), layout::COSIGNED);
        let folder = self.archive.join(&below);
        let names = files::walk(&folder).map_err(io_error(&folder))?;
        let known = self.state.cosigned.clone();
        for path in names.iter().rev().take(COSIGNED_MAX) {
            let Some(size) = layout::checkpoint_size(path).filter(|size| *size <= self.state.size)
            else {
                continue;
            };
            self.cosigned(&format!("{below}/{size:020}"), None, shipped)?;
        }
        if self.state.cosigned != known {
            self.save()?;
        }
        Ok(())
    }

    /// Time stamps: they come when the authority gives them, each once and the later ones of greater sizes.
    fn stamps(&mut self, shipped: &mut Shipped) -> Result<(), ShipError> {
        let below = format!("{}/{}", layout::log_dir(&self.origin), layout::STAMPED);
        let folder = self.archive.join(&below);
        let known = self.state.stamped;
        for path in files::walk(&folder).map_err(io_error(&folder))? {
            let size = layout::checkpoint_size(&path).unwrap_or(0);
            if size <= known || size > self.state.size {
                continue;
            }
            let bytes = fs::read(&path).map_err(io_error(&path))?;
            let until = self.until(layout::STANDARD, self.sealed_us(size));
            self.small(&format!("{below}/{size:020}"), &bytes, until, shipped)?;
            self.state.stamped = size;
        }
        if self.state.stamped != known {
            self.save()?;
        }
        Ok(())
    }

    /// When the step that ends at a size was sealed.
    fn sealed_us(&self, size: u64) -> i64 {
        let folder = self.archive.join(layout::log_dir(&self.origin)).join("manifest");
        let names = files::walk(&folder).unwrap_or_default();
        let path = names.iter().find(|path| layout::manifest_size(path) == Some(size));
        let manifest =
            path.and_then(|path| serde_json::from_slice::<Manifest>(&fs::read(path).ok()?).ok());
        manifest.map_or(0, |manifest| manifest.sealed_us)
    }

    /// A small content that is written once.
    fn small(
        &mut self,
        name: &str,
        bytes: &[u8],
        until: Until,
        shipped: &mut Shipped,
    ) -> Result<(), ShipError> {
        if self.done.contains(name) {
            return Ok(());
        }
        let put = self.remote.create(name, bytes, until)?;
        self.took(name, put, shipped);
        Ok(())
    }

    fn took(&mut self, name: &str, put: Put, shipped: &mut Shipped) {
        shipped.count(put);
        if self.done.len() < DONE_MAX {
            self.done.insert(name.to_owned());
        }
    }

    /// Until when an object of a class is held that was sealed at a time.
    fn until(&self, class: &str, sealed_us: i64) -> Until {
        let class = class.split('/').next().unwrap_or_default();
        let lock = self.remote.s3().and_then(|(s3, _, _)| s3.lock());
        let days = lock.and_then(|lock| lock.days.get(class)).copied();
        Until(days.map(|days| sealed_us.div_euclid(DAY_US) + i64::from(days)))
    }

    /// Whether the bucket takes locks at all, once: what can't be held is not shipped.
    fn check_lock(&mut self) -> Result<(), ShipError> {
        if self.is_checked {
            return Ok(());
        }
        if let Some((s3, runtime, _)) = self.remote.s3()
            && let Some(lock) = s3.lock()
        {
            let says = runtime.block_on(s3.bucket_lock())?;
            if !says.is_enabled {
                let told = "the bucket has none: make one with object lock, or leave [archive.ship.lock] out";
                return Err(ShipError::Lock(told.to_owned()));
            }
            // What somebody else puts there is held by the default alone.
            let least = lock.days.values().copied().min().unwrap_or(0);
            if let Some((mode, days)) = says.default
                && days < least
            {
                let told = format!(
                    "the bucket's default is {mode} for {days} days, {least} are demanded at least"
                );
                return Err(ShipError::Lock(told));
            }
        }
        self.is_checked = true;
        Ok(())
    }

    fn save(&self) -> Result<(), ShipError> {
        self.state.save(&self.state_dir)
    }

    /// Whether a file that is not here was disposed of: it went before it could be shipped to this store. Records are
    /// read for it once, and again where they do not say so.
    fn is_disposed(&mut self, entry: &FileEntry) -> Result<bool, ShipError> {
        if !retention::accounts(&self.disposed, entry) {
            let disposed = retention::dispositions(&self.archive);
            self.disposed = disposed.map_err(|error| ShipError::Hold(error.to_string()))?;
        }
        Ok(retention::accounts(&self.disposed, entry))
    }
}

/// The files of tables that a manifest lists.
pub(crate) fn tables(manifest: &Manifest) -> impl Iterator<Item = &FileEntry> {
    manifest.files.iter().filter(|entry| entry.table.is_some())
}

/// SHA-256 of all that a log's manifests ever listed for a text.
fn listed_before(archive: &Path, origin: &str, name: &str) -> Result<BTreeSet<String>, ShipError> {
    let folder = archive.join(layout::log_dir(origin)).join("manifest");
    let mut all = BTreeSet::new();
    for path in files::walk(&folder).map_err(io_error(&folder))? {
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let manifest: Option<Manifest> = serde_json::from_slice(&bytes).ok();
        let entries = manifest.into_iter().flat_map(|manifest| manifest.files);
        all.extend(entries.filter(|entry| entry.path == name).map(|entry| entry.sha256));
    }
    Ok(all)
}
