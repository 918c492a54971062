//! Files of days that were put together, read for their leaves: by another process where there is one, as nothing signed
//! says what is in them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use journal::imported;
use journal::row::Table;
use sha2::{Digest, Sha256};
use types::hex::hex;

use crate::compacted::Part;
use crate::layout;
use crate::merkle::Hash;
use crate::verify::columns::{Strings, Taken, batch_leaves, reader};
use crate::verify::facts::{self, Fact, Facts};
use crate::verify::{Options, statistics};

/// What a program is called with, before table and path, to write a file's leaves; with a third word
/// [`FACTS`] also what they say beyond them, with [`STATISTICS`] instead what in the file's statistics lies.
pub const READ_COMPACTED: &str = "--read-compacted";

/// What asks for what rows say as well.
const FACTS: &str = "facts";

/// What asks for the statistics instead.
const STATISTICS: &str = "statistics";

/// Rows decoded at once.
const BATCH_ROWS: usize = 8192;

/// Batches that wait for whoever takes them, of each 8192 × 48 B: 6 MiB in all.
const WAITING_MAX: usize = 16;

/// Bytes of a name or a text in what the other process writes.
const TEXT_BYTES_MAX: u32 = 1024 * 1024;

const GAVE_UP: &str = "not readable as Parquet: the decoder gave up";

/// A file to be read.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// Its list.
    pub(super) at: usize,
    /// Its place there.
    pub(super) number: usize,
    pub(super) table: Table,
    pub(super) part: Part,
}

/// What is in a file.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Row {
        origin: &'a str,
        seq: u64,
        leaf: Hash,
    },
    Rotation {
        origin: &'a str,
        seq: u64,
        detail: String,
    },
    Compaction(String),
    Fact {
        origin: &'a str,
        fact: Fact,
    },
    /// Rows that are marked as imported and are not, or the other way round.
    Marked(u64),
    /// It is missing, or can't be read.
    Fault(String),
    /// It is not as the list says.
    Changed,
    /// Its length.
    Bytes(u64),
}

/// What goes from a thread to whoever takes it.
enum Sent {
    Log(String),
    Rows(Vec<(u64, Hash)>),
    Rotation(u64, String),
    Compaction(String),
    Fact(Fact),
    Marked(u64),
    Fault(String),
    Changed,
    Bytes(u64),
}

/// Reads files on the threads of the options and hands what is in them to `take`.
pub(super) fn scan(options: &Options, scans: &[Scan], take: &mut dyn FnMut(&Scan, Item<'_>)) {
    let next = AtomicUsize::new(0);
    let (send, sent) = mpsc::sync_channel::<(usize, Sent)>(WAITING_MAX);
    thread::scope(|scope| {
        for _ in 0..options.threads.clamp(1, scans.len().max(1)) {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = scans.get(at) else { break };
                    // Whoever takes it outlives this scope.
                    file(options, one, &mut |sent| drop(send.send((at, sent))));
                }
            });
        }
        drop(send);
        let mut origins = vec![String::new(); scans.len()];
        for (at, sent) in sent {
            let (Some(one), Some(origin)) = (scans.get(at), origins.get_mut(at)) else { continue };
            match sent {
                Sent::Log(name) => *origin = name,
                Sent::Rows(rows) => {
                    for (seq, leaf) in rows {
                        take(one, Item::Row { origin, seq, leaf });
                    }
                }
                Sent::Rotation(seq, detail) => take(one, Item::Rotation { origin, seq, detail }),
                Sent::Compaction(detail) => take(one, Item::Compaction(detail)),
                Sent::Fact(fact) => take(one, Item::Fact { origin, fact }),
                Sent::Marked(count) => take(one, Item::Marked(count)),
                Sent::Fault(text) => take(one, Item::Fault(text)),
                Sent::Changed => take(one, Item::Changed),
                Sent::Bytes(bytes) => take(one, Item::Bytes(bytes)),
            }
        }
    });
}

fn file(options: &Options, one: &Scan, send: &mut dyn FnMut(Sent)) {
    let path = options.archive.join(&one.part.path);
    match digest(&path) {
        Err(error) => return send(Sent::Fault(format!("file is missing ({error})"))),
        Ok((sha256, bytes)) => {
            send(Sent::Bytes(bytes));
            if sha256 != one.part.sha256 {
                send(Sent::Changed);
            }
        }
    }
    let with_facts = options.level.is_some_and(|level| level >= 4);
    let done = match &options.reader {
        None => guarded(|| leaves(one.table, &path, with_facts, send)),
        Some(reader) => elsewhere(reader, one.table, (&path, with_facts), send),
    };
    if let Err(text) = done {
        send(Sent::Fault(text));
    }
}

/// What `read` says, or that it gave up.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(GAVE_UP.to_owned()))
}

fn digest(path: &Path) -> io::Result<(String, u64)> {
    let (mut file, mut hash, mut length) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((hex(&hash.finalize()), length));
        }
        hash.update(buffer.get(..count).unwrap_or_default());
        length += u64::try_from(count).unwrap_or(0);
    }
}

/// The leaves of a file in this process, and what its rows say beyond them where that is asked for.
fn leaves(
    table: Table,
    path: &Path,
    with_facts: bool,
    send: &mut dyn FnMut(Sent),
) -> Result<(), String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let reader = reader(file, BATCH_ROWS).map_err(|e| format!("not readable as Parquet: {e}"))?;
    let (mut buffer, mut of) = (Vec::with_capacity(64 * 1024), (String::new(), i32::MIN));
    let mut says = Says { table, with_facts, digests: HashMap::new(), origin: String::new() };
    for batch in reader {
        let batch = batch.map_err(|e| format!("not readable as Parquet: {e}"))?;
        let mut found = Taken::default();
        batch_leaves(table, &batch, &mut buffer, &mut found).map_err(|e| e.to_string())?;
        let nodes = batch.column_by_name("node_id").and_then(Strings::of);
        let epochs =
            batch.column_by_name("log_epoch").and_then(|c| c.as_primitive_opt::<Int32Type>());
        let (Some(nodes), Some(epochs)) = (nodes, epochs) else {
            return Err("column node_id is missing or not as it must be".to_owned());
        };
        let marks = batch.column_by_name(imported::column(table));
        let marks = marks.and_then(Strings::of);
        let (mut first, mut wrong) = (0, 0);
        let mut rotations = found.rotations.into_iter().peekable();
        let mut rows = Vec::with_capacity(batch.num_rows());
        for (row, (seq, leaf)) in found.rows.into_iter().enumerate() {
            let (node, epoch) = (nodes.value(row), epochs.value(row));
            if of.0 != node || of.1 != epoch {
                send(Sent::Rows(std::mem::take(&mut rows)));
                says.run(&batch, first..row, send);
                first = row;
                of = (node.to_owned(), epoch);
                says.origin = layout::origin(node, epoch);
                send(Sent::Log(says.origin.clone()));
            }
            let mark = marks.and_then(|marks| marks.get(row));
            let is_marked = mark.is_some_and(|mark| imported::is_mark(table, mark));
            wrong += u64::from(is_marked != layout::is_import(&says.origin));
            rows.push((seq, leaf));
            // They come in the order of their rows.
            if let Some((seq, detail)) = rotations.next_if(|(of, _)| *of == seq) {
                send(Sent::Rotation(seq, detail));
            }
        }
        send(Sent::Rows(rows));
        says.run(&batch, first..batch.num_rows(), send);
        if wrong > 0 {
            send(Sent::Marked(wrong));
        }
        found.compactions.into_iter().for_each(|detail| send(Sent::Compaction(detail)));
    }
    Ok(())
}

/// What rows of a file say beyond their leaves, on the way through it.
struct Says {
    table: Table,
    with_facts: bool,
    /// The least record that was told, of each log's policies.
    digests: HashMap<(String, String), u64>,
    /// The log that rows are of.
    origin: String,
}

impl Says {
    /// Tells of rows of one log in a batch.
    fn run(&mut self, batch: &RecordBatch, rows: Range<usize>, send: &mut dyn FnMut(Sent)) {
        if !self.with_facts || rows.is_empty() {
            return;
        }
        let batch = batch.slice(rows.start, rows.len());
        let mut facts = Facts::default();
        facts::gather(self.table, &batch, &mut facts);
        let seqs = batch.column_by_name("seq").and_then(|c| c.as_primitive_opt::<Int64Type>());
        let first = seqs
            .and_then(|seqs| seqs.values().iter().copied().min())
            .and_then(|seq| u64::try_from(seq).ok());
        facts.each(first.unwrap_or(0), &mut |fact| {
            if let Fact::Digest(seq, digest) = &fact {
                let own = (self.origin.clone(), digest.clone());
                let least = self.digests.entry(own).or_insert(u64::MAX);
                if *seq >= *least {
                    return;
                }
                *least = *seq;
            }
            send(Sent::Fact(fact));
        });
    }
}

/// The leaves of a file as another process has them.
fn elsewhere(
    reader: &Path,
    table: Table,
    (path, with_facts): (&Path, bool),
    send: &mut dyn FnMut(Sent),
) -> Result<(), String> {
    let mut child = Command::new(reader)
        .args([READ_COMPACTED, table.as_str()])
        .arg(path)
        .args(with_facts.then_some(FACTS))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let output = child.stdout.take().map(|output| BufReader::with_capacity(1 << 20, output));
    let told = output.map_or(Ok(None), |mut output| receive(&mut output, send));
    let ended = child.wait().map_err(|e| e.to_string())?;
    match told {
        Ok(Some(fault)) => Err(fault),
        Ok(None) if ended.success() => Ok(()),
        Ok(None) | Err(_) => Err(GAVE_UP.to_owned()),
    }
}

/// Reads frames until the end; answers the fault that one says.
fn receive(from: &mut dyn Read, send: &mut dyn FnMut(Sent)) -> io::Result<Option<String>> {
    loop {
        let [kind] = bytes(from)?;
        match kind {
            b'.' => return Ok(None),
            b'R' => {
                let count = u32::from_be_bytes(bytes(from)?).min(TEXT_BYTES_MAX);
                let mut rows = Vec::new();
                for _ in 0..count {
                    rows.push((u64::from_be_bytes(bytes(from)?), bytes(from)?));
                }
                send(Sent::Rows(rows));
            }
            b'L' => send(Sent::Log(text(from)?)),
            b'K' => {
                let seq = u64::from_be_bytes(bytes(from)?);
                send(Sent::Rotation(seq, text(from)?));
            }
            b'C' => send(Sent::Compaction(text(from)?)),
            b'F' => send(Sent::Fact(serde_json::from_str(&text(from)?)?)),
            b'M' => send(Sent::Marked(u64::from_be_bytes(bytes(from)?))),
            b'!' => return Ok(Some(text(from)?)),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn bytes<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn text(from: &mut dyn Read) -> io::Result<String> {
    let length = u32::from_be_bytes(bytes(from)?);
    if length > TEXT_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    from.read_exact(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What the other process does: writes a file's leaves, or what in its statistics lies. False if not all could be read.
///
/// # Errors
/// If nobody takes it.
pub fn print(
    path: &Path,
    table: &str,
    what: Option<&str>,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let table = layout::table(table).ok_or_else(|| io::Error::other("no such table"))?;
    if what == Some(STATISTICS) {
        let lie = statistics::lie(table, &std::fs::read(path)?.into(), None);
        out.write_all(lie.unwrap_or_default().as_bytes())?;
        return Ok(true);
    }
    let mut failed = Ok(());
    let done = leaves(table, path, what == Some(FACTS), &mut |sent| {
        if failed.is_ok() {
            failed = frame(out, sent);
        }
    });
    failed?;
    match &done {
        Ok(()) => out.write_all(b".")?,
        Err(why) => put(out, b'!', why)?,
    }
    Ok(done.is_ok())
}

fn frame(out: &mut dyn Write, sent: Sent) -> io::Result<()> {
    match sent {
        Sent::Log(name) => put(out, b'L', &name),
        Sent::Rows(rows) => {
            out.write_all(b"R")?;
            out.write_all(&u32::try_from(rows.len()).unwrap_or(0).to_be_bytes())?;
            for (seq, leaf) in rows {
                out.write_all(&seq.to_be_bytes())?;
                out.write_all(&leaf)?;
            }
            Ok(())
        }
        Sent::Rotation(seq, detail) => {
            out.write_all(b"K")?;
            out.write_all(&seq.to_be_bytes())?;
            out.write_all(&u32::try_from(detail.len()).unwrap_or(0).to_be_bytes())?;
            out.write_all(detail.as_bytes())
        }
        Sent::Compaction(detail) => put(out, b'C', &detail),
        Sent::Fact(fact) => put(out, b'F', &serde_json::to_string(&fact)?),
        Sent::Marked(count) => {
            out.write_all(b"M")?;
            out.write_all(&count.to_be_bytes())
        }
        Sent::Fault(_) | Sent::Changed | Sent::Bytes(_) => Ok(()),
    }
}

fn put(out: &mut dyn Write, kind: u8, text: &str) -> io::Result<()> {
    out.write_all(&[kind])?;
    out.write_all(&u32::try_from(text.len()).unwrap_or(0).to_be_bytes())?;
    out.write_all(text.as_bytes())
}

/// What of a file's statistics hides rows; `None` where nothing does.
pub(super) fn lie(options: &Options, table: Table, path: &Path) -> Option<String> {
    let Some(reader) = &options.reader else {
        let look = || {
            let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
            Ok(statistics::lie(table, &bytes.into(), None))
        };
        return guarded(look).unwrap_or_else(Some);
    };
    let output = Command::new(reader)
        .args([READ_COMPACTED, table.as_str()])
        .args([path.as_os_str(), STATISTICS.as_ref()])
        .stdin(Stdio::null())
        .output();
    match output {
        Err(error) => Some(error.to_string()),
        Ok(output) if !output.status.success() => Some(GAVE_UP.to_owned()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).replace(char::is_control, "?");
            (!text.is_empty()).then_some(text)
        }
    }
}
