//! One log: its checkpoint, its files, its rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use super::changed::{self, Found};
use super::journal::{Journal, describe_all};
use super::leaves::{Compared, Comparison};
use super::report::{Finding, Level, LogSummary, Report};
use super::{Files, Options, VerifyError, io_error, manifests};
use crate::layout::{FileEntry, Manifest};
use crate::merkle::{Hash, Tile};
use crate::note::{self, Checkpoint, PublicKey};
use crate::{decode, files, layout};
use types::hex::hex;

/// Records named one by one; of further ones only the number is said.
const NAMED_MAX: usize = 20;

/// A log under verification.
struct Log<'a> {
    options: &'a Options,
    id: String,
    files: &'a mut Files,
    report: &'a mut Report,
    /// Records that differ from the journal's.
    changed: Vec<u64>,
    /// Records whose rows could not be read.
    unread: Vec<u64>,
    /// Files that are not as they were written, with the records they cover.
    changed_files: Vec<FileEntry>,
}

/// Verifies a log; returns how many rows its checkpoint covers.
pub(super) fn verify(
    options: &Options,
    origin: &str,
    mut journal: Option<&mut Journal>,
    files: &mut Files,
    report: &mut Report,
) -> Result<u64, VerifyError> {
    let mut summary = LogSummary { origin: origin.to_owned(), ..LogSummary::default() };
    let checkpoint = checkpoint(options, origin, files, report, &mut summary)?;
    let Some((mut checkpoint, signed)) = checkpoint else {
        report.logs.push(summary);
        return Ok(0);
    };
    summary.size = checkpoint.size;
    summary.root = BASE64.encode(checkpoint.root);
    let (steps, chained) =
        manifests::read(&options.archive, origin, checkpoint.manifest, files, report)?;
    summary.manifests = u64::try_from(steps.len()).unwrap_or(0);
    summary.files = steps.iter().map(|step| u64::try_from(step.files.len()).unwrap_or(0)).sum();
    report.logs.push(summary);
    if !signed {
        // A size that nobody signed is not worked off beyond the rows that are listed.
        let listed = steps.iter().map(|step| step.tree_size - step.first_seq).sum();
        checkpoint.size = checkpoint.size.min(listed);
    }
    let dir = options.archive.join(layout::log_dir(origin));
    let mut comparison = Comparison::new(&dir, checkpoint.size);
    let id = origin.strip_prefix("vestibule/node/").unwrap_or(origin).to_owned();
    let (changed, unread, changed_files) = (Vec::new(), Vec::new(), Vec::new());
    let mut log = Log { options, id, files, report, changed, unread, changed_files };
    let mut next = 0;
    for step in &steps {
        if step.first_seq != next || step.tree_size > checkpoint.size {
            let text = "sealed steps do not follow from one another";
            log.report.find(Level::Checkpoint, None, format!("{text}: record {next} is due"));
        }
        // Rows of a step that is missing are absent.
        let gap = step.first_seq.min(checkpoint.size).saturating_sub(next);
        (0..gap).for_each(|_| comparison.push(None));
        let leaves = log.leaves(step, signed && chained);
        if let Some(journal) = journal.as_deref_mut() {
            let due = journal.leaves(step.first_seq, step.tree_size);
            log.compare_with_journal(step.first_seq, &leaves, &due);
        }
        let seen = next.saturating_sub(step.first_seq);
        let room = checkpoint.size.saturating_sub(next.max(step.first_seq));
        let [seen, room] = [seen, room].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        leaves.into_iter().skip(seen).take(room).for_each(|leaf| comparison.push(leaf));
        next = next.max(step.tree_size);
    }
    (next..checkpoint.size).for_each(|_| comparison.push(None));
    log.texts(&steps);
    log.tiles(&dir, checkpoint.size)?;
    let has_journal = journal.is_some();
    log.conclude(&checkpoint, &comparison.finish(), has_journal);
    Ok(checkpoint.size)
}

/// The checkpoint, and whether it is signed with the key; `None` where it can't be read.
fn checkpoint(
    options: &Options,
    origin: &str,
    files: &mut Files,
    report: &mut Report,
    summary: &mut LogSummary,
) -> Result<Option<(Checkpoint, bool)>, VerifyError> {
    let folder = layout::log_dir(origin);
    let name = format!("{folder}/{}", layout::CHECKPOINT);
    files.known.insert(name.clone());
    let stored = options.archive.join(&folder).join(layout::KEY);
    let key = match &options.key {
        Some(path) => {
            let line = fs::read_to_string(path).map_err(io_error(path))?;
            Some(PublicKey::parse(&line).ok_or_else(|| VerifyError::NoKey(path.clone()))?)
        }
        None => fs::read_to_string(&stored).ok().and_then(|line| PublicKey::parse(&line)),
    };
    let bytes = fs::read(options.archive.join(&name)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let opened =
        key.as_ref().and_then(|key| note::open(&text, key)).filter(|_| text.as_bytes() == bytes);
    let signed = opened.and_then(Checkpoint::parse).filter(|c| c.origin == origin);
    if let Some(checkpoint) = signed {
        let whose = if options.key.is_some() { "the given key" } else { "the key in the archive" };
        summary.signature = format!("valid, with {whose}");
        if options.key.is_none() {
            let line =
                "the key was taken from the archive itself; give --key with a copy kept elsewhere";
            report.notes.push(line.to_owned());
        }
        return Ok(Some((checkpoint, true)));
    }
    "NOT VALID".clone_into(&mut summary.signature);
    report.find(Level::Checkpoint, Some(&name), "checkpoint is not signed with the node's key");
    let unsigned =
        text.split_once("\n\n").and_then(|(head, _)| Checkpoint::parse(&format!("{head}\n")));
    Ok(unsigned.map(|checkpoint| (checkpoint, false)))
}

impl Log<'_> {
    /// The leaves of a step's rows; absent where rows can't be read.
    fn leaves(&mut self, step: &Manifest, trusted: bool) -> Vec<Option<Hash>> {
        let count = usize::try_from(step.tree_size - step.first_seq).unwrap_or(0);
        let mut leaves = vec![None; count];
        for entry in step.files.iter().filter(|entry| entry.table.is_some()) {
            self.files.known.insert(entry.path.clone());
            let mut twice = 0_u64;
            let mut strange = 0_u64;
            let mut take = |seq: u64, leaf: Hash| {
                let at = seq.checked_sub(step.first_seq).and_then(|at| usize::try_from(at).ok());
                match at.and_then(|at| leaves.get_mut(at)) {
                    Some(slot @ None) => *slot = Some(leaf),
                    Some(Some(_)) => twice += 1,
                    None => strange += 1,
                }
            };
            let read = self.file(entry, trusted, &mut take);
            if let Err(text) = read {
                self.report.find(Level::Files, Some(&entry.path), text);
            }
            if twice + strange > 0 {
                let text = format!("{} rows stand twice or do not belong there", twice + strange);
                self.report.find(Level::Rows, Some(&entry.path), text);
            }
        }
        leaves
    }

    /// Reads a file's rows; the error says what is wrong with the file.
    fn file(
        &mut self,
        entry: &FileEntry,
        trusted: bool,
        take: &mut dyn FnMut(u64, Hash),
    ) -> Result<(), String> {
        let path = self.options.archive.join(&entry.path);
        let is_below = Path::new(&entry.path)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        let table = entry.table.as_deref().and_then(layout::table).filter(|_| is_below);
        let Some(table) = table else { return Err("manifest names no file of a table".to_owned()) };
        let bytes = fs::read(&path).map_err(|e| {
            self.changed_files.push(entry.clone());
            format!("file is missing ({e})")
        })?;
        let same = hex(&Sha256::digest(&bytes)) == entry.sha256;
        if same && trusted {
            return decode::rows(table, bytes, &mut |row| take(row.seq().0, row.leaf_hash()))
                .map_err(|e| e.to_string());
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        drop(bytes);
        let reader = self.options.reader.as_deref();
        let read =
            changed::rows(reader, table, &path, &mut |Found { seq, leaf, .. }| take(seq, leaf));
        if same {
            return read;
        }
        self.changed_files.push(entry.clone());
        let size = if length == entry.bytes {
            String::new()
        } else {
            format!(", {length} bytes instead of {}", entry.bytes)
        };
        let rest = read.err().map(|why| format!("; {why}")).unwrap_or_default();
        Err(format!("file changed: its SHA-256 is not the sealed one{size}{rest}"))
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
    fn texts(&mut self, steps: &[Manifest]) {
        let entries = steps.iter().flat_map(|step| &step.files).filter(|e| e.table.is_none());
        let newest: BTreeMap<&str, &FileEntry> = entries.map(|e| (e.path.as_str(), e)).collect();
        for (path, entry) in newest {
            let bytes = fs::read(self.options.archive.join(path)).ok();
            let same = bytes.is_some_and(|bytes| hex(&Sha256::digest(&bytes)) == entry.sha256);
            self.files.known.insert(path.to_owned());
            *self.files.texts.entry(path.to_owned()).or_default() |= same;
        }
    }

    /// Takes note of the tiles that belong to the tree.
    fn tiles(&mut self, dir: &Path, size: u64) -> Result<(), VerifyError> {
        let folder = dir.join("tile");
        for path in files::walk(&folder).map_err(io_error(&folder))? {
            let name = path.strip_prefix(dir).unwrap_or(&path);
            if Tile::parse(name).is_some_and(|tile| tile.is_stored(size)) {
                let name = path.strip_prefix(&self.options.archive).unwrap_or(&path);
                self.files.known.insert(name.display().to_string());
            }
        }
        Ok(())
    }

    /// Says what roots and tiles say, and which records it is.
    fn conclude(&mut self, checkpoint: &Checkpoint, compared: &Compared, has_journal: bool) {
        let root = Some(checkpoint.root);
        let rows_ok = compared.rows == root;
        let tiles_ok = compared.tiles == root;
        let folder = layout::log_dir(&checkpoint.origin);
        if rows_ok || !tiles_ok {
            for tile in &compared.bad_tiles {
                let path = format!("{folder}/{tile}");
                self.report.find(
                    Level::Rows,
                    Some(&path),
                    "tile is missing or not what the rows give",
                );
            }
        }
        if rows_ok {
            if !self.changed_files.is_empty() {
                let text = "the changed files' rows are all as recorded: the root over them is the signed one";
                self.report.notes.push(text.to_owned());
            }
            // The journal then holds another row than was sealed.
            let changed = std::mem::take(&mut self.changed);
            self.name(&changed, Level::Journal, "record in the journal is not the sealed one");
            return;
        }
        let text = match (compared.rows, tiles_ok) {
            (None, _) => "not all rows can be read",
            (Some(_), true) => "rows are not the signed ones",
            (Some(_), false) => "neither rows nor tiles give the signed root",
        };
        self.report.find(Level::Rows, None, text);
        let (changed, unread) =
            (std::mem::take(&mut self.changed), std::mem::take(&mut self.unread));
        self.name(&changed, Level::Rows, "record changed");
        self.name(&unread, Level::Rows, "record unreadable or missing");
        let named = |seq: u64| [&changed, &unread].iter().any(|s| s.binary_search(&seq).is_ok());
        let rest: Vec<u64> = compared.records.iter().copied().filter(|seq| !named(*seq)).collect();
        self.name(&rest, Level::Rows, "record changed or unreadable");
        let is_named = |first: u64| {
            let has = |seqs: &[u64]| {
                let next = seqs.get(seqs.partition_point(|seq| *seq < first));
                next.is_some_and(|seq| *seq < first + 256)
            };
            has_journal && (has(&changed) || has(&unread))
        };
        for first in compared.groups.iter().copied().filter(|first| !is_named(*first)) {
            let record = Some(format!("{}/{first} to {}", self.id, first + 255));
            let path = self.changed_file(first, first + 255);
            let text = "record changed or unreadable among these 256".to_owned();
            self.report.add(Finding { level: Level::Rows, path, record, text });
        }
    }

    /// Names records: what the journal says they are, or else what the file says now.
    fn name(&mut self, seqs: &[u64], level: Level, text: &str) {
        let named = seqs.get(..seqs.len().min(NAMED_MAX)).unwrap_or_default();
        let mut words: BTreeMap<u64, String> = BTreeMap::new();
        if let Some(dir) = &self.options.journal {
            words.extend(describe_all(dir, named));
        } else {
            self.describe_by_files(named, &mut words);
        }
        for seq in named {
            let what = words.get(seq).map(|what| format!(" {what}")).unwrap_or_default();
            let record = Some(format!("{}/{seq}{what}", self.id));
            let path = self.changed_file(*seq, *seq);
            self.report.add(Finding { level, path, record, text: text.to_owned() });
        }
        if seqs.len() > NAMED_MAX {
            let more = format!(
                "{text}: {} more, up to {}/{}",
                seqs.len() - NAMED_MAX,
                self.id,
                seqs.last().unwrap_or(&0)
            );
            self.report.find(level, None, more);
        }
    }

    fn describe_by_files(&self, seqs: &[u64], words: &mut BTreeMap<u64, String>) {
        for entry in &self.changed_files {
            let path = self.options.archive.join(&entry.path);
            let covers = seqs.iter().any(|seq| (entry.first_seq..=entry.last_seq).contains(seq));
            let table = entry.table.as_deref().and_then(layout::table).filter(|_| covers);
            let Some(table) = table else { continue };
            let mut take = |Found { seq, what, .. }: Found| {
                if seqs.binary_search(&seq).is_ok() {
                    words.insert(seq, format!("now {what}"));
                }
            };
            // What can't be read was said already.
            drop(changed::rows(self.options.reader.as_deref(), table, &path, &mut take));
        }
    }

    /// The only changed file that covers records, if it is only one.
    fn changed_file(&self, first: u64, last: u64) -> Option<String> {
        let mut files =
            self.changed_files.iter().filter(|e| e.first_seq <= last && first <= e.last_seq);
        let file = files.next()?;
        files.next().is_none().then(|| file.path.clone())
    }
}
