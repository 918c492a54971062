//! The journal's one entrance: frames go in under a short lock and are committed in groups, by a
//! thread of its own or by whoever would only wait for it.
//!
//! There is no linger: a commit takes whatever came while the previous one ran. Only what nobody
//! waits for, ends of commands and sessions, stays for the next commit or a few milliseconds. Nothing is lost
//! when the buffer is full: appending waits or says so.
//!
//! After an I/O error nothing is acknowledged, and nothing new begins, until the disk works again; what the kernel
//! holds after a failed write is unknown, so that it goes on behind what was durable before, read again from the
//! disk, in a new segment. What had been taken and not acknowledged is kept, and written then.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use types::clock::Clock;
use types::limits::{COMMANDS_IN_FLIGHT_MAX, JOURNAL_PENDING_BYTES_MAX, SESSIONS_MAX};

use crate::committer::{Committer, Shared};
use crate::disk::{Disk, Os};
use crate::encode::text_digest;
use crate::queue::{Queue, is_urgent};
use crate::record::{Control, Frame, Lsn};
use crate::recover::{self, OpenError, Recovery};

/// Sessions open in a journal at once: twice what the proxy takes, so that a session whose end is
/// written late never keeps another out.
pub const OPEN_SESSIONS_MAX: usize = 2 * SESSIONS_MAX;

/// Commands open in one session at once: twice what the protocol sessions take.
pub const OPEN_COMMANDS_MAX: usize = 2 * COMMANDS_IN_FLIGHT_MAX;

/// Appends to a journal; clones share it. Dropping the last one commits what waits and closes.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
    committer: Arc<Committer>,
}

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory that holds its segments; made if absent. One per node and epoch.
    pub dir: PathBuf,
    /// The node's name in records.
    pub node: String,
    /// The log's epoch: a new one starts a new log, in a new directory.
    pub epoch: u32,
    /// Bytes of a segment, preallocated.
    pub segment_bytes: u64,
    /// What must stay free on the file system for new commands to be taken.
    pub reserve: Reserve,
    /// Bytes that may wait to be committed; one frame may overshoot.
    pub pending_bytes_max: usize,
    /// Rows that a signed checkpoint covers; a journal that yields fewer was rolled back.
    pub checkpointed_rows: u64,
    /// Open even though frames were lost or altered; what is bad is set aside, and said.
    pub accept_loss: bool,
    /// What it is written to.
    pub disk: Arc<dyn Disk>,
    /// Forward-secure seals; none where absent.
    pub seals: Option<Seals>,
}

/// How a journal is sealed between checkpoints.
#[derive(Clone, Debug)]
pub struct Seals {
    /// The file that keeps the key of the next seal: [`crate::sealing::begin`] makes it.
    pub path: PathBuf,
    /// How long what was committed may go without a seal.
    pub interval: Duration,
}

impl Options {
    /// The usual options: 64 MiB segments, a reserve of 5 % and 1 GiB.
    pub fn new(dir: impl Into<PathBuf>, node: impl Into<String>, epoch: u32) -> Self {
        Self {
            dir: dir.into(),
            node: node.into(),
            epoch,
            segment_bytes: 64 * 1024 * 1024,
            reserve: Reserve { percent: 5, bytes: 1024 * 1024 * 1024 },
            pending_bytes_max: JOURNAL_PENDING_BYTES_MAX,
            checkpointed_rows: 0,
            accept_loss: false,
            disk: Arc::new(Os),
            seals: None,
        }
    }
}

/// Space that stays free for ending what has begun: `percent` of the file system plus `bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Of the file system's size.
    pub percent: u8,
    /// And these.
    pub bytes: u64,
}

/// What a commit made durable.
#[derive(Clone, Debug)]
pub struct Durable {
    /// All frames up to this one are durable.
    pub lsn: Lsn,
    /// Rows yielded by them: the sequence number of the next row.
    pub rows: u64,
    /// How the journal is.
    pub health: Health,
}

/// How a journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Takes everything.
    Open,
    /// The reserve is touched: takes ends, closes and control records only.
    Pressure,
    /// The disk refuses: acknowledges nothing, and takes ends, closes and control records as far as there is room,
    /// until the disk works again; why. Ends of sessions that find no room are written then.
    Failing(Arc<str>),
    /// Takes nothing, for good; why.
    Failed(Arc<str>),
}

/// What went through since the journal was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames made durable.
    pub frames: u64,
    /// Rows they yield.
    pub rows: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Commits.
    pub commits: u64,
}

/// Why a frame was not taken. Whatever it is: the command it belongs to must not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too much waits to be committed ([`Recorder::try_append`] only); try after a commit.
    #[error("journal buffer is full")]
    Full,
    /// Too little space is left to begin anything.
    #[error("journal refuses new commands: free space is under the reserve")]
    Pressure,
    /// The disk refuses, for now.
    #[error("journal can't be written: {0}")]
    Failing(Arc<str>),
    /// The journal failed and stays so.
    #[error("journal failed: {0}")]
    Failed(Arc<str>),
    /// The journal is closed.
    #[error("journal is closed")]
    Closed,
    /// The frame does not follow from those before it: a session not open, a command twice.
    #[error("frame out of order: {0}")]
    OutOfOrder(&'static str),
    /// More is open than [`OPEN_SESSIONS_MAX`] or [`OPEN_COMMANDS_MAX`].
    #[error("too much is open in the journal: {0}")]
    TooMany(&'static str),
    /// The frame's body has this many bytes, more than any limit allows.
    #[error("frame body of {0} bytes is too large")]
    TooLarge(usize),
}

/// The journal failed or closed before a frame was durable; where the disk works again it may still become so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {} is not durable: {reason}", lsn.0)]
pub struct NotDurable {
    /// Which frame.
    pub lsn: Lsn,
    /// Why.
    pub reason: Arc<str>,
}

impl Recorder {
    /// Opens the journal at `options.dir`, recovers what a crash left, and starts to commit.
    ///
    /// `on_durable` is called after each commit and after a failure, on the thread that commits; it
    /// must be quick and must not append.
    pub fn open(
        options: &Options,
        clock: Arc<dyn Clock>,
        on_durable: Box<dyn Fn(Durable) + Send>,
    ) -> Result<(Self, Recovery), OpenError> {
        let (writer, recovery) = recover::open(options, clock.as_ref())?;
        let queue = Queue::new(
            (writer.next_lsn(), writer.next_seq()),
            writer.boot_id(),
            options.pending_bytes_max,
        );
        let seal_interval = options.seals.as_ref().map(|seals| seals.interval);
        let pending = options.pending_bytes_max;
        let shared = Arc::new(Shared::new(queue, pending, clock, seal_interval));
        let committer = Committer::start(Arc::clone(&shared), writer, options.reserve, on_durable)
            .map_err(OpenError::Thread)?;
        Ok((Self { shared, committer: Arc::new(committer) }, recovery))
    }

    /// Appends a frame and returns its place; waits while too much waits to be committed. It is
    /// not durable yet.
    pub fn append(&self, frame: Frame<'_>) -> Result<Lsn, AppendError> {
        let digest = text_digest(&frame);
        let mut queue = self.shared.lock();
        while queue.pending_bytes() >= self.shared.pending_bytes_max && queue.is_open() {
            queue.awaited.space += 1;
            queue = self.shared.space.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.awaited.space -= 1;
        }
        self.push(queue, &frame, digest)
    }

    /// As [`Recorder::append`], but leaves it to [`Recorder::commit`] to have it committed soon:
    /// who is about to append more lets them share a commit.
    pub fn gather(&self, frame: Frame<'_>) -> Result<Lsn, AppendError> {
        let digest = text_digest(&frame);
        let mut queue = self.shared.lock();
        if queue.pending_bytes() >= self.shared.pending_bytes_max {
            drop(queue);
            return self.append(frame);
        }
        queue.push(&frame, digest)
    }

    /// Has what was gathered committed.
    pub fn commit(&self) {
        let urgent = self.shared.lock().is_urgent();
        self.shared.wake(urgent);
    }

    /// Commits what was gathered, by anyone, before it returns: for a thread that could do nothing
    /// more until then.
    pub fn commit_here(&self) {
        self.committer.commit_here();
    }

    /// As [`Recorder::append`], but answers [`AppendError::Full`] instead of waiting.
    pub fn try_append(&self, frame: Frame<'_>) -> Result<Lsn, AppendError> {
        let digest = text_digest(&frame);
        let queue = self.shared.lock();
        if queue.pending_bytes() >= self.shared.pending_bytes_max && queue.is_open() {
            return Err(AppendError::Full);
        }
        self.push(queue, &frame, digest)
    }

    /// Appends a control record of the present; `detail` is a JSON object.
    pub fn control(&self, kind: &str, detail: &str) -> Result<Lsn, AppendError> {
        let at = self.shared.clock.now();
        self.append(Frame::Control(Control { at, kind, detail }))
    }

    /// Has a row (`cmd.begin`) say of each command that changes something and was open at the last call already that
    /// it has begun: what is open for longer than a checkpoint is committed to before it ends. Call it before each.
    pub fn anchor(&self) -> Result<(), AppendError> {
        let now = self.shared.clock.now();
        self.shared.lock().anchor(now)?;
        self.commit();
        Ok(())
    }

    /// The last frame that is durable.
    pub fn durable(&self) -> Lsn {
        Lsn(self.shared.durable.load(Ordering::Acquire))
    }

    /// Rows that are durable: the sequence number of the next one.
    pub fn durable_rows(&self) -> u64 {
        self.shared.rows.load(Ordering::Acquire)
    }

    /// Waits until a frame is durable. For tests and tools; tasks use `on_durable`.
    pub fn wait(&self, lsn: Lsn) -> Result<(), NotDurable> {
        let mut queue = self.shared.lock();
        loop {
            if self.durable() >= lsn {
                return Ok(());
            }
            if let Some(reason) = queue.ended() {
                return Err(NotDurable { lsn, reason });
            }
            queue.awaited.commit += 1;
            queue = self.shared.committed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.awaited.commit -= 1;
        }
    }

    /// Waits until everything appended so far, by anyone, is durable. For threads of their own;
    /// tasks use `on_durable`.
    pub fn settle(&self) -> Result<(), NotDurable> {
        let last = self.shared.lock().last();
        self.commit();
        self.wait(last)
    }

    /// How the journal is.
    pub fn health(&self) -> Health {
        self.shared.lock().health().clone()
    }

    /// The number of the next seal, and the last frame that one covers since the journal was opened; `None` where it is
    /// not sealed.
    pub fn seals(&self) -> Option<(u64, Lsn)> {
        self.shared.seal_interval?;
        let next = self.shared.next_seal.load(Ordering::Acquire);
        Some((next, Lsn(self.shared.sealed.load(Ordering::Acquire))))
    }

    /// What went through since it was opened.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Commits what waits and stops; later appends answer [`AppendError::Closed`]. The error says
    /// why not everything became durable.
    pub fn close(&self) -> Result<(), NotDurable> {
        let last = self.committer.stop();
        if self.durable() >= last {
            return Ok(());
        }
        let reason = match self.health() {
            Health::Failed(reason) | Health::Failing(reason) => reason,
            Health::Open | Health::Pressure => Arc::from("the committing thread ended"),
        };
        Err(NotDurable { lsn: last, reason })
    }

    fn push(
        &self,
        mut queue: MutexGuard<'_, Queue>,
        frame: &Frame<'_>,
        digest: Option<[u8; 32]>,
    ) -> Result<Lsn, AppendError> {
        let lsn = queue.push(frame, digest)?;
        let wake = queue.take_wake(is_urgent(frame));
        drop(queue);
        if wake {
            self.shared.work.notify_one();
        }
        Ok(lsn)
    }
}
