//! One log: its checkpoints, its files, its rows.

mod absent;
mod compacted;

use std::collections::BTreeMap;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use journal::imported;
use journal::start::Start;
use sha2::{Digest, Sha256};
use types::hex::hex;

use super::beyond::Beyond;
use super::columns::Taken;
use super::elsewhere::Elsewhere;
use super::file::{self, Fault, Read};
use super::history::History;
use super::journal::Journal;
use super::keys::{self, Keys};
use super::leaves::{Compared, Comparison, Leaf};
use super::naming::Names;
use super::report::{Level, LogSummary, Report};
use super::state::{State, Verified};
use super::{
    Files, Options, Progress, VerifyError, anchors, immutable, io_error, manifests, pool, stamps,
};
use crate::files as disk;
use crate::layout::{self, FileEntry, Manifest};
use crate::merkle::{Hash, Tile, Tree};
use crate::note::{self, Checkpoint, PublicKey};

/// A log under verification.
struct Log<'a> {
    options: &'a Options,
    origin: &'a str,
    /// `node/epoch`.
    id: &'a str,
    files: &'a mut Files,
    report: &'a mut Report,
    /// Records that differ from the journal's.
    changed: Vec<u64>,
    /// Records whose rows could not be read.
    unread: Vec<u64>,
    /// Files that are not as they were written, with the records they cover.
    changed_files: Vec<FileEntry>,
    /// Files that were rewritten, if their rows are as recorded.
    rewritten: Vec<FileEntry>,
    /// The records in which one key follows another.
    rotations: Vec<(u64, String)>,
    /// The row before which the journal was let go, by its records of that.
    journal_from: u64,
    /// What is not here, and why.
    elsewhere: Elsewhere,
    /// What is asked beyond L3.
    beyond: Option<Beyond>,
}

/// Verifies a log; returns how many rows its checkpoint covers.
pub(super) fn verify(
    options: &Options,
    origin: &str,
    journal: Option<&mut Journal>,
    files: &mut Files,
    report: &mut Report,
    state: &mut State,
) -> Result<u64, VerifyError> {
    let history = History::read(&options.archive, origin, files)?;
    let stored = options.archive.join(layout::log_dir(origin)).join(layout::KEY);
    let stored = keys::read(&stored).ok().flatten();
    let given = given_keys(options)?;
    let candidates: Vec<PublicKey> =
        given.iter().flatten().chain(stored.iter().flatten()).cloned().collect();
    let newest = history.newest.as_ref();
    let signed = newest
        .is_some_and(|kept| candidates.iter().any(|key| note::open(&kept.note, key).is_some()));
    let Some(mut checkpoint) = newest.and_then(|kept| kept.says.clone()) else {
        let name = newest.map(|kept| kept.name.as_str());
        report.find(
            Level::Checkpoint,
            name,
            "the newest checkpoint is missing, or none of this log's",
        );
        report.logs.push(LogSummary { origin: origin.to_owned(), ..LogSummary::default() });
        return Ok(0);
    };
    let (steps, chained) = manifests::read(
        &options.archive,
        origin,
        (checkpoint.manifest, checkpoint.size),
        files,
        report,
    )?;
    if !signed {
        // A size that nobody signed is not worked off beyond the rows that are listed.
        let listed = steps.iter().map(|(step, _)| step.tree_size - step.first_seq).sum();
        checkpoint.size = checkpoint.size.min(listed);
    }
    let id = origin.strip_prefix("vestibule/node/").unwrap_or(origin);
    let mut log = Log::new(options, (origin, id), files, report);
    log.list_elsewhere();
    let start = log.resume(state, &history, &steps, &checkpoint);
    if let Some(beyond) = log.beyond.as_mut().filter(|_| start.size() > 0) {
        beyond.resumed();
    }
    let compared = log.compare(&steps, &checkpoint, start, signed && chained, journal, &history);
    log.judge(&steps, &history);
    log.texts(&steps);
    log.tiles(checkpoint.size)?;
    log.conclude(&checkpoint, &compared);
    let rotations = std::mem::take(&mut log.rotations);
    let stored = stored.or_else(|| given.clone()).unwrap_or_default();
    let keys = Keys::follow(origin, id, &stored, &rotations, log.report);
    let signature = log.signature(&checkpoint, &history, &keys, given.as_deref());
    let sizes: Vec<(u64, Hash)> =
        steps.iter().map(|(step, digest)| (step.tree_size, *digest)).collect();
    history.check(&keys, &sizes, &compared.roots, log.report);
    if let Some(policy) = &options.policy {
        anchors::check_policy(policy, &history, checkpoint.size, log.report);
    }
    let elsewhere = &options.elsewhere;
    stamps::check(options, &history, log.report);
    anchors::check_elsewhere(
        elsewhere,
        origin,
        checkpoint.size,
        &keys,
        &compared.roots,
        log.report,
    );
    immutable::tell(&options.archive, steps.iter().map(|(step, _)| step), log.report);
    log.summarize(&checkpoint, &steps, signature);
    if let Some(tree) = compared.tree {
        let said = (rotations.as_slice(), log.journal_from);
        let verified = Verified::new(&tree, &checkpoint.manifest, said);
        state.logs.insert(origin.to_owned(), verified);
    }
    Ok(checkpoint.size)
}

fn given_keys(options: &Options) -> Result<Option<Vec<PublicKey>>, VerifyError> {
    let Some(path) = &options.key else { return Ok(None) };
    let keys = keys::read(path).map_err(io_error(path))?;
    Ok(Some(keys.ok_or_else(|| VerifyError::NoKey(path.clone()))?))
}

impl<'a> Log<'a> {
    fn new(
        options: &'a Options,
        (origin, id): (&'a str, &'a str),
        files: &'a mut Files,
        report: &'a mut Report,
    ) -> Self {
        Self {
            options,
            origin,
            id,
            files,
            report,
            changed: Vec::new(),
            unread: Vec::new(),
            changed_files: Vec::new(),
            rewritten: Vec::new(),
            rotations: Vec::new(),
            journal_from: 0,
            elsewhere: Elsewhere::default(),
            beyond: Beyond::new(options.level),
        }
    }

    /// The tree that was verified before and need not be read again; an empty one where all must be.
    fn resume(
        &mut self,
        state: &State,
        history: &History,
        steps: &[(Manifest, Hash)],
        checkpoint: &Checkpoint,
    ) -> Tree {
        let Some(before) = state.logs.get(self.origin) else { return Tree::default() };
        let size = before.size;
        if checkpoint.size < size {
            let text = format!(
                "rolled back: {size} records were verified before, the archive ends at {}; records {} to {} are missing",
                checkpoint.size,
                checkpoint.size,
                size - 1
            );
            self.report.find(Level::Checkpoint, None, text);
            return Tree::default();
        }
        let is_step = steps
            .iter()
            .any(|(step, digest)| step.tree_size == size && hex(digest) == before.manifest);
        let says = history.kept.get(&size).and_then(|kept| kept.says.as_ref());
        let is_root = says.is_none_or(|says| hex(&says.root) == before.root);
        if !is_step || !is_root {
            let text = format!(
                "another history: the first {size} records are not the {size} that were verified before"
            );
            self.report.find(Level::Checkpoint, None, text);
            return Tree::default();
        }
        if self.files.days.is_news(self.origin, state) {
            let text = "files were put together since this was verified: all is read again";
            self.report.notes.push(text.to_owned());
            return Tree::default();
        }
        let earlier = anchors::sizes(&self.options.elsewhere, self.origin);
        let tree = before.tree().filter(|_| earlier.iter().all(|at| *at >= size));
        let Some(tree) = tree else { return Tree::default() };
        self.rotations.clone_from(&before.rotations);
        self.journal_from = before.journal_from;
        self.report
            .notes
            .push(format!("records before {size} were verified before and not read again"));
        tree
    }

    /// Reads all files of steps beyond `start` and compares their rows with tiles and journal.
    fn compare(
        &mut self,
        steps: &[(Manifest, Hash)],
        checkpoint: &Checkpoint,
        start: Tree,
        trusted: bool,
        mut journal: Option<&mut Journal>,
        history: &History,
    ) -> Compared {
        let dir = self.options.archive.join(layout::log_dir(self.origin));
        let mut sizes: std::collections::BTreeSet<u64> = history.kept.keys().copied().collect();
        sizes.extend(anchors::sizes(&self.options.elsewhere, self.origin));
        let mut next = start.size();
        let mut comparison = Comparison::new(&dir, checkpoint.size, start, sizes);
        self.account(steps, trusted);
        let (old, new): (Vec<_>, Vec<_>) =
            steps.iter().map(|(step, _)| step).partition(|step| step.tree_size <= next);
        for step in old {
            self.glance(step);
        }
        let jobs: Vec<(usize, &FileEntry)> =
            new.iter().enumerate().flat_map(|(at, step)| of_tables(at, step)).collect();
        let total = jobs.iter().map(|(_, entry)| entry.rows).sum();
        let (_, jobs): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|(_, entry)| self.is_compacted(entry));
        let rows: Vec<u64> = jobs.iter().map(|(_, entry)| entry.rows).collect();
        let mut progress = Progress { total, ..Progress::default() };
        let (archive, reader) = (&self.options.archive, self.options.reader.as_deref());
        let with_facts = self.beyond.is_some();
        let work = |job: usize| {
            jobs.get(job)
                .map(|(_, entry)| file::read(archive, reader, entry, (trusted, with_facts)))
        };
        let mut at = 0;
        let mut leaves = new.first().map(|step| empty(step)).unwrap_or_default();
        let mut step_done = |log: &mut Self, step: &Manifest, mut leaves: Vec<Option<Hash>>| {
            log.take_compacted(step, &mut leaves);
            if let Some(journal) = journal.as_deref_mut() {
                let due = journal.leaves(step.first_seq, step.tree_size);
                log.compare_with_journal(step.first_seq, &leaves, &due);
            }
            if let Some(beyond) = &mut log.beyond {
                beyond.step(log.id, log.report);
            }
            let leaves = log.settle(step, leaves);
            log.push(step, leaves, checkpoint.size, &mut next, &mut comparison);
        };
        pool::in_order(&rows, self.options.threads, work, |job, read| {
            let (Some((place, entry)), Some(read)) = (jobs.get(job), read) else { return };
            while at < *place {
                if let Some(step) = new.get(at) {
                    step_done(self, step, std::mem::take(&mut leaves));
                }
                at += 1;
                leaves = new.get(at).map(|step| empty(step)).unwrap_or_default();
            }
            progress.done += entry.rows;
            progress.bytes += read.bytes;
            if let Some(step) = new.get(at) {
                self.take(step, entry, read, &mut leaves);
            }
            if let Some(tell) = self.options.progress {
                tell(progress);
            }
        });
        while let Some(step) = new.get(at) {
            step_done(self, step, std::mem::take(&mut leaves));
            at += 1;
            leaves = new.get(at).map(|step| empty(step)).unwrap_or_default();
        }
        (next..checkpoint.size).for_each(|_| comparison.push(Leaf::Unknown));
        self.take_rotations();
        if let Some(journal) = journal {
            journal.let_go_before(self.journal_from);
        }
        self.elsewhere.tell(self.report);
        self.report.rows_read += progress.done;
        self.report.bytes_read += progress.bytes;
        comparison.finish()
    }

    /// Takes what records say of keys and journal that are in files of days that were put together.
    fn take_rotations(&mut self) {
        let found = self.files.days.take_rotations(self.origin);
        self.take_said(found);
    }

    /// Takes what records say of keys and journal; what they say of files is told elsewhere.
    fn take_said(&mut self, found: Vec<(u64, String)>) {
        for (seq, detail) in found {
            if let Some(start) = Start::parse(&detail) {
                self.journal_from = self.journal_from.max(start.seq);
            } else if absent::disposition(&detail).is_none() {
                self.rotations.push((seq, detail));
            }
        }
    }

    /// Adds the leaves of a step to the comparison.
    fn push(
        &mut self,
        step: &Manifest,
        leaves: Vec<Leaf>,
        size: u64,
        next: &mut u64,
        comparison: &mut Comparison<'_>,
    ) {
        if step.first_seq != *next || step.tree_size > size {
            let text = "sealed steps do not follow from one another";
            self.report.find(Level::Checkpoint, None, format!("{text}: record {next} is due"));
        }
        // Rows of a step that is missing are absent.
        let gap = step.first_seq.min(size).saturating_sub(*next);
        (0..gap).for_each(|_| comparison.push(Leaf::Unknown));
        let seen = next.saturating_sub(step.first_seq);
        let room = size.saturating_sub((*next).max(step.first_seq));
        let [seen, room] = [seen, room].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        leaves.into_iter().skip(seen).take(room).for_each(|leaf| comparison.push(leaf));
        *next = (*next).max(step.tree_size);
    }

    /// What was imported is marked so, and nothing else is.
    fn marks(&mut self, entry: &FileEntry, rows: &Taken) {
        let Some(marked) = rows.marked else { return };
        let due = if imported::is_import(self.id) { rows.rows.len() } else { 0 };
        if marked != due {
            let text = format!("{marked} records are marked as imported, and {due} must be");
            self.report.find(Level::Rows, Some(&entry.path), text);
        }
    }

    /// Takes what a file of a step holds.
    fn take(
        &mut self,
        step: &Manifest,
        entry: &FileEntry,
        read: Read,
        leaves: &mut [Option<Hash>],
    ) {
        self.files.known.insert(entry.path.clone());
        let Read { rows, bytes: _, fault } = read;
        self.marks(entry, &rows);
        let (mut twice, mut strange) = (0_u64, 0_u64);
        if let Some(beyond) = &mut self.beyond {
            match fault {
                Some(Fault::Missing(_)) if self.elsewhere.has(entry) => {
                    beyond.absent(entry.table.as_deref());
                }
                _ => beyond.take(rows.facts),
            }
        }
        for (seq, leaf) in rows.rows {
            let at = seq.checked_sub(step.first_seq).and_then(|at| usize::try_from(at).ok());
            match at.and_then(|at| leaves.get_mut(at)) {
                Some(slot @ None) => *slot = Some(leaf),
                Some(Some(_)) => twice += 1,
                None => strange += 1,
            }
        }
        self.take_said(rows.rotations);
        rows.compactions.iter().for_each(|detail| self.files.days.attest(detail));
        match fault {
            None => {}
            Some(Fault::Missing(_)) if self.elsewhere.has(entry) => self.elsewhere.missing(entry),
            Some(Fault::Rewritten) => self.rewritten.push(entry.clone()),
            Some(Fault::Unreadable(text)) => {
                self.report.find(Level::Files, Some(&entry.path), text);
            }
            Some(Fault::Missing(text) | Fault::Changed(text)) => {
                self.changed_files.push(entry.clone());
                self.report.find(Level::Files, Some(&entry.path), text);
            }
        }
        if twice + strange > 0 {
            let text = format!("{} rows stand twice or do not belong there", twice + strange);
            self.report.find(Level::Rows, Some(&entry.path), text);
        }
    }

    fn compare_with_journal(&mut self, first: u64, leaves: &[Option<Hash>], due: &[Option<Hash>]) {
        for ((seq, leaf), due) in (first..).zip(leaves).zip(due) {
            match (leaf, due) {
                (Some(leaf), Some(due)) if leaf != due => self.changed.push(seq),
                (None, Some(_)) => self.unread.push(seq),
                _ => {}
            }
        }
    }

    /// Checks the texts against their newest entries.
    fn texts(&mut self, steps: &[(Manifest, Hash)]) {
        let entries = steps.iter().flat_map(|(step, _)| &step.files).filter(|e| e.table.is_none());
        let newest: BTreeMap<&str, &FileEntry> = entries.map(|e| (e.path.as_str(), e)).collect();
        for (path, entry) in newest {
            let bytes = fs::read(self.options.archive.join(path)).ok();
            let same = bytes.is_some_and(|bytes| hex(&Sha256::digest(&bytes)) == entry.sha256);
            self.files.known.insert(path.to_owned());
            *self.files.texts.entry(path.to_owned()).or_default() |= same;
        }
    }

    /// Takes note of the tiles that belong to the tree.
    fn tiles(&mut self, size: u64) -> Result<(), VerifyError> {
        let dir = self.options.archive.join(layout::log_dir(self.origin));
        let folder = dir.join("tile");
        for path in disk::walk(&folder).map_err(io_error(&folder))? {
            let name = path.strip_prefix(&dir).unwrap_or(&path);
            if Tile::parse(name).is_some_and(|tile| tile.is_stored(size) || tile.is_outgrown(size))
            {
                let name = path.strip_prefix(&self.options.archive).unwrap_or(&path);
                self.files.known.insert(name.display().to_string());
            }
        }
        Ok(())
    }

    /// Says what roots and tiles say, and which records it is.
    fn conclude(&mut self, checkpoint: &Checkpoint, compared: &Compared) {
        let root = Some(checkpoint.root);
        let rows_ok = compared.rows == root;
        let tiles_ok = compared.tiles == root;
        if rows_ok || !tiles_ok {
            for tile in &compared.bad_tiles {
                let path = format!("{}/{tile}", layout::log_dir(&checkpoint.origin));
                let text = "tile is missing or not what the rows give";
                self.report.find(Level::Rows, Some(&path), text);
            }
        }
        let (changed, unread) =
            (std::mem::take(&mut self.changed), std::mem::take(&mut self.unread));
        if rows_ok {
            if !self.changed_files.is_empty() {
                let text = "the changed files' rows are all as recorded: the root over them is the signed one";
                self.report.notes.push(text.to_owned());
            }
            for FileEntry { path, .. } in std::mem::take(&mut self.rewritten) {
                let text = "was rewritten since it was sealed; its rows are all as recorded";
                self.report.notes.push(format!("{path} {text}"));
                self.report.rewritten.push(path);
            }
            // The journal then holds another row than was sealed.
            let text = "record in the journal is not the sealed one";
            let names =
                Names { options: self.options, id: self.id, changed_files: &self.changed_files };
            names.name(&changed, Level::Journal, text, self.report);
            return;
        }
        for entry in std::mem::take(&mut self.rewritten) {
            let text = "file changed: its SHA-256 is not the sealed one";
            self.report.find(Level::Files, Some(&entry.path), text);
            self.changed_files.push(entry);
        }
        let text = match (compared.rows, tiles_ok) {
            (None, _) => "not all rows can be read",
            (Some(_), true) => "rows are not the signed ones",
            (Some(_), false) => "neither rows nor tiles give the signed root",
        };
        self.report.find(Level::Rows, None, text);
        self.name_all(compared, &changed, &unread);
    }

    fn name_all(&mut self, compared: &Compared, changed: &[u64], unread: &[u64]) {
        let mut files = std::mem::take(&mut self.changed_files);
        files.extend(self.files.days.changed_of(self.origin));
        let names = Names { options: self.options, id: self.id, changed_files: &files };
        names.name(changed, Level::Rows, "record changed", self.report);
        names.name(unread, Level::Rows, "record unreadable or missing", self.report);
        let named = |seq: u64| [changed, unread].iter().any(|s| s.binary_search(&seq).is_ok());
        let rest: Vec<u64> = compared.records.iter().copied().filter(|seq| !named(*seq)).collect();
        names.name(&rest, Level::Rows, "record changed or unreadable", self.report);
        let is_named = |first: u64| {
            let has = |seqs: &[u64]| {
                let next = seqs.get(seqs.partition_point(|seq| *seq < first));
                next.is_some_and(|seq| *seq < first + 256)
            };
            has(changed) || has(unread)
        };
        for first in compared.groups.iter().copied().filter(|first| !is_named(*first)) {
            names.group(first, self.report);
        }
        self.changed_files = files;
    }

    /// Says whether the newest checkpoint is signed with the key that is in force, and whose that is.
    fn signature(
        &mut self,
        checkpoint: &Checkpoint,
        history: &History,
        keys: &Keys,
        given: Option<&[PublicKey]>,
    ) -> String {
        for key in given.unwrap_or_default().iter().filter(|key| !keys.has(key)) {
            let text = format!(
                "the given key {} is not one of this log's: its checkpoints are another key's",
                key.line().trim_end()
            );
            self.report.find(Level::Checkpoint, None, text);
        }
        let is_given = given.is_some_and(|given| given.iter().all(|key| keys.has(key)));
        let newest = history.newest.as_ref();
        let key = keys.at(checkpoint.size);
        let valid =
            newest.zip(key).is_some_and(|(kept, key)| note::open(&kept.note, key).is_some());
        if !valid {
            let name = newest.map(|kept| kept.name.as_str());
            let text = "checkpoint is not signed with the node's key";
            self.report.find(Level::Checkpoint, name, text);
        }
        if valid
            && let Some((_, size)) = self
                .options
                .revoked
                .iter()
                .find(|(revoked, size)| Some(revoked) == key && *size < checkpoint.size)
        {
            let text = format!(
                "checkpoint of size {} is signed with a key that is revoked beyond size {size}",
                checkpoint.size
            );
            self.report.find(Level::Checkpoint, newest.map(|kept| kept.name.as_str()), text);
        }
        match (valid, given) {
            (true, Some(_)) if is_given => "valid, with the given key".to_owned(),
            (true, None) => {
                let line = "the key was taken from the archive itself; give --key with a copy kept elsewhere";
                self.report.notes.push(line.to_owned());
                "valid, with the key in the archive".to_owned()
            }
            _ => "NOT VALID".to_owned(),
        }
    }

    fn summarize(
        &mut self,
        checkpoint: &Checkpoint,
        steps: &[(Manifest, Hash)],
        signature: String,
    ) {
        let count = |n: usize| u64::try_from(n).unwrap_or(0);
        self.report.logs.push(LogSummary {
            origin: self.origin.to_owned(),
            size: checkpoint.size,
            root: BASE64.encode(checkpoint.root),
            manifests: count(steps.len()),
            files: steps.iter().map(|(step, _)| count(step.files.len())).sum(),
            signature,
        });
    }
}

/// The files of tables of a step, with its place.
fn of_tables(at: usize, step: &Manifest) -> impl Iterator<Item = (usize, &FileEntry)> {
    step.files.iter().filter(|entry| entry.table.is_some()).map(move |entry| (at, entry))
}

/// No leaf of a step is known yet.
fn empty(step: &Manifest) -> Vec<Option<Hash>> {
    vec![None; usize::try_from(step.tree_size - step.first_seq).unwrap_or(0)]
}
