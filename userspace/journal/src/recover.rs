//! Opens a journal after whatever happened to it.
//!
//! What a crash can leave is repaired and said: a torn tail is cut off, commands that were open
//! end as interrupted, sessions as `daemon_crash`. What a crash cannot leave is not repaired: the
//! journal stays closed unless told to accept the loss, and then sets aside what is bad.
//!
//! What no signed checkpoint covers (`Options::checkpointed_rows`) is read whole, and the last two segments; of
//! others the headers: the archive has their rows, and reading all would delay the start by seconds per GiB.
//! A changed frame of the very last commit looks like a torn one, unless a checkpoint covers it: then it is
//! tampering. Nothing on the disk is changed before it is known that the journal opens.

mod beginning;
mod end;
mod harm;
mod seals;
mod torn;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use types::clock::Clock;

pub use harm::Harm;

use crate::encode::put_body;
use crate::frame::{FrameKind, put_frame};
use crate::queue::interrupted;
use crate::reader::ReadError;
use crate::record::{BootId, Control, End, Frame, Lsn, SessionClose};
use crate::recorder::Options;
use crate::sealing::KeptError;
use crate::segment;
use crate::writer::{CommitError, Log, Rest, Writer};

/// What opening a journal found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The last frame that was there.
    pub last_lsn: Lsn,
    /// Rows that were there.
    pub rows: u64,
    /// Bytes of a torn tail that were cut off.
    pub dropped_bytes: u64,
    /// Commands ended as interrupted.
    pub commands_interrupted: u64,
    /// Sessions closed as `daemon_crash`.
    pub sessions_closed: u64,
    /// Files set aside because the loss was accepted.
    pub set_aside: Vec<PathBuf>,
    /// The damage that was accepted: a sentence for each.
    pub accepted: Vec<String>,
}

impl Recovery {
    fn note(&mut self, damage: &OpenError) {
        self.accepted.push(damage.to_string());
    }
}

/// What a person does about damage.
const REMEDY: &str = "nothing was changed; keep a copy of the journal's folder, see what differs with \
`vestibule-verify --archive DIR --journal DIR`, and put back what is missing; or start once with `vestibuled \
--accept-loss`, which sets aside what is bad, records that, and goes on";

/// Why a journal was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process writes this journal.
    #[error("journal {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The segments are another node's or epoch's.
    #[error("journal {} belongs to node {node}, epoch {epoch}", segment.display())]
    Foreign {
        /// The segment that says so.
        segment: PathBuf,
        /// Its node.
        node: String,
        /// Its epoch.
        epoch: u32,
    },
    /// Frames were altered or lost in a way no crash does it.
    #[error(
        "journal was tampered with: {}, offset {}, record {}: {harm}; {REMEDY}",
        damage.segment.display(), damage.offset, damage.lsn.0
    )]
    Tampered {
        /// Where, and what a reader says of it.
        damage: ReadError,
        /// What was done.
        harm: Harm,
    },
    /// What says where the journal begins is wrong.
    #[error("journal was tampered with: {} {what}; {REMEDY}", path.display())]
    Start {
        /// The file that says it.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The journal yields fewer rows than a signed checkpoint covers.
    #[error(
        "journal was tampered with: {} ends at record {} with {rows} rows, where a signed checkpoint covers \
         {checkpointed}: it was rolled back, or cut off below the checkpoint; {REMEDY}",
        segment.display(), last.0
    )]
    RolledBack {
        /// The last segment there is; the folder where there is none.
        segment: PathBuf,
        /// The last record there is.
        last: Lsn,
        /// Rows it holds.
        rows: u64,
        /// Rows the checkpoint covers.
        checkpointed: u64,
    },
    /// The journal has fewer seals than the key that is kept for the next one says.
    #[error(
        "journal was tampered with: {} lacks the seals {from} to {to}: what they covered was cut off; {REMEDY}",
        dir.display()
    )]
    SealsMissing {
        /// The journal.
        dir: PathBuf,
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// The key that is kept is of another first secret.
    #[error(
        "the journal's last seal is of another secret than the key in {}, which was begun anew or brought from elsewhere; {REMEDY}",
        .0.display()
    )]
    SealsBegunAnew(PathBuf),
    /// The key that is kept for the next seal can't be used.
    #[error(transparent)]
    Seals(#[from] KeptError),
    /// The first commit failed.
    #[error("cannot commit to the journal: {0}")]
    Commit(String),
    /// The committing thread did not start.
    #[error("cannot start the committing thread")]
    Thread(#[source] io::Error),
}

/// Recovers the journal and begins a new segment that says what was found.
pub(crate) fn open(options: &Options, clock: &dyn Clock) -> Result<(Writer, Recovery), OpenError> {
    let dir = &options.dir;
    std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    let lock = Arc::new(take_lock(dir)?);
    let mut recovery = Recovery::default();
    let end = end::find(options, &mut recovery)?;
    recovery.last_lsn = Lsn(end.position.next_lsn.0 - 1);
    recovery.rows = end.position.next_seq;
    let mut position = end.position;
    seals::fit(options, &mut recovery)?;
    if recovery.rows < options.checkpointed_rows {
        let error = OpenError::RolledBack {
            segment: end.segment.unwrap_or_else(|| dir.clone()),
            last: recovery.last_lsn,
            rows: recovery.rows,
            checkpointed: options.checkpointed_rows,
        };
        if !options.accept_loss {
            return Err(error);
        }
        recovery.note(&error);
        position = end::begin_behind_checkpoint(options, &position, &mut recovery)?;
    } else if let Some(tear) = end.tear {
        recovery.dropped_bytes += tear.cut(&*options.disk)?;
    }
    segment::remove_unnamed(&*options.disk, dir).map_err(io_error("clean", dir))?;
    let log = Log {
        dir: dir.clone(),
        node: options.node.clone(),
        epoch: options.epoch,
        boot_id: boot_id()?,
        segment_bytes: options.segment_bytes,
        disk: Arc::clone(&options.disk),
        seals: options.seals.clone(),
        lock: Some(lock),
    };
    let mut writer =
        Writer::begin(log, position, clock).map_err(io_error("begin a segment in", dir))?;
    let mut batch = closing_frames(&writer, clock, options, &mut recovery);
    writer.commit(&mut batch, clock).map_err(|e: CommitError| OpenError::Commit(e.to_string()))?;
    Ok((writer, recovery))
}

/// Goes on where a disk refused, once it takes what is asked: behind the last durable frame, in a new segment.
///
/// After a failed sync what the kernel holds of a file may differ from what the disk has, and a later sync may say
/// nothing of it. So what is behind the last durable frame is cut off, and the segment read again from the disk.
pub(crate) fn resume(rest: &Rest, clock: &dyn Clock) -> Result<Writer, ResumeError> {
    let Rest { log, first_lsn, offset, durable } = rest;
    let dir = &log.dir;
    let lock = Some(Arc::new(take_lock(dir)?));
    let log = Log { lock, ..log.clone() };
    segment::remove_unnamed(&*log.disk, dir).map_err(io_error("clean", dir))?;
    let segments = segment::list(dir).map_err(io_error("list", dir))?;
    for later in segments.iter().filter(|segment| segment.first_lsn > *first_lsn) {
        // It was made when the disk refused, and never held a frame of its own.
        log.disk.remove(&later.path).map_err(io_error("remove", &later.path))?;
    }
    log.disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    let path = segment::path(dir, *first_lsn);
    let position = end::read_again(&path, (*first_lsn, *offset), &*log.disk)?;
    if position.as_ref().map(|position| (position.next_lsn, position.chain)) != Some(*durable) {
        return Err(ResumeError::Lost(path));
    }
    let position = position.ok_or_else(|| ResumeError::Lost(path.clone()))?;
    if let Some(rule) = &log.seals {
        match seals::align(&*log.disk, dir, rule) {
            Err(OpenError::SealsMissing { .. } | OpenError::SealsBegunAnew(_)) => {
                return Err(ResumeError::Lost(path));
            }
            other => other?,
        }
    }
    Ok(Writer::begin(log, position, clock).map_err(io_error("begin a segment in", dir))?)
}

/// Why it does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResumeError {
    /// The disk refuses still.
    #[error(transparent)]
    Disk(#[from] OpenError),
    /// What was durable is not there any more: this is not for a running daemon to repair.
    #[error("{} has lost records that were durable", .0.display())]
    Lost(PathBuf),
}

fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked(dir.to_owned())),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}

fn boot_id() -> Result<BootId, OpenError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(path).map_err(io_error("read", path))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16)
        .map_err(|e| io_error("read", path)(io::Error::other(e)))?;
    Ok(BootId(number.to_be_bytes()))
}

/// What the new segment begins with: what was found, the ends of what was open, the start.
fn closing_frames(
    writer: &Writer,
    clock: &dyn Clock,
    options: &Options,
    recovery: &mut Recovery,
) -> Vec<u8> {
    let at = clock.now();
    let mut batch = Batch {
        bytes: Vec::new(),
        lsn: writer.next_lsn(),
        seq: writer.next_seq(),
        boot_id: writer.boot_id(),
    };
    for (&session, entry) in writer.live() {
        for &command in entry.commands.keys() {
            let outcome = interrupted(command);
            batch.put(FrameKind::End, &Frame::End(End { session, at, outcome: &outcome }));
            recovery.commands_interrupted += 1;
        }
        let close = SessionClose { session, at, reason: "daemon_crash" };
        batch.put(FrameKind::SessionClose, &Frame::SessionClose(close));
        recovery.sessions_closed += 1;
    }
    let Recovery { last_lsn, dropped_bytes, commands_interrupted, sessions_closed, .. } = *recovery;
    let lost = recovery.set_aside.len();
    let last_seq = recovery.rows.checked_sub(1).map_or("null".to_owned(), |seq| seq.to_string());
    if !recovery.accepted.is_empty() {
        let detail = loss_accepted(recovery, writer.next_seq(), options.checkpointed_rows);
        let control = Control { at, kind: "log.loss_accepted", detail: &detail };
        batch.put(FrameKind::Control, &Frame::Control(control));
    }
    if dropped_bytes > 0 || sessions_closed > 0 || lost > 0 {
        let detail = format!(
            r#"{{"dropped_bytes":{dropped_bytes},"last_lsn":{},"last_seq":{last_seq},"commands_interrupted":{commands_interrupted},"sessions_closed":{sessions_closed},"segments_set_aside":{lost},"loss_accepted":{}}}"#,
            last_lsn.0, options.accept_loss
        );
        let control = Control { at, kind: "log.recovered", detail: &detail };
        batch.put(FrameKind::Control, &Frame::Control(control));
    }
    let detail = format!(r#"{{"last_lsn":{},"rows":{}}}"#, last_lsn.0, recovery.rows);
    let control = Control { at, kind: "log.start", detail: &detail };
    batch.put(FrameKind::Control, &Frame::Control(control));
    batch.bytes
}

/// What a person accepted: the damage, the files set aside, which numbers have no row here.
fn loss_accepted(recovery: &Recovery, next_seq: u64, checkpointed: u64) -> String {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let files: Vec<_> = recovery.set_aside.iter().filter_map(name).take(NAMED_MAX).collect();
    let damage: Vec<_> =
        recovery.accepted.iter().map(|said| first_clause(said)).take(NAMED_MAX).collect();
    serde_json::json!({
        "damage": damage, "damages": recovery.accepted.len(),
        "set_aside": files, "files_set_aside": recovery.set_aside.len(),
        "rows_found": recovery.rows, "next_seq": next_seq, "checkpointed_rows": checkpointed,
    })
    .to_string()
}

/// Without what to do about it, which was done; at most [`CLAUSE_CHARS_MAX`].
fn first_clause(said: &str) -> String {
    said.split("; ").next().unwrap_or_default().chars().take(CLAUSE_CHARS_MAX).collect()
}

/// Files and damages that one record names: 25 × 30 B and 25 × 1,600 B stay below its 64 KiB.
const NAMED_MAX: usize = 25;

/// Characters of one of them, of up to 4 bytes.
const CLAUSE_CHARS_MAX: usize = 400;

struct Batch {
    bytes: Vec<u8>,
    lsn: Lsn,
    seq: u64,
    boot_id: BootId,
}

impl Batch {
    fn put(&mut self, kind: FrameKind, frame: &Frame<'_>) {
        let boot_id = self.boot_id;
        put_frame(&mut self.bytes, kind, false, (self.lsn, self.seq), |out| {
            put_body(out, frame, boot_id, None);
        })
        .expect("ends, closes and our own control records are small");
        self.lsn = Lsn(self.lsn.0 + 1);
        self.seq += kind.rows();
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
